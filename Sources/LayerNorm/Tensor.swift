import CLayerNorm

/// Shape, strides and address of an argument [batch][rows][cols]. Every product that its elements'
/// addresses need has been checked for overflow.
struct Tensor {
  let name: StaticString
  let dtype: DType
  let address: UInt
  let batch: Axis
  let rows: Axis
  let cols: Axis
  /// The addresses of the lowest byte and of the one after the highest.
  private let low: UInt
  private let end: UInt

  /// How many, and how many elements apart.
  struct Axis: Equatable {
    let count: Int64
    let stride: Int64
  }

  init(
    _ name: StaticString, _ pointer: UnsafeRawPointer?, _ dtype: DType,
    _ batch: Axis, _ rows: Axis, _ cols: Axis
  ) throws(Failure) {
    self.name = name
    self.dtype = dtype
    self.batch = batch
    self.rows = rows
    self.cols = cols
    address = UInt(bitPattern: pointer)
    guard batch.count > 0 && rows.count > 0 && cols.count > 0 else {
      low = address
      end = address
      return
    }
    guard address != 0 else { throw failure(LAYERNORM_ERROR_NULL_POINTER, .text(name), " is NULL") }
    guard address % UInt(dtype.size) == 0 else {
      throw failure(
        LAYERNORM_ERROR_ALIGNMENT, .text(name), " is not a multiple of its element's size, ",
        .number(dtype.size))
    }
    guard let span = Tensor.span(dtype.size, batch, rows, cols),
      case let (lowest, o1) = address.subtractingReportingOverflow(span.before),
      case let (highest, o2) = address.addingReportingOverflow(span.after), !o1 && !o2
    else {
      throw failure(
        LAYERNORM_ERROR_SIZE, .text(name),
        " does not fit the address space with its sizes and strides")
    }
    low = lowest
    end = highest
  }

  /// How many bytes there are before the first element and from it on; nil if they can't be counted.
  private static func span(
    _ size: Int64, _ batch: Axis, _ rows: Axis, _ cols: Axis
  ) -> (before: UInt, after: UInt)? {
    // Most are contiguous.
    if cols.stride == 1 && rows.stride == cols.count
      && (batch.count == 1 || batch.stride == rows.count &* cols.count)
    {
      let (row, o1) = cols.count.multipliedReportingOverflow(by: size)
      let (matrix, o2) = row.multipliedReportingOverflow(by: rows.count)
      let (bytes, o3) = matrix.multipliedReportingOverflow(by: batch.count)
      return o1 || o2 || o3 ? nil : (0, UInt(bitPattern: Int(bytes)))
    }
    var before: Int64 = 0
    var after = size
    var overflow = false
    let axes: InlineArray<3, Axis> = [batch, rows, cols]
    for index in axes.indices {
      let axis = axes[index]
      let (elements, o1) = axis.stride.multipliedReportingOverflow(by: axis.count - 1)
      let (bytes, o2) = elements.multipliedReportingOverflow(by: size)
      let (sum, o3) = (bytes < 0 ? before : after).addingReportingOverflow(bytes)
      if bytes < 0 { before = sum } else { after = sum }
      overflow = overflow || o1 || o2 || o3
    }
    return overflow ? nil : (UInt(before.magnitude), UInt(after.magnitude))
  }

  /// A contiguous array of `count` elements.
  init(
    _ name: StaticString, _ pointer: UnsafeRawPointer?, _ dtype: DType, count: Int64
  ) throws(Failure) {
    let one = Axis(count: 1, stride: count)
    try self.init(name, pointer, dtype, one, one, Axis(count: count, stride: 1))
  }

  // MARK: Layout

  var isEmpty: Bool { low == end }

  var bytes: Int64 { Int64(truncatingIfNeeded: end - low) }

  /// All elements lie side by side, in order.
  var isContiguous: Bool {
    hasContiguousRows && (rows.count == 1 || rows.stride == cols.count)
      && (batch.count == 1 || batch.stride == rows.count &* cols.count)
  }

  /// The elements of a row lie side by side.
  var hasContiguousRows: Bool { cols.stride == 1 || cols.count == 1 }

  /// Every row is a whole number of vectors, of 64 bytes of the compute type, and begins with one.
  var hasRowsOfVectors: Bool { hasRows(ofWhole: dtype.vectorSize) }

