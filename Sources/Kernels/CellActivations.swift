import CShims

/// Vectors that the logistic function and tanh are computed in.
protocol ActivationVector: ComputeVector {
  static func / (a: Self, b: Self) -> Self
  var magnitude: Self { get }
  /// At least `least`; NaN stays NaN.
  func atLeast(_ least: Self) -> Self
  /// This magnitude with the sign of x.
  func withSign(of x: Self) -> Self
  /// a in the lanes where self is negative, b in the others.
  func ifNegative(_ a: Self, else b: Self) -> Self
  /// 2^(n + 64), where self is the sum of an integer n and `Exponential.shifter`.
  var powerOfTwo: Self { get }

  /// The constants of e^y.
  static var exponential: ExponentialConstants { get }
  /// (e^r - 1 - r) / r^2 for |r| <= log(2) / 2.
  static func exponentialRest(_ r: Self) -> Self
}

struct ExponentialConstants {
  /// 1.5 * 2^p for p digits behind the point: to add it rounds to an integer, which the last digits then hold.
  let shifter: Double
  /// log(2) as a sum. n times the first part is exact for every n that occurs.
  let log2: (high: Double, low: Double)
  /// The exponential of this rounds to 0.
  let smallest: Double
}

extension ActivationVector where Scalar: ComputeScalar {
  @inline(__always) fileprivate init(_ value: Double) { self.init(repeating: Scalar(value)) }

  /// e^self = power * (1 + rest), for self <= 0: power is 2^n, of the integer n nearest to self / log(2), times
  /// 2^64, which keeps it apart from the subnormal numbers.
  @inline(__always) private var exponentialParts: (power: Self, rest: Self) {
    let constants = Self.exponential
    let y = atLeast(Self(constants.smallest))
    let shifter = Self(constants.shifter)
    let shifted = shifter.adding(y, times: Self(0x1.71547652b82fep+0))
    let n = shifted - shifter
    let r = y.adding(n, times: Self(-constants.log2.high))
      .adding(n, times: Self(-constants.log2.low))
    return (shifted.powerOfTwo, r.adding(r * r, times: Self.exponentialRest(r)))
  }

  /// 1 / (1 + e^-x), as e^x / (1 + e^x) for a negative x, so that small results keep their digits.
  #if LAYERNORM_COMPACT
    @inline(never)
  #else
    @inline(__always)
  #endif
  func logistic() -> Self {
    let (power, rest) = (Self(0) - magnitude).exponentialParts
    let e = power.adding(power, times: rest) * Self(0x1p-64)
    return ifNegative(e, else: Self(1)) / (Self(1) + e)
  }

  /// -(e^y - 1) / (2 + (e^y - 1)) of y = -2|x|, which keeps the digits of small results too; and, if `slope` is
  /// wanted, 1 - tanh^2 = 4 e^y / (1 + e^y)^2.
  #if LAYERNORM_COMPACT
    @inline(never)
  #else
    @inline(__always)
  #endif
  func tanh(slope: inout Self?) -> Self {
    let (scaledPower, rest) = (magnitude * Self(-2)).exponentialParts
    let power = scaledPower * Self(0x1p-64)
    let difference = (power - Self(1)).adding(power, times: rest)
    let denominator = Self(2) + difference
    if slope != nil {
      let half = (Self(2) * power.adding(power, times: rest)) / denominator
      slope = (half + half) / denominator
    }
    return ((Self(0) - difference) / denominator).magnitude.withSign(of: self)
  }

  @inline(__always) func tanh() -> Self {
    var slope: Self?
    return tanh(slope: &slope)
  }
}

// The coefficients interpolate (e^r - 1 - r) / r^2 at the Chebyshev nodes of [-log(2) / 2, log(2) / 2], computed
// with 50 digits and rounded; e^r - 1 is then known but for 2^-29 of it in float32 and 2^-60 in float64.

extension SIMD16<Float>: ActivationVector {
  @inline(__always) static func / (a: Self, b: Self) -> Self { ln_divide16(a, b) }
  @inline(__always) var magnitude: Self { ln_magnitude16(self) }
  @inline(__always) func atLeast(_ least: Self) -> Self { ln_at_least16(self, least) }
  @inline(__always) func withSign(of x: Self) -> Self { ln_with_sign16(self, x) }
  @inline(__always) func ifNegative(_ a: Self, else b: Self) -> Self {
    ln_if_negative16(self, a, b)
  }
  @inline(__always) var powerOfTwo: Self { ln_power_of_two16(self) }

  @inline(__always) static var exponential: ExponentialConstants {
    ExponentialConstants(
      shifter: 0x1.8p23, log2: (0x1.63p-1, -0x1.bd0106p-13), smallest: -104)
  }
  @inline(__always) static func exponentialRest(_ r: Self) -> Self {
    Self(0x1.6d43acp-10).adding(Self(0x1.a1256ap-13), times: r)
      .asFactor(of: r, plus: 0x1.1110e0p-7)
      .asFactor(of: r, plus: 0x1.5554e8p-5)
      .asFactor(of: r, plus: 0x1.555556p-3)
      .asFactor(of: r, plus: 0.5)
  }
}

extension SIMD8<Double>: ActivationVector {
  @inline(__always) static func / (a: Self, b: Self) -> Self { ln_divide8(a, b) }
  @inline(__always) var magnitude: Self { ln_magnitude8(self) }
  @inline(__always) func atLeast(_ least: Self) -> Self { ln_at_least8(self, least) }
  @inline(__always) func withSign(of x: Self) -> Self { ln_with_sign8(self, x) }
  @inline(__always) func ifNegative(_ a: Self, else b: Self) -> Self { ln_if_negative8(self, a, b) }
  @inline(__always) var powerOfTwo: Self { ln_power_of_two8(self) }

  @inline(__always) static var exponential: ExponentialConstants {
    ExponentialConstants(
      shifter: 0x1.8p52, log2: (0x1.62e42fee00000p-1, 0x1.a39ef35793c76p-33), smallest: -746)
  }
  @inline(__always) static func exponentialRest(_ r: Self) -> Self {
    Self(0x1.af4e5274a366cp-26).adding(Self(0x1.1f73137874873p-29), times: r)
      .asFactor(of: r, plus: 0x1.27e4db648eb67p-22)
      .asFactor(of: r, plus: 0x1.71de01ff19a6bp-19)
      .asFactor(of: r, plus: 0x1.a01a01a6d3b0bp-16)
      .asFactor(of: r, plus: 0x1.a01a01abf7ed6p-13)
      .asFactor(of: r, plus: 0x1.6c16c16c162f2p-10)
      .asFactor(of: r, plus: 0x1.11111111100bep-7)
      .asFactor(of: r, plus: 0x1.5555555555556p-5)
      .asFactor(of: r, plus: 0x1.5555555555557p-3)
      .asFactor(of: r, plus: 0.5)
  }
}

extension ActivationVector where Scalar: ComputeScalar {
  /// A step of Horner's scheme.
  @inline(__always) fileprivate func asFactor(of r: Self, plus coefficient: Double) -> Self {
    Self(coefficient).adding(self, times: r)
  }
}
