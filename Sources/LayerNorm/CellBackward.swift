import CLayerNorm
import CShims

/// A backward call of a recurrent cell whose arguments are in order. The kernels of the cells take the gradient
/// from h and c to the norms; those of the norms take it on from there, in its place. Sums for the gradients
/// of parameters are kept as in `BackwardPlan`.
struct CellBackwardPlan {
  private let kind: CellKind
  private let args: layernorm_cell_backward_args
  private let cell: ln_cell_kernels
  private let normKernel: ln_backward_kernel
  private let join: ln_join_kernel
  private let add: ln_add_kernel
  private let work: ln_cell_work
  private let blocks: RowBlocks
  private let partition: Partition
  /// Of the two gradients of each norm's parameters.
  private let joins: Partition
  /// Ones, for a weight that is absent, and for each part what an RNN normalizes.
  private let buffers: RowBuffers
  private let sums: UnsafeMutableRawPointer?
  private let bytesOfBlock: Int64

  init(
    _ args: layernorm_cell_backward_args, _ kind: CellKind,
    _ kernels: UnsafePointer<ln_kernel_table>
  ) throws(Failure) {
    self.kind = kind
    self.args = args
    let isDouble = kind.dtype == .f64
    cell = isDouble ? kernels.pointee.cell_f64 : kernels.pointee.cell_f32
    normKernel = isDouble ? kernels.pointee.backward_f64 : kernels.pointee.backward_f32
    join = isDouble ? kernels.pointee.join_f64 : kernels.pointee.join_f32
    add = isDouble ? kernels.pointee.add_f64 : kernels.pointee.add_f32
    work = ln_cell_work(
      cell: Int32(kind.cell.rawValue), per_gate: kind.isPerGate ? 1 : 0, hidden: kind.hidden,
      eps: kind.eps, x_gates: args.x_gates, h_gates: args.h_gates, h_prev: args.h_prev,
      c_prev: args.c_prev, x_weight: args.x_weight, x_bias: args.x_bias, h_weight: args.h_weight,
      h_bias: args.h_bias, c_weight: args.c_weight, c_bias: args.c_bias, h: nil,
      c: UnsafeMutableRawPointer(mutating: args.c),
      gates: UnsafeMutableRawPointer(mutating: args.gates), mean: nil, rstd: nil, dh: args.dh,
      dx_gates: args.dx_gates, dh_gates: args.dh_gates,
      dh_prev: kind.isGRU ? args.dh_prev : nil, dc_prev: args.dc_prev)

    blocks = RowBlocks(rows: kind.rows)
    let (bytes, _) = blocks.largest.multipliedReportingOverflow(by: kind.bytesOfRow)
    partition = try Partition(blocks.count, bytes: bytes)
    var bytesOfBlock: Int64 = 0
    for index in 0..<kind.norms { bytesOfBlock += 2 * kind.norm(index).sumBytes(kind.dtype) }
    self.bytesOfBlock = bytesOfBlock
    let (allSums, overflow) = blocks.count.multipliedReportingOverflow(by: bytesOfBlock)
    joins = try Partition(2 * kind.norms, bytes: allSums / (2 * kind.norms))
    buffers = try RowBuffers(
      cols: kind.gates * kind.hidden, elementSize: kind.dtype.size, perPart: kind.isRNN ? 1 : 0,
      parts: partition.parts, shared: 1)
    let ones = Int(kind.gates * kind.hidden)
    if isDouble {
      buffers.shared(0).initializeMemory(as: Double.self, repeating: 1, count: ones)
    } else {
      buffers.shared(0).initializeMemory(as: Float.self, repeating: 1, count: ones)
    }
    guard
      CellProduct.x.wantsSums(args) || CellProduct.h.wantsSums(args)
        || CellProduct.c.wantsSums(args)
    else {
      sums = nil
      return
    }
    guard !overflow, let sums = allocate(allSums) else {
      buffers.free()
      throw failure(
        LAYERNORM_ERROR_OUT_OF_MEMORY, "hidden is ", .number(kind.hidden),
        ": no memory for the sums of the parameters' gradients")
    }
    self.sums = sums
  }