  /// The same of blocks of so many bytes, a power of two.
  func hasRows(ofWhole bytes: Int64) -> Bool {
    let strides = (batch.stride | rows.stride | cols.count) &* dtype.size
    return hasContiguousRows && (Int64(bitPattern: UInt64(address)) | strides) & (bytes &- 1) == 0
  }

  /// Every element is at the same place, of the same type, as the one of the other.
  func coincides(with other: Tensor) -> Bool {
    func same(_ a: Axis, _ b: Axis) -> Bool { a == b || (a.count == 1 && b.count == 1) }
    return address == other.address && dtype == other.dtype && same(batch, other.batch)
      && same(rows, other.rows) && same(cols, other.cols)
  }

  /// No two elements share an address. Where three strides are not nested one in another, nor two
  /// of them shown to be apart, the answer is no.
  var isInjective: Bool {
    let axes = axesByStride
    var extent: UInt64 = 0  // of the axes so far: the distance from the first element to the last
    var previous: (count: UInt64, stride: UInt64)?
    for index in 0..<3 {
      let (count, stride) = axes[index]
      if count == 1 { continue }
      if stride <= extent {
        // Two axes meet where i * previous.stride == j * stride, with i and j within their counts.
        guard stride > 0, let inner = previous, inner.stride * (inner.count - 1) == extent else {
          return false
        }
        let divisor = greatestCommonDivisor(stride, inner.stride)
        guard stride / divisor >= inner.count || inner.stride / divisor >= count else {
          return false
        }
      }
      extent += stride * (count - 1)
      previous = (count, stride)
    }
    return true
  }

  /// No byte belongs to both. Interleaved tensors are told apart where their strides have a common
  /// divisor that leaves room for both.
  func isDisjoint(from other: Tensor) -> Bool {
    if end <= other.low || other.end <= low { return true }
    let (run, period) = footprint
    let (otherRun, otherPeriod) = other.footprint
    let common = greatestCommonDivisor(period, otherPeriod)
    guard common > 0 else { return false }
    let distance =
      other.low >= low
      ? UInt64(other.low - low) % common : (common - UInt64(low - other.low) % common) % common
    return distance >= run && distance + otherRun <= common
  }

  /// The bytes of the longest run without a gap that every part of the tensor begins with, and the
  /// greatest common divisor of the strides between such runs, in bytes; 0 if there is one run.
  private var footprint: (run: UInt64, period: UInt64) {
    let axes = axesByStride
    let size = UInt64(dtype.size)
    var run = size
    var period: UInt64 = 0
    for index in 0..<3 {
      let (count, stride) = axes[index]
      if count == 1 { continue }
      if period == 0 && stride * size <= run {
        run += stride * size * (count - 1)
      } else {
        period = greatestCommonDivisor(period, stride * size)
      }
    }
    return (run, period)
  }

  private var axesByStride: InlineArray<3, (count: UInt64, stride: UInt64)> {
    func unsigned(_ axis: Axis) -> (count: UInt64, stride: UInt64) {
      (axis.count.magnitude, axis.count == 1 ? 0 : axis.stride.magnitude)
    }
    var axes: InlineArray<3, (count: UInt64, stride: UInt64)> = [
      unsigned(batch), unsigned(rows), unsigned(cols),
    ]
    if axes[0].stride > axes[1].stride { axes.swapAt(0, 1) }
    if axes[1].stride > axes[2].stride { axes.swapAt(1, 2) }
    if axes[0].stride > axes[1].stride { axes.swapAt(0, 1) }
    return axes
  }
}

private func greatestCommonDivisor(_ a: UInt64, _ b: UInt64) -> UInt64 {
  var (a, b) = (a, b)
  while b != 0 { (a, b) = (b, a % b) }
  return a
}

extension Tensor {
  /// Sets every element of a contiguous tensor to 0 or NaN.
  func fill(with value: Float) {
    for index in 0..<Int(cols.count) {
      switch dtype {
      case .f64: UnsafeMutablePointer<Double>(bitPattern: address)?[index] = Double(value)
      case .f32: UnsafeMutablePointer<Float>(bitPattern: address)?[index] = value
      case .f16, .bf16:
        UnsafeMutablePointer<UInt16>(bitPattern: address)?[index] = value == 0 ? 0 : 0x7fff
      }
    }
  }
}
