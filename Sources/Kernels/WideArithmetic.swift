import CShims

/// How many rows go through the chain from their sums to rstd side by side: as many as a vector has lanes of
/// float64. A group has one such chain or more.
@inline(__always) var rowsPerChain: Int { 8 }

/// The numbers of one row of a group, `rowsPerChain` apart. They are read from memory one by one: out of registers,
/// a lane whose number is not constant is slow.
///
/// - Parameter chains: structures of `C.Rows` and nothing else, one for each chain.
@inline(__always)
func rowNumbers<S, C: ComputeScalar>(_ chains: UnsafePointer<S>, ofRow row: Int) -> UnsafePointer<C>
{
  let chain = UnsafeRawPointer(chains + row &>> 3)
  return chain.assumingMemoryBound(to: C.self) + (row & (rowsPerChain &- 1))
}

/// A number of a compute type for each row of a group.
protocol RowValues {
  associatedtype Scalar
  init(repeating value: Scalar)
  subscript(row: Int) -> Scalar { get set }
  /// Those of the first `rows` rows, from memory; zero in the others.
  init(_ source: UnsafePointer<Scalar>, rows: Int)
  func store(to destination: UnsafeMutablePointer<Scalar>, rows: Int)
}

/// Never lane by lane: for a lane whose number is not constant, the whole vector goes through the stack.
extension SIMD8: RowValues where Scalar: Numeric {
  @inline(__always) init(_ source: UnsafePointer<Scalar>, rows: Int) {
    let source = UnsafeRawPointer(source)
    if rows == 8 {
      self = source.loadUnaligned(as: Self.self)
    } else if rows == 4 {
      self.init(lowHalf: source.loadUnaligned(as: SIMD4<Scalar>.self), highHalf: SIMD4())
    } else {
      self.init()
      withUnsafeMutableBytes(of: &self) {
        $0.baseAddress.unsafelyUnwrapped.copyMemory(
          from: source, byteCount: rows &* MemoryLayout<Scalar>.stride)
      }
    }
  }

  @inline(__always) func store(to destination: UnsafeMutablePointer<Scalar>, rows: Int) {
    let destination = UnsafeMutableRawPointer(destination)
    if rows == 8 {
      destination.storeBytes(of: self, as: Self.self)
    } else if rows == 4 {
      destination.storeBytes(of: lowHalf, as: SIMD4<Scalar>.self)
    } else if rows == 1 {
      destination.storeBytes(of: self[0], as: Scalar.self)
    } else {
      withUnsafeBytes(of: self) {
        destination.copyMemory(
          from: $0.baseAddress.unsafelyUnwrapped, byteCount: rows &* MemoryLayout<Scalar>.stride)
      }
    }
  }
}

/// For each row of a group, true (-1) or false (0).
typealias RowMask = SIMD8<Int64>

extension RowMask {
  /// Of which each is true whose bit is set.
  @inline(__always) init(bits: UInt32) { self = ln_mask8(bits) }

  /// The rows 0 ..< rows for which it is true, as bits.
  @inline(__always) func bits(rows: Int) -> UInt32 {
    ln_bits8(self) & (1 &<< UInt32(truncatingIfNeeded: rows) &- 1)
  }
}

/// A number for each row of a group, in twice the precision of a compute type: sums, mean, variance and
/// rstd are finished in it. What the rows past the end of a group hold does not matter.
protocol WideRows {
  associatedtype Narrow: ComputeScalar
  associatedtype LaneSums: WideLaneSums
  where LaneSums.Vector == Narrow.Vector, LaneSums.Wide == Self

  init(repeating value: Double)
  init(_ values: Narrow.Rows)
  /// 1 / count.
  init(reciprocalOf count: Int)

  static func + (a: Self, b: Self) -> Self
  static func - (a: Self, b: Self) -> Self
  static func * (a: Self, b: Self) -> Self
  /// 1 / sqrt(self); infinity at 0, NaN below.
  var reciprocalSquareRoot: Self { get }
  /// The same of the first rows.
  func reciprocalSquareRoot(rows: Int) -> Self
  func replacing(with other: Self, where mask: RowMask) -> Self

