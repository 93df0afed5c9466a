import CShims

/// Eight numbers of what the recurrent cells compute in, twice the precision of their dtype: float64 for
/// float32, pairs of float64 for float64. All that is made between inputs and outputs stays in it, so that an
/// output is rounded once.
protocol CellNumber {
  init(exactly values: SIMD8<Double>)
  /// 1 / count.
  init(reciprocalOf count: Int)
  /// Rounded to nearest.
  var doubles: SIMD8<Double> { get }

  static func + (a: Self, b: Self) -> Self
  static func - (a: Self, b: Self) -> Self
  static func * (a: Self, b: Self) -> Self
  /// self + a * b
  func adding(_ a: Self, times b: Self) -> Self
  /// self * a + b
  func times(_ a: SIMD8<Double>, plus b: SIMD8<Double>) -> Self
  func plus(_ values: SIMD8<Double>) -> Self
  func times(_ values: SIMD8<Double>) -> Self
  /// Whether the squares of elements may leave the range.
  static var isNarrow: Bool { get }
  /// Times powers of two or their negatives.
  func scaled(_ powers: SIMD8<Double>) -> Self
  /// -|self|
  var negativeMagnitude: Self { get }
  /// This number, which is not negative, with the sign of another.
  func withSign(of other: Self) -> Self
  /// 1 / self for 1 <= self <= 2.
  var reciprocal: Self { get }
  /// 1 / sqrt(self); infinity at 0, NaN below.
  var reciprocalSquareRoot: Self { get }

  /// The last `count` lanes; zero in the others.
  func keepingLast(_ count: Int) -> Self
  func replacing(with other: Self, where mask: RowMask) -> Self
  /// At least `limit`; NaN stays NaN.
  func atLeast(_ limit: Double) -> Self
  /// The total of all lanes, in every one.
  var total: Self { get }

  /// self - n * log(2) for integers n.
  func lessLogTwo(times n: SIMD8<Double>) -> Self
  /// e^self - 1 for |self| <= log(2) / 2.
  var smallExponentialLessOne: Self { get }
}

extension CellNumber {
  @inline(__always) init(_ value: Double) { self.init(exactly: SIMD8(repeating: value)) }
}

extension SIMD8<Double> {
  /// A step of Horner's scheme.
  @inline(__always) fileprivate func asFactor(of r: Self, plus coefficient: Double) -> Self {
    Self(repeating: coefficient).adding(self, times: r)
  }
}

// The coefficients interpolate (e^r - 1 - r) / r^2 and (e^r - 1 - r - r^2 / 2) / r^3 at the Chebyshev nodes of
// [-log(2) / 2, log(2) / 2], computed with 300 digits and rounded.

extension SIMD8<Double>: CellNumber {
  @inline(__always) init(exactly values: SIMD8<Double>) { self = values }
  @inline(__always) func plus(_ values: Self) -> Self { self + values }
  @inline(__always) func times(_ values: Self) -> Self { self * values }
  @inline(__always) func times(_ a: Self, plus b: Self) -> Self { b.adding(self, times: a) }
  @inline(__always) static var isNarrow: Bool { false }
  @inline(__always) func scaled(_ powers: Self) -> Self { self * powers }
  @inline(__always) var negativeMagnitude: Self { ln_negative_magnitude8(self) }
  @inline(__always) func withSign(of other: Self) -> Self { ln_with_sign8(self, other) }
  /// But for 2^-45 of it: a step of Newton's method from a quotient in float32, which is found much sooner.
  @inline(__always) var reciprocal: Self {
    let guess = ln_widen8(ln_divide_float8(SIMD8<Float>(repeating: 1), ln_narrow8(self)))
    let residual = Self(repeating: 1).adding(ln_negate8(self), times: guess)
    return guess.adding(guess, times: residual)
  }
  @inline(__always) func atLeast(_ limit: Double) -> Self {
    ln_at_least8(self, Self(repeating: limit))
  }
  @inline(__always) var total: Self { Self.totals(rows: 1) { _ in self } }