  mutating func run() {
    let partition = partition
    let joins = joins
    withUnsafeMutablePointer(to: &self) { plan in
      runParts(
        of: partition,
        { plan, part in
          plan.unsafelyUnwrapped.assumingMemoryBound(to: CellBackwardPlan.self).pointee
            .run(part: part)
        }, plan)
      guard plan.pointee.sums != nil else { return }
      runParts(
        of: joins,
        { plan, part in
          plan.unsafelyUnwrapped.assumingMemoryBound(to: CellBackwardPlan.self).pointee
            .join(part: part)
        }, plan)
    }
    free(sums)
    buffers.free()
  }

  private func run(part: Int64) {
    withDefaultFloatModes {
      let (firstBlock, endBlock) = partition.range(of: part)
      for block in firstBlock..<endBlock {
        let sums = sums.map { $0 + Int(block * bytesOfBlock) }
        if let sums { memset(sums, 0, Int(bytesOfBlock)) }
        var (row, end) = blocks.range(of: block)
        while row < end {
          let stop = kind.endOfRun(row, min(row + kind.rowsInCache, end), args.mask)
          if stop > row { step(row, stop, sums, part: part) }
          row = stop
          while row < end, let mask = args.mask, mask[Int(row)] == 0 {
            skip(row)
            row += 1
          }
        }
      }
    }
  }

  /// The rows begin ..< end, at most `CellKind.largestRun`, of which none is masked.
  private func step(
    _ begin: Int64, _ end: Int64, _ sums: UnsafeMutableRawPointer?, part: Int64
  ) {
    var work = work
    cell.backward(&work, begin, end)
    if kind.isLSTM {
      backward(kind.norms - 1, begin, end, sums, part: part)
      cell.backward_from_c(&work, begin, end)
    }
    for index in 0..<(kind.isLSTM ? kind.norms - 1 : kind.norms) {
      backward(index, begin, end, sums, part: part)
    }
    guard !kind.isGRU else { return }
    for row in begin..<end { kind.set(row, of: args.dh_prev, kind.hidden) }
  }

  /// Through one norm, in the place of the gradient that has come to it.
  private func backward(
    _ index: Int64, _ begin: Int64, _ end: Int64, _ sums: UnsafeMutableRawPointer?, part: Int64
  ) {
    let norm = kind.norm(index)
    let size = kind.dtype.size
    let stride = kind.gates * kind.hidden
    func rows(_ pointer: UnsafeRawPointer?, _ stride: Int64, from offset: Int64) -> ln_rows {
      guard let pointer else { return ln_rows() }
      let first = pointer + Int((begin * stride + offset) * size)
      return ln_rows(
        data: UnsafeMutableRawPointer(mutating: first), row_stride: stride, batch_stride: 0)
    }
    func parameter(_ weight: UnsafeRawPointer?) -> UnsafeRawPointer {
      weight.map { $0 + Int(norm.offset * size) } ?? UnsafeRawPointer(buffers.shared(0))
    }
    var work = ln_backward_work()
    work.cols = norm.count
    work.rows_per_batch = end - begin
    work.eps = kind.eps
    work.centers = 1
    switch norm.product {
    case .x:
      work.x =
        args.h_gates != nil && kind.isRNN
        ? sum(begin, end, part: part) : rows(args.x_gates, stride, from: norm.offset)
      work.dy = rows(args.dx_gates, stride, from: norm.offset)
      work.weight = parameter(args.x_weight)
    case .h:
      work.x = rows(args.h_gates, stride, from: norm.offset)
      work.dy = rows(args.dh_gates, stride, from: norm.offset)
      work.weight = parameter(args.h_weight)
    case .c:
      work.x = rows(args.c, kind.hidden, from: 0)
      work.dy = rows(args.dx_gates, stride, from: 3 * kind.hidden)
      work.dsum = rows(args.dc, kind.hidden, from: 0)
      work.weight = parameter(args.c_weight)
    }
    work.dx = work.dy
    let sums = norm.product.wantsSums(args) ? sums.map { $0 + Int(sumOffset(of: index)) } : nil
    // Kernels take the statistics of rows side by side.
    let bytes = Int(size)
    var statistics = InlineArray<32, Double>(repeating: 0)
    withUnsafeMutableBytes(of: &statistics) { memory in
      let mean = memory.baseAddress.unsafelyUnwrapped
      let rstd = mean + Int(CellKind.largestRun) * bytes
      for row in begin..<end {
        let source = Int((row * kind.norms + index) * size)
        let target = Int((row - begin) * size)
        memcpy(mean + target, args.mean.unsafelyUnwrapped + source, bytes)
        memcpy(rstd + target, args.rstd.unsafelyUnwrapped + source, bytes)
      }
      work.mean = UnsafeRawPointer(mean)
      work.rstd = UnsafeRawPointer(rstd)
      normKernel(&work, 0, end - begin, sums, 1)
    }
  }

