import CShims

extension CellNumber {
  /// e^self = power * (1 + rest), for self <= 0: power is 2^n, of the integer n nearest to self / log(2); of a
  /// narrow number times 2^64, which keeps it apart from the subnormal ones.
  @inline(__always)
  private func exponentialParts(_ power: inout SIMD8<Double>, _ rest: inout Self) {
    // The exponential of the limit rounds to 0.
    let y = atLeast(Self.isNarrow ? -746 : -700)
    // To add it rounds to an integer, which the last digits then hold.
    let shifter = SIMD8<Double>(repeating: Self.isNarrow ? 0x1.8p52 : 0x1.8p52 - 64)
    let shifted = shifter.adding(y.doubles, times: SIMD8(repeating: 0x1.71547652b82fep+0))
    power = ln_power_of_two8(shifted)
    rest = y.lessLogTwo(times: shifted - shifter).smallExponentialLessOne
  }

  /// 1 / (1 + e^-x), as e^x / (1 + e^x) for a negative x, so that small results keep their digits.
  #if LAYERNORM_COMPACT
    @inline(never)
  #else
    @inline(__always)
  #endif
  func logistic() -> Self {
    var power = SIMD8<Double>(repeating: 0)
    var rest = Self(0)
    negativeMagnitude.exponentialParts(&power, &rest)
    let one = SIMD8<Double>(repeating: 1)
    var e = rest.plus(one).scaled(power)
    if Self.isNarrow { e = e.scaled(SIMD8(repeating: 0x1p-64)) }
    let isNegative = ln_less8(doubles, SIMD8(repeating: 0))
    return Self(exactly: one).replacing(with: e, where: isNegative) * e.plus(one).reciprocal
  }

  /// -(e^y - 1) / (2 + (e^y - 1)) of y = -2|x|, which keeps the digits of small results too; and `slope`,
  /// 1 - tanh^2 = 4 e^y / (1 + e^y)^2.
  #if LAYERNORM_COMPACT
    @inline(never)
  #else
    @inline(__always)
  #endif
  func tanh(slope: inout Self) -> Self {
    var power = SIMD8<Double>(repeating: 0)
    var rest = Self(0)
    negativeMagnitude.scaled(SIMD8(repeating: 2)).exponentialParts(&power, &rest)
    if Self.isNarrow { power = power * SIMD8(repeating: 0x1p-64) }
    let scaledRest = rest.scaled(power)
    let difference = scaledRest.plus(power - SIMD8(repeating: 1))
    let reciprocal = difference.plus(SIMD8(repeating: 2)).reciprocal
    let e = scaledRest.plus(power)
    slope = (e * reciprocal * reciprocal).scaled(SIMD8(repeating: 4))
    return (difference * reciprocal).scaled(SIMD8(repeating: -1)).withSign(of: self)
  }

  @inline(__always) func tanh() -> Self {
    var slope = Self(0)
    return tanh(slope: &slope)
  }
}
