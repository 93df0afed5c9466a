import CLayerNorm
import CShims

/// The short way of a backward call that is small and plainly in order, as `SmallForward` is that of
/// forward: contiguous, of one dtype, with a weight, and of one block of rows.
struct SmallBackward {
  private let kernel: ln_backward_kernel
  private let join: ln_join_kernel
  private var work: ln_backward_work
  private let rows: Int64
  private let dweight: UnsafeMutableRawPointer?
  private let dbias: UnsafeMutableRawPointer?
  private let sumBytes: Int64
  private let ofHalf: OfHalf?

  /// What parameters of 16 bits need, which kernels take and give in float32.
  private struct OfHalf {
    let widen, narrow: ln_convert_kernel
    let split: ln_split_kernel?
    /// Whether some rows are left apart, of those that are added up in float32.
    let leavesCoarse: Bool
  }

  /// False, with nothing done, for a call that has to take the long way.
  @inline(__always) static func run(_ args: layernorm_backward_args) -> Bool {
    guard let kernels = Configuration.settledKernels, args.flags == 0,
      args.batch == 0 || args.batch == 1,
      args.norm == LAYERNORM_NORM_LAYER
        ? (args.mean == nil) == (args.rstd == nil)
        : args.norm == LAYERNORM_NORM_RMS && args.mean == nil,
      args.dy_dtype == LAYERNORM_DTYPE_DEFAULT || args.dy_dtype == args.x_dtype,
      args.param_dtype == LAYERNORM_DTYPE_DEFAULT || args.param_dtype == args.x_dtype,
      args.dy_strides == nil, args.x_strides == nil, args.dsum_strides == nil,
      args.dx_strides == nil,
      let dtype = DType(rawValue: args.x_dtype.rawValue),
      let kernel = BackwardPlan.kernel(dtype, kernels)
    else { return false }
    let isDouble = dtype == .f64
    let eps = isDouble ? args.eps : Double(Float(args.eps))
    guard eps >= 0, eps < .infinity, args.rows > 0, args.cols > 0,
      args.rows < ByteSpan.countLimit, args.cols < ByteSpan.countLimit,
      case let blocks = RowBlocks(rows: args.rows, cols: args.cols), blocks.count == 1
    else { return false }
    let row = UInt(args.cols) &* UInt(dtype.size)
    let matrix = UInt(args.rows) &* row
    let column = UInt(args.rows) &* UInt(dtype.compute.size)
    let arrays = Arrays(
      dy: ByteSpan(args.dy, matrix), x: ByteSpan(args.x, matrix),
      weight: ByteSpan(args.weight, row), mean: ByteSpan(args.mean, column),
      rstd: ByteSpan(args.rstd, column), dsum: ByteSpan(args.dsum, matrix),
      dx: ByteSpan(args.dx, matrix), dweight: ByteSpan(args.dweight, row),
      dbias: ByteSpan(args.dbias, row))
    let lanes = dtype.compute.lanes
    let sumBytes = (args.cols &+ lanes &- 1) / lanes &* Int64(LN_SUM_BYTES)
    let isHalf = dtype.size == 2
    guard matrix <= Partition.smallestShared,
      (isHalf ? 4 : 2) &* sumBytes <= Int64(LN_STACK_BYTES),
      !isHalf || args.dweight != nil || args.dbias != nil,
      arrays.areInOrder(size: UInt(dtype.size), statisticSize: UInt(dtype.compute.size))
    else { return false }
    let coarseRows = isHalf ? BackwardPlan.coarseRows(ofHalfGradients: true) : 0
    let convert = kernels.pointee.convert_f32
    func rows(_ pointer: UnsafeRawPointer?) -> ln_rows {
      ln_rows(
        data: UnsafeMutableRawPointer(mutating: pointer), row_stride: args.cols, batch_stride: 0)
    }
    var call = SmallBackward(
      kernel: kernel,
      join: isDouble ? kernels.pointee.join_f64 : kernels.pointee.join_f32,
      work: ln_backward_work(
        cols: args.cols, rows_per_batch: args.rows, eps: eps,
        centers: args.norm == LAYERNORM_NORM_LAYER ? 1 : 0, accumulates_dx: 0,
        reads_ahead: 0, writes_ahead: 0, fetches: 0, fetches_later: 0,
        is_near: Caches.current.isLastNear ? 1 : 0, streams: 0, coarse_rows: coarseRows,
        detaches_mean: 0, detaches_rstd: 0, dy: rows(args.dy), x: rows(args.x),
        dsum: rows(args.dsum), dx: rows(args.dx),
        weight: args.weight, split_weight: nil, mean: args.mean, rstd: args.rstd,
        kernels: kernels),
      rows: args.rows, dweight: args.dweight, dbias: args.dbias, sumBytes: sumBytes,
      ofHalf: isHalf
        ? OfHalf(
          widen: convert.from(dtype), narrow: convert.to(dtype),
          split: dtype == .bf16 ? kernels.pointee.split_f32 : nil,
          leavesCoarse: !blocks.areMultiples(of: Int64(coarseRows))) : nil)
    withDefaultFloatModes {
      if args.dweight == nil && args.dbias == nil {
        call.kernel(&call.work, 0, args.rows, nil, 0)
      } else {
        ln_with_stack_memory(
          { call, sums in
            call.unsafelyUnwrapped.assumingMemoryBound(to: SmallBackward.self)
              .pointee.run(sums.unsafelyUnwrapped)
          }, &call)
      }
    }
    return true
  }

