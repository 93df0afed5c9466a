import CLayerNorm
import CShims

/// A forward call whose arguments are in order: the kernel that it takes and how its rows are divided.
struct ForwardPlan {
  private let kernel: ln_forward_kernel
  private var work: ln_forward_work
  private let partition: Partition
  /// For rows that kernels do not take as they are.
  private let chunks: RowChunks?
  private var staging: ForwardStaging?
  /// Where kernels do not take weight and bias as they are, or more than a few rows use them.
  private var parameters: ParameterCopies?

  @_optimize(speed)
  init(
    _ arguments: ForwardArguments, _ kernels: UnsafePointer<ln_kernel_table>
  ) throws(Failure) {
    let norm = arguments.norm
    let x = arguments.x
    let y = arguments.y
    let tensors = x.dtype.size + y.dtype.size + (arguments.addsToX ? 2 * x.dtype.size : 0)
    let machine = Caches.current
    let caches = Caches.ofLargeCall(norm.elements, of: tensors)
    let isLost = caches?.haveLost(x, callOf: norm.elements &* tensors) ?? false
    let isFar = isLost || machine.isFar(norm.elements, of: tensors)
    let contiguous =
      x.hasContiguousRows && y.hasContiguousRows
      && (arguments.residual?.hasContiguousRows ?? true)
      && (arguments.sum?.hasContiguousRows ?? true)
    let paramType = arguments.weight?.dtype ?? arguments.bias?.dtype ?? x.dtype
    let direct = contiguous ? ForwardPlan.kernel(x.dtype, y.dtype, paramType, kernels) : nil
    let bytesOfRow = norm.cols &* tensors &* y.dtype.timeOfByte
    chunks = direct == nil ? try RowChunks(norm, transposes: !contiguous) : nil
    partition =
      if let chunks {
        try Partition(chunks.count, bytes: chunks.rows &* bytesOfRow)
      } else {
        try Partition(norm.allRows, bytes: bytesOfRow)
      }
    // Where stores straddle lines, reading beside them gains in the second level as well.
    let isBeyondNear =
      isLost
      || machine.isBeyondNear(
        norm.elements, of: tensors, on: y.hasRowsOfVectors ? partition.threadsUsed : 1)
    let bytesAdded =
      caches == nil ? 0 : ForwardPlan.bytesAdded(arguments, machine, isShared: partition.parts > 1)
    let streams = ForwardPlan.streams(
      arguments, of: tensors, caches, isLost: isLost, isShared: partition.parts > 1,
      waitsApart: bytesAdded > 0)
    let asksAhead = ForwardPlan.asksAhead(arguments, caches, isFar: isFar, streams: streams)
    work = ln_forward_work(
      cols: norm.cols, rows_per_batch: norm.rows, eps: norm.eps,
      bytes_per_group: machine.bytesPerGroup(
        norm.elements, of: tensors, isBeyondNear: isBeyondNear),
      // Of short rows of 16 bits the operations are what takes time wherever they are.
      has_pairs: machine.hasPairs(
        areOfVectors: y.hasRowsOfVectors,
        isBeyondNear: isBeyondNear && (y.dtype.size > 2 || norm.cols >= ForwardPlan.leastPiped))
        ? 1 : 0,
      centers: norm.centers ? 1 : 0,
      rounds_rstd: y.dtype.size == 2 ? 1 : 0,
      is_far: asksAhead ? 1 : 0,
      fetches: machine.isLastNear ? 0 : 1,
      fetches_later: Caches.secondMayLack(norm.elements, of: tensors) ? 1 : 0,
      stores_ahead: arguments.addsToX || !machine.isLastNear ? 0 : 2048,
      is_piped: ForwardPlan.isPiped(
        arguments, machine, isBeyondNear: isBeyondNear, streams: streams) ? 1 : 0,
      streams: streams ? Int32(machine.leastStraddling(of: y.dtype.size)) : 0,
      is_plain: ForwardPlan.isPlain(
        norm.cols, of: y.dtype, machine, isFar: asksAhead || streams) ? 1 : 0,
      has_blocks: ForwardPlan.hasBlocks(
        arguments, machine, on: partition.threadsUsed, streams: streams) ? 1 : 0,
      has_long_nan: 0,
      x: x.kernelRows,
      residual: arguments.residual?.kernelRows ?? ln_rows(),
      sum: arguments.sum?.kernelRows ?? ln_rows(), y: y.kernelRows, added: ln_rows(),
      added_bytes: streams ? bytesAdded : 0,
      weight: arguments.weight?.pointer, bias: arguments.bias?.pointer,
      split_weight: nil, split_bias: nil,
      x_bias: arguments.xBias?.pointer, mean: arguments.mean?.mutablePointer,
      rstd: arguments.rstd?.mutablePointer, ada_scale: arguments.ada?.scale ?? 0,
      ada_slope: arguments.ada?.slope ?? 0, kernels: kernels)
    if let direct {
      let isUsual = ForwardPlan.hasUsualParameters(
        centers: norm.centers, hasWeight: arguments.weight != nil, hasBias: arguments.bias != nil)
      let hasManyRows = norm.allRows >= ForwardPlan.fewRows
      // With ones and zeros in place of what is absent y is the same, and kernels that stream can take the call.
      let fillsAbsent =
        !isUsual && caches != nil && hasManyRows && arguments.ada == nil
        && (norm.centers || arguments.bias == nil)
      let split =
        x.dtype == .bf16 && (isUsual || fillsAbsent) ? kernels.pointee.split_f32 : nil
      let converts =
        paramType == norm.compute ? split != nil : hasManyRows || caches != nil || !isUsual
      guard converts || fillsAbsent || arguments.addsToWeight,
        let widened = ForwardPlan.kernel(x.dtype, y.dtype, norm.compute, kernels)
      else {
        kernel = direct
        return
      }
      kernel = widened
      let hasWeight = arguments.weight != nil || fillsAbsent
      let hasBias = arguments.bias != nil || fillsAbsent && norm.centers
      guard hasWeight || hasBias else { return }
      parameters = try ParameterCopies(
        norm, weight: arguments.weight, bias: arguments.bias, hasWeight: hasWeight,
        hasBias: hasBias, addsOne: arguments.addsToWeight, kernels, split, for: partition)
    } else {
      kernel = norm.compute == .f64 ? kernels.pointee.forward_f64 : kernels.pointee.forward_f32
      staging = try chunks.map { (chunks) throws(Failure) in
        try ForwardStaging(arguments, chunks, threads: partition.threadsUsed, kernels, &work)
      }
    }
  }

