import CShims

/// A compute type of the recurrent cells.
protocol CellScalar: ComputeScalar, Element where Compute == Self, Vector: ActivationVector {
  associatedtype Sum: WideVector where Sum.Compute == Self

  /// Those of a row out of range, for every row of a group.
  static func scalars(_ scaled: ScaledMoments) -> NormScalars<Self>
}

/// What the norm of each row of a group takes: x^ = (x * scale - mean) * rstd.
struct NormScalars<C: ComputeScalar> {
  var mean = C.Wide(repeating: 0)
  var rstd = C.Wide(repeating: 0)
  /// 1, but for rows out of range.
  var scale = C.Rows(repeating: .zero)

  @inline(__always) init() {}

  @inline(__always) init(mean: C.Wide, rstd: C.Wide, scale: C.Rows) {
    self.mean = mean
    self.rstd = rstd
    self.scale = scale
  }

  func replacing(with other: Self, row: Int) -> Self {
    var mask = RowMask(repeating: 0)
    mask[row] = -1
    var replaced = NormScalars(
      mean: mean.replacing(with: other.mean, where: mask),
      rstd: rstd.replacing(with: other.rstd, where: mask), scale: scale)
    replaced.scale[row] = other.scale[row]
    return replaced
  }
}

/// A vector in twice the precision of a compute type. The two norms whose sum a gate is made of may cancel,
/// and so may weights and biases: their sum is rounded once, before the activation.
protocol WideVector {
  associatedtype Compute: ComputeScalar

  /// x^ of a row of a group.
  init(normalizing x: Compute.Vector, _ scalars: UnsafePointer<NormScalars<Compute>>, row: Int)
  static func + (a: Self, b: Self) -> Self
  func times(_ factor: Compute.Vector) -> Self
  func plus(_ addend: Compute.Vector) -> Self
  /// Rounded to nearest.
  var narrow: Compute.Vector { get }
}

/// Two vectors of float64.
struct WideFloats: WideVector {
  typealias Compute = Float

  private let low: SIMD8<Double>
  private let high: SIMD8<Double>

  @inline(__always) private init(_ low: SIMD8<Double>, _ high: SIMD8<Double>) {
    self.low = low
    self.high = high
  }

  /// The scale is 1: float64 holds a float32 of any size.
  @inline(__always)
  init(normalizing x: SIMD16<Float>, _ scalars: UnsafePointer<NormScalars<Float>>, row: Int) {
    let scalars = UnsafeRawPointer(scalars).assumingMemoryBound(to: Double.self) + row
    let mean = SIMD8<Double>(repeating: scalars[0])
    let rstd = SIMD8<Double>(repeating: scalars[rowsPerGroup])
    low = (ln_widen8(x.lowHalf) - mean) * rstd
    high = (ln_widen8(x.highHalf) - mean) * rstd
  }

  @inline(__always) static func + (a: Self, b: Self) -> Self {
    Self(a.low + b.low, a.high + b.high)
  }
  @inline(__always) func times(_ factor: SIMD16<Float>) -> Self {
    Self(low * ln_widen8(factor.lowHalf), high * ln_widen8(factor.highHalf))
  }
  @inline(__always) func plus(_ addend: SIMD16<Float>) -> Self {
    Self(low + ln_widen8(addend.lowHalf), high + ln_widen8(addend.highHalf))
  }
  @inline(__always) var narrow: SIMD16<Float> {
    SIMD16(lowHalf: ln_narrow8(low), highHalf: ln_narrow8(high))
  }
}

/// A vector and what rounding has left of it.
struct WideDoubles: WideVector {
  typealias Compute = Double

  private let value: SIMD8<Double>
  private let rest: SIMD8<Double>

  @inline(__always) private init(_ value: SIMD8<Double>, _ rest: SIMD8<Double>) {
    self.value = value
    self.rest = rest
  }

  @inline(__always)
  init(normalizing x: SIMD8<Double>, _ scalars: UnsafePointer<NormScalars<Double>>, row: Int) {
    let scalars = UnsafeRawPointer(scalars).assumingMemoryBound(to: Double.self) + row
    func scalar(_ place: Int) -> SIMD8<Double> {
      SIMD8(repeating: scalars[place &* rowsPerGroup])
    }
    let zero = SIMD8<Double>(repeating: 0)
    let deviation = Self(x * scalar(4), zero - scalar(1)).plus(zero - scalar(0))
    let scaled = deviation.times(scalar(2))
    value = scaled.value
    rest = scaled.rest.adding(deviation.value, times: scalar(3))
  }

  /// Knuth's sum.
  @inline(__always) func plus(_ addend: SIMD8<Double>) -> Self {
    let sum = value + addend
    let part = sum - value
    return Self(sum, rest + ((value - (sum - part)) + (addend - part)))
  }
  @inline(__always) static func + (a: Self, b: Self) -> Self {
    let sum = a.plus(b.value)
    return Self(sum.value, sum.rest + b.rest)
  }
  @inline(__always) func times(_ factor: SIMD8<Double>) -> Self {
    let product = value * factor
    let error = (SIMD8(repeating: 0) - product).adding(value, times: factor)
    return Self(product, error.adding(rest, times: factor))
  }
  /// Of an infinite value, there is no rest.
  @inline(__always) var narrow: SIMD8<Double> {
    ln_select8(ln_less8(ln_magnitude8(rest), SIMD8(repeating: .infinity)), value + rest, value)
  }
}

extension Float: CellScalar {
  typealias Sum = WideFloats

  static func scalars(_ scaled: ScaledMoments) -> NormScalars<Float> {
    let scale = SIMD8<Double>(repeating: scaled.row.scale)
    return NormScalars(
      mean: ln_divide8(scaled.moments.mean.high, scale), rstd: scaled.factor.high * scale,
      scale: SIMD8(repeating: 1))
  }
}

extension Double: CellScalar {
  typealias Sum = WideDoubles

  static func scalars(_ scaled: ScaledMoments) -> NormScalars<Double> {
    NormScalars(
      mean: scaled.moments.mean, rstd: scaled.factor, scale: SIMD8(repeating: scaled.row.scale))
  }
}