  /// Rounded to nearest.
  var narrow: Narrow.Rows { get }
  /// Rounded to nearest.
  var doubles: SIMD8<Double> { get }

  /// The sums of the 8, 4 or 2 lanes that belong to one row, in half as many: first those of a, then of b.
  static func addingEights(_ a: Self, _ b: Self) -> Self
  static func addingFours(_ a: Self, _ b: Self) -> Self
  static func addingTwos(_ a: Self, _ b: Self) -> Self
}

extension WideRows {
  @inline(__always) func reciprocalSquareRoot(rows _: Int) -> Self { reciprocalSquareRoot }

  /// The sum over the lanes of each row, in an order that does not depend on the other rows; of zeros, +0.
  @inline(__always) static func totals(rows: Int, _ lanes: (_ row: Int) -> Self) -> Self {
    let zero = Self(repeating: 0)
    if rows == 1 {
      let four = addingEights(lanes(0), lanes(0))
      let two = addingFours(four, four)
      return addingTwos(two, two) + zero
    }
    let even = addingFours(
      addingEights(lanes(0), lanes(4)), addingEights(lanes(2), lanes(6)))
    let odd = addingFours(
      addingEights(lanes(1), lanes(5)), addingEights(lanes(3), lanes(7)))
    return addingTwos(even, odd) + zero
  }
}

protocol LoadedParts {
  init(_ source: UnsafeRawPointer)
}

/// Sums of vectors, lane by lane, in twice the precision.
protocol WideLaneSums {
  associatedtype Vector: ComputeVector where Vector.Scalar: ComputeScalar
  associatedtype Wide
  /// A vector in memory, in twice the precision or as it is.
  associatedtype Parts: LoadedParts

  /// Zero.
  init()
  /// -0, to which anything can be added without an operation.
  static var nothing: Self { get }
  mutating func add(_ vector: Vector)
  mutating func add(_ parts: Parts)
  mutating func add(_ a: Parts, times b: Vector)
  /// Adds products, each rounded once at most, in twice the precision.
  mutating func add(_ a: Vector, times b: Vector)
  /// Adds eight of the lanes, the first or the last; of sums that have eight, all.
  mutating func add(doubles: SIMD8<Double>, part: Int)
  mutating func add(_ other: Self)
  /// Each lane rounded to nearest.
  var narrow: Vector { get }
  /// In eight lanes.
  var eight: Wide { get }
}

extension SIMD8<Double>: WideRows {
  typealias Narrow = Float
  typealias LaneSums = DoubleLaneSums

  @inline(__always) init(_ values: SIMD8<Float>) { self = ln_widen8(values) }
  @inline(__always) init(reciprocalOf count: Int) { self.init(repeating: 1 / Double(count)) }
  @inline(__always) var reciprocalSquareRoot: Self {
    ln_divide8(Self(repeating: 1), ln_sqrt8(self))
  }
  @inline(__always) func reciprocalSquareRoot(rows: Int) -> Self {
    // Of one number alone both operations are shorter.
    rows == 1 ? Self(repeating: 1 / self[0].squareRoot()) : reciprocalSquareRoot
  }
  @inline(__always) func replacing(with other: Self, where mask: RowMask) -> Self {
    ln_select8(mask, other, self)
  }
  @inline(__always) var narrow: SIMD8<Float> { ln_narrow8(self) }
  @inline(__always) var doubles: Self { self }

  @inline(__always) static func addingEights(_ a: Self, _ b: Self) -> Self {
    ln_whole8(ln_eights_low8(a, b) + ln_eights_high8(a, b))
  }
  @inline(__always) static func addingFours(_ a: Self, _ b: Self) -> Self {
    ln_whole8(ln_fours_low8(a, b) + ln_fours_high8(a, b))
  }
  @inline(__always) static func addingTwos(_ a: Self, _ b: Self) -> Self {
    ln_whole8(ln_twos_low8(a, b) + ln_twos_high8(a, b))
  }
}

