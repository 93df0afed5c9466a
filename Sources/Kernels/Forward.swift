import CShims

/// Forward kernel of one dtype: x, residual, sum and y are of type T, weight and bias of type P.
@inline(__always)
func forward<T: Element, P: Element>(
  _: T.Type, params _: P.Type, _ work: UnsafePointer<ln_forward_work>?, _ begin: Int64, _ end: Int64
) {
  let work = work.unsafelyUnwrapped.pointee
  let bias = Row<P, T.Compute>(raw: work.bias)
  #if !LAYERNORM_COMPACT
    let weight = Row<P, T.Compute>(raw: work.weight)
    if work.centers != 0, let weight, let bias, work.weight_offset == 0 {
      ForwardRows<LayerNorm, T, P, WeightAndBias>(work, WeightAndBias(weight: weight, bias: bias))
        .run(Int(begin), Int(end))
      return
    }
    if work.centers == 0, let weight, bias == nil, work.weight_offset == 0 {
      ForwardRows<RMSNorm, T, P, WeightOnly>(work, WeightOnly(weight: weight))
        .run(Int(begin), Int(end))
      return
    }
  #endif
  let affine = AnyAffine<P, T.Compute>(
    weight: Weight(work.weight, offset: work.weight_offset), bias: bias)
  if work.centers != 0 {
    ForwardRows<LayerNorm, T, P, AnyAffine>(work, affine).run(Int(begin), Int(end))
  } else {
    ForwardRows<RMSNorm, T, P, AnyAffine>(work, affine).run(Int(begin), Int(end))
  }
}

/// The rows of one call.
private struct ForwardRows<N: Norm, T: Element, P: Element, A: Affine>
where A.Compute == T.Compute {
  typealias C = T.Compute

  private let work: ln_forward_work
  private let affine: A
  private let count: Int
  private let reciprocalCount: C.Wide

  @inline(__always) init(_ work: ln_forward_work, _ affine: A) {
    self.work = work
    self.affine = affine
    count = Int(work.cols)
    reciprocalCount = C.Wide(reciprocalOf: Int(work.cols))
  }

  @inline(never) func run(_ begin: Int, _ end: Int) {
    var position = RowPosition(begin, rowsPerBatch: work.rows_per_batch)
    let adds = work.residual.data != nil || work.x_bias != nil
    while position.row < end {
      let y = position.pointer(in: work.y, of: T.self)
      var x = UnsafePointer(position.pointer(in: work.x, of: T.self))
      if adds { x = UnsafePointer(add(x, at: position, ifNotWanted: y)) }
      normalize(Row(x), into: y, row: position.row)
      position.advance()
    }
  }

  /// (x + x_bias) + residual, rounded to T, in `sum`; in y, from where it is normalized in place, if
  /// the sum is not wanted.
  @inline(never)
  private func add(
    _ x: UnsafePointer<T>, at position: RowPosition, ifNotWanted y: UnsafeMutablePointer<T>
  ) -> UnsafeMutablePointer<T> {
    let sum = position.pointer(ifIn: work.sum, of: T.self) ?? y
    let bias = Row<T, C>(raw: work.x_bias)
    let residual = Row<T, C>(raw: position.pointer(ifIn: work.residual, of: T.self))
    addRow(Row(x), bias, residual, count: count, into: sum)
    return sum
  }

  @inline(__always)
  private func normalize(_ x: Row<T, C>, into y: UnsafeMutablePointer<T>, row: Int) {
    let moments = Moments<C>(N.self, x, count: count, reciprocalCount: reciprocalCount)
    guard !moments.needsScaling(eps: work.eps) else {
      normalizeScaled(N.self, P.self, work, x.elements, into: y, row: row)
      return
    }
    let rstd = (moments.variance + C.Wide(double: work.eps)).reciprocalSquareRoot
    if N.centers { write(moments.mean.narrow, to: work.mean, at: row) }
    write(rstd.narrow, to: work.rstd, at: row)
    Normalization(N.self, affine, moments, rstd: rstd)(x, count: count, into: y)
  }
}

/// A row whose sums do not fit the range of its compute type, or that is not finite.
@inline(never)
private func normalizeScaled<N: Norm, T: Element, P: Element>(
  _: N.Type, _: P.Type, _ work: ln_forward_work, _ elements: UnsafePointer<T>,
  into y: UnsafeMutablePointer<T>, row: Int
) {
  let count = Int(work.cols)
  let scaled = ScaledMoments(N.self, Row<T, Double>(elements), count: count, eps: work.eps)
  if N.centers { write(T.Compute(scaled.unscaledMean), to: work.mean, at: row) }
  write(T.Compute(scaled.unscaledRstd), to: work.rstd, at: row)
  let affine = AnyAffine<P, Double>(
    weight: Weight(work.weight, offset: work.weight_offset), bias: Row(raw: work.bias))
  Normalization(N.self, affine, scaled.moments, rstd: scaled.factor)(
    scaled.row, count: count, into: y)
}

@inline(__always)
private func write<C>(_ value: C, to statistics: UnsafeMutableRawPointer?, at row: Int) {
  statistics?.assumingMemoryBound(to: C.self)[row] = value
}
