/// What distinguishes LayerNorm from RMSNorm in a kernel.
protocol Norm {
  /// Whether the mean is subtracted.
  static var centers: Bool { get }
}

enum LayerNorm: Norm {
  @inline(__always) static var centers: Bool { true }
}

enum RMSNorm: Norm {
  @inline(__always) static var centers: Bool { false }
}

/// Mean and variance of a row, in twice the precision that it is computed in.
struct Moments<C: ComputeScalar> {
  /// 0 for a norm that does not center.
  let mean: C.Wide
  /// Of a norm that does not center: the mean square.
  let variance: C.Wide
  private let sumOfSquares: Double
  private let correction: Double

  init(mean: C.Wide, variance: C.Wide) {
    self.mean = mean
    self.variance = variance
    sumOfSquares = variance.double
    correction = 0
  }

  /// One pass over the row, around a shift that a few of its elements suggest. Where that is further
  /// from the mean than 1.7 standard deviations, digits cancel, and a second pass goes around the mean
  /// that the first one found.
  @inline(__always)
  init<N: Norm, S: RowSource>(_: N.Type, _ row: S, count: Int, reciprocalCount: C.Wide)
  where S.Compute == C {
    guard N.centers else {
      self.init(N.self, row, count: count, reciprocalCount: reciprocalCount, around: C.zero)
      return
    }
    self.init(
      N.self, row, count: count, reciprocalCount: reciprocalCount, around: pilot(row, count))
    if correction > 0.75 * sumOfSquares {
      self.init(
        N.self, row, count: count, reciprocalCount: reciprocalCount, around: mean.narrow)
    }
  }

  /// With d = x - shift: mean = shift + sum(d) / n and n * variance = sum(d^2) - sum(d)^2 / n.
  @inline(never)
  private init<N: Norm, S: RowSource>(
    _: N.Type, _ row: S, count: Int, reciprocalCount: C.Wide, around shift: C
  ) where S.Compute == C {
    var sums = ShiftedSums<N, S>(row, around: shift)
    sums.reduce(count)
    let sum = sums.sum.total
    let squares = sums.squares.total
    sumOfSquares = squares.double
    if N.centers {
      let delta = sum * reciprocalCount
      let excess = sum * delta
      let variance = (squares - excess) * reciprocalCount
      mean = C.Wide(shift) + delta
      correction = excess.double
      self.variance = variance.double < 0 ? C.Wide(double: 0) : variance
    } else {
      mean = C.Wide(double: 0)
      correction = 0
      variance = squares * reciprocalCount
    }
  }

  /// What to subtract from x first. Where the mean is large beside the spread, the mean: the difference
  /// is exact. Where it is smaller than the standard deviation, nothing cancels, and with 0 x has no
  /// rounding before its product with rstd.
  @inline(__always) var center: C {
    (mean * mean).double < variance.double ? .zero : mean.narrow
  }

  /// Whether sums have overflowed, or digits that matter beside eps may have been lost to underflow;
  /// also where the row holds NaN or infinity.
  @inline(__always) func needsScaling(eps: Double) -> Bool {
    !(sumOfSquares < C.largestSumOfSquares)
      || (variance.double < C.smallestVariance && eps < C.smallestEps)
  }
}

/// A shift near the mean, from four elements that are spread so that a trend along the row does not
/// mislead: their mean, exact where all are equal; 0, with which no x - shift needs rounding, where
/// that is no further away than they are from each other.
@inline(__always)
private func pilot<S: RowSource>(_ row: S, _ count: Int) -> S.Compute {
  let quarter = count / 4
  let a = row.load(scalar: 0)
  let b = row.load(scalar: quarter)
  let c = row.load(scalar: 2 &* quarter)
  let d = row.load(scalar: 3 &* quarter)
  let mean = ((a + b) + (c + d)) * S.Compute(0.25)
  let spread =
    S.Compute.maximum(S.Compute.maximum(a, b), S.Compute.maximum(c, d))
    - S.Compute.minimum(S.Compute.minimum(a, b), S.Compute.minimum(c, d))
  return mean.magnitude < spread ? .zero : mean
}

/// The sums of d and of d^2 over a row, d = x - shift.
private struct ShiftedSums<N: Norm, S: RowSource>: RowReduction {
  typealias Source = S

  private let row: S
  private let shift: Compute.Vector
  private(set) var sum = Compute.Wide.LaneSums()
  private(set) var squares = Compute.Wide.LaneSums()

  @inline(__always) init(_ row: S, around shift: Compute) {
    self.row = row
    self.shift = Compute.Vector(repeating: shift)
  }

  struct Lanes: EmptyInitializable {
    var sum = Compute.Vector(repeating: .zero)
    var squares = Compute.Vector(repeating: .zero)

    @inline(__always) init() {}
  }

  @inline(__always) func add(_ index: Int, to lanes: inout Lanes) {
    let x = row.load(index)
    add(N.centers ? x - shift : x, to: &lanes)
  }

  @inline(__always) func add(last tail: Int, of count: Int, to lanes: inout Lanes) {
    let x = row.load(count &- Self.width)
    add((N.centers ? x - shift : x).keepingLast(tail), to: &lanes)
  }

  @inline(__always) private func add(_ deviation: Compute.Vector, to lanes: inout Lanes) {
    if N.centers { lanes.sum = lanes.sum + deviation }
    lanes.squares = lanes.squares.adding(deviation, times: deviation)
  }

  @inline(__always) mutating func add(_ a: Lanes, _ b: Lanes, _ c: Lanes, _ d: Lanes) {
    if N.centers { sum.add((a.sum + b.sum) + (c.sum + d.sum)) }
    squares.add((a.squares + b.squares) + (c.squares + d.squares))
  }

  /// Few elements, so that their roundings do not average out: sums and squares are exact in twice the
  /// precision, but for the square of the rounding error of d.
  @inline(__always) mutating func add(short count: Int) {
    let zero = Compute.Vector(repeating: .zero)
    let x = row.load(short: count)
    let rounded = x - shift
    let d = N.centers ? rounded.keepingLast(count) : x
    let square = d * d
    squares.add(square)
    squares.add((zero - square).adding(d, times: d))
    if N.centers {
      // Knuth's error of a difference: d + low is x - shift.
      let part = x - rounded
      let low = ((x - (rounded + part)) + (part - shift)).keepingLast(count)
      sum.add(d)
      sum.add(low)
      squares.add((d + d) * low)
    }
  }
}