  /// The kernel for rows whose elements lie side by side, if these dtypes have one.
  private static func kernel(
    _ x: DType, _ y: DType, _ parameters: DType, _ kernels: UnsafePointer<ln_kernel_table>
  ) -> ln_forward_kernel? {
    guard x == y else { return nil }
    return switch (x, parameters) {
    case (.f32, .f32): kernels.pointee.forward_f32
    case (.f64, .f64): kernels.pointee.forward_f64
    case (.f16, .f16): kernels.pointee.forward_f16
    case (.bf16, .bf16): kernels.pointee.forward_bf16
    case (.f16, .f32): kernels.pointee.forward_f16_params_f32
    case (.bf16, .f32): kernels.pointee.forward_bf16_params_f32
    default: nil
    }
  }

  /// Those that kernels are fast for, and, of 16 bits, take as they are: the others are converted for any number of
  /// rows.
  @inline(__always)
  static func hasUsualParameters(centers: Bool, hasWeight: Bool, hasBias: Bool) -> Bool {
    hasWeight && hasBias == centers
  }

  /// Fewer rows than this are not worth converting weight and bias for.
  private static let fewRows: Int64 = 16

  /// Whether rows are normalized plainly, one by one: short ones, for which to find out about anything else takes as long
  /// as the rest, and others where lines from beyond the second level come soon, and those of a group stay in the first
  /// beside weight and bias. Those of bfloat16 gain more from sharing these.
  @inline(__always)
  static func isPlain(_ cols: Int64, of dtype: DType, _ caches: Caches, isFar: Bool) -> Bool {
    guard cols >= dtype.compute.lanes else { return false }
    return cols <= 256
      || caches.isLastNear && !isFar && dtype != .bf16 && cols <= 12288 / dtype.size
  }

  /// Whether rows are so long that the first level does not hold one beside weight and bias: these come from it only if
  /// some columns of several rows are normalized together, which costs two threads more where they wait for memory. Of
  /// RMSNorm, which has one of the two, it does not tell, nor where the second level holds all.
  private static func hasBlocks(
    _ arguments: ForwardArguments, _ machine: Caches, on threads: Int64, streams: Bool
  ) -> Bool {
    let norm = arguments.norm
    return arguments.y.dtype == .f32 && norm.centers && norm.cols >= 13 << 8
      && Caches.secondMayLack(norm.elements / threads, of: 8)
      && machine.isLastNear && !arguments.addsToX && !(streams && threads > 1)
  }

