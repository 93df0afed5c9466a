import CShims

/// The vector of a compute type: as many elements as 64 bytes hold, whatever the instruction set.
/// A row's sums live in four of them, so that their order is the same on every CPU.
protocol ComputeVector {
  associatedtype Scalar
  static var width: Int { get }
  init(repeating value: Scalar)
  static func + (a: Self, b: Self) -> Self
  static func - (a: Self, b: Self) -> Self
  static func * (a: Self, b: Self) -> Self
  /// self + a * b, rounded once.
  func adding(_ a: Self, times b: Self) -> Self
  /// self - a * b, rounded once.
  func subtracting(_ a: Self, times b: Self) -> Self
  /// How many lanes of both have a magnitude that is not below the bound.
  func lanesAtLeast(_ bound: Self, and other: Self) -> Int
  /// The last `count` lanes; zero in the others.
  func keepingLast(_ count: Int) -> Self
  /// Even lanes, and odd ones, of self and then of the other.
  func evenLanes(with other: Self) -> Self
  func oddLanes(with other: Self) -> Self
  /// Lanes of the lower halves of self and the other, in turn.
  func interleavedLow(with other: Self) -> Self
  /// Lanes of the upper halves of self and the other, in turn.
  func interleavedHigh(with other: Self) -> Self
}

extension ComputeVector {
  /// The even lanes of both, and the odd ones.
  @inline(__always) static func split(_ a: Self, _ b: Self) -> (Self, Self) {
    (a.evenLanes(with: b), a.oddLanes(with: b))
  }
  /// Even lanes and odd ones, in order.
  @inline(__always) static func inOrder(_ even: Self, _ odd: Self) -> (Self, Self) {
    (even.interleavedLow(with: odd), even.interleavedHigh(with: odd))
  }
  /// `count` less what is left after whole vectors. The width is a power of two; a division by it, where
  /// the code is built for size, would be one.
  @inline(__always) static func whole(_ count: Int) -> Int { count & (0 &- width) }
}

extension SIMD16<Float>: ComputeVector {
  @inline(__always) static var width: Int { 16 }

  @inline(__always) func adding(_ a: Self, times b: Self) -> Self { ln_fma16(a, b, self) }
  @inline(__always) func subtracting(_ a: Self, times b: Self) -> Self {
    ln_fma16(ln_negated16(a), b, self)
  }
  @inline(__always) func lanesAtLeast(_ bound: Self, and other: Self) -> Int {
    Int(ln_lanes_at_least16(bound, self, other))
  }
  @inline(__always) func evenLanes(with other: Self) -> Self { ln_even16(self, other) }
  @inline(__always) func oddLanes(with other: Self) -> Self { ln_odd16(self, other) }
  @inline(__always) func interleavedLow(with other: Self) -> Self {
    ln_interleave_low16(self, other)
  }
  @inline(__always) func interleavedHigh(with other: Self) -> Self {
    ln_interleave_high16(self, other)
  }

  @inline(__always) func keepingLast(_ count: Int) -> Self {
    let lane = SIMD16<Int32>(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
    return replacing(
      with: Self(repeating: 0),
      where: lane .< SIMD16<Int32>(repeating: Int32(truncatingIfNeeded: 16 &- count)))
  }
}

extension SIMD8<Double>: ComputeVector {
  @inline(__always) static var width: Int { 8 }

  @inline(__always) func adding(_ a: Self, times b: Self) -> Self { ln_fma8(a, b, self) }
  @inline(__always) func subtracting(_ a: Self, times b: Self) -> Self {
    ln_fma8(ln_negated8(a), b, self)
  }
  @inline(__always) func lanesAtLeast(_ bound: Self, and other: Self) -> Int {
    Int(ln_lanes_at_least8(bound, self, other))
  }
  @inline(__always) func evenLanes(with other: Self) -> Self { ln_even8(self, other) }
  @inline(__always) func oddLanes(with other: Self) -> Self { ln_odd8(self, other) }
  @inline(__always) func interleavedLow(with other: Self) -> Self {
    ln_interleave_low8(self, other)
  }
  @inline(__always) func interleavedHigh(with other: Self) -> Self {
    ln_interleave_high8(self, other)
  }

  @inline(__always) func keepingLast(_ count: Int) -> Self {
    let lane = SIMD8<Int64>(0, 1, 2, 3, 4, 5, 6, 7)
    return replacing(
      with: Self(repeating: 0),
      where: lane .< SIMD8<Int64>(repeating: Int64(truncatingIfNeeded: 8 &- count)))
  }
}

/// A type that rows are computed in: Float or Double.
protocol ComputeScalar: Equatable {
  associatedtype Vector: ComputeVector where Vector.Scalar == Self
  associatedtype Wide: WideRows where Wide.Narrow == Self
  /// A number for each row of a group.
  associatedtype Rows: RowValues where Rows.Scalar == Self

