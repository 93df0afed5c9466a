import CLayerNorm
import CShims

/// Buffers of some rows of a compute type, each row on cache lines of its own: a number of them for
/// each part, and single rows that are shared.
struct RowBuffers {
  /// How many rows a buffer holds: as many as are transposed at once, unless that takes the cache.
  let rows: Int64
  private let cols: Int64
  private let elementSize: Int64
  private let memory: UnsafeMutableRawPointer
  let rowBytes: Int64
  private let perPart: Int64
  private let firstShared: Int64

  init(
    cols: Int64, elementSize: Int64, perPart: Int64, parts: Int64, shared: Int64
  ) throws(Failure) {
    self.cols = cols
    self.elementSize = elementSize
    rows = cols <= 4096 ? 16 : 4
    let (bytes, o1) = cols.multipliedReportingOverflow(by: elementSize)
    let (padded, o2) = bytes.addingReportingOverflow(63)
    rowBytes = padded & ~63
    self.perPart = perPart
    firstShared = perPart * parts * rows
    let (total, o3) = rowBytes.multipliedReportingOverflow(by: firstShared + shared)
    guard !(o1 || o2 || o3), let memory = allocate(total) else {
      throw failure(
        LAYERNORM_ERROR_OUT_OF_MEMORY, "cols is ", .number(cols),
        ": no memory for buffers of so many")
    }
    self.memory = memory
  }

  func buffer(_ index: Int64, ofPart part: Int64) -> UnsafeMutableRawPointer {
    memory + Int((part * perPart + index) * rows * rowBytes)
  }

  func shared(_ index: Int64) -> UnsafeMutableRawPointer {
    memory + Int((firstShared + index) * rowBytes)
  }

  /// The rows of a buffer, for a kernel.
  func kernelRows(_ buffer: UnsafeMutableRawPointer) -> ln_rows {
    ln_rows(data: buffer, row_stride: rowBytes / elementSize, batch_stride: 0)
  }

  /// Converts an argument [cols] into a shared row; nil if it is absent.
  func fill(
    shared index: Int64, from tensor: Tensor?, _ convert: ln_convert_kernels
  ) -> UnsafeMutableRawPointer? {
    tensor.map {
      gather($0, 0, 1, into: shared(index), convert)
      return shared(index)
    }
  }

  /// Fills a shared row with one number.
  @_optimize(speed)
  func fill(shared index: Int64, with value: Double) -> UnsafeMutableRawPointer {
    let row = shared(index)
    if elementSize == MemoryLayout<Double>.size {
      row.initializeMemory(as: Double.self, repeating: value, count: Int(cols))
    } else {
      row.initializeMemory(as: Float.self, repeating: Float(value), count: Int(cols))
    }
    return row
  }

  /// The weight that kernels take, in the first shared row: ones where it is absent, else plus one where that is asked
  /// for, by way of the second.
  func fillWeight(
    from tensor: Tensor?, addsOne: Bool, _ convert: ln_convert_kernels, _ add: ln_add_kernel
  ) -> UnsafeMutableRawPointer {
    guard let weight = fill(shared: 0, from: tensor, convert) else {
      return fill(shared: 0, with: 1)
    }
    if addsOne { add(cols, weight, fill(shared: 1, with: 1), nil, weight) }
    return weight
  }

  /// Converts the rows begin ..< end of a tensor into a buffer.
  func gather(
    _ tensor: Tensor, _ begin: Int64, _ end: Int64, into buffer: UnsafeMutableRawPointer,
    _ convert: ln_convert_kernels
  ) {
    forEachPiece(of: tensor, begin, end, buffer) { rows, outside, inside in
      convert.from(tensor.dtype)(rows, cols, outside, inside)
    }
  }

  /// Converts a buffer into the rows begin ..< end of a tensor.
  func scatter(
    _ buffer: UnsafeMutableRawPointer, into tensor: Tensor, _ begin: Int64, _ end: Int64,
    _ convert: ln_convert_kernels
  ) {
    forEachPiece(of: tensor, begin, end, buffer) { rows, outside, inside in
      convert.to(tensor.dtype)(rows, cols, inside, outside)
    }
  }

  /// Rounds the rows of a buffer to a dtype and back.
  func round(
    _ rows: Int64, of buffer: UnsafeMutableRawPointer, to dtype: DType,
    through other: UnsafeMutableRawPointer, _ convert: ln_convert_kernels
  ) {
    let compute = matrix(buffer)
    let narrow = ln_matrix(data: other, row_stride: cols, col_stride: 1)
    convert.to(dtype)(rows, cols, compute, narrow)
    convert.from(dtype)(rows, cols, narrow, compute)
  }

  private func matrix(_ buffer: UnsafeMutableRawPointer) -> ln_matrix {
    ln_matrix(data: buffer, row_stride: rowBytes / elementSize, col_stride: 1)
  }

  /// Rows of a tensor within one batch, and where they are in a buffer.
  private func forEachPiece(
    of tensor: Tensor, _ begin: Int64, _ end: Int64, _ buffer: UnsafeMutableRawPointer,
    _ body: (Int64, ln_matrix, ln_matrix) -> Void
  ) {
    var row = begin
    while row < end {
      let (batch, rowInBatch) = row.quotientAndRemainder(dividingBy: tensor.rows.count)
      let pieceEnd = min(end, row + tensor.rows.count - rowInBatch)
      let first = batch &* tensor.batch.stride &+ rowInBatch &* tensor.rows.stride
      let outside = ln_matrix(
        data: UnsafeMutableRawPointer(
          bitPattern: tensor.address &+ UInt(bitPattern: Int(first &* tensor.dtype.size))),
        row_stride: tensor.rows.stride, col_stride: tensor.cols.stride)
      body(pieceEnd - row, outside, matrix(buffer + Int((row - begin) * rowBytes)))
      row = pieceEnd
    }
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