/// Sums of float32 vectors.
struct DoubleLaneSums: WideLaneSums {
  private var low = SIMD8<Double>(repeating: 0)
  private var high = SIMD8<Double>(repeating: 0)

  @inline(__always) init() {}
  @inline(__always) static var nothing: Self {
    var sums = Self()
    sums.low = SIMD8(repeating: -0.0)
    sums.high = SIMD8(repeating: -0.0)
    return sums
  }

  /// Widened by the load, where that of half a register is three operations.
  struct Parts: LoadedParts {
    fileprivate let low: SIMD8<Double>
    fileprivate let high: SIMD8<Double>

    @inline(__always) init(_ source: UnsafeRawPointer) {
      low = ln_widen8(source.loadUnaligned(as: SIMD8<Float>.self))
      high = ln_widen8((source + 32).loadUnaligned(as: SIMD8<Float>.self))
    }
  }

  @inline(__always) mutating func add(_ parts: Parts) {
    low = low + parts.low
    high = high + parts.high
  }

  @inline(__always) mutating func add(_ a: Parts, times b: SIMD16<Float>) {
    low = low.adding(a.low, times: ln_widen_low16(b))
    high = high.adding(a.high, times: ln_widen_high16(b))
  }

  @inline(__always) mutating func add(_ vector: SIMD16<Float>) {
    let vector = ln_whole16(vector)
    low = low + ln_widen_low16(vector)
    high = high + ln_widen_high16(vector)
  }

  /// A product of two float32 is exact in float64.
  @inline(__always) mutating func add(_ a: SIMD16<Float>, times b: SIMD16<Float>) {
    low = low.adding(ln_widen_low16(a), times: ln_widen_low16(b))
    high = high.adding(ln_widen_high16(a), times: ln_widen_high16(b))
  }

  @inline(__always) mutating func add(doubles: SIMD8<Double>, part: Int) {
    if part == 0 { low = low + doubles } else { high = high + doubles }
  }

  @inline(__always) mutating func add(_ other: Self) {
    low = low + other.low
    high = high + other.high
  }

  @inline(__always) var narrow: SIMD16<Float> {
    SIMD16(lowHalf: ln_narrow8(low), highHalf: ln_narrow8(high))
  }

  @inline(__always) var eight: SIMD8<Double> { low + high }
}

/// Unevaluated sums of two doubles, |low| at most half a unit in the last place of high: about 106
/// bits. Sums and products after Dekker (1971) and Knuth (TAOCP 2, 4.2.2).
///
/// Operations are not inlined: eight rows share one, and there are many.
struct DoubleDouble: WideRows {
  typealias Narrow = Double
  typealias LaneSums = DoubleDoubleLaneSums

  var high: SIMD8<Double>
  var low: SIMD8<Double>

  @inline(__always) init(high: SIMD8<Double>, low: SIMD8<Double>) {
    self.high = high
    self.low = low
  }

  /// a + b, for |a| >= |b|.
  @inline(__always) private init(ordered a: SIMD8<Double>, _ b: SIMD8<Double>) {
    high = a + b
    low = b - (high - a)
  }

  @inline(__always) init(_ values: SIMD8<Double>) {
    self.init(high: values, low: SIMD8(repeating: 0))
  }
  @inline(__always) init(repeating value: Double) { self.init(SIMD8(repeating: value)) }

  @inline(__always) init(reciprocalOf count: Int) {
    let n = Double(count)
    let reciprocal = 1 / n
    self.init(
      high: SIMD8(repeating: reciprocal),
      low: SIMD8(repeating: Double(1).addingProduct(-reciprocal, n) / n))
  }

  @inline(never) static func + (a: Self, b: Self) -> Self {
    let sum = a.high + b.high
    let part = sum - a.high
    let error = (a.high - (sum - part)) + (b.high - part)
    return Self(ordered: sum, error + (a.low + b.low))
  }

  @inline(__always) static func - (a: Self, b: Self) -> Self {
    let zero = SIMD8<Double>(repeating: 0)
    return a + Self(high: zero - b.high, low: zero - b.low)
  }

