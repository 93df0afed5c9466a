import CLayerNorm
import CShims

/// A forward call of a recurrent cell whose arguments are in order.
struct CellForwardPlan {
  private let kind: CellKind
  private let mask: UnsafePointer<UInt8>?
  private let kernels: ln_cell_kernels
  private let work: ln_cell_work
  private let partition: Partition
  private let scratch: CellScratch

  init(
    _ args: layernorm_cell_forward_args, _ kind: CellKind,
    _ kernels: UnsafePointer<ln_kernel_table>
  ) throws(Failure) {
    self.kind = kind
    mask = args.mask
    self.kernels = kind.dtype == .f64 ? kernels.pointee.cell_f64 : kernels.pointee.cell_f32
    partition = try Partition(kind.rows, bytes: kind.bytesOfRow)
    work = ln_cell_work(
      cell: Int32(kind.cell.rawValue), per_gate: kind.isPerGate ? 1 : 0, hidden: kind.hidden,
      eps: kind.eps, x_gates: args.x_gates, h_gates: args.h_gates, h_prev: args.h_prev,
      c_prev: args.c_prev, x_weight: args.x_weight, x_bias: args.x_bias, h_weight: args.h_weight,
      h_bias: args.h_bias, c_weight: args.c_weight, c_bias: args.c_bias, h: args.h, c: args.c,
      gates: args.gates, mean: args.mean, rstd: args.rstd, dh: nil, dc: nil, dx_gates: nil,
      dh_gates: nil,
      dh_prev: nil, dc_prev: nil)
    scratch = try CellScratch(kind, gates: 5, count: partition.parts)
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
    scratch.free()
  }

  private func run(part: Int64) {
    withDefaultFloatModes {
      let (begin, end) = partition.range(of: part)
      var row = begin
      while row < end {
        let stop = kind.endOfRun(row, end, mask)
        if stop > row { step(row, stop, part: part) }
        row = stop
        while row < end, let mask, mask[Int(row)] == 0 {
          keep(row)
          row += 1
        }
      }
    }
  }

  /// The rows begin ..< end, which are not masked.
  private func step(_ begin: Int64, _ end: Int64, part: Int64) {
    var work = work
    kernels.forward.unsafelyUnwrapped(&work, begin, end, scratch[part])
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

/// Memory of the kernels of a cell: the same for each of `count`, parts or blocks.
struct CellScratch {
  let bytes: Int64
  private let memory: UnsafeMutableRawPointer?

  /// None of it for 0 gates.
  init(_ kind: CellKind, gates: Int64, count: Int64) throws(Failure) {
    let (vectors, o1) = ((kind.hidden + 7) / 8).multipliedReportingOverflow(by: gates)
    // Each number takes twice the bytes of an element.
    let (bytes, o2) = vectors.multipliedReportingOverflow(by: 16 * kind.dtype.size)
    let (total, o3) = bytes.multipliedReportingOverflow(by: count)
    self.bytes = bytes
    guard total > 0 || o1 || o2 || o3 else {
      memory = nil
      return
    }
    guard !(o1 || o2 || o3), let memory = allocate(total) else {
      throw failure(
        LAYERNORM_ERROR_OUT_OF_MEMORY, "hidden is ", .number(kind.hidden),
        ": no memory for the numbers between its kernels")
    }
    self.memory = memory
  }

  subscript(index: Int64) -> UnsafeMutableRawPointer? { memory.map { $0 + Int(index * bytes) } }

  func free() { CShims.free(memory) }
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

  /// Where the rows from `row` on that are not masked end.
  func endOfRun(_ row: Int64, _ end: Int64, _ mask: UnsafePointer<UInt8>?) -> Int64 {
    guard let mask else { return end }
    var row = row
    while row < end && mask[Int(row)] != 0 { row += 1 }
    return row
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
