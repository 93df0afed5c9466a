import CLayerNorm
import CShims

/// A backward call whose arguments are in order. Its rows are divided into blocks by their number and
/// length alone; each block has sums of its own for dweight and dbias, which are joined in a fixed tree.
struct BackwardPlan {
  private let arguments: BackwardArguments
  private let kernel: ln_backward_kernel
  private let join: ln_join_kernel
  private let convert: ln_convert_kernels
  private var work: ln_backward_work
  private let blocks: RowBlocks
  private let partition: Partition
  /// Of the two gradients of parameters.
  private let joins: Partition
  /// For rows and parameters that kernels do not take as they are.
  private let buffers: RowBuffers?
  private let parameters: ParameterCopies?
  private let chunks: RowChunks?
  private let ada: AdaStaging?
  private let sums: UnsafeMutableRawPointer?
  /// Of those of a gradient, and of those of a block, with some rows of 16 bits apart.
  private let sumBytes, blockBytes: Int64
  /// How many 16-bit rows are added up in float32.
  private let coarseRows: Int32

  /// More where the gradients have 16 bits too.
  @inline(__always) static func coarseRows(ofHalfGradients: Bool) -> Int32 {
    ofHalfGradients ? 32 : 8
  }

  init(
    _ arguments: BackwardArguments, _ kernels: UnsafePointer<ln_kernel_table>
  ) throws(Failure) {
    self.arguments = arguments
    let norm = arguments.norm
    let compute = norm.compute
    let dy = arguments.dy
    let x = arguments.x
    blocks = RowBlocks(rows: norm.allRows, cols: norm.cols)
    let (blockRows, _) = blocks.largest.multipliedReportingOverflow(by: norm.cols)
    // Twice, since a byte takes more than twice as long as in forward, which the limits are made for.
    partition = try Partition(
      blocks.count, bytes: 2 &* blockRows &* (x.dtype.size + 2 * dy.dtype.size))
    let lanes = compute.lanes
    sumBytes = (norm.cols + lanes - 1) / lanes * Int64(LN_SUM_BYTES)
    coarseRows =
      dy.dtype.size > 2 ? 0 : BackwardPlan.coarseRows(ofHalfGradients: norm.paramType.size == 2)
    blockBytes = (coarseRows > 0 ? 3 : 2) * sumBytes
    joins = try Partition(2, bytes: blocks.count &* sumBytes)
    join = compute == .f64 ? kernels.pointee.join_f64 : kernels.pointee.join_f32
    convert = compute == .f64 ? kernels.pointee.convert_f64 : kernels.pointee.convert_f32

    let direct = BackwardPlan.kernel(x.dtype, kernels)
    let contiguous =
      x.dtype == dy.dtype && x.hasContiguousRows && dy.hasContiguousRows
      && (arguments.dsum?.hasContiguousRows ?? true) && (arguments.dx?.hasContiguousRows ?? true)
    let isStaged = !contiguous || direct == nil || arguments.ada != nil
    let chunks = isStaged ? try RowChunks(norm, transposes: !contiguous) : nil
    self.chunks = chunks
    ada = arguments.ada.map { AdaStaging($0, norm, given: arguments.rstd, kernels) }
    let ofCompute = compute == .f64 ? kernels.pointee.backward_f64 : kernels.pointee.backward_f32
    kernel = (isStaged ? ofCompute : direct).unsafelyUnwrapped

    let weightIsReady = arguments.weight?.dtype == compute && !arguments.addsToWeight
    let gradientsAreReady =
      norm.paramType == compute || !arguments.hasParameterGradients
    let split = x.dtype == .bf16 && !isStaged ? kernels.pointee.split_f32 : nil
    parameters =
      isStaged || !weightIsReady || !gradientsAreReady || split != nil
      ? try ParameterCopies(
        norm, weight: arguments.weight, bias: nil, hasWeight: true, hasBias: false,
        addsOne: arguments.addsToWeight, kernels, split, for: partition) : nil
    do {
      let threads = partition.threadsUsed
      buffers = try chunks.map { (chunks) throws(Failure) in
        try RowBuffers(
          cols: norm.cols, elementSize: compute.size, rows: chunks.most,
          perThread: BackwardPlan.stagedBuffers, threads: threads, shared: 0)
      }
    } catch {
      parameters?.buffers.free()
      throw error
    }
    var traffic = Traffic(arguments, isShared: partition.parts > 1)
    if isStaged && arguments.dx?.isReady(compute) != true { traffic.streams = false }
    work = ln_backward_work(
      cols: norm.cols, rows_per_batch: norm.rows, eps: norm.eps, centers: norm.centers ? 1 : 0,
      accumulates_dx: arguments.accumulatesDX ? 1 : 0,
      reads_ahead: traffic.readsAhead,
      writes_ahead: traffic.writesAhead,
      fetches: traffic.fetches ? 1 : 0, fetches_later: traffic.fetchesLater ? 1 : 0,
      // Intel's hardware fetches what is ahead in ascending order only.
      is_near: Caches.current.isLastNear ? 1 : 0,
      streams: traffic.streams ? 1 : 0,
      coarse_rows: coarseRows,
      detaches_mean: arguments.detachesMean ? 1 : 0, detaches_rstd: arguments.detachesRstd ? 1 : 0,
      dy: dy.kernelRows, x: x.kernelRows,
      dsum: arguments.dsum?.kernelRows ?? ln_rows(), dx: arguments.dx?.kernelRows ?? ln_rows(),
      weight: arguments.weight?.pointer, split_weight: nil, mean: arguments.mean?.pointer,
      rstd: arguments.rstd?.pointer, kernels: kernels)

    // Kernels are fast where sums are taken, wanted or not.
    let areTaken =
      arguments.hasParameterGradients || norm.allRows >= BackwardPlan.fewRows && arguments.dx != nil
    let (bytes, overflow) = blocks.count.multipliedReportingOverflow(by: blockBytes)
    sums = areTaken && !overflow ? allocate(bytes) : nil
    if arguments.hasParameterGradients && sums == nil {
      parameters?.buffers.free()
      buffers?.free()
      throw failure(
        LAYERNORM_ERROR_OUT_OF_MEMORY, "cols is ", .number(norm.cols),
        ": no memory for the sums of dweight and dbias")
    }
    // Blocks without rows have sums of zero; kernels begin the others.
    if let sums, norm.allRows == 0 { memset(sums, 0, Int(bytes)) }
  }

