import CShims

/// The elements of one row, read as a compute type.
protocol RowSource {
  associatedtype Compute: ComputeScalar

  /// Rows that seldom occur: little code is worth more than speed.
  static var isRare: Bool { get }
  /// The elements index ..< index + width.
  func load(_ index: Int) -> Compute.Vector
  /// The elements index ..< index + 2 * width, as their type has them computed.
  func loadTwo(_ index: Int) -> (Compute.Vector, Compute.Vector)
  /// Whether these are the even and the odd ones.
  static var splits: Bool { get }
  /// The even and the odd ones in any case.
  func loadSplit(_ index: Int) -> (Compute.Vector, Compute.Vector)
  /// The last `count` < width elements of a row that is shorter than a vector, in the last lanes;
  /// zero in the others.
  func load(short count: Int) -> Compute.Vector
  /// The last `tail` < width elements of a row of `count` >= width, in the last lanes; anything in the
  /// others.
  func loadTail(_ tail: Int, of count: Int) -> Compute.Vector
  /// Comes before four vectors are read, `fetchDistance` before where they are: asks for the elements
  /// index ..< index + 4 * width, which may be past the end of the row.
  func fetch(_ index: Int)
  /// The same of one vector.
  func fetchOne(_ index: Int)
  /// How many elements later than what is read they are best asked for.
  static var fetchDistance: Int { get }
  /// Whether it is worth an instruction to ask for a line that is needed later.
  static var fetchesLater: Bool { get }
  /// Asks for that of an element.
  func fetchLater(_ index: Int)
}

extension RowSource {
  @inline(__always) func loadTwo(_ index: Int) -> (Compute.Vector, Compute.Vector) {
    (load(index), load(index &+ Self.width))
  }
  @inline(__always) static var splits: Bool { false }
  @inline(__always) func loadSplit(_ index: Int) -> (Compute.Vector, Compute.Vector) {
    let two = loadTwo(index)
    return Self.splits ? two : Compute.Vector.split(two.0, two.1)
  }
  @inline(__always) func fetch(_: Int) {}
  @inline(__always) func fetchOne(_: Int) {}
  @inline(__always) static var fetchDistance: Int { 12 &* width }
  @inline(__always) static var fetchesLater: Bool { false }
  @inline(__always) func fetchLater(_: Int) {}
  @inline(__always) static var isRare: Bool { false }
  @inline(__always) static var width: Int { Compute.Vector.width }

  @inline(__always) func loadTail(_: Int, of count: Int) -> Compute.Vector {
    load(count &- Self.width)
  }

  /// The vector that ends with the row, so that no loop over single elements is needed: where
  /// `count` is not a multiple of the width, it overlaps the vector before it.
  @inline(__always) func loadLast(of count: Int) -> Compute.Vector {
    count >= Self.width ? load(count &- Self.width) : load(short: count)
  }
}

/// A row whose elements are in memory as they are read.
protocol StoredRow: RowSource {
  associatedtype Stored: Element
  var elements: UnsafePointer<Stored> { get }
}

/// A row in memory.
struct Row<T: Element, Compute: ComputeScalar>: StoredRow {
  let elements: UnsafePointer<T>

  @inline(__always) init(_ elements: UnsafePointer<T>) { self.elements = elements }

  /// nil for NULL.
  @inline(__always) init?(raw: UnsafeRawPointer?) {
    guard let raw else { return nil }
    elements = raw.assumingMemoryBound(to: T.self)
  }

  @inline(__always) func load(_ index: Int) -> Compute.Vector { Compute.load(elements + index) }
  @inline(__always) func loadTwo(_ index: Int) -> (Compute.Vector, Compute.Vector) {
    Compute.loadTwo(elements + index)
  }
  @inline(__always) static var splits: Bool { T.splits && Compute.self == T.Compute.self }
  @inline(__always) func fetch(_ index: Int) {
    let elementsPerLine = 64 / MemoryLayout<T>.size
    for line in 0..<(4 &* Self.width / elementsPerLine) {
      ln_prefetch_near(elements + (index &+ line &* elementsPerLine))
    }
  }
  @inline(__always) func fetchOne(_ index: Int) { ln_prefetch_near(elements + index) }
  @inline(__always) static var fetchDistance: Int { T.isCoarse ? 1024 : 12 &* width }
  // Of 16 bits there is more to compute for each line.
  @inline(__always) static var fetchesLater: Bool { !T.isCoarse }
  @inline(__always) func fetchLater(_ index: Int) { ln_prefetch(elements + index) }

  @inline(never) func load(short count: Int) -> Compute.Vector {
    var buffer = ShortRow()
    return withUnsafeMutableBytes(of: &buffer) { bytes in
      let lanes = bytes.baseAddress!.assumingMemoryBound(to: T.self)
      copyShort(elements, to: lanes + (Self.width &- count), count)
      return Compute.load(lanes)
    }
  }
}

/// A row beyond the second-level cache: each load asks for the same columns of a later row.
struct FarRow<T: Element, Compute: ComputeScalar>: StoredRow {
  let elements: UnsafePointer<T>
  private let ahead: Int

  /// - Parameter ahead: how many elements the later row is away.
  @inline(__always) init(_ elements: UnsafePointer<T>, ahead: Int) {
    self.elements = elements
    self.ahead = ahead
  }

