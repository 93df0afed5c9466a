import CShims

/// AdaNorm in the place of weight and bias: z = C * (1 - k * x^) * x^, where x^ has the bits of layer norm
/// before it is rounded to the type of y.
struct AdaFactor<Compute: ComputeScalar>: Affine {
  @inline(__always) static var isRare: Bool { true }

  private let scale: Compute.Vector
  private let minusSlope: Compute.Vector

  @inline(__always) init(_ work: UnsafePointer<ln_forward_work>) {
    scale = Compute.Vector(repeating: Compute(work.pointee.ada_scale))
    minusSlope = Compute.Vector(repeating: Compute(-work.pointee.ada_slope))
  }

  @inline(__always) func apply(_ normalized: Compute.Vector) -> Compute.Vector {
    let one = Compute.Vector(repeating: Compute(1))
    return scale * (normalized * one.adding(minusSlope, times: normalized))
  }

  /// The same for all columns.
  @inline(__always) func terms(at _: Int) -> AffineTerms<Compute> { AffineTerms(weight: scale) }
  @inline(__always)
  func apply(_ normalized: Compute.Vector, _: AffineTerms<Compute>) -> Compute.Vector {
    apply(normalized)
  }
  @inline(__always)
  func apply(_ normalized: Compute.Vector, last _: Int) -> Compute.Vector { apply(normalized) }
}

/// AdaNorm of a row.
@inline(never)
func normalizeAda<T: Element>(
  _ work: UnsafePointer<ln_forward_work>, _ scalars: UnsafePointer<RowScalars<T.Compute>>,
  index: Int, _ x: UnsafePointer<T>, into y: UnsafeMutablePointer<T>
) {
  let normalization = Normalization(
    LayerNorm.self, AdaFactor<T.Compute>(work), RowScalars.Vectors(scalars, row: index))
  normalization(Row<T, T.Compute>(x), count: Int(work.pointee.cols), into: y)
}

/// Multiplies dy of a row, in its place, by scale + slope * x^: C * (1 - k * x^), with one rounding.
@inline(__always)
func multiplyByAdaFactor<C: ComputeScalar & Element>(
  _: C.Type, _ cols: Int64, _ scale: Double, _ slope: Double, _ normalized: UnsafeRawPointer?,
  _ gradient: UnsafeMutableRawPointer?
) where C.Compute == C {
  let gradient = gradient.unsafelyUnwrapped.assumingMemoryBound(to: C.self)
  let normalized = normalized.unsafelyUnwrapped.assumingMemoryBound(to: C.self)
  let scale = C.Vector(repeating: C(scale))
  let slope = C.Vector(repeating: C(slope))
  var index = 0
  while index < Int(cols) {
    let factor = scale.adding(slope, times: C.load(normalized + index))
    C.store(C.load(gradient + index) * factor, to: gradient + index)
    index &+= C.Vector.width
  }
}