  /// What a large call does for memory.
  private struct Traffic {
    /// 2: unless registers have 512 bits.
    var readsAhead: Int32 = 0
    /// 1: before the sums of a row are taken, 2: shortly before dx is stored.
    var writesAhead: Int32 = 0
    /// Whether lines of x and dy are asked for as a row's sums are taken, in order and where it is not read in order.
    let fetches, fetchesLater: Bool
    var streams = false

    init(_ arguments: BackwardArguments, isShared: Bool) {
      let norm = arguments.norm
      let size = arguments.dy.dtype.size
      let bytes = arguments.x.dtype.size + 2 * size
      fetchesLater = Caches.secondMayLack(norm.elements, of: bytes)
      fetches = fetchesLater && !Caches.current.isLastNear
      // Where the last level is far, stores wait for it, or for the second, before loads do.
      if fetches { writesAhead = 2 }
      guard let caches = Caches.ofLargeCall(norm.elements, of: bytes) else { return }
      let row = norm.cols * size
      let isLost = caches.haveLost(arguments.dy, callOf: norm.elements &* bytes)
      // One thread alone waits for each line before it can write to it. For short rows there is more else to do.
      let isStreamed =
        isLost
        || caches.streams(
          norm.elements, outputOf: size, allOf: bytes, from: isShared ? 16 : row < 512 ? 12 : 9,
          // Of long rows of 16 bits, lines that are stored in two halves take as long as is gained.
          far: size == 2 && row > 4096 ? 40 : 16)
      if isStreamed, let dx = arguments.dx {
        streams =
          dx.hasRowsOfVectors && !dx.coincides(with: arguments.dy)
          && !dx.coincides(with: arguments.x)
      }
      if caches.isLastNear {
        // To ask for later rows costs up to 15 % of a call that the caches hold, and gains up to a third of one that
        // they do not, where next rows stay in a second-level cache. Wide elements have less to compute for each
        // line, and gain earlier.
        let isFar = isLost || caches.isFar(norm.elements, of: size == 2 ? bytes : bytes / 2 * 3)
        guard (streams || isFar) && (256...16384).contains(row) else { return }
        // Kernels with wide registers have done with a line sooner: there long rows of streamed float32 lose by it.
        readsAhead = streams && size == 4 && row > 4096 ? 2 : 1
        writesAhead = streams ? 0 : 1
      } else {
        if streams { writesAhead = 0 }
        // Elsewhere to ask gains a tenth where dx is streamed, or rows are long, and costs as much where not. Of too
        // long rows the next ones do not stay in a second-level cache.
        readsAhead = size >= 4 && (streams || row >= 32768) && row <= 65536 ? 1 : 0
      }
    }
  }

