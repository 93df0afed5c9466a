import CShims

/// Forward kernel of one dtype: x and y are of type T, weight and bias of type P.
@inline(__always)
func forward<N: Norm, T: Element, P: Element>(
  _: N.Type, _: T.Type, params _: P.Type, _ work: UnsafePointer<ln_forward_work>?, _ begin: Int64,
  _ end: Int64
) {
  let work = work.unsafelyUnwrapped.pointee
  switch (work.weight != nil, work.bias != nil) {
  case (false, false): ForwardRows<N, T, P, NoAffine>(work, NoAffine()).run(Int(begin), Int(end))
  case (true, false): ForwardRows<N, T, P, WeightOnly>(work, WeightOnly()).run(Int(begin), Int(end))
  case (false, true): ForwardRows<N, T, P, BiasOnly>(work, BiasOnly()).run(Int(begin), Int(end))
  case (true, true):
    ForwardRows<N, T, P, WeightAndBias>(work, WeightAndBias()).run(Int(begin), Int(end))
  }
}

/// The rows of one call.
private struct ForwardRows<N: Norm, T: Element, P: Element, A: Affine> {
  typealias C = T.Compute

  private let work: ln_forward_work
  private let affine: A
  private let count: Int
  private let reciprocalCount: C.Wide
  /// Never read where A has none.
  private let weight: UnsafePointer<P>
  private let bias: UnsafePointer<P>

  @inline(__always) init(_ work: ln_forward_work, _ affine: A) {
    self.work = work
    self.affine = affine
    count = Int(work.cols)
    reciprocalCount = C.Wide(reciprocalOf: Int(work.cols))
    weight = pointer(work.weight ?? work.x)
    bias = pointer(work.bias ?? work.x)
  }

  @inline(never) func run(_ begin: Int, _ end: Int) {
    var batch = begin / Int(work.rows_per_batch)
    var rowInBatch = begin % Int(work.rows_per_batch)
    for row in begin..<end {
      let x = batch &* Int(work.x_batch_stride) &+ rowInBatch &* Int(work.x_row_stride)
      let y = batch &* Int(work.y_batch_stride) &+ rowInBatch &* Int(work.y_row_stride)
      normalize(
        Row(pointer(work.x) + x), into: mutablePointer(work.y) + y, row: row)
      rowInBatch &+= 1
      if rowInBatch == Int(work.rows_per_batch) {
        rowInBatch = 0
        batch &+= 1
      }
    }
  }

  @inline(__always)
  private func normalize(_ x: Row<T, C>, into y: UnsafeMutablePointer<T>, row: Int) {
    let moments = Moments<C>(N.self, x, count: count, reciprocalCount: reciprocalCount)
    guard !moments.needsScaling(eps: work.eps) else {
      normalizeScaled(x.elements, into: y, row: row)
      return
    }
    let rstd = (moments.variance + C.Wide(double: work.eps)).reciprocalSquareRoot
    if N.centers { write(moments.mean.narrow, to: work.mean, row: row) }
    write(rstd.narrow, to: work.rstd, row: row)
    Normalization(N.self, affine, moments, rstd: rstd)(
      x, count: count, weight: weight, bias: bias, into: y)
  }

  /// A row whose sums do not fit C's range, or that is not finite.
  @inline(never)
  private func normalizeScaled(
    _ elements: UnsafePointer<T>, into y: UnsafeMutablePointer<T>, row: Int
  ) {
    let scaled = ScaledMoments(N.self, Row<T, Double>(elements), count: count, eps: work.eps)
    if N.centers { write(C(scaled.unscaledMean), to: work.mean, row: row) }
    write(C(scaled.unscaledRstd), to: work.rstd, row: row)
    let affine = AnyAffine(hasWeight: work.weight != nil, hasBias: work.bias != nil)
    Normalization(N.self, affine, scaled.moments, rstd: scaled.factor)(
      scaled.row, count: count, weight: weight, bias: bias, into: y)
  }

  @inline(__always)
  private func write(_ value: C, to statistics: UnsafeMutableRawPointer?, row: Int) {
    statistics?.assumingMemoryBound(to: C.self)[row] = value
  }
}

@inline(__always) private func pointer<T>(_ raw: UnsafeRawPointer?) -> UnsafePointer<T> {
  UnsafePointer(bitPattern: UInt(bitPattern: raw)).unsafelyUnwrapped
}

@inline(__always)
private func mutablePointer<T>(_ raw: UnsafeMutableRawPointer?) -> UnsafeMutablePointer<T> {
  UnsafeMutablePointer(bitPattern: UInt(bitPattern: raw)).unsafelyUnwrapped
}