  @inline(never) static func * (a: Self, b: Self) -> Self {
    let product = a.high * b.high
    let error = (SIMD8(repeating: 0) - product).adding(a.high, times: b.high)
    return Self(
      ordered: product, error.adding(a.high, times: b.low).adding(a.low, times: b.high))
  }

  @inline(never) var reciprocalSquareRoot: Self {
    let guess = high.reciprocalSquareRoot
    let isNumber =
      ln_less8(guess, SIMD8(repeating: .infinity)) & ln_less8(SIMD8(repeating: 0), guess)
    // One step of Newton's method: guess * (1 + (1 - self * guess^2) / 2).
    let residual = Self(repeating: 1) - self * (Self(guess) * Self(guess))
    let refined = Self(guess) + Self(guess * residual.high * SIMD8(repeating: 0.5))
    return Self(guess).replacing(with: refined, where: isNumber)
  }

  @inline(__always) func replacing(with other: Self, where mask: RowMask) -> Self {
    Self(
      high: ln_select8(mask, other.high, high), low: ln_select8(mask, other.low, low))
  }

  @inline(__always) var narrow: SIMD8<Double> { high }
  @inline(__always) var doubles: SIMD8<Double> { high }

  #if LAYERNORM_COMPACT
    @inline(never)
  #else
    @inline(__always)
  #endif
  static func addingEights(_ a: Self, _ b: Self) -> Self {
    Self(high: ln_eights_low8(a.high, b.high), low: ln_eights_low8(a.low, b.low))
      + Self(high: ln_eights_high8(a.high, b.high), low: ln_eights_high8(a.low, b.low))
  }
  #if LAYERNORM_COMPACT
    @inline(never)
  #else
    @inline(__always)
  #endif
  static func addingFours(_ a: Self, _ b: Self) -> Self {
    Self(high: ln_fours_low8(a.high, b.high), low: ln_fours_low8(a.low, b.low))
      + Self(high: ln_fours_high8(a.high, b.high), low: ln_fours_high8(a.low, b.low))
  }
  #if LAYERNORM_COMPACT
    @inline(never)
  #else
    @inline(__always)
  #endif
  static func addingTwos(_ a: Self, _ b: Self) -> Self {
    Self(high: ln_twos_low8(a.high, b.high), low: ln_twos_low8(a.low, b.low))
      + Self(high: ln_twos_high8(a.high, b.high), low: ln_twos_high8(a.low, b.low))
  }
}

/// Sums of float64 vectors: each lane a DoubleDouble.
struct DoubleDoubleLaneSums: WideLaneSums {
  private var high = SIMD8<Double>(repeating: 0)
  private var low = SIMD8<Double>(repeating: 0)

  @inline(__always) init() {}
  @inline(__always) static var nothing: Self {
    var sums = Self()
    sums.high = SIMD8(repeating: -0.0)
    return sums
  }

  struct Parts: LoadedParts {
    fileprivate let vector: SIMD8<Double>

    @inline(__always) init(_ source: UnsafeRawPointer) {
      vector = source.loadUnaligned(as: SIMD8<Double>.self)
    }
  }

  @inline(__always) mutating func add(_ parts: Parts) { add(parts.vector) }
  @inline(__always) mutating func add(_ a: Parts, times b: SIMD8<Double>) {
    add(a.vector, times: b)
  }

  @inline(__always) mutating func add(_ vector: SIMD8<Double>) {
    let sum = high + vector
    let part = sum - high
    low = low + ((high - (sum - part)) + (vector - part))
    high = sum
  }

  @inline(__always) mutating func add(_ a: SIMD8<Double>, times b: SIMD8<Double>) {
    let product = a * b
    add(product)
    low = low + (SIMD8(repeating: 0) - product).adding(a, times: b)
  }

  @inline(__always) mutating func add(doubles: SIMD8<Double>, part _: Int) { add(doubles) }

  @inline(__always) mutating func add(_ other: Self) {
    add(other.high)
    low = low + other.low
  }

  @inline(__always) var narrow: SIMD8<Double> { high + low }

  @inline(__always) var eight: DoubleDouble { DoubleDouble(high: high, low: low) }
}
