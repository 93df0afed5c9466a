import CLayerNorm
import CShims

/// A forward call of a recurrent cell whose arguments are in order.
struct CellForwardPlan {
  private let kind: CellKind
  private let mask: UnsafePointer<UInt8>?
  private let kernel: ln_cell_kernel
  private let work: ln_cell_work
  /// The RNN's norm, which precedes its kernel.
  private let normKernel: ln_forward_kernel
  private let norm: ln_forward_work
  private let partition: Partition

  init(
    _ args: layernorm_cell_forward_args, _ kind: CellKind,
    _ kernels: UnsafePointer<ln_kernel_table>
  ) throws(Failure) {
    self.kind = kind
    mask = args.mask
    let isDouble = kind.dtype == .f64
    kernel =
      (isDouble ? kernels.pointee.cell_f64 : kernels.pointee.cell_f32)
      .forward.unsafelyUnwrapped
    normKernel =
      (isDouble ? kernels.pointee.forward_f64 : kernels.pointee.forward_f32)
      .unsafelyUnwrapped
    partition = try Partition(kind.rows, bytes: kind.bytesOfRow)
    work = ln_cell_work(
      cell: Int32(kind.cell.rawValue), per_gate: kind.isPerGate ? 1 : 0, hidden: kind.hidden,
      eps: kind.eps, x_gates: args.x_gates, h_gates: args.h_gates, h_prev: args.h_prev,
      c_prev: args.c_prev, x_weight: args.x_weight, x_bias: args.x_bias, h_weight: args.h_weight,
      h_bias: args.h_bias, c_weight: args.c_weight, c_bias: args.c_bias, h: args.h, c: args.c,
      gates: args.gates, mean: args.mean, rstd: args.rstd, dh: nil, dx_gates: nil, dh_gates: nil,
      dh_prev: nil, dc_prev: nil)
    var norm = ln_forward_work()
    norm.cols = kind.hidden
    norm.rows_per_batch = kind.rows
    norm.eps = kind.eps
    norm.centers = 1
    norm.weight_offset = -0.0
    norm.x = kind.kernelRows(args.x_gates)
    norm.residual = kind.kernelRows(args.h_gates)
    norm.y = kind.kernelRows(args.h)
    norm.weight = args.x_weight
    norm.bias = args.x_bias
    norm.mean = args.mean
    norm.rstd = args.rstd
    self.norm = norm
  }

  mutating func run() {
    let partition = partition
    withUnsafeMutablePointer(to: &self) { plan in
      runParts(
        of: partition,
        { plan, part in
          plan.unsafelyUnwrapped.assumingMemoryBound(to: CellForwardPlan.self).pointee
            .run(part: part)
        }, plan)
    }
  }

  private func run(part: Int64) {
    withDefaultFloatModes {
      let (begin, end) = partition.range(of: part)
      var row = begin
      while row < end {
        let stop = kind.endOfRun(row, end, mask)
        if stop > row { step(row, stop) }
        row = stop
        while row < end, let mask, mask[Int(row)] == 0 {
          keep(row)
          row += 1
        }
      }
    }
  }

  /// The rows begin ..< end, which are not masked.
  private func step(_ begin: Int64, _ end: Int64) {
    var work = work
    guard kind.isRNN else {
      kernel(&work, begin, end)
      return
    }
    var norm = norm
    // So many that they are in a cache when the kernel follows.
    let rows = kind.rowsInCache
    var row = begin
    while row < end {
      let stop = min(row + rows, end)
      normKernel(&norm, row, stop)
      kernel(&work, row, stop)
      row = stop
    }
  }

  /// A masked row.
  private func keep(_ row: Int64) {
    kind.set(row, of: work.h, kind.hidden, to: work.h_prev)
    kind.set(row, of: work.c, kind.hidden, to: work.c_prev)
    kind.set(row, of: work.gates, kind.gates * kind.hidden)
    kind.set(row, of: work.mean, kind.norms)
    kind.set(row, of: work.rstd, kind.norms)
  }
}

/// Not inlined: the cells have several of it.
@inline(never)
func runParts(
  of partition: Partition, _ task: layernorm_task, _ context: UnsafeMutableRawPointer
) {
  partition.run(task, context)
}

extension CellKind {
  /// About what a row moves in a step, and, since its activations take their time, about twice what a row of a
  /// norm would move in that time.
  var bytesOfRow: Int64 { 6 * gates * hidden * dtype.size }

  /// No more rows than this are passed through several kernels one after the other.
  static let largestRun: Int64 = 16

  /// Rows that stay in a cache between these kernels.
  var rowsInCache: Int64 {
    let (bytes, overflow) = (gates * hidden).multipliedReportingOverflow(by: 6 * dtype.size)
    return overflow ? 1 : max(1, min(CellKind.largestRun, (256 << 10) / bytes))
  }

  /// Where the rows from `row` on that are not masked end.
  func endOfRun(_ row: Int64, _ end: Int64, _ mask: UnsafePointer<UInt8>?) -> Int64 {
    guard let mask else { return end }
    var row = row
    while row < end && mask[Int(row)] != 0 { row += 1 }
    return row
  }

  /// Rows of one gate, for a kernel of the norms.
  func kernelRows(_ pointer: UnsafeRawPointer?) -> ln_rows {
    ln_rows(
      data: UnsafeMutableRawPointer(mutating: pointer), row_stride: hidden, batch_stride: 0)
  }

  /// Sets a row of `count` elements of an output, where it is wanted, to that of an input, or to zeros.
  func set(
    _ row: Int64, of output: UnsafeMutableRawPointer?, _ count: Int64,
    to input: UnsafeRawPointer? = nil
  ) {
    guard let output else { return }
    let bytes = Int(count * dtype.size)
    let offset = Int(row) * bytes
    if let input {
      memmove(output + offset, input + offset, bytes)
    } else {
      memset(output + offset, 0, bytes)
    }
  }
}