  private mutating func run(_ sums: UnsafeMutableRawPointer) {
    if let ofHalf {
      run(sums, ofHalf)
      return
    }
    kernel(&work, 0, rows, sums, 0)
    if let dweight { join(work.cols, 1, 0, sums, nil, dweight, 0) }
    if let dbias { join(work.cols, 1, 0, sums + Int(sumBytes), nil, dbias, 0) }
  }

  /// The sums, those of some rows, and two rows of float32: the weight, and the same in parts, then the gradients.
  private mutating func run(_ sums: UnsafeMutableRawPointer, _ ofHalf: OfHalf) {
    let cols = work.cols
    let sumBytes = Int(sumBytes)
    let coarse = sums + 2 &* sumBytes
    let weight = coarse + sumBytes
    let inParts = weight + sumBytes / 2
    func matrix(_ data: UnsafeMutableRawPointer?) -> ln_matrix {
      ln_matrix(data: data, row_stride: cols, col_stride: 1)
    }
    ofHalf.widen(1, cols, matrix(UnsafeMutableRawPointer(mutating: work.weight)), matrix(weight))
    work.weight = UnsafeRawPointer(weight)
    if let split = ofHalf.split {
      _ = split(cols, weight, inParts)
      work.split_weight = UnsafeRawPointer(inParts)
    }
    kernel(&work, 0, rows, sums, 0)
    func write(_ gradient: UnsafeMutableRawPointer?, _ index: Int) {
      guard let gradient else { return }
      join(
        cols, 1, 0, sums + index &* sumBytes,
        ofHalf.leavesCoarse ? coarse + index &* sumBytes / 2 : nil, weight, 0)
      ofHalf.narrow(1, cols, matrix(weight), matrix(gradient))
    }
    write(dweight, 0)
    write(dbias, 1)
  }

  /// The arrays of a call, whose sizes are in order.
  private struct Arrays {
    let dy, x, weight, mean, rstd, dsum, dx, dweight, dbias: ByteSpan

    @inline(__always) func areInOrder(size: UInt, statisticSize: UInt) -> Bool {
      let statistics = mean.address | rstd.address
      let bits =
        dy.address | x.address | weight.address | dsum.address | dx.address | dweight.address
        | dbias.address
      guard dy.address != 0, x.address != 0, weight.address != 0, bits % size == 0,
        statistics % statisticSize == 0, (bits | statistics) < ByteSpan.addressLimit
      else { return false }
      if dx.address != 0 {
        guard dx.isOrIsApart(from: dy), dx.isOrIsApart(from: x), dx.isOrIsApart(from: dsum),
          dx.isApart(from: weight), dx.isApart(from: mean), dx.isApart(from: rstd)
        else { return false }
      }
      return (dweight.address == 0 || isApart(dweight) && dweight.isApart(from: dbias))
        && (dbias.address == 0 || isApart(dbias))
    }

    @inline(__always) private func isApart(_ gradient: ByteSpan) -> Bool {
      gradient.isApart(from: dy) && gradient.isApart(from: x) && gradient.isApart(from: weight)
        && gradient.isApart(from: mean) && gradient.isApart(from: rstd)
        && gradient.isApart(from: dsum) && gradient.isApart(from: dx)
    }
  }
}
