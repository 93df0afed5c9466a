import CShims

/// A row whose sums do not fit the range of its compute type, or that is not finite.
struct ScaledForward {
  let work: UnsafePointer<ln_forward_work>
  let x: AnyRow
  let y: AnyRow
  /// Its number in the call.
  let row: Int
  let weight: AnyRow?
  let bias: AnyRow?
  /// Whether rstd is used rounded.
  let rounds: Bool
  /// Whether statistics are float64.
  let isDouble: Bool

  @inline(never) func run() {
    let count = Int(work.pointee.cols)
    let centers = work.pointee.centers != 0
    let scaled = ScaledMoments(x, count: count, eps: work.pointee.eps, centers: centers)
    func write(_ value: Double, to statistics: UnsafeMutableRawPointer?) {
      if isDouble {
        statistics?.assumingMemoryBound(to: Double.self)[row] = value
      } else {
        statistics?.assumingMemoryBound(to: Float.self)[row] = Float(value)
      }
    }
    if centers { write(scaled.unscaledMean, to: work.pointee.mean) }
    write(scaled.unscaledRstd, to: work.pointee.rstd)
    let affine = AnyAffine(weight: weight, bias: bias)
    var scalars =
      centers
      ? RowScalars(LayerNorm.self, scaled.moments, rstd: scaled.factor, rounds: rounds)
      : RowScalars(RMSNorm.self, scaled.moments, rstd: scaled.factor, rounds: rounds)
    let normalization = withUnsafePointer(to: &scalars) {
      Normalization(LayerNorm.self, affine, RowScalars.Vectors($0, row: 0))
    }
    let ada = AdaFactor<Double>(work)
    /// Of the columns before `end`. AdaNorm has no weight and no bias.
    func normalized(endingAt end: Int) -> SIMD8<Double> {
      let y = normalization.normalized(scaled.row, endingAt: end)
      return work.pointee.ada_scale != 0 ? ada.apply(y) : y
    }
    let last = normalized(endingAt: count)
    var end = 8
    while end <= count {
      y.store(normalized(endingAt: end), endingAt: end)
      end &+= 8
    }
    if count % 8 != 0 { y.store(last, endingAt: count) }
  }
}