  private static func streams(
    _ arguments: ForwardArguments, of bytes: Int64, _ caches: Caches?, isLost: Bool, isShared: Bool,
    waitsApart: Bool
  ) -> Bool {
    guard let caches, waitsApart || arguments.sum != nil || !arguments.addsToX else { return false }
    let size = arguments.y.dtype.size
    let row = arguments.norm.cols * size
    // One thread alone waits for each line before it can write to it, and beside a residual and sums the reading of y
    // is less of the time. Several wait for memory, which caches keep more of y from.
    let isEarly = !isShared && arguments.addsToX && row >= 512
    let isLate = isShared && row < 8192
    // Of as much as the caches hold, the call itself has lost what it begins with, and two threads that store short rows
    // past them take half as long again.
    let losesItself =
      isShared && row < 512 && caches.isFar(arguments.norm.elements, of: bytes)
    // Two outputs, and little to compute for each line of them.
    let streamsSum = waitsApart && arguments.sum != nil && size == 4
    return
      (isLost && !losesItself
      || caches.streams(
        arguments.norm.elements, outputOf: size, allOf: bytes,
        from: isEarly ? 12 : isLate ? 20 : 16, far: streamsSum ? 6 : 16))
      && !arguments.y.coincides(with: arguments.x)
  }

  /// Of memory where what is added waits to be normalized, in a call that streams: of a group of rows. 0 where it
  /// waits in the output: one that overwrites what has just been read, or whose rows do not end where lines do. Where
  /// the last level is near, rows of float32 that straddle lines gain by it unless they are too long, and long ones
  /// on one thread lose by it unless they are far too long.
  private static func bytesAdded(
    _ arguments: ForwardArguments, _ machine: Caches, isShared: Bool
  ) -> Int64 {
    guard arguments.addsToX else { return 0 }
    let output = arguments.sum ?? arguments.y
    let size = output.dtype.size
    let row = arguments.norm.cols * size
    let gains =
      output.hasRows(ofWhole: 64)
      ? isShared || !machine.isLastNear || !(16 << 10..<64 << 10).contains(row)
      : machine.isLastNear && size == 4
        && (machine.leastStraddling(of: size)..<5 << 10).contains(row)
    guard gains, output.address != arguments.x.address,
      output.address != arguments.residual?.address
    else { return 0 }
    return max(row, smallestAdded)
  }

  private static let smallestAdded: Int64 = 16 << 10

  /// Rows of 16 bits that are shorter are not stored while others are read.
  private static let leastPiped: Int64 = 256

  /// Whether rows are stored while others are read: where the second level does not hold a call, and the last is far.
  /// float32 of 96 to 2048 columns, 16 bits of y up to three times as large as what is far.
  private static func isPiped(
    _ arguments: ForwardArguments, _ machine: Caches, isBeyondNear: Bool, streams: Bool
  ) -> Bool {
    guard isBeyondNear, !machine.isLastNear, !arguments.addsToX, arguments.norm.compute == .f32
    else { return false }
    let size = arguments.y.dtype.size
    let cols = arguments.norm.cols
    return
      (size == 2
      ? cols >= leastPiped && !machine.isFar(arguments.norm.elements / 3, of: size)
      : (96...2048).contains(cols))
      && (!streams || arguments.y.hasRowsOfVectors)
  }

  /// Whether later rows are asked for, where that is worth an instruction for each line: of a call that the last
  /// level does not hold beside what others have there. Short rows only if they are streamed, of add + norm only rows of
  /// 16 bits, which have the most to compute for each line; where the last level is far the hardware does it for all but
  /// short rows and add + norm.
  private static func asksAhead(
    _ arguments: ForwardArguments, _ caches: Caches?, isFar: Bool, streams: Bool
  ) -> Bool {
    guard let caches, isFar else { return false }
    let size = arguments.y.dtype.size
    let row = arguments.norm.cols * size
    let isShort = row < 512
    guard arguments.addsToX else {
      return caches.isLastNear ? !isShort || streams : isShort
    }
    return size == 2 && !isShort && (caches.isLastNear || row <= 16384)
  }

  mutating func run() {
    let partition = partition
    withUnsafeMutablePointer(to: &self) { plan in
      partition.run(
        { plan, part in
          ForwardPlan.run(plan.unsafelyUnwrapped.assumingMemoryBound(to: ForwardPlan.self), part)
        }, plan)
    }
    staging?.buffers.free()
    parameters?.buffers.free()
  }