  @inline(__always) func load(_ index: Int) -> Compute.Vector {
    ln_prefetch(elements + (index &+ ahead))
    return Compute.load(elements + index)
  }
  @inline(__always) func loadTwo(_ index: Int) -> (Compute.Vector, Compute.Vector) {
    ln_prefetch(elements + (index &+ ahead))
    return Compute.loadTwo(elements + index)
  }
  @inline(__always) static var splits: Bool { Row<T, Compute>.splits }
  @inline(__always) func load(short count: Int) -> Compute.Vector {
    Row<T, Compute>(elements).load(short: count)
  }
}

/// A row of any element type, found out at run time: for rows that are rare, one code for all types.
struct AnyRow: RowSource {
  typealias Compute = Double

  @inline(__always) static var isRare: Bool { true }

  private let elements: UnsafeMutableRawPointer
  private let type: ElementType

  @inline(__always) init<T: Element>(_ elements: UnsafePointer<T>) {
    self.elements = UnsafeMutableRawPointer(mutating: elements)
    type = T.type
  }

  /// nil for NULL.
  @inline(__always) init?<T: Element>(raw: UnsafeRawPointer?, of _: T.Type) {
    guard let raw else { return nil }
    self.init(raw.assumingMemoryBound(to: T.self))
  }

  @inline(never) func load(_ index: Int) -> SIMD8<Double> {
    switch type {
    case .float: row(Float.self).load(index)
    case .double: row(Double.self).load(index)
    case .half: row(Half.self).load(index)
    case .bfloat16: row(BFloat16.self).load(index)
    }
  }

  @inline(never) func load(short count: Int) -> SIMD8<Double> {
    switch type {
    case .float: row(Float.self).load(short: count)
    case .double: row(Double.self).load(short: count)
    case .half: row(Half.self).load(short: count)
    case .bfloat16: row(BFloat16.self).load(short: count)
    }
  }

  /// Writes the vector that ends before `end`; see `RowSource.loadLast`.
  @inline(never) func store(_ vector: SIMD8<Double>, endingAt end: Int) {
    switch type {
    case .float: storeLast(vector, as: Double.self, of: end, to: pointer(Float.self))
    case .double: storeLast(vector, as: Double.self, of: end, to: pointer(Double.self))
    case .half: storeLast(vector, as: Double.self, of: end, to: pointer(Half.self))
    case .bfloat16: storeLast(vector, as: Double.self, of: end, to: pointer(BFloat16.self))
    }
  }

  @inline(__always) private func pointer<T>(_: T.Type) -> UnsafeMutablePointer<T> {
    elements.assumingMemoryBound(to: T.self)
  }
  @inline(__always) private func row<T: Element>(_: T.Type) -> Row<T, Double> {
    Row(pointer(T.self))
  }
}

/// The elements of a row times a power of two, in float64: no sum of their squares overflows, and
/// none that matters underflows.
struct ScaledRow: RowSource {
  typealias Compute = Double

  @inline(__always) static var isRare: Bool { true }

  let row: AnyRow
  let scale: Double

  @inline(__always) func load(_ index: Int) -> SIMD8<Double> {
    row.load(index) * SIMD8(repeating: scale)
  }
  @inline(__always) func load(short count: Int) -> SIMD8<Double> {
    row.load(short: count) * SIMD8(repeating: scale)
  }
}

/// Writes the vector that ends with a row of `count` elements; see `RowSource.loadLast`.
@inline(__always)
func storeLast<T: Element, C: ComputeScalar>(
  _ vector: C.Vector, as _: C.Type, of count: Int, to row: UnsafeMutablePointer<T>
) {
  if count >= C.Vector.width {
    C.store(vector, to: row + (count &- C.Vector.width))
  } else {
    storeShort(vector, as: C.self, of: count, to: row)
  }
}

/// Writes the last `count` lanes.
@inline(never)
func storeShort<T: Element, C: ComputeScalar>(
  _ vector: C.Vector, as _: C.Type, of count: Int, to row: UnsafeMutablePointer<T>
) {
  var buffer = ShortRow()
  withUnsafeMutableBytes(of: &buffer) { bytes in
    let lanes = bytes.baseAddress!.assumingMemoryBound(to: T.self)
    C.store(vector, to: lanes)
    copyShort(lanes + (C.Vector.width &- count), to: row, count)
  }
}

/// Room for one vector of any element type, zero at first.
private struct ShortRow {
  var low = SIMD8<UInt64>(repeating: 0)
  var high = SIMD8<UInt64>(repeating: 0)
}

/// Copies fewer than 16 elements in at most four moves.
@inline(__always)
private func copyShort<T>(
  _ source: UnsafePointer<T>, to destination: UnsafeMutablePointer<T>, _ count: Int
) {
  var done = 0
  if count & 8 != 0 {
    copy(8, source, to: destination)
    done = 8
  }
  if count & 4 != 0 {
    copy(4, source + done, to: destination + done)
    done &+= 4
  }
  if count & 2 != 0 {
    copy(2, source + done, to: destination + done)
    done &+= 2
  }
  if count & 1 != 0 { copy(1, source + done, to: destination + done) }
}

@inline(__always)
private func copy<T>(
  _ count: Int, _ source: UnsafePointer<T>, to destination: UnsafeMutablePointer<T>
) {
  UnsafeMutableRawPointer(destination).copyMemory(
    from: source, byteCount: count &* MemoryLayout<T>.stride)
}
