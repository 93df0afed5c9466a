import CLayerNorm
import CShims

/// A forward call whose arguments are in order: the kernel that it takes and how its rows are divided.
struct ForwardPlan {
  private let kernel: ln_forward_kernel
  private var work: ln_forward_work
  private let partition: Partition
  private var staging: Staging?

  init(
    _ arguments: ForwardArguments, _ kernels: UnsafePointer<ln_kernel_table>
  ) throws(Failure) {
    let x = arguments.x
    let y = arguments.y
    partition = try Partition(
      rows: arguments.rows, bytesPerRow: arguments.cols * (x.dtype.size + y.dtype.size))
    work = ln_forward_work(
      cols: arguments.cols, eps: arguments.eps,
      x: UnsafeRawPointer(bitPattern: x.address),
      weight: arguments.weight.flatMap { UnsafeRawPointer(bitPattern: $0.address) },
      bias: arguments.bias.flatMap { UnsafeRawPointer(bitPattern: $0.address) },
      y: UnsafeMutableRawPointer(bitPattern: y.address),
      mean: arguments.mean.flatMap { UnsafeMutableRawPointer(bitPattern: $0.address) },
      rstd: arguments.rstd.flatMap { UnsafeMutableRawPointer(bitPattern: $0.address) },
      rows_per_batch: x.rows.count, x_row_stride: x.rows.stride, x_batch_stride: x.batch.stride,
      y_row_stride: y.rows.stride, y_batch_stride: y.batch.stride)
    if x.hasContiguousRows && y.hasContiguousRows,
      let direct = ForwardPlan.kernel(x.dtype, y.dtype, arguments.paramDType, kernels)
    {
      kernel = direct
    } else {
      let compute = arguments.compute
      kernel = compute == .f64 ? kernels.pointee.forward_f64 : kernels.pointee.forward_f32
      staging = try Staging(arguments, partition, kernels, &work)
    }
  }

  /// The kernel for rows whose elements lie side by side, if these dtypes have one.
  private static func kernel(
    _ x: DType, _ y: DType, _ params: DType, _ kernels: UnsafePointer<ln_kernel_table>
  ) -> ln_forward_kernel? {
    guard x == y else { return nil }
    return switch (x, params) {
    case (.f32, .f32): kernels.pointee.forward_f32
    case (.f64, .f64): kernels.pointee.forward_f64
    case (.f16, .f16): kernels.pointee.forward_f16
    case (.bf16, .bf16): kernels.pointee.forward_bf16
    case (.f16, .f32): kernels.pointee.forward_f16_params_f32
    case (.bf16, .f32): kernels.pointee.forward_bf16_params_f32
    default: nil
    }
  }

  mutating func run() {
    let partition = partition
    withUnsafeMutablePointer(to: &self) { plan in
      partition.run(
        { context, index in
          context.unsafelyUnwrapped.assumingMemoryBound(to: ForwardPlan.self).pointee.runPart(index)
        }, plan)
    }
    staging?.free()
  }

  private mutating func runPart(_ index: Int64) {
    let modes = ln_enter_default_float_modes()
    let (begin, end) = partition.range(of: index)
    if let staging {
      for row in begin..<end { staging.run(kernel, work, row: row, part: index) }
    } else {
      kernel(&work, begin, end)
    }
    ln_leave_default_float_modes(modes)
  }
}
