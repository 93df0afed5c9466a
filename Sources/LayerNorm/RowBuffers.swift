import CLayerNorm
import CShims

/// Rows of a compute type, each on cache lines of its own: some for each part, some shared.
struct RowBuffers {
  private let memory: UnsafeMutableRawPointer
  let rowBytes: Int64
  private let perPart: Int64
  private let firstShared: Int64

  init(
    cols: Int64, elementSize: Int64, perPart: Int64, parts: Int64, shared: Int64
  ) throws(Failure) {
    let (bytes, o1) = cols.multipliedReportingOverflow(by: elementSize)
    let (padded, o2) = bytes.addingReportingOverflow(63)
    rowBytes = padded & ~63
    self.perPart = perPart
    firstShared = perPart * parts
    let (total, o3) = rowBytes.multipliedReportingOverflow(by: firstShared + shared)
    guard !(o1 || o2 || o3), let memory = allocate(total) else {
      throw failure(
        LAYERNORM_ERROR_OUT_OF_MEMORY, "cols is ", .number(cols),
        ": no memory for buffers of so many")
    }
    self.memory = memory
  }

  func row(_ index: Int64, ofPart part: Int64) -> UnsafeMutableRawPointer {
    memory + Int((part * perPart + index) * rowBytes)
  }

  func shared(_ index: Int64) -> UnsafeMutableRawPointer {
    memory + Int((firstShared + index) * rowBytes)
  }

  /// Converts an argument [cols] into a shared row; nil if it is absent.
  func fill(
    shared index: Int64, from tensor: Tensor?, _ convert: ln_convert_kernels
  ) -> UnsafeMutableRawPointer? {
    guard let tensor else { return nil }
    convert.from(tensor.dtype)(tensor.cols.count, tensor.pointer, 1, shared(index), 1)
    return shared(index)
  }

  func free() { CShims.free(memory) }
}

/// Memory on a cache line of its own; nil if there is none.
func allocate(_ bytes: Int64) -> UnsafeMutableRawPointer? {
  var memory: UnsafeMutableRawPointer?
  return posix_memalign(&memory, 64, Int(bytes)) == 0 ? memory : nil
}

extension Tensor {
  var pointer: UnsafeRawPointer? { UnsafeRawPointer(bitPattern: address) }
  var mutablePointer: UnsafeMutableRawPointer? { UnsafeMutableRawPointer(bitPattern: address) }

  /// For a kernel, where the elements of a row lie side by side.
  var kernelRows: ln_rows {
    ln_rows(data: mutablePointer, row_stride: rows.stride, batch_stride: batch.stride)
  }

  /// The first element of a row, counted through all batches.
  private func pointer(row: Int64) -> UnsafeMutableRawPointer? {
    let (batchIndex, rowIndex) = row.quotientAndRemainder(dividingBy: rows.count)
    let elements = batchIndex &* batch.stride &+ rowIndex &* rows.stride
    return UnsafeMutableRawPointer(
      bitPattern: address &+ UInt(bitPattern: Int(elements &* dtype.size)))
  }

  /// Copies a row into a buffer of a compute type.
  func gather(row: Int64, into buffer: UnsafeMutableRawPointer, _ convert: ln_convert_kernels) {
    convert.from(dtype)(cols.count, pointer(row: row), cols.stride, buffer, 1)
  }

  /// Copies a row from a buffer of a compute type.
  func scatter(row: Int64, from buffer: UnsafeMutableRawPointer, _ convert: ln_convert_kernels) {
    convert.to(dtype)(cols.count, buffer, 1, pointer(row: row), cols.stride)
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
