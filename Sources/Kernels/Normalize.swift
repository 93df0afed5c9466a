/// The step from x to y, once mean and rstd of the row are known. Both stay pairs, a number rounded to
/// C and what the rounding left behind, so that y has no error of theirs.
struct Normalization<N: Norm, A: Affine> {
  typealias C = A.Compute

  private let affine: A
  private let center: C.Vector
  private let rstd: C.Vector
  private let rstdLow: C.Vector
  /// -(mean - center) * rstd
  private let offset: C.Vector

  @inline(__always) init(_: N.Type, _ affine: A, _ moments: Moments<C>, rstd: C.Wide) {
    self.affine = affine
    let center = moments.center
    self.center = C.Vector(repeating: center)
    self.rstd = C.Vector(repeating: rstd.narrow)
    self.rstdLow = C.Vector(repeating: (rstd - C.Wide(rstd.narrow)).narrow)
    self.offset = C.Vector(repeating: -((moments.mean - C.Wide(center)) * rstd).narrow)
  }

  @inline(__always) private func normalize(_ x: C.Vector) -> C.Vector {
    let deviation = N.centers ? x - center : x
    let low = N.centers ? offset.adding(deviation, times: rstdLow) : deviation * rstdLow
    return low.adding(deviation, times: rstd)
  }

  /// Normalizes a row of `count` elements into y, which may be where the row is.
  @inline(__always)
  func callAsFunction<S: RowSource, Y: Element>(
    _ row: S, count: Int, into y: UnsafeMutablePointer<Y>
  ) where S.Compute == C {
    let width = S.width
    let last = row.loadLast(of: count)
    var index = 0
    while index &+ width <= count {
      C.store(affine.apply(normalize(row.load(index)), at: index), to: y + index)
      index &+= width
    }
    if index < count {
      storeLast(affine.apply(normalize(last), last: count), as: C.self, of: count, to: y)
    }
  }
}
