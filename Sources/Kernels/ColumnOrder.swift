/// In which order to go through the columns of rows that are read and stored to.
///
/// CPUs tell addresses apart by their last twelve bits first: a load waits for an earlier store that looks as if it were
/// to its address, and for long where the store has to wait for memory. In ascending order those are stores to what lies
/// a little after what is read, modulo 4 KB, in descending order a little before.
struct ColumnOrder {
  private var after: UInt = 4096
  private var before: UInt = 4096

  @inline(__always) var descends: Bool { after < before }

  @inline(__always) init() {}

  @inline(__always) init<T>(reading x: UnsafePointer<T>, storing y: UnsafeMutablePointer<T>) {
    add(storing: UInt(bitPattern: y) &- UInt(bitPattern: x))
  }

  /// Of columns that are read of all rows before they are stored of any.
  ///
  /// - Parameter rows: how many, as far apart in y as in x.
  @inline(__always)
  init<T>(reading x: BatchRows<T>, storing y: BatchRows<T>, rows: Int) {
    add(reading: x, storing: y, rows: rows)
  }

  @inline(__always)
  mutating func add<T>(reading x: BatchRows<T>, storing y: BatchRows<T>, rows: Int) {
    var distance = UInt(bitPattern: y[0]) &- UInt(bitPattern: x[rows &- 1])
    let stride = UInt(bitPattern: y.stride &* MemoryLayout<T>.stride)
    for _ in 0..<(2 &* rows &- 1) {
      add(storing: distance)
      distance = distance &+ stride
    }
  }

  /// - Parameter distance: of what is stored from what is read.
  @inline(__always) private mutating func add(storing distance: UInt) {
    let distance = distance & 4095
    // Where they are the same, what is stored has been read.
    if distance == 0 { return }
    after = min(after, distance)
    before = min(before, 4096 &- distance)
  }
}

/// The first of the vectors of columns to go through, and the step to the next.
@inline(__always)
func columns(
  _ range: Range<Int>, by width: Int, descends: Bool
) -> (first: Int, step: Int) {
  descends ? (range.upperBound &- width, 0 &- width) : (range.lowerBound, width)
}
