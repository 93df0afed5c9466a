import CShims

/// A row whose sums do not fit C's range, or that is not finite: in float64, of x times a power of two,
/// with statistics that are found again.
struct ScaledBackward<C: ComputeScalar> {
  let work: UnsafePointer<ln_backward_work>
  let sums: ParameterSums<C>?
  let x: AnyRow
  let dy: AnyRow
  let weight: AnyRow
  let dx: AnyRow?
  /// What dx is added to.
  let addends: (AnyRow?, AnyRow?)

  /// - Parameter givenRstd: 0 where none is given that can be used.
  @inline(never) func run(givenRstd: Double) {
    let count = Int(work.pointee.cols)
    let centers = work.pointee.centers != 0
    let scaled = ScaledMoments(x, count: count, eps: work.pointee.eps, centers: centers)
    // For a constant row with eps 0, as in forward: x^ is 0, and nothing flows back.
    var outerRstd = scaled.unscaledRstd == .infinity ? 0 : scaled.unscaledRstd
    var rstd = scaled.factor
    if givenRstd != 0 && !outerRstd.isNaN {
      outerRstd = givenRstd
      rstd = DoubleDouble(repeating: outerRstd) * DoubleDouble(repeating: 1 / scaled.row.scale)
    }
    let center = scaled.moments.center.narrow
    GradientRowSums<Double>.withMemory(rows: 1) { sums in
      reduce(
        x: scaled.row, dy: dy, weight: weight, around: center[0], findsMean: false, count: count,
        into: sums, row: 0)
      var isInRange = RowMask(repeating: -1)
      withUnsafeTemporaryAllocation(of: GradientScalars<Double>.self, capacity: 1) { scalars in
        let scalars = scalars.baseAddress.unsafelyUnwrapped
        withUnsafePointer(to: scaled.moments.mean) { mean in
          GradientScalars.find(
            work, rows: 1, sums, from: 0, reciprocalCount: DoubleDouble(reciprocalOf: count),
            center: center, mean: mean, rstd: rstd, isInRange: &isInRange, into: scalars)
        }
        finish(scaled.row, RowGradient(scalars, row: 0), outerRstd: outerRstd, count)
      }
    }
  }

  /// The columns of an entry of the sums are one or two vectors of float64.
  private func finish(
    _ x: ScaledRow, _ gradient: RowGradient<Double>, outerRstd: Double, _ count: Int
  ) {
    typealias Terms = (dx: SIMD8<Double>, normalized: SIMD8<Double>, dy: SIMD8<Double>)
    /// Of the columns before `end`; see `RowSource.loadLast`.
    func terms(endingAt end: Int) -> Terms {
      let dy = dy.loadLast(of: end)
      var terms = gradient.terms(
        x.loadLast(of: end), dy, weight: weight.loadLast(of: end),
        outerRstd: SIMD8(repeating: outerRstd), isFlat: work.pointee.detaches_rstd != 0)
      if let addend = addends.0 { terms.dx = terms.dx + addend.loadLast(of: end) }
      if let addend = addends.1 { terms.dx = terms.dx + addend.loadLast(of: end) }
      return (terms.dx, terms.normalized, dy)
    }
    func take(_ terms: Terms, endingAt end: Int, entryAt column: Int, part: Int) {
      if let dx { dx.store(terms.dx, endingAt: end) }
      sums?.dweight(at: column).pointee.add(doubles: terms.dy * terms.normalized, part: part)
      sums?.dbias(at: column).pointee.add(doubles: terms.dy, part: part)
    }
    let parts = C.Vector.width / 8
    let wholeEnd = C.Vector.whole(count)
    // The vectors that end with the row, and, of two parts, the one before: before any is stored.
    let before = count &- 8
    let last = terms(endingAt: count)
    let hasBefore = parts == 2 && before > 0 && wholeEnd < count
    let first = hasBefore ? terms(endingAt: before) : last
    var end = 8
    while end <= wholeEnd {
      let part = (end / 8 &- 1) % parts
      take(terms(endingAt: end), endingAt: end, entryAt: end &- 8 &* (part &+ 1), part: part)
      end &+= 8
    }
    guard wholeEnd < count else { return }
    if hasBefore { take(first, endingAt: before, entryAt: wholeEnd, part: 0) }
    take(last, endingAt: count, entryAt: wholeEnd, part: parts &- 1)
  }
}
