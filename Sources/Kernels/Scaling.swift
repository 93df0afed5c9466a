/// Mean and rstd of a row whose sums do not fit the range of its compute type, or that holds NaN or
/// infinity: in float64, of the row times a power of two.
struct ScaledMoments {
  let row: ScaledRow
  /// Of the scaled row.
  let moments: Moments<Double>
  /// The rstd of the scaled row; 0 for a constant row with eps 0, where the formula has 0/0 and its
  /// limit as eps goes to 0 is bias.
  let factor: DoubleDouble
  let unscaledMean: Double
  let unscaledRstd: Double

  /// - Parameter centers: of LayerNorm; else of RMSNorm.
  @inline(__always) init(_ elements: AnyRow, count: Int, eps: Double, centers: Bool) {
    self =
      centers
      ? Self(LayerNorm.self, elements, count: count, eps: eps)
      : Self(RMSNorm.self, elements, count: count, eps: eps)
  }

  private init<N: Norm>(_: N.Type, _ elements: AnyRow, count: Int, eps: Double) {
    let range = Range(N.self, elements, count)
    guard range.isFinite else {
      row = ScaledRow(row: elements, scale: 1)
      // As in IEEE arithmetic: inf - inf in the variance, or 1 / sqrt(inf).
      moments = Moments(
        mean: DoubleDouble(repeating: N.centers ? range.sum : 0),
        variance: DoubleDouble(repeating: N.centers ? .nan : range.sum))
      factor = moments.variance.reciprocalSquareRoot
      unscaledMean = range.sum
      unscaledRstd = factor.high[0]
      return
    }
    let scale = range.scale
    let row = ScaledRow(row: elements, scale: scale)
    self.row = row
    var sums = RowSums<Double>()
    moments = withUnsafeMutablePointer(to: &sums) { sums in
      reduce(NormOfSums<N>.self, row, around: NoShift(), count: count, into: sums)
      return Moments(
        N.self, rows: 1, count: count, reciprocalCount: DoubleDouble(reciprocalOf: count),
        sums: sums, row: { _ in row })
    }
    let variance = moments.variance.high[0]
    let scaledEps = eps * scale * scale
    let rstd: DoubleDouble
    if variance > 0 && scaledEps < .infinity {
      rstd = (moments.variance + DoubleDouble(repeating: scaledEps)).reciprocalSquareRoot
      unscaledRstd = rstd.high[0] * scale
    } else {
      // Beside eps, the variance is nothing.
      let ofEps = DoubleDouble(repeating: eps).reciprocalSquareRoot
      unscaledRstd = ofEps.high[0]
      rstd = ofEps * DoubleDouble(repeating: 1 / scale)
    }
    factor = unscaledRstd == .infinity && variance == 0 ? DoubleDouble(repeating: 0) : rstd
    unscaledMean = moments.mean.high[0] * (1 / scale)
  }
}

/// The largest magnitude of a row, and whether it is finite.
private struct Range {
  private(set) var isFinite: Bool
  /// Where not finite: the sum of the elements, of a norm that does not center of their magnitudes.
  private(set) var sum: Double
  private var largest: Double

  init<N: Norm>(_: N.Type, _ row: AnyRow, _ count: Int) {
    let zero = SIMD8<Double>(repeating: 0)
    var largestLanes = zero
    var sumLanes = zero
    var products = zero
    func take(_ x: SIMD8<Double>) {
      let magnitude = x.replacing(with: -x, where: x .< zero)
      largestLanes.replace(with: magnitude, where: magnitude .> largestLanes)
      sumLanes = sumLanes + (N.centers ? x : magnitude)
      products = products + x * zero
    }
    var index = 0
    while index &+ 8 <= count {
      take(row.load(index))
      index &+= 8
    }
    if index < count { take(row.loadLast(of: count).keepingLast(count &- index)) }

    isFinite = products == zero
    sum = 0
    largest = 0
    for lane in 0..<8 {
      sum += sumLanes[lane]
      if largestLanes[lane] > largest { largest = largestLanes[lane] }
    }
  }

  /// The power of two that brings the largest magnitude near 1, or far enough towards it that no
  /// square overflows and none that matters underflows.
  var scale: Double {
    guard largest > 0 else { return 1 }
    let exponent = max(-600, min(600, -Int(largest.exponent)))
    return Double(sign: .plus, exponent: exponent, significand: 1)
  }
}
