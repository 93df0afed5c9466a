import CLayerNorm
import CShims

/// A backward call of a recurrent cell whose arguments are in order. Sums for the gradients of parameters are kept
/// as in `BackwardPlan`.
struct CellBackwardPlan {
  private let kind: CellKind
  private let args: layernorm_cell_backward_args
  private let kernels: ln_cell_kernels
  private let work: ln_cell_work
  private let blocks: RowBlocks
  private let partition: Partition
  /// Of the gradients of the parameters, one gate each.
  private let joins: Partition
  private let scratch: CellScratch
  private let sums: CellScratch

  init(
    _ args: layernorm_cell_backward_args, _ kind: CellKind,
    _ kernels: UnsafePointer<ln_kernel_table>
  ) throws(Failure) {
    self.kind = kind
    self.args = args
    self.kernels = kind.dtype == .f64 ? kernels.pointee.cell_f64 : kernels.pointee.cell_f32
    work = ln_cell_work(
      cell: Int32(kind.cell.rawValue), per_gate: kind.isPerGate ? 1 : 0, hidden: kind.hidden,
      eps: kind.eps, x_gates: args.x_gates, h_gates: args.h_gates, h_prev: args.h_prev,
      c_prev: args.c_prev, x_weight: args.x_weight, x_bias: nil, h_weight: args.h_weight,
      h_bias: args.h_bias, c_weight: args.c_weight, c_bias: args.c_bias, h: nil,
      c: UnsafeMutableRawPointer(mutating: args.c),
      gates: UnsafeMutableRawPointer(mutating: args.gates),
      mean: UnsafeMutableRawPointer(mutating: args.mean),
      rstd: UnsafeMutableRawPointer(mutating: args.rstd), dh: args.dh, dc: args.dc,
      dx_gates: args.dx_gates, dh_gates: args.dh_gates, dh_prev: args.dh_prev,
      dc_prev: args.dc_prev)

    blocks = RowBlocks(rows: kind.rows, cols: kind.gates * kind.hidden)
    let (bytes, _) = blocks.largest.multipliedReportingOverflow(by: kind.bytesOfRow)
    partition = try Partition(blocks.count, bytes: bytes)
    let wantsSums =
      args.dx_weight != nil || args.dx_bias != nil || args.dh_weight != nil
      || args.dh_bias != nil || args.dc_weight != nil || args.dc_bias != nil
    scratch = try CellScratch(kind, gates: 4, count: partition.parts)
    do throws(Failure) {
      sums = try CellScratch(kind, gates: wantsSums ? kind.sums : 0, count: blocks.count)
    } catch {
      scratch.free()
      throw error
    }
    joins = try Partition(kind.sums, bytes: sums.bytes / kind.sums * blocks.count)
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
      guard plan.pointee.sums[0] != nil else { return }
      runParts(
        of: joins,
        { plan, part in
          plan.unsafelyUnwrapped.assumingMemoryBound(to: CellBackwardPlan.self).pointee
            .join(part: part)
        }, plan)
    }
    sums.free()
    scratch.free()
  }

  private func run(part: Int64) {
    withDefaultFloatModes {
      var work = work
      let (firstBlock, endBlock) = partition.range(of: part)
      for block in firstBlock..<endBlock {
        let sums = sums[block]
        if let sums { memset(sums, 0, Int(self.sums.bytes)) }
        var (row, end) = blocks.range(of: block)
        while row < end {
          let stop = kind.endOfRun(row, end, args.mask)
          if stop > row {
            kernels.backward.unsafelyUnwrapped(&work, row, stop, scratch[part], sums)
            if !kind.isGRU {
              for row in row..<stop { kind.set(row, of: args.dh_prev, kind.hidden) }
            }
          }
          row = stop
          while row < end, let mask = args.mask, mask[Int(row)] == 0 {
            skip(row)
            row += 1
          }
        }
      }
    }
  }

  /// A masked row.
  private func skip(_ row: Int64) {
    kind.set(row, of: args.dx_gates, kind.gates * kind.hidden)
    kind.set(row, of: args.dh_gates, kind.gates * kind.hidden)
    kind.set(row, of: args.dh_prev, kind.hidden, to: args.dh)
    kind.set(row, of: args.dc_prev, kind.hidden, to: args.dc)
  }

  /// Writes gradients of parameters, from the sums of all blocks: of one gate each.
  private func join(part: Int64) {
    withDefaultFloatModes {
      let (begin, end) = joins.range(of: part)
      for index in begin..<end {
        let (of, gate) = index.quotientAndRemainder(dividingBy: kind.gates)
        let gradient =
          switch of {
          case 0: args.dx_weight
          case 1: args.dx_bias
          case 2: args.dh_weight
          case 3: args.dh_bias
          default: gate == 0 ? args.dc_weight : args.dc_bias
          }
        guard let gradient, let sums = sums[0] else { continue }
        kernels.join.unsafelyUnwrapped(
          kind.hidden, blocks.count, self.sums.bytes,
          sums + Int(index * (self.sums.bytes / kind.sums)),
          gradient + Int((of == 4 ? 0 : gate) * kind.hidden * kind.dtype.size),
          args.flags & UInt64(LAYERNORM_FLAG_ACCUMULATE_PARAMS) != 0 ? 1 : 0)
      }
    }
  }
}

extension CellKind {
  /// How many gates the gradients of the parameters have, with those of the LSTM's c.
  fileprivate var sums: Int64 { isRNN ? 2 : isLSTM ? 4 * gates + 2 : 4 * gates }
}