  /// Fewer rows than this are not worth sums that are not wanted.
  private static let fewRows: Int64 = 16

  /// dy, x, dsum, dx, and x^ of AdaNorm.
  private static let stagedBuffers: Int64 = 5

  @inline(__always) static func kernel(
    _ dtype: DType, _ kernels: UnsafePointer<ln_kernel_table>
  ) -> ln_backward_kernel? {
    switch dtype {
    case .f32: kernels.pointee.backward_f32
    case .f64: kernels.pointee.backward_f64
    case .f16: kernels.pointee.backward_f16
    case .bf16: kernels.pointee.backward_bf16
    }
  }

  // MARK: Running

  mutating func run() {
    let partition = partition
    withUnsafeMutablePointer(to: &self) { plan in
      partition.run(
        { plan, part in
          BackwardPlan.run(plan.unsafelyUnwrapped.assumingMemoryBound(to: BackwardPlan.self), part)
        }, plan)
    }
    if arguments.hasParameterGradients {
      let joins = joins
      withUnsafeMutablePointer(to: &self) { plan in
        joins.run(
          { plan, part in
            plan.unsafelyUnwrapped.assumingMemoryBound(to: BackwardPlan.self).pointee
              .join(part: part)
          }, plan)
      }
    }
    free(sums)
    buffers?.free()
    parameters?.buffers.free()
  }

  /// Other threads need not copy all of the plan.
  private static func run(_ plan: UnsafePointer<BackwardPlan>, _ part: Int64) {
    withDefaultFloatModes {
      let (firstBlock, endBlock) = plan.pointee.partition.range(of: part)
      var work = plan.pointee.work
      plan.pointee.parameters?.set(&work, part: part, of: plan.pointee.partition)
      if plan.pointee.chunks != nil {
        plan.pointee.runStaged(work, firstBlock, endBlock)
        return
      }
      for block in firstBlock..<endBlock {
        let (begin, end) = plan.pointee.blocks.range(of: block)
        plan.pointee.kernel(&work, begin, end, plan.pointee.sums(of: block), 0)
      }
    }
  }

  private func sums(of block: Int64) -> UnsafeMutableRawPointer? {
    sums.map { $0 + Int(block * blockBytes) }
  }

  /// Some blocks of rows of any strides and dtypes.
  private func runStaged(_ work: ln_backward_work, _ firstBlock: Int64, _ endBlock: Int64) {
    guard let chunks, let buffers else { return }
    let thread = buffers.take()
    for block in firstBlock..<endBlock {
      let (begin, end) = blocks.range(of: block)
      var row = begin
      while row < end {
        let stop = chunks.end(after: row, until: end)
        runStaged(work, row, stop, sums(of: block), before: row - begin, chunks, buffers, thread)
        row = stop
      }
    }
    buffers.giveBack(thread)
  }

  /// Some rows of any strides and dtypes, through buffers of the compute type.
  private func runStaged(
    _ work: ln_backward_work, _ begin: Int64, _ end: Int64, _ sums: UnsafeMutableRawPointer?,
    before: Int64,
    _ chunks: RowChunks, _ buffers: RowBuffers, _ thread: Int64
  ) {
    let norm = arguments.norm
    /// A tensor's rows as kernels take them: as they are, or in a buffer.
    func stage(
      _ tensor: Tensor?, _ index: Int64, reads: Bool = true, mayBeDirect: Bool = true
    ) -> ln_rows {
      guard let tensor else { return ln_rows() }
      if mayBeDirect && tensor.isReady(norm.compute) { return tensor.kernelRows }
      let buffer = buffers.buffer(index, of: thread)
      if reads { buffers.gather(tensor, begin, end, into: buffer, convert) }
      return buffers.kernelRows(buffer, from: begin, norm)
    }
    var staged = work
    staged.dy = stage(arguments.dy, 0, mayBeDirect: ada == nil)
    staged.x = stage(arguments.x, 1)
    staged.dsum = stage(arguments.dsum, 2)
    staged.dx = stage(arguments.dx, 3, reads: arguments.accumulatesDX)
    ada?.multiply(
      buffers.buffer(0, of: thread), by: staged.x, begin, end, buffers,
      through: buffers.buffer(4, of: thread))
    kernel(&staged, begin, end, sums, before)
    if let dx = arguments.dx, !dx.isReady(norm.compute) {
      buffers.scatter(buffers.buffer(3, of: thread), into: dx, begin, end, convert)
    }
  }

