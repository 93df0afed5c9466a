import CShims

/// Eight numbers of what the recurrent cells compute in, twice the precision of their dtype: float64 for
/// float32, pairs of float64 for float64. All that is made between inputs and outputs stays in it, so that an
/// output is rounded once.
protocol CellNumber: WideRows {
  init(exactly values: SIMD8<Double>)
  static func / (a: Self, b: Self) -> Self
  /// self + a * b
  func adding(_ a: Self, times b: Self) -> Self
  /// Times powers of two or their negatives.
  func scaled(_ powers: SIMD8<Double>) -> Self
  /// The last `count` lanes; zero in the others.
  func keepingLast(_ count: Int) -> Self
  /// At least `limit`, for what is no more precise than float64 below it; NaN stays NaN.
  func atLeast(_ limit: Double) -> Self

  /// log(2) less what `logistic` takes away first.
  static var logTwoRest: Self { get }
  /// e^self - 1 for |self| <= log(2) / 2.
  var smallExponentialLessOne: Self { get }
}

extension CellNumber {
  @inline(__always) init(_ value: Double) { self.init(exactly: SIMD8(repeating: value)) }

  /// The total of all lanes, in every one.
  @inline(__always) var total: Self { Self.totals(rows: 1) { _ in self } }
}

/// An element in every lane.
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
  @inline(__always) static func / (a: Self, b: Self) -> Self { ln_divide8(a, b) }
  @inline(__always) func scaled(_ powers: SIMD8<Double>) -> Self { self * powers }
  @inline(__always) func atLeast(_ limit: Double) -> Self {
    ln_at_least8(self, Self(repeating: limit))
  }

  @inline(__always) static var logTwoRest: Self { Self(repeating: 0x1.a39ef35793c76p-33) }

  /// But for 2^-37 of e^self.
  @inline(__always) var smallExponentialLessOne: Self {
    let rest = Self(repeating: 0x1.a15169e096556p-13)
      .adding(Self(repeating: 0x1.a1131351400c3p-16), times: self)
      .asFactor(of: self, plus: 0x1.6c1685919d367p-10)
      .asFactor(of: self, plus: 0x1.1110c63a4eed0p-7)
      .asFactor(of: self, plus: 0x1.5555555c85f99p-5)
      .asFactor(of: self, plus: 0x1.5555556750672p-3)
      .asFactor(of: self, plus: 0.5)
    return adding(self * self, times: rest)
  }
}

extension DoubleDouble: CellNumber {
  @inline(__always) init(exactly values: SIMD8<Double>) {
    self.init(high: values, low: SIMD8(repeating: 0))
  }

  @inline(never) static func / (a: Self, b: Self) -> Self {
    let quotient = Self(exactly: ln_divide8(a.high, b.high))
    return quotient + Self(exactly: ln_divide8((a - quotient * b).high, b.high))
  }
  @inline(__always) func adding(_ a: Self, times b: Self) -> Self { self + a * b }
  @inline(__always) func scaled(_ powers: SIMD8<Double>) -> Self {
    Self(high: high * powers, low: low * powers)
  }
  @inline(__always) func keepingLast(_ count: Int) -> Self {
    Self(high: high.keepingLast(count), low: low.keepingLast(count))
  }
  /// The low part of an infinity is NaN.
  @inline(__always) func atLeast(_ limit: Double) -> Self {
    replacing(with: Self(limit), where: ln_less8(high, SIMD8(repeating: limit)))
  }

  @inline(__always) static var logTwoRest: Self {
    Self(
      high: SIMD8(repeating: 0x1.a39ef35793c76p-33), low: SIMD8(repeating: 0x1.cc01f97b57a08p-87))
  }

  /// But for 2^-59 of e^self: what comes after the square needs no low part.
  @inline(never) var smallExponentialLessOne: Self {
    let r = high
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
    let cube = square.high * r
    return self + (square.scaled(SIMD8(repeating: 0.5)) + Self(exactly: rest * cube))
  }
}
