import CShims

/// Forward kernel of one dtype: x, residual, sum and y are of type T, weight and bias of type P.
@inline(__always)
func forward<T: Element, P: Element>(
  _: T.Type, params _: P.Type, _ work: UnsafePointer<ln_forward_work>?, _ begin: Int64, _ end: Int64
) {
  let work = work.unsafelyUnwrapped
  let bias = Row<P, T.Compute>(raw: work.pointee.bias)
  #if !LAYERNORM_COMPACT
    let weight = Row<P, T.Compute>(raw: work.pointee.weight)
    if work.pointee.centers != 0, let weight, let bias, work.pointee.weight_offset == 0 {
      ForwardRows<LayerNorm, T, P, WeightAndBias>(work, WeightAndBias(weight: weight, bias: bias))
        .run(Int(begin), Int(end))
      return
    }
    if work.pointee.centers == 0, let weight, bias == nil, work.pointee.weight_offset == 0 {
      ForwardRows<RMSNorm, T, P, WeightOnly>(work, WeightOnly(weight: weight))
        .run(Int(begin), Int(end))
      return
    }
  #endif
  let affine = AnyAffine<P, T.Compute>(
    weight: Weight(work.pointee.weight, offset: work.pointee.weight_offset), bias: bias)
  if work.pointee.centers != 0 {
    ForwardRows<LayerNorm, T, P, AnyAffine>(work, affine).run(Int(begin), Int(end))
  } else {
    ForwardRows<RMSNorm, T, P, AnyAffine>(work, affine).run(Int(begin), Int(end))
  }
}

/// The rows of one call.
private struct ForwardRows<N: Norm, T: Element, P: Element, A: Affine>
where A.Compute == T.Compute {
  typealias C = T.Compute

  private let work: UnsafePointer<ln_forward_work>
  private let affine: A
  private let count: Int
  private let reciprocalCount: C.Wide

  @inline(__always) init(_ work: UnsafePointer<ln_forward_work>, _ affine: A) {
    self.work = work
    self.affine = affine
    count = Int(work.pointee.cols)
    reciprocalCount = C.Wide(reciprocalOf: Int(work.pointee.cols))
  }

  /// First the statistics of some rows, then their normalization: so the long chain of operations from
  /// the sums of a row to its rstd goes on while the sums of the next rows are taken.
  @inline(never) func run(_ begin: Int, _ end: Int) {
    let largestGroup = 8
    let rowBytes = count &* MemoryLayout<T>.stride
    let group = rowBytes <= 2048 ? largestGroup : 1
    withUnsafeTemporaryAllocation(of: Prepared.self, capacity: largestGroup) { prepared in
      let prepared = prepared.baseAddress.unsafelyUnwrapped
      var position = RowPosition(begin, rowsPerBatch: work.pointee.rows_per_batch)
      while position.row < end {
        let rows = min(group, end &- position.row)
        for index in 0..<rows {
          prepared[index] = prepare(position)
          position.advance()
        }
        for index in 0..<rows { finish(prepared[index]) }
      }
    }
    if work.pointee.streams != 0 { ln_stream_fence() }
  }

  private struct Prepared {
    let x: UnsafePointer<T>
    let y: UnsafeMutablePointer<T>
    let row: Int
    let scalars: RowScalars<C>
    /// The row does not fit C's range.
    let needsScaling: Bool
  }

  @inline(__always) private func prepare(_ position: RowPosition) -> Prepared {
    let y = position.pointer(in: work.pointee.y, of: T.self)
    var x = UnsafePointer(position.pointer(in: work.pointee.x, of: T.self))
    let adds =
      work.pointee.residual.data != nil || work.pointee.x_bias != nil
      || work.pointee.sum.data != nil
    if adds { x = UnsafePointer(add(x, at: position, ifNotWanted: y)) }
    let moments = Moments<C>(
      N.self, Row<T, C>(x), count: count, reciprocalCount: reciprocalCount)
    let rstd = (moments.variance + C.Wide(double: work.pointee.eps)).reciprocalSquareRoot
    if N.centers { write(moments.mean.narrow, to: work.pointee.mean, at: position.row) }
    write(rstd.narrow, to: work.pointee.rstd, at: position.row)
    return Prepared(
      x: x, y: y, row: position.row, scalars: RowScalars(moments, rstd: rstd),
      needsScaling: moments.needsScaling(eps: work.pointee.eps))
  }

  @inline(__always) private func finish(_ prepared: Prepared) {
    let x = Row<T, C>(prepared.x)
    let normalization = Normalization(N.self, affine, prepared.scalars)
    if prepared.needsScaling {
      normalizeScaled(N.self, P.self, work, prepared.x, into: prepared.y, row: prepared.row)
    } else if work.pointee.streams != 0
      && Normalization<N, A>.canStream(prepared.y, count: count)
    {
      normalization.stream(x, count: count, into: prepared.y)
    } else {
      normalization(x, count: count, into: prepared.y)
    }
  }

  /// (x + x_bias) + residual, rounded to T, in `sum`; in y, from where it is normalized in place, if
  /// the sum is not wanted.
  @inline(never)
  private func add(
    _ x: UnsafePointer<T>, at position: RowPosition, ifNotWanted y: UnsafeMutablePointer<T>
  ) -> UnsafeMutablePointer<T> {
    let sum = position.pointer(ifIn: work.pointee.sum, of: T.self) ?? y
    let bias = Row<T, C>(raw: work.pointee.x_bias)
    let residual = Row<T, C>(raw: position.pointer(ifIn: work.pointee.residual, of: T.self))
    addRow(Row(x), bias, residual, count: count, into: sum)
    return sum
  }
}

/// A row whose sums do not fit the range of its compute type, or that is not finite.
@inline(never)
private func normalizeScaled<N: Norm, T: Element, P: Element>(
  _: N.Type, _: P.Type, _ work: UnsafePointer<ln_forward_work>, _ elements: UnsafePointer<T>,
  into y: UnsafeMutablePointer<T>, row: Int
) {
  let count = Int(work.pointee.cols)
  let scaled = ScaledMoments(N.self, Row<T, Double>(elements), count: count, eps: work.pointee.eps)
  if N.centers { write(T.Compute(scaled.unscaledMean), to: work.pointee.mean, at: row) }
  write(T.Compute(scaled.unscaledRstd), to: work.pointee.rstd, at: row)
  let affine = AnyAffine<P, Double>(
    weight: Weight(work.pointee.weight, offset: work.pointee.weight_offset),
    bias: Row(raw: work.pointee.bias))
  Normalization(N.self, affine, RowScalars(scaled.moments, rstd: scaled.factor))(
    scaled.row, count: count, into: y)
}

@inline(__always)
private func write<C>(_ value: C, to statistics: UnsafeMutableRawPointer?, at row: Int) {
  statistics?.assumingMemoryBound(to: C.self)[row] = value
}
