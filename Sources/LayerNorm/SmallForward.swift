import CLayerNorm
import CShims

/// The short way of a forward call that is small and plainly in order, which a few comparisons show:
/// contiguous, of one dtype. Every other call, one with an error included, takes the long way.
enum SmallForward {
  /// False, with nothing done, for a call that has to take the long way.
  @inline(__always) static func run(_ args: layernorm_forward_args) -> Bool {
    guard let kernels = Configuration.settledKernels, args.flags == 0,
      args.batch == 0 || args.batch == 1,
      args.norm == LAYERNORM_NORM_LAYER
        || (args.norm == LAYERNORM_NORM_RMS && args.mean == nil),
      args.y_dtype == LAYERNORM_DTYPE_DEFAULT || args.y_dtype == args.x_dtype,
      args.param_dtype == LAYERNORM_DTYPE_DEFAULT || args.param_dtype == args.x_dtype,
      args.x_strides == nil, args.y_strides == nil, args.residual_strides == nil,
      args.sum_strides == nil, args.x_bias == nil, args.sum == nil || args.residual != nil,
      let dtype = DType(rawValue: args.x_dtype.rawValue),
      let kernel = SmallForward.kernel(dtype, kernels),
      dtype.size > 2
        || ForwardPlan.hasUsualParameters(
          centers: args.norm == LAYERNORM_NORM_LAYER, hasWeight: args.weight != nil,
          hasBias: args.bias != nil)
    else { return false }
    let eps = dtype == .f64 ? args.eps : Double(Float(args.eps))
    guard eps >= 0, eps < .infinity, args.rows > 0, args.cols > 0,
      args.rows < ByteSpan.countLimit, args.cols < ByteSpan.countLimit
    else { return false }
    let row = UInt(args.cols) &* UInt(dtype.size)
    let matrix = UInt(args.rows) &* row
    let column = UInt(args.rows) &* UInt(dtype.compute.size)
    let arrays = Arrays(
      x: ByteSpan(args.x, matrix), y: ByteSpan(args.y, matrix),
      residual: ByteSpan(args.residual, matrix),
      sum: ByteSpan(args.sum, matrix), weight: ByteSpan(args.weight, row),
      bias: ByteSpan(args.bias, row),
      mean: ByteSpan(args.mean, column), rstd: ByteSpan(args.rstd, column))
    guard matrix <= Partition.smallestShared,
      arrays.areInOrder(size: UInt(dtype.size), statisticSize: UInt(dtype.compute.size))
    else { return false }
    func rows(_ pointer: UnsafeRawPointer?) -> ln_rows {
      ln_rows(
        data: UnsafeMutableRawPointer(mutating: pointer), row_stride: args.cols, batch_stride: 0)
    }
    let caches = Caches.current
    let areOfVectors = (UInt(bitPattern: args.y) | row) & UInt(dtype.vectorSize &- 1) == 0
    var work = ln_forward_work(
      cols: args.cols, rows_per_batch: args.rows, eps: eps,
      bytes_per_group: caches.bytesPerGroup,
      has_pairs: caches.hasPairs(areOfVectors: areOfVectors, isBeyondNear: false) ? 1 : 0,
      centers: args.norm == LAYERNORM_NORM_LAYER ? 1 : 0,
      rounds_rstd: 0, is_far: 0, fetches: caches.isLastNear ? 0 : 1, fetches_later: 0,
      stores_ahead: 0, is_piped: 0,
      streams: 0,
      is_plain: ForwardPlan.isPlain(args.cols, of: dtype, caches, isFar: false) ? 1 : 0,
      has_blocks: 0,
      has_long_nan: 0,
      x: rows(args.x),
      residual: rows(args.residual), sum: rows(args.sum), y: rows(args.y),
      added: ln_rows(), added_bytes: 0,
      weight: args.weight, bias: args.bias, split_weight: nil, split_bias: nil,
      x_bias: nil,
      mean: args.mean, rstd: args.rstd,
      ada_scale: 0, ada_slope: 0, kernels: kernels)
    withDefaultFloatModes { kernel(&work, 0, args.rows) }
    return true
  }

  @inline(__always)
  private static func kernel(
    _ dtype: DType, _ kernels: UnsafePointer<ln_kernel_table>
  ) -> ln_forward_kernel? {
    switch dtype {
    case .f32: kernels.pointee.forward_f32
    case .f64: kernels.pointee.forward_f64
    case .f16: kernels.pointee.forward_f16
    case .bf16: kernels.pointee.forward_bf16
    }
  }

  /// The arrays of a call, whose sizes are in order.
  private struct Arrays {
    let x, y, residual, sum, weight, bias, mean, rstd: ByteSpan

    @inline(__always) func areInOrder(size: UInt, statisticSize: UInt) -> Bool {
      let elements =
        x.address | y.address | residual.address | sum.address | weight.address | bias.address
      let statistics = mean.address | rstd.address
      guard x.address != 0, y.address != 0, elements % size == 0, statistics % statisticSize == 0,
        (elements | statistics) < ByteSpan.addressLimit,
        y.isOrIsApart(from: x), y.isApart(from: weight), y.isApart(from: bias)
      else { return false }
      // Most calls have none of these.
      if residual.address | sum.address != 0 {
        guard y.isOrIsApart(from: residual),
          sum.isOrIsApart(from: x), sum.isOrIsApart(from: residual),
          sum.isApart(from: weight), sum.isApart(from: bias), sum.isApart(from: y)
        else { return false }
      }
      if statistics != 0 {
        guard isApart(mean), mean.isApart(from: rstd), isApart(rstd) else { return false }
      }
      return true
    }

    @inline(__always) private func isApart(_ statistic: ByteSpan) -> Bool {
      statistic.isApart(from: x) && statistic.isApart(from: residual)
        && statistic.isApart(from: weight) && statistic.isApart(from: bias)
        && statistic.isApart(from: y) && statistic.isApart(from: sum)
    }
  }
}
