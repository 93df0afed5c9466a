import CLayerNorm
import CShims

/// Rows of any strides and dtypes: each is gathered into a buffer of the compute type, normalized
/// there, and scattered to y.
struct Staging {
  private let memory: UnsafeMutableRawPointer
  private let x: Tensor
  private let y: Tensor
  private let gather: ln_convert_kernel
  private let scatter: ln_convert_kernel
  private let statisticsSize: Int64
  private let rowBytes: Int64

  /// Allocates a row for each part, and converts weight and bias once, in `work`.
  init(
    _ arguments: ForwardArguments, _ partition: Partition,
    _ kernels: UnsafePointer<ln_kernel_table>, _ work: inout ln_forward_work
  ) throws(Failure) {
    let compute = arguments.compute
    let convert = compute == .f64 ? kernels.pointee.convert_f64 : kernels.pointee.convert_f32
    x = arguments.x
    y = arguments.y
    gather = convert.from(x.dtype)
    scatter = convert.to(y.dtype)
    statisticsSize = compute.size
    // Rows of the parts on cache lines of their own.
    let (bytes, o1) = arguments.cols.multipliedReportingOverflow(by: compute.size)
    let (padded, o2) = bytes.addingReportingOverflow(63)
    rowBytes = padded & ~63
    let (total, o3) = rowBytes.multipliedReportingOverflow(by: partition.parts + 2)
    var allocation: UnsafeMutableRawPointer?
    guard !(o1 || o2 || o3), posix_memalign(&allocation, 64, Int(total)) == 0, let allocation else {
      throw failure(
        LAYERNORM_ERROR_OUT_OF_MEMORY, "cols is ", .number(arguments.cols),
        ": no memory for a row of each thread")
    }
    memory = allocation
    let parameters = allocation + Int(partition.parts * rowBytes)
    let fromParameters = convert.from(arguments.paramDType)
    if work.weight != nil {
      fromParameters(arguments.cols, work.weight, 1, parameters, 1)
      work.weight = UnsafeRawPointer(parameters)
    }
    if work.bias != nil {
      fromParameters(arguments.cols, work.bias, 1, parameters + Int(rowBytes), 1)
      work.bias = UnsafeRawPointer(parameters + Int(rowBytes))
    }
  }

  func run(_ kernel: ln_forward_kernel, _ work: ln_forward_work, row: Int64, part: Int64) {
    let buffer = memory + Int(part * rowBytes)
    gather(work.cols, UnsafeRawPointer(x.pointer(row: row)), x.cols.stride, buffer, 1)
    var rowWork = work
    rowWork.x = UnsafeRawPointer(buffer)
    rowWork.y = buffer
    rowWork.mean = work.mean.map { $0 + Int(row * statisticsSize) }
    rowWork.rstd = work.rstd.map { $0 + Int(row * statisticsSize) }
    kernel(&rowWork, 0, 1)
    scatter(work.cols, UnsafeRawPointer(buffer), 1, y.pointer(row: row), y.cols.stride)
  }

  func free() { CShims.free(memory) }
}

extension Tensor {
  /// The first element of a row, counted through all batches.
  func pointer(row: Int64) -> UnsafeMutableRawPointer? {
    let (batchIndex, rowIndex) = row.quotientAndRemainder(dividingBy: rows.count)
    let elements = batchIndex &* batch.stride &+ rowIndex &* rows.stride
    return UnsafeMutableRawPointer(
      bitPattern: address &+ UInt(bitPattern: Int(elements &* dtype.size)))
  }
}

extension ln_convert_kernels {
  func from(_ dtype: DType) -> ln_convert_kernel {
    switch dtype {
    case .f32: from_f32
    case .f64: from_f64
    case .f16: from_f16
    case .bf16: from_bf16
    }
  }

  func to(_ dtype: DType) -> ln_convert_kernel {
    switch dtype {
    case .f32: to_f32
    case .f64: to_f64
    case .f16: to_f16
    case .bf16: to_bf16
    }
  }
}