  /// Other threads need not copy all of the plan.
  @_optimize(speed)
  private static func run(_ plan: UnsafePointer<ForwardPlan>, _ part: Int64) {
    withDefaultFloatModes {
      let (begin, end) = plan.pointee.partition.range(of: part)
      var work = plan.pointee.work
      if let chunks = plan.pointee.chunks, let staging = plan.pointee.staging {
        let thread = staging.buffers.take()
        for chunk in begin..<end {
          let rows = chunks.range(of: chunk)
          staging.run(plan.pointee.kernel, work, rows.begin, rows.end, thread: thread)
        }
        staging.buffers.giveBack(thread)
        return
      }
      plan.pointee.parameters?.set(&work, part: part, of: plan.pointee.partition)
      let added = work.added_bytes > 0 ? allocate(work.added_bytes) : nil
      work.added = ln_rows(data: added, row_stride: work.cols, batch_stride: 0)
      plan.pointee.kernel(&work, begin, end)
      free(added)
    }
  }
}

/// Forward rows of any strides and dtypes: some at a time are gathered into a buffer of the compute type,
/// normalized there, and scattered to y.
struct ForwardStaging {
  let buffers: RowBuffers
  private let arguments: ForwardArguments
  private let convert: ln_convert_kernels
  private let add: ln_add_kernel
  private let xBias: UnsafeMutableRawPointer?
  /// Whether kernels take x or y as it is.
  private let readsDirectly, writesDirectly: Bool

  /// Allocates buffers for each thread, and converts the parameters once, in `work`.
  init(
    _ arguments: ForwardArguments, _ chunks: RowChunks, threads: Int64,
    _ kernels: UnsafePointer<ln_kernel_table>, _ work: inout ln_forward_work
  ) throws(Failure) {
    let norm = arguments.norm
    self.arguments = arguments
    convert = norm.compute == .f64 ? kernels.pointee.convert_f64 : kernels.pointee.convert_f32
    add = norm.compute == .f64 ? kernels.pointee.add_f64 : kernels.pointee.add_f32
    buffers = try RowBuffers(
      cols: norm.cols, elementSize: norm.compute.size, rows: chunks.most,
      perThread: arguments.addsToX ? 2 : 1, threads: threads, shared: 3)
    readsDirectly = !arguments.addsToX && arguments.x.isReady(norm.compute)
    writesDirectly = arguments.y.isReady(norm.compute)
    if arguments.weight != nil {
      work.weight = UnsafeRawPointer(
        buffers.fillWeight(
          from: ParameterRow(arguments.weight, convert), addsOne: arguments.addsToWeight, add))
    }
    work.bias =
      buffers.fill(shared: 1, from: ParameterRow(arguments.bias, convert))
      .map { UnsafeRawPointer($0) }
    xBias = buffers.fill(shared: 2, from: ParameterRow(arguments.xBias, convert))
    work.x_bias = nil
    work.residual = ln_rows()
    work.sum = ln_rows()
    work.is_piped = 0
    guard !writesDirectly else { return }
    let caches = Caches.current
    work.bytes_per_group = caches.bytesPerGroup
    work.has_pairs =
      caches.hasPairs(
        areOfVectors: norm.cols % norm.compute.lanes == 0, isBeyondNear: false) ? 1 : 0
    work.is_far = 0
    work.streams = 0
  }

  func run(
    _ kernel: ln_forward_kernel, _ work: ln_forward_work, _ begin: Int64, _ end: Int64,
    thread: Int64
  ) {
    let buffer = buffers.buffer(0, of: thread)
    let buffered = buffers.kernelRows(buffer, from: begin, arguments.norm)
    var staged = work
    if !readsDirectly {
      buffers.gather(arguments.x, begin, end, into: buffer, convert)
      if arguments.addsToX { addToX(buffer, begin, end, thread: thread) }
      staged.x = buffered
    }
    if !writesDirectly { staged.y = buffered }
    kernel(&staged, begin, end)
    if !writesDirectly { buffers.scatter(buffer, into: arguments.y, begin, end, convert) }
  }

  /// (x + x_bias) + residual, rounded to the dtype of x.
  private func addToX(_ x: UnsafeMutableRawPointer, _ begin: Int64, _ end: Int64, thread: Int64) {
    let other = buffers.buffer(1, of: thread)
    if let residual = arguments.residual {
      buffers.gather(residual, begin, end, into: other, convert)
    }
    for row in 0..<Int(end - begin) {
      let offset = row * Int(buffers.rowBytes)
      add(
        arguments.norm.cols, x + offset, xBias, arguments.residual == nil ? nil : other + offset,
        x + offset)
    }
    if arguments.x.dtype != arguments.norm.compute {
      buffers.round(end - begin, of: x, to: arguments.x.dtype, through: other, convert)
    }
    if let sum = arguments.sum { buffers.scatter(x, into: sum, begin, end, convert) }
  }
}