  /// x_gates + h_gates, which an RNN normalizes.
  private func sum(_ begin: Int64, _ end: Int64, part: Int64) -> ln_rows {
    let sum = buffers.buffer(0, ofPart: part)
    let bytes = kind.hidden * kind.dtype.size
    for row in begin..<end {
      let offset = Int(row * bytes)
      add(
        kind.hidden, args.x_gates + offset, nil, args.h_gates + offset,
        sum + Int((row - begin) * buffers.rowBytes))
    }
    return buffers.kernelRows(sum)
  }

  /// A masked row.
  private func skip(_ row: Int64) {
    kind.set(row, of: args.dx_gates, kind.gates * kind.hidden)
    kind.set(row, of: args.dh_gates, kind.gates * kind.hidden)
    kind.set(row, of: args.dh_prev, kind.hidden, to: args.dh)
    kind.set(row, of: args.dc_prev, kind.hidden, to: args.dc)
  }

  // MARK: Gradients of parameters

  /// Where the sums of a norm begin in those of a block.
  private func sumOffset(of index: Int64) -> Int64 {
    var offset: Int64 = 0
    for before in 0..<index { offset += 2 * kind.norm(before).sumBytes(kind.dtype) }
    return offset
  }

  private func join(part: Int64) {
    withDefaultFloatModes {
      let (begin, end) = joins.range(of: part)
      for index in begin..<end { writeGradient(index / 2, isBias: index % 2 == 1) }
    }
  }

  private func writeGradient(_ index: Int64, isBias: Bool) {
    let norm = kind.norm(index)
    let gradients = norm.product.gradients(args)
    guard let gradient = isBias ? gradients.bias : gradients.weight, let sums else { return }
    let offset = sumOffset(of: index) + (isBias ? norm.sumBytes(kind.dtype) : 0)
    join(
      norm.count, blocks.count, bytesOfBlock, sums + Int(offset),
      gradient + Int(norm.offset * kind.dtype.size),
      args.flags & UInt64(LAYERNORM_FLAG_ACCUMULATE_PARAMS) != 0 ? 1 : 0)
  }
}

/// What is normalized: a product with a weight matrix, or the LSTM's c.
enum CellProduct {
  case x
  case h
  case c

  func gradients(
    _ args: layernorm_cell_backward_args
  ) -> (weight: UnsafeMutableRawPointer?, bias: UnsafeMutableRawPointer?) {
    switch self {
    case .x: (args.dx_weight, args.dx_bias)
    case .h: (args.dh_weight, args.dh_bias)
    case .c: (args.dc_weight, args.dc_bias)
    }
  }

  func wantsSums(_ args: layernorm_cell_backward_args) -> Bool {
    gradients(args).weight != nil || gradients(args).bias != nil
  }
}

/// One of the norms of a row: `count` columns of what is normalized, from `offset` on.
struct CellNorm {
  let product: CellProduct
  let offset: Int64
  let count: Int64

  /// The sums for the gradient of weight or of bias.
  func sumBytes(_ dtype: DType) -> Int64 {
    let lanes = 64 / dtype.size
    return (count + lanes - 1) / lanes * Int64(LN_SUM_BYTES)
  }
}

extension CellKind {
  /// In the order of the statistics: of x, of h, of c.
  func norm(_ index: Int64) -> CellNorm {
    if index == 2 * normsOfProduct { return CellNorm(product: .c, offset: 0, count: hidden) }
    let product: CellProduct = index < normsOfProduct ? .x : .h
    let ofProduct = index % normsOfProduct
    if normsOfProduct == gates {
      return CellNorm(product: product, offset: ofProduct * hidden, count: hidden)
    }
    if isLSTM { return CellNorm(product: product, offset: 0, count: 4 * hidden) }
    return CellNorm(
      product: product, offset: 2 * ofProduct * hidden, count: (2 - ofProduct) * hidden)
  }
}