  @inline(__always) func lessLogTwo(times n: Self) -> Self {
    adding(n, times: Self(repeating: -0x1.62e42fefa39efp-1))
  }

  /// But for 2^-37 of e^self.
  #if LAYERNORM_COMPACT
    @inline(never)
  #else
    @inline(__always)
  #endif
  var smallExponentialLessOne: Self {
    // In halves, whose chains are shorter than one.
    let square = self * self
    let last = Self(repeating: 0x1.6c1685919d367p-10)
      .adding(Self(repeating: 0x1.a15169e096556p-13), times: self)
      .adding(Self(repeating: 0x1.a1131351400c3p-16), times: square)
    let middle = Self(repeating: 0x1.5555555c85f99p-5)
      .adding(Self(repeating: 0x1.1110c63a4eed0p-7), times: self)
    let first = Self(repeating: 0.5).adding(Self(repeating: 0x1.5555556750672p-3), times: self)
    return adding(square, times: first.adding(square, times: middle.adding(square, times: last)))
  }
}

/// As `DoubleDouble`, but inlined, and with a low part that may be larger than half a unit of the high one.
struct CellPair: CellNumber {
  typealias Doubles = SIMD8<Double>

  private let high, low: Doubles

  @inline(__always) private init(_ high: Doubles, _ low: Doubles) {
    self.high = high
    self.low = low
  }
  /// a + b
  @inline(__always) private init(sumOf a: Doubles, _ b: Doubles) {
    high = a + b
    let part = high - a
    low = (a - (high - part)) + (b - part)
  }
  /// a * b
  @inline(__always) private init(productOf a: Doubles, _ b: Doubles) {
    high = a * b
    low = (Doubles(repeating: 0) - high).adding(a, times: b)
  }

  @inline(__always) init(exactly values: Doubles) { self.init(values, Doubles(repeating: 0)) }
  @inline(__always) init(reciprocalOf count: Int) {
    let wide = DoubleDouble(reciprocalOf: count)
    self.init(wide.high, wide.low)
  }
  @inline(__always) var doubles: Doubles { high + low }

  #if LAYERNORM_COMPACT
    @inline(never)
  #else
    @inline(__always)
  #endif
  static func + (a: Self, b: Self) -> Self {
    let sum = Self(sumOf: a.high, b.high)
    return Self(sum.high, sum.low + (a.low + b.low))
  }
  @inline(__always) static func - (a: Self, b: Self) -> Self {
    a + b.scaled(Doubles(repeating: -1))
  }
  #if LAYERNORM_COMPACT
    @inline(never)
  #else
    @inline(__always)
  #endif
  static func * (a: Self, b: Self) -> Self {
    let product = Self(productOf: a.high, b.high)
    return Self(
      product.high, product.low.adding(a.high, times: b.low).adding(a.low, times: b.high))
  }
  @inline(__always) func adding(_ a: Self, times b: Self) -> Self { self + a * b }
  #if LAYERNORM_COMPACT
    @inline(never)
  #else
    @inline(__always)
  #endif
  func plus(_ values: Doubles) -> Self {
    let sum = Self(sumOf: high, values)
    return Self(sum.high, sum.low + low)
  }
  #if LAYERNORM_COMPACT
    @inline(never)
  #else
    @inline(__always)
  #endif
  func times(_ values: Doubles) -> Self {
    let product = Self(productOf: high, values)
    return Self(product.high, product.low.adding(low, times: values))
  }
  @inline(__always) func times(_ a: Doubles, plus b: Doubles) -> Self { times(a).plus(b) }
  @inline(__always) static var isNarrow: Bool { true }
  @inline(__always) func scaled(_ powers: Doubles) -> Self { Self(high * powers, low * powers) }

