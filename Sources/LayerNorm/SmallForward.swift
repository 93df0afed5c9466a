import CLayerNorm
import CShims

/// The short way of a forward call that is small and plainly in order, which a few comparisons show:
/// contiguous, of one dtype. Every other call, one with an error included, takes the long way.
struct SmallForward {
  private let kernel: ln_forward_kernel
  private let work: ln_forward_work
  private let rows: Int64

  /// nil for a call that has to take the long way.
  @inline(__always) init?(_ args: layernorm_forward_args) {
    guard let kernels = Configuration.settledKernels, args.flags == 0,
      args.batch == 0 || args.batch == 1,
      args.norm == LAYERNORM_NORM_LAYER
        || (args.norm == LAYERNORM_NORM_RMS && args.mean == nil),
      args.y_dtype == LAYERNORM_DTYPE_DEFAULT || args.y_dtype == args.x_dtype,
      args.param_dtype == LAYERNORM_DTYPE_DEFAULT || args.param_dtype == args.x_dtype,
      args.x_strides == nil, args.y_strides == nil, args.residual_strides == nil,
      args.sum_strides == nil, args.x_bias == nil, args.sum == nil || args.residual != nil,
      let dtype = DType(rawValue: args.x_dtype.rawValue),
      let kernel = SmallForward.kernel(dtype, kernels)
    else { return nil }
    func matrix(_ pointer: UnsafeRawPointer?) -> ln_rows {
      ln_rows(
        data: UnsafeMutableRawPointer(mutating: pointer), row_stride: args.cols, batch_stride: 0)
    }
    self.kernel = kernel
    rows = args.rows
    work = ln_forward_work(
      cols: args.cols, rows_per_batch: args.rows,
      eps: dtype == .f64 ? args.eps : Double(Float(args.eps)),
      centers: args.norm == LAYERNORM_NORM_LAYER ? 1 : 0, weight_offset: -0.0,
      rounds_rstd: 0, streams: 0, x: matrix(args.x),
      residual: matrix(args.residual), sum: matrix(args.sum), y: matrix(args.y),
      weight: args.weight, bias: args.bias, x_bias: nil, mean: args.mean, rstd: args.rstd)
    guard isInOrder(dtype) else { return nil }
  }

  @inline(__always) func run() {
    withDefaultFloatModes {
      var work = work
      kernel(&work, 0, rows)
    }
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

  @inline(__always) private func isInOrder(_ dtype: DType) -> Bool {
    let size = UInt(dtype.size)
    let compute = UInt(dtype.compute.size)
    // Neither a product nor the end of an array can overflow.
    guard rows > 0, work.cols > 0, rows < 1 << 31, work.cols < 1 << 31 else { return false }
    let row = UInt(work.cols) &* size
    let matrix = UInt(rows) &* row
    let column = UInt(rows) &* compute
    let x = Span(work.x.data, matrix)
    let y = Span(work.y.data, matrix)
    let residual = Span(work.residual.data, matrix)
    let sum = Span(work.sum.data, matrix)
    let weight = Span(work.weight, row)
    let bias = Span(work.bias, row)
    let mean = Span(work.mean, column)
    let rstd = Span(work.rstd, column)
    let bits =
      x.address | y.address | residual.address | sum.address | weight.address | bias.address
    return Int64(matrix) <= Partition.smallestShared
      && work.eps >= 0 && work.eps < .infinity
      && x.address != 0 && y.address != 0
      && bits % size == 0 && (mean.address | rstd.address) % compute == 0
      && (bits | mean.address | rstd.address) < 1 << 62
      && y.isOrIsApart(from: x) && y.isOrIsApart(from: residual)
      && y.isApart(from: weight) && y.isApart(from: bias)
      && (sum.address == 0
        || sum.isOrIsApart(from: x) && sum.isOrIsApart(from: residual)
          && sum.isApart(from: weight) && sum.isApart(from: bias) && sum.isApart(from: y))
      && (mean.address == 0
        || mean.isApart(from: x) && mean.isApart(from: y) && mean.isApart(from: weight)
          && mean.isApart(from: bias) && mean.isApart(from: residual) && mean.isApart(from: sum))
      && (rstd.address == 0
        || rstd.isApart(from: x) && rstd.isApart(from: y) && rstd.isApart(from: weight)
          && rstd.isApart(from: bias) && rstd.isApart(from: residual) && rstd.isApart(from: sum)
          && rstd.isApart(from: mean))
  }

  /// The bytes of an array; none, at address 0, for NULL.
  private struct Span {
    let address: UInt
    let end: UInt

    @inline(__always) init(_ pointer: UnsafeRawPointer?, _ bytes: UInt) {
      address = UInt(bitPattern: pointer)
      end = address == 0 ? 0 : address &+ bytes
    }

    @inline(__always) func isApart(from other: Span) -> Bool {
      end <= other.address || other.end <= address
    }

    @inline(__always) func isOrIsApart(from other: Span) -> Bool {
      address == other.address || isApart(from: other)
    }
  }
}
