import CShims

/// Twice the precision of a compute type: mean, variance and rstd are finished in it.
protocol WideScalar {
  associatedtype Narrow: ComputeScalar
  associatedtype LaneSums: WideLaneSums
  where LaneSums.Vector == Narrow.Vector, LaneSums.Wide == Self

  init(_ value: Narrow)
  init(double value: Double)
  /// 1 / count.
  init(reciprocalOf count: Int)

  static func + (a: Self, b: Self) -> Self
  static func - (a: Self, b: Self) -> Self
  static func * (a: Self, b: Self) -> Self
  /// 1 / sqrt(self); infinity at 0, NaN below.
  var reciprocalSquareRoot: Self { get }

  /// Rounded to nearest.
  var narrow: Narrow { get }
  /// Rounded to nearest.
  var double: Double { get }
}

/// Sums of vectors, lane by lane, in twice the precision.
protocol WideLaneSums {
  associatedtype Vector
  associatedtype Wide

  init()
  mutating func add(_ vector: Vector)
  /// Adds products, each rounded once at most, in twice the precision.
  mutating func add(_ a: Vector, times b: Vector)
  /// Adds eight of the lanes, the first or the last; of sums that have eight, all.
  mutating func add(doubles: SIMD8<Double>, part: Int)
  mutating func add(_ other: Self)
  /// Each lane rounded to nearest.
  var narrow: Vector { get }
  /// The sum over the lanes, in a fixed order.
  var total: Wide { get }
}

extension Double: WideScalar {
  typealias Narrow = Float
  typealias LaneSums = DoubleLaneSums

  @inline(__always) init(double value: Double) { self = value }
  @inline(__always) init(reciprocalOf count: Int) { self = 1 / Double(count) }
  @inline(__always) var reciprocalSquareRoot: Double { 1 / squareRoot() }
  @inline(__always) var narrow: Float { Float(self) }
  @inline(__always) var double: Double { self }
}

/// Sums of float32 vectors.
struct DoubleLaneSums: WideLaneSums {
  private var low = SIMD8<Double>(repeating: 0)
  private var high = SIMD8<Double>(repeating: 0)

  @inline(__always) init() {}

  @inline(__always) mutating func add(_ vector: SIMD16<Float>) {
    low = low + ln_widen8(vector.lowHalf)
    high = high + ln_widen8(vector.highHalf)
  }

  /// A product of two float32 is exact in float64.
  @inline(__always) mutating func add(_ a: SIMD16<Float>, times b: SIMD16<Float>) {
    low = low + ln_widen8(a.lowHalf) * ln_widen8(b.lowHalf)
    high = high + ln_widen8(a.highHalf) * ln_widen8(b.highHalf)
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

  @inline(__always) var total: Double {
    let eight = low + high
    let four = eight.lowHalf + eight.highHalf
    let two = four.lowHalf + four.highHalf
    return two.x + two.y
  }
}

/// An unevaluated sum of two doubles, |low| at most half a unit in the last place of high: about 106
/// bits. Sums and products after Dekker (1971) and Knuth (TAOCP 2, 4.2.2).
struct DoubleDouble: WideScalar {
  typealias Narrow = Double
  typealias LaneSums = DoubleDoubleLaneSums

  var high: Double
  var low: Double

  @inline(__always) init(high: Double, low: Double) {
    self.high = high
    self.low = low
  }

  /// a + b, for |a| >= |b|.
  @inline(__always) private init(ordered a: Double, _ b: Double) {
    high = a + b
    low = b - (high - a)
  }

  @inline(__always) init(_ value: Double) { self.init(high: value, low: 0) }
  @inline(__always) init(double value: Double) { self.init(high: value, low: 0) }

  @inline(__always) init(reciprocalOf count: Int) {
    let n = Double(count)
    high = 1 / n
    low = Double(1).addingProduct(-high, n) / n
  }

  @inline(__always) static func + (a: Self, b: Self) -> Self {
    let sum = a.high + b.high
    let part = sum - a.high
    let error = (a.high - (sum - part)) + (b.high - part)
    return Self(ordered: sum, error + (a.low + b.low))
  }

  @inline(__always) static func - (a: Self, b: Self) -> Self {
    a + Self(high: -b.high, low: -b.low)
  }

  @inline(__always) static func * (a: Self, b: Self) -> Self {
    let product = a.high * b.high
    let error = (-product).addingProduct(a.high, b.high)
    return Self(ordered: product, error.addingProduct(a.high, b.low).addingProduct(a.low, b.high))
  }

  var reciprocalSquareRoot: Self {
    let guess = 1 / high.squareRoot()
    guard guess > 0 && guess < .infinity else { return Self(guess) }
    // One step of Newton's method: guess * (1 + (1 - self * guess^2) / 2).
    let residual = Self(1) - self * (Self(guess) * Self(guess))
    return Self(guess) + Self(guess * residual.high * 0.5)
  }

  @inline(__always) var narrow: Double { high }
  @inline(__always) var double: Double { high }
}

/// Sums of float64 vectors: each lane a DoubleDouble.
struct DoubleDoubleLaneSums: WideLaneSums {
  private var high = SIMD8<Double>(repeating: 0)
  private var low = SIMD8<Double>(repeating: 0)

  @inline(__always) init() {}

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

  var total: DoubleDouble {
    var sum = DoubleDouble(0)
    for lane in 0..<8 { sum = sum + DoubleDouble(high: high[lane], low: low[lane]) }
    return sum
  }
}