  private func join(part: Int64) {
    withDefaultFloatModes {
      let (begin, end) = joins.range(of: part)
      for index in begin..<end { writeGradient(index) }
    }
  }

  /// The joined sums, as the gradient of weight, 0, or bias, 1.
  private func writeGradient(_ index: Int64) {
    guard let gradient = index == 0 ? arguments.dweight : arguments.dbias, let sums else { return }
    let ofGradient = sums + Int(index * sumBytes)
    let coarse =
      coarseRows > 0 && !blocks.areMultiples(of: Int64(coarseRows))
      ? sums + Int(2 * sumBytes + index * sumBytes / 2) : nil
    let cols = arguments.norm.cols
    let accumulates: Int32 = arguments.accumulatesParameters ? 1 : 0
    if gradient.dtype == arguments.norm.compute {
      join(
        cols, blocks.count, blockBytes, ofGradient, coarse, gradient.mutablePointer, accumulates)
    } else if let buffers = parameters?.buffers {
      // The rows of weight, which is no longer needed, and of bias.
      let buffer = buffers.shared(index)
      if accumulates != 0 { buffers.gather(gradient, 0, 1, into: buffer, convert) }
      join(cols, blocks.count, blockBytes, ofGradient, coarse, buffer, accumulates)
      buffers.scatter(buffer, into: gradient, 0, 1, convert)
    }
  }
}

/// The blocks of rows that sums for dweight and dbias are kept of: a function of the number of rows and
/// columns alone, so that the bits are. A block has enough rows for its sums to be small beside them, and of
/// long rows few, so that there is work for several threads; there is an even number of blocks, of nearly
/// the same size, for two threads to share.
struct RowBlocks {
  let count: Int64
  private let rows: Int64
  private static let leastRows: Int64 = 32
  private static let mostRows: Int64 = 64
  /// Of rows so short that a block of `mostRows` has fewer elements than this; its sums would take too long to join.
  private static let mostShortRows: Int64 = 256
  private static let fewElements: Int64 = 1 << 15
  private static let mostElements: Int64 = 1 << 18
  private static let largestCount: Int64 = 64
  /// A call of one block has two where each has so many elements and rows: with the sums of both to join, one thread
  /// alone takes a tenth longer, two of them half as long.
  private static let leastHalf: Int64 = 1 << 15
  private static let leastRowsOfHalf: Int64 = 16
  /// Blocks, the last apart, are a multiple of this many rows: as many as kernels take together.
  private static let unit: Int64 = 8

  init(rows: Int64, cols: Int64) {
    self.rows = rows
    func rowsOf(_ elements: Int64) -> Int64 { elements / max(cols, 1) }
    let most = min(
      max(rowsOf(RowBlocks.fewElements), RowBlocks.mostRows), RowBlocks.mostShortRows)
    let largest = min(max(rowsOf(RowBlocks.mostElements), RowBlocks.leastRows), most)
    let full = (rows - 1) / largest + 1
    let canBeTwo = rows / 2 >= max(rowsOf(RowBlocks.leastHalf), RowBlocks.leastRowsOfHalf)
    count = full == 1 && !canBeTwo ? 1 : min((full + 1) / 2 * 2, RowBlocks.largestCount)
  }

  /// Whether each has a multiple of so many rows; then kernels have moved on all that they have added up before.
  func areMultiples(of unit: Int64) -> Bool {
    rows % unit == 0 && (unit == RowBlocks.unit || rows / unit % count == 0)
  }

  /// Rows of the largest block.
  var largest: Int64 { range(of: 0).end }

  func range(of block: Int64) -> (begin: Int64, end: Int64) {
    let units = (rows - 1) / RowBlocks.unit + 1
    let (size, larger) = units.quotientAndRemainder(dividingBy: count)
    let begin = block * size + min(block, larger)
    let end = begin + size + (block < larger ? 1 : 0)
    return (begin * RowBlocks.unit, min(end * RowBlocks.unit, rows))
  }
}
