import CShims

extension CellNumber {
  /// e^self = power * (1 + rest), for self <= 0: power is 2^n, of the integer n nearest to self / log(2), times
  /// 2^64, which keeps it apart from the subnormal numbers.
  @inline(__always)
  private func exponentialParts(_ power: inout SIMD8<Double>, _ rest: inout Self) {
    // The exponential of the limit rounds to 0.
    let y = atLeast(-746)
    // To add it rounds to an integer, which the last digits then hold.
    let shifter = SIMD8<Double>(repeating: 0x1.8p52)
    let shifted = shifter.adding(y.doubles, times: SIMD8(repeating: 0x1.71547652b82fep+0))
    let n = shifted - shifter
    power = ln_power_of_two8(shifted)
    let zero = SIMD8<Double>(repeating: 0)
    // n times the first part of log(2) is exact.
    let r = (y + Self(exactly: n * SIMD8(repeating: -0x1.62e42fee00000p-1)))
      .adding(Self(exactly: zero - n), times: Self.logTwoRest)
    rest = r.smallExponentialLessOne
  }

  /// 1 / (1 + e^-x), as e^x / (1 + e^x) for a negative x, so that small results keep their digits.
  @inline(__always) func logistic() -> Self {
    var power = SIMD8<Double>(repeating: 0)
    var rest = Self(0)
    negativeMagnitude.exponentialParts(&power, &rest)
    let e = (Self(exactly: power) + rest.scaled(power)).scaled(SIMD8(repeating: 0x1p-64))
    let one = Self(1)
    let isNegative = ln_less8(doubles, SIMD8(repeating: 0))
    return one.replacing(with: e, where: isNegative) / (one + e)
  }

  /// -(e^y - 1) / (2 + (e^y - 1)) of y = -2|x|, which keeps the digits of small results too; and `slope`,
  /// 1 - tanh^2 = 4 e^y / (1 + e^y)^2.
  @inline(__always) func tanh(slope: inout Self) -> Self {
    var power = SIMD8<Double>(repeating: 0)
    var rest = Self(0)
    negativeMagnitude.scaled(SIMD8(repeating: 2)).exponentialParts(&power, &rest)
    power = power * SIMD8(repeating: 0x1p-64)
    let scaledRest = rest.scaled(power)
    let difference = Self(exactly: power - SIMD8(repeating: 1)) + scaledRest
    let reciprocal = Self(1) / (Self(2) + difference)
    let e = Self(exactly: power) + scaledRest
    slope = (e * reciprocal * reciprocal).scaled(SIMD8(repeating: 4))
    let sign = ln_with_sign8(SIMD8(repeating: 1), doubles)
    return (difference * reciprocal).scaled(SIMD8(repeating: 0) - sign)
  }

  @inline(__always) func tanh() -> Self {
    var slope = Self(0)
    return tanh(slope: &slope)
  }

  @inline(__always) private var negativeMagnitude: Self {
    scaled(SIMD8(repeating: 0) - ln_with_sign8(SIMD8(repeating: 1), doubles))
  }
}