  static func load<T: Element>(_ source: UnsafePointer<T>) -> Vector
  /// Two vectors, as T has them computed.
  static func loadTwo<T: Element>(_ source: UnsafePointer<T>) -> (Vector, Vector)
  /// - Parameter nanIsShort: whether the lower half of a NaN, if it is one, is zero: it need not be looked for.
  static func store<T: Element>(
    _ vector: Vector, to destination: UnsafeMutablePointer<T>, nanIsShort: Bool)
  /// A store past the caches, to an address that is a multiple of the vector's size.
  static func stream<T: Element>(
    _ vector: Vector, to destination: UnsafeMutablePointer<T>, nanIsShort: Bool)
  /// Two vectors of a type that is split, as they are stored.
  static func packed<T: Element>(
    _ vectors: (Vector, Vector), as _: T.Type, nanIsShort: Bool
  ) -> Vector
  static func stream<T: Element>(packed: Vector, to destination: UnsafeMutablePointer<T>)
  /// What is loaded after a store; of sums of elements, whose NaN is one of theirs.
  static func rounded<T: Element>(_ vector: Vector, to _: T.Type) -> Vector
  /// Stores, and gives what would be loaded, of such sums.
  static func storeAndRound<T: Element>(
    _ vector: Vector, to destination: UnsafeMutablePointer<T>
  ) -> Vector
  /// The same of two that are split.
  static func storeAndRoundTwo<T: Element>(
    _ vectors: (Vector, Vector), to destination: UnsafeMutablePointer<T>
  ) -> (Vector, Vector)
  static func load<T: Element>(scalar source: UnsafePointer<T>) -> Self
  static func store<T: Element>(scalar: Self, to destination: UnsafeMutablePointer<T>)

  static var zero: Self { get }
  static func + (a: Self, b: Self) -> Self
  static func - (a: Self, b: Self) -> Self
  static func * (a: Self, b: Self) -> Self
  static prefix func - (a: Self) -> Self
  static func < (a: Self, b: Self) -> Bool
  var magnitude: Self { get }
  init(_ value: Double)

  /// How much of x a group has at most: what leaves room in the first-level cache; more where it is
  /// costly to finish a group, whose rows then come from the second.
  static var bytesPerGroup: Int { get }
  /// Whether rows of four vectors, such as the heads of attention have, are worth code of their own.
  static var hasShortRows: Bool { get }

  /// A mean square at or above this, or a variance below `smallestVariance` where eps is below
  /// `smallestEps`, has overflowed, or may have lost digits to underflow: the row is scaled first. For
  /// Double whatever eps is, since in that range the low part of a mean is lost too.
  static var largestMeanSquare: Double { get }
  static var smallestVariance: Double { get }
  static var smallestEps: Double { get }
  /// A given rstd at or above this, or at or below its inverse, may have lost digits itself.
  static var largestRstd: Double { get }
  /// A sum of products with deviations below this may have lost digits to underflow.
  static var smallestProducts: Double { get }
}

/// The same of rows that are stored past the caches, where the last level is near: to read waits for what was written
/// before, and the other way round, the longer the longer either goes on.
@inline(__always) var bytesPerStreamedGroup: Int { 4096 }

extension ComputeScalar {
  @inline(__always)
  static func store<T: Element>(packed: Vector, to destination: UnsafeMutablePointer<T>) {
    UnsafeMutableRawPointer(destination).storeBytes(of: packed, as: Vector.self)
  }
  @inline(__always)
  static func store<T: Element>(_ vector: Vector, to destination: UnsafeMutablePointer<T>) {
    store(vector, to: destination, nanIsShort: false)
  }
}

extension Float: ComputeScalar {
  typealias Vector = SIMD16<Float>
  typealias Wide = SIMD8<Double>
  typealias Rows = SIMD8<Float>

