import CShims

/// Backward kernel of one dtype: dy, x, dsum and dx are of type T, weight of its compute type.
@inline(__always)
func backward<T: Element>(
  _: T.Type, _ work: UnsafePointer<ln_backward_work>?, _ begin: Int64, _ end: Int64,
  _ sums: UnsafeMutableRawPointer?
) where T.Compute: Element {
  BackwardRows<T>(work.unsafelyUnwrapped, sums).run(Int(begin), Int(end))
}

/// The rows of one block. Each row takes two passes: one for its sums, one for dx and what it adds to
/// dweight and dbias. The second goes through the rows of a group side by side, so that weight and the
/// sums over rows are read once for all of them.
private struct BackwardRows<T: Element> where T.Compute: Element {
  typealias C = T.Compute
  typealias Gradient = RowGradient<Row<T, C>, Row<T, C>>

  private let work: UnsafePointer<ln_backward_work>
  private let weight: Row<C, C>
  private let count: Int
  private let reciprocalCount: C.Wide
  private var centers: Bool { work.pointee.centers != 0 }
  private let sums: ParameterSums<C>?

  init(_ work: UnsafePointer<ln_backward_work>, _ sums: UnsafeMutableRawPointer?) {
    self.work = work
    weight = Row(work.pointee.weight.unsafelyUnwrapped.assumingMemoryBound(to: C.self))
    let count = Int(work.pointee.cols)
    self.count = count
    reciprocalCount = C.Wide(reciprocalOf: count)
    self.sums = sums.map { ParameterSums($0, count: count) }
  }

  @inline(never) func run(_ begin: Int, _ end: Int) {
    var position = RowPosition(begin, rowsPerBatch: work.pointee.rows_per_batch)
    while position.row &+ Int(LN_BACKWARD_GROUP) <= end {
      let p0 = take(&position)
      let p1 = take(&position)
      if let g0 = gradient(at: p0), let g1 = gradient(at: p1) {
        let dx = work.pointee.dx
        finish(
          (g0, g1),
          into: dx.data == nil
            ? nil : (p0.pointer(in: dx, of: T.self), p1.pointer(in: dx, of: T.self)))
      } else {
        finish(p0)
        finish(p1)
      }
    }
    while position.row < end { finish(take(&position)) }
  }

  @inline(__always) private func take(_ position: inout RowPosition) -> RowPosition {
    defer { position.advance() }
    return position
  }

  @inline(__always) private func dx(at position: RowPosition) -> UnsafeMutablePointer<T>? {
    position.pointer(ifIn: work.pointee.dx, of: T.self)
  }

  private func addends<D: ComputeScalar>(
    at position: RowPosition, as _: D.Type
  ) -> (Row<T, D>?, Row<T, D>?) {
    let dx = work.pointee.accumulates_dx != 0 ? dx(at: position) : nil
    return (
      Row(raw: position.pointer(ifIn: work.pointee.dsum, of: T.self)), Row(raw: dx)
    )
  }

  // MARK: The sums of a row

  /// rstd as given; nil where it is not, or is so near the ends of its range that it may have lost digits.
  @inline(__always) private func givenRstd(at position: RowPosition) -> C? {
    guard let given = work.pointee.rstd?.assumingMemoryBound(to: C.self)[position.row],
      given.magnitude < C.largestRstd && C(1) < given.magnitude * C.largestRstd
    else { return nil }
    return given
  }

  /// nil for a row whose sums do not fit C's range, or that is not finite.
  @inline(never) private func gradient(at position: RowPosition) -> Gradient? {
    let x = Row<T, C>(position.pointer(in: work.pointee.x, of: T.self))
    let center: C
    var mean: C.Wide?
    let rstd: C.Wide
    if work.pointee.rstd != nil {
      guard let given = givenRstd(at: position) else { return nil }
      rstd = C.Wide(given)
      center = work.pointee.mean?.assumingMemoryBound(to: C.self)[position.row] ?? .zero
    } else {
      let moments =
        centers
        ? Moments<C>(LayerNorm.self, x, count: count, reciprocalCount: reciprocalCount)
        : Moments<C>(RMSNorm.self, x, count: count, reciprocalCount: reciprocalCount)
      guard !moments.needsScaling(eps: work.pointee.eps) else { return nil }
      rstd = (moments.variance + C.Wide(double: work.pointee.eps)).reciprocalSquareRoot
      mean = moments.mean
      center = moments.center
    }
    let gradient = Gradient(
      centers: centers, x: x, dy: Row(position.pointer(in: work.pointee.dy, of: T.self)),
      addends: addends(at: position, as: C.self), weight: weight, count: count,
      reciprocalCount: reciprocalCount, center: center, mean: mean, rstd: rstd,
      outerRstd: rstd.narrow)
    return gradient.isInRange ? gradient : nil
  }