  @inline(__always) var negativeMagnitude: Self {
    let minusOne = Doubles(repeating: -1)
    return scaled(ln_select8(isNegative, Doubles(repeating: 1), minusOne))
  }
  @inline(__always) func withSign(of other: Self) -> Self {
    let one = Doubles(repeating: 1)
    return scaled(ln_select8(other.isNegative, Doubles(repeating: -1), one))
  }
  @inline(__always) private var isNegative: RowMask {
    ln_less8(high, Doubles(repeating: 0))
  }
  #if LAYERNORM_COMPACT
    @inline(never)
  #else
    @inline(__always)
  #endif
  var reciprocal: Self {
    let one = Doubles(repeating: 1)
    let guess = ln_divide8(one, high)
    let residual = (Self(exactly: one) - times(guess)).doubles
    return Self(guess, guess * residual)
  }
  #if LAYERNORM_COMPACT
    @inline(never)
  #else
    @inline(__always)
  #endif
  var reciprocalSquareRoot: Self {
    let root = DoubleDouble(high: doubles, low: low - (doubles - high)).reciprocalSquareRoot
    return Self(root.high, root.low)
  }

  @inline(__always) func keepingLast(_ count: Int) -> Self {
    Self(high.keepingLast(count), low.keepingLast(count))
  }
  @inline(__always) func replacing(with other: Self, where mask: RowMask) -> Self {
    Self(ln_select8(mask, other.high, high), ln_select8(mask, other.low, low))
  }
  /// The low part of an infinity is NaN.
  @inline(__always) func atLeast(_ limit: Double) -> Self {
    replacing(with: Self(limit), where: ln_less8(high, Doubles(repeating: limit)))
  }
  #if LAYERNORM_COMPACT
    @inline(never)
  #else
    @inline(__always)
  #endif
  var total: Self {
    let eights =
      Self(ln_eights_low8(high, high), ln_eights_low8(low, low))
      + Self(ln_eights_high8(high, high), ln_eights_high8(low, low))
    let fours =
      Self(ln_fours_low8(eights.high, eights.high), ln_fours_low8(eights.low, eights.low))
      + Self(ln_fours_high8(eights.high, eights.high), ln_fours_high8(eights.low, eights.low))
    return Self(ln_twos_low8(fours.high, fours.high), ln_twos_low8(fours.low, fours.low))
      + Self(ln_twos_high8(fours.high, fours.high), ln_twos_high8(fours.low, fours.low))
  }

  /// n times the first part of log(2) is exact.
  @inline(__always) func lessLogTwo(times n: Doubles) -> Self {
    let rest = Self(
      Doubles(repeating: -0x1.a39ef35793c76p-33), Doubles(repeating: -0x1.cc01f97b57a08p-87))
    return plus(n * Doubles(repeating: -0x1.62e42fee00000p-1)) + rest.times(n)
  }

  /// But for 2^-59 of e^self: what comes after the square needs no low part.
  #if LAYERNORM_COMPACT
    @inline(never)
  #else
    @inline(__always)
  #endif
  var smallExponentialLessOne: Self {
    let r = doubles
    let rest = SIMD8<Double>(repeating: 0x1.af389ecfc4b9cp-26)
      .adding(SIMD8(repeating: 0x1.1f66d948a47d2p-29), times: r)
      .asFactor(of: r, plus: 0x1.27e4e1f7222cbp-22)
      .asFactor(of: r, plus: 0x1.71de0db2f6b19p-19)
      .asFactor(of: r, plus: 0x1.a01a01a47a591p-16)
      .asFactor(of: r, plus: 0x1.a01a01a7c2efep-13)
      .asFactor(of: r, plus: 0x1.6c16c16c167e2p-10)
      .asFactor(of: r, plus: 0x1.11111111109b5p-7)
      .asFactor(of: r, plus: 0x1.5555555555555p-5)
      .asFactor(of: r, plus: 0x1.5555555555556p-3)
    let square = self * self
    let cube = square.doubles * r
    return self + square.scaled(SIMD8(repeating: 0.5)).plus(rest * cube)
  }
}