  @inline(__always) static func load<T: Element>(_ source: UnsafePointer<T>) -> Vector {
    T.loadFloats(source)
  }
  @inline(__always)
  static func loadTwo<T: Element>(_ source: UnsafePointer<T>) -> (Vector, Vector) {
    T.loadTwoFloats(source)
  }
  @inline(__always)
  static func store<T: Element>(
    _ vector: Vector, to destination: UnsafeMutablePointer<T>, nanIsShort: Bool
  ) {
    T.storeFloats(vector, to: destination, nanIsShort: nanIsShort)
  }
  @inline(__always)
  static func stream<T: Element>(
    _ vector: Vector, to destination: UnsafeMutablePointer<T>, nanIsShort: Bool
  ) {
    T.streamFloats(vector, to: destination, nanIsShort: nanIsShort)
  }
  @inline(__always)
  static func packed<T: Element>(
    _ vectors: (Vector, Vector), as _: T.Type, nanIsShort: Bool
  ) -> Vector {
    T.packFloats(vectors, nanIsShort: nanIsShort)
  }
  // In halves: it begins with a multiple of a vector of T, which is half as large.
  @inline(__always)
  static func stream<T: Element>(packed: Vector, to destination: UnsafeMutablePointer<T>) {
    ln_stream_halves16(destination, packed)
  }
  @inline(__always) static func rounded<T: Element>(_ vector: Vector, to _: T.Type) -> Vector {
    T.roundFloats(vector)
  }
  @inline(__always)
  static func storeAndRound<T: Element>(
    _ vector: Vector, to destination: UnsafeMutablePointer<T>
  ) -> Vector {
    T.storeAndRoundFloats(vector, to: destination)
  }
  @inline(__always)
  static func storeAndRoundTwo<T: Element>(
    _ vectors: (Vector, Vector), to destination: UnsafeMutablePointer<T>
  ) -> (Vector, Vector) {
    T.storeAndRoundTwoFloats(vectors, to: destination)
  }
  @inline(__always) static func load<T: Element>(scalar source: UnsafePointer<T>) -> Float {
    T.loadFloat(source)
  }
  @inline(__always)
  static func store<T: Element>(scalar: Float, to destination: UnsafeMutablePointer<T>) {
    T.storeFloat(scalar, to: destination)
  }

  @inline(__always) static var bytesPerGroup: Int { 12288 }
  @inline(__always) static var hasShortRows: Bool { true }
  @inline(__always) static var largestMeanSquare: Double { .infinity }
  @inline(__always) static var smallestVariance: Double { 0x1p-100 }
  @inline(__always) static var smallestEps: Double { 0x1p-70 }
  @inline(__always) static var largestRstd: Double { 0x1p120 }
  @inline(__always) static var smallestProducts: Double { 0 }
}

extension Double: ComputeScalar {
  typealias Vector = SIMD8<Double>
  typealias Wide = DoubleDouble
  typealias Rows = SIMD8<Double>

  @inline(__always) static func load<T: Element>(_ source: UnsafePointer<T>) -> Vector {
    T.loadDoubles(source)
  }
  @inline(__always)
  static func loadTwo<T: Element>(_ source: UnsafePointer<T>) -> (Vector, Vector) {
    (load(source), load(source + Vector.width))
  }
  @inline(__always)
  static func store<T: Element>(
    _ vector: Vector, to destination: UnsafeMutablePointer<T>, nanIsShort: Bool
  ) {
    T.storeDoubles(vector, to: destination)
  }
  @inline(__always)
  static func stream<T: Element>(
    _ vector: Vector, to destination: UnsafeMutablePointer<T>, nanIsShort: Bool
  ) {
    T.streamDoubles(vector, to: destination)
  }
  // No type that is computed so is split.
  @inline(__always)
  static func packed<T: Element>(
    _ vectors: (Vector, Vector), as _: T.Type, nanIsShort _: Bool
  ) -> Vector {
    vectors.0
  }
  @inline(__always)
  static func stream<T: Element>(packed: Vector, to destination: UnsafeMutablePointer<T>) {
    store(packed: packed, to: destination)
  }
  @inline(__always) static func rounded<T: Element>(_ vector: Vector, to _: T.Type) -> Vector {
    T.roundDoubles(vector)
  }
  @inline(__always)
  static func storeAndRound<T: Element>(
    _ vector: Vector, to destination: UnsafeMutablePointer<T>
  ) -> Vector {
    store(vector, to: destination)
    return rounded(vector, to: T.self)
  }
  @inline(__always)
  static func storeAndRoundTwo<T: Element>(
    _ vectors: (Vector, Vector), to _: UnsafeMutablePointer<T>
  ) -> (Vector, Vector) {
    vectors
  }
  @inline(__always) static func load<T: Element>(scalar source: UnsafePointer<T>) -> Double {
    T.loadDouble(source)
  }
  @inline(__always)
  static func store<T: Element>(scalar: Double, to destination: UnsafeMutablePointer<T>) {
    T.storeDouble(scalar, to: destination)
  }

  @inline(__always) static var bytesPerGroup: Int { 65536 }
  @inline(__always) static var hasShortRows: Bool { false }
  @inline(__always) static var largestMeanSquare: Double { 0x1p1000 }
  @inline(__always) static var smallestVariance: Double { 0x1p-900 }
  @inline(__always) static var smallestEps: Double { .infinity }
  @inline(__always) static var largestRstd: Double { 0x1p1000 }
  @inline(__always) static var smallestProducts: Double { 0x1p-900 }
}