  /// In float64, of the scaled row, whose statistics are found again.
  private func scaledGradient(
    at position: RowPosition, _ weight: Row<C, Double>
  ) -> RowGradient<ScaledRow<T>, Row<T, Double>> {
    let x = Row<T, Double>(position.pointer(in: work.pointee.x, of: T.self))
    let scaled =
      centers
      ? ScaledMoments<T>(LayerNorm.self, x, count: count, eps: work.pointee.eps)
      : ScaledMoments<T>(RMSNorm.self, x, count: count, eps: work.pointee.eps)
    // For a constant row with eps 0, as in forward: x^ is 0, and nothing flows back.
    var outerRstd = scaled.unscaledRstd == .infinity ? 0 : scaled.unscaledRstd
    var rstd = scaled.factor
    if let given = givenRstd(at: position), !outerRstd.isNaN {
      outerRstd = C.Wide(given).double
      rstd = DoubleDouble(outerRstd) * DoubleDouble(1 / scaled.row.scale)
    }
    return RowGradient(
      centers: centers, x: scaled.row, dy: Row(position.pointer(in: work.pointee.dy, of: T.self)),
      addends: addends(at: position, as: Double.self), weight: weight, count: count,
      reciprocalCount: DoubleDouble(reciprocalOf: count), center: scaled.moments.center,
      mean: scaled.moments.mean, rstd: rstd, outerRstd: outerRstd)
  }

  // MARK: dx, dweight and dbias

  private typealias Rows<R> = (R, R)

  @inline(__always)
  private func finish(_ rows: Rows<Gradient>, into dx: Rows<UnsafeMutablePointer<T>>?) {
    let width = C.Vector.width
    let lastWeight = weight.loadLast(of: count)
    let last = (
      rows.0.terms(endingAt: count, weight: lastWeight),
      rows.1.terms(endingAt: count, weight: lastWeight)
    )
    var index = 0
    while index &+ width <= count {
      let weight = weight.load(index)
      let t0 = rows.0.terms(at: index, weight: weight)
      let t1 = rows.1.terms(at: index, weight: weight)
      if let dx {
        C.store(t0.dx, to: dx.0 + index)
        C.store(t1.dx, to: dx.1 + index)
      }
      sums?.add((t0, t1), at: index / width)
      index &+= width
    }
    guard index < count else { return }
    if let dx {
      storeLast(last.0.dx, as: C.self, of: count, to: dx.0)
      storeLast(last.1.dx, as: C.self, of: count, to: dx.1)
    }
    sums?.add(last, at: index / width)
  }

  /// One row by itself.
  @inline(never) private func finish(_ position: RowPosition) {
    if let gradient = gradient(at: position) {
      finish(gradient, weight, into: dx(at: position), parts: 1) { terms, entry, _ in
        sums?.add(terms.dy, terms.normalized, at: entry)
      }
    } else {
      let weight = Row<C, Double>(weight.elements)
      finish(
        scaledGradient(at: position, weight), weight, into: dx(at: position),
        parts: C.Vector.width / 8
      ) { terms, entry, part in
        sums?.add(doubles: terms.dy, terms.normalized, part: part, at: entry)
      }
    }
  }

  /// The columns of an entry of the sums are `parts` vectors of D.
  @inline(__always)
  private func finish<X: RowSource, G: RowSource>(
    _ row: RowGradient<X, G>, _ weight: Row<C, X.Compute>,
    into dx: UnsafeMutablePointer<T>?, parts: Int,
    accumulate: (RowGradient<X, G>.Terms, _ entry: Int, _ part: Int) -> Void
  ) {
    typealias D = X.Compute
    let width = D.Vector.width
    let wholeEnd = count &- count % (parts &* width)
    // The vectors that end with the row, and, of two parts, the one before: before any is stored.
    let before = count &- width
    let last = row.terms(endingAt: count, weight: weight.loadLast(of: count))
    let hasBefore = parts == 2 && before > 0 && wholeEnd < count
    let first =
      hasBefore ? row.terms(endingAt: before, weight: weight.loadLast(of: before)) : last
    var index = 0
    while index < wholeEnd {
      let terms = row.terms(at: index, weight: weight.load(index))
      if let dx { D.store(terms.dx, to: dx + index) }
      accumulate(terms, index / (parts &* width), index / width % parts)
      index &+= width
    }
    guard wholeEnd < count else { return }
    let entry = wholeEnd / (parts &* width)
    if hasBefore {
      if let dx { storeLast(first.dx, as: D.self, of: before, to: dx) }
      accumulate(first, entry, 0)
    }
    if let dx { storeLast(last.dx, as: D.self, of: count, to: dx) }
    accumulate(last, entry, parts &- 1)
  }
}
