import CShims

/// A compute type of the recurrent cells.
protocol CellScalar: ComputeScalar, Element where Compute == Self, Vector: ActivationVector {
  /// Scaled moments, of one row, in twice the precision of this type.
  static func moments(_ scaled: Moments<Double>, times factor: Double) -> Moments<Self>
  static func wide(_ value: DoubleDouble, times factor: Double) -> Wide
  /// The largest power of two by which a row is scaled.
  static var largestScale: Double { get }
  /// As `Row.load(short:)`.
  static func load(short count: Int, _ elements: UnsafePointer<Self>) -> Vector
}

extension Float: CellScalar {
  static func moments(_ scaled: Moments<Double>, times factor: Double) -> Moments<Float> {
    Moments(
      mean: wide(scaled.mean, times: factor),
      variance: wide(scaled.variance, times: factor * factor))
  }
  @inline(__always) static func wide(_ value: DoubleDouble, times factor: Double) -> SIMD8<Double> {
    value.high * SIMD8(repeating: factor)
  }
  @inline(__always) static var largestScale: Double { 0x1p100 }
  @inline(__always)
  static func load(short count: Int, _ elements: UnsafePointer<Float>) -> SIMD16<Float> {
    ln_load_short16(elements, Int64(count))
  }
}

extension Double: CellScalar {
  @inline(__always)
  static func moments(_ scaled: Moments<Double>, times _: Double) -> Moments<Double> { scaled }
  @inline(__always) static func wide(_ value: DoubleDouble, times _: Double) -> DoubleDouble {
    value
  }
  @inline(__always) static var largestScale: Double { 0x1p1000 }
  @inline(__always)
  static func load(short count: Int, _ elements: UnsafePointer<Double>) -> SIMD8<Double> {
    ln_load_short8(elements, Int64(count))
  }
}

/// What the norm of each row of a group takes, a row out of range times a power of two.
struct NormScalars<C: CellScalar> {
  private var row: RowScalars<C>
  private var scale: C.Rows

  @inline(never) init(_ moments: Moments<C>, rstd: C.Wide) {
    row = RowScalars(LayerNorm.self, moments, rstd: rstd, rounds: false)
    scale = C.Rows(repeating: C(1))
  }

  /// Those of one row, out of range.
  init(_ scaled: ScaledMoments) {
    let scale = min(scaled.row.scale, C.largestScale)
    let factor = scale / scaled.row.scale
    self.init(
      C.moments(scaled.moments, times: factor), rstd: C.wide(scaled.factor, times: 1 / factor))
    self.scale = C.Rows(repeating: C(scale))
  }

  /// Takes those of one row from others, in which they are the first.
  mutating func replace(_ index: Int, with other: NormScalars) {
    withUnsafeMutableBytes(of: &self) { scalars in
      withUnsafeBytes(of: other) { other in
        let scalars = scalars.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: C.self)
        let other = other.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: C.self)
        for place in 0..<NormScalars.places {
          scalars[place &* rowsPerGroup &+ index] = other[place &* rowsPerGroup]
        }
      }
    }
  }

  @inline(__always) private static var places: Int { 5 }
}

/// The norm of one row of a group.
struct CellNorm<C: CellScalar> {
  private let scalars: RowScalars<C>.Vectors
  private let scale: C.Vector

  @inline(__always) init(_ group: UnsafePointer<NormScalars<C>>, row: Int) {
    let raw = UnsafeRawPointer(group)
    scalars = RowScalars.Vectors(raw.assumingMemoryBound(to: RowScalars<C>.self), row: row)
    scale = C.Vector(
      repeating: raw.assumingMemoryBound(to: C.self)[4 &* rowsPerGroup &+ row])
  }

  /// As `Normalization` has it.
  @inline(__always)
  func callAsFunction(_ x: C.Vector, weight: C.Vector, bias: C.Vector) -> C.Vector {
    let deviation = x * scale - scalars.center
    let normalized = scalars.offset.adding(deviation, times: scalars.rstdLow)
      .adding(deviation, times: scalars.rstd)
    return bias.adding(normalized, times: weight)
  }
}
