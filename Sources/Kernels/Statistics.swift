/// What distinguishes LayerNorm from RMSNorm in a kernel.
protocol Norm {
  /// Whether the mean is subtracted.
  static var centers: Bool { get }
}

enum LayerNorm: Norm {
  @inline(__always) static var centers: Bool { true }
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
    let (sum, squares) = shiftedSums(N.self, row, count, around: shift)
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

/// How many vectors are added up lane by lane, 16 to a lane, before the sums move to twice the
/// precision. More would let one outlier, beside which every later addition to its lane is rounded,
/// cost several units in the last place.
@inline(__always) private var vectorsPerBlock: Int { 64 }

/// The sums of d and of d^2 over a row, d = x - shift, in an order that `count` alone determines:
/// vector v of the row goes to accumulator v mod 4; the elements after the last whole vector, as the
/// last lanes of the vector that ends with the row, to accumulator 3.
@inline(__always)
private func shiftedSums<N: Norm, S: RowSource>(
  _: N.Type, _ row: S, _ count: Int, around shift: S.Compute
) -> (S.Compute.Wide, S.Compute.Wide) {
  let width = S.width
  let wholeEnd = count &- count % width
  var sums = S.Compute.Wide.LaneSums()
  var squares = S.Compute.Wide.LaneSums()
  if wholeEnd == 0 {
    addShort(N.self, row.load(short: count), count, around: shift, to: &sums, &squares)
    return (sums.total, squares.total)
  }
  var index = 0
  repeat {
    var lanes0 = ShiftedLanes<N, S.Compute>(shift)
    var lanes1 = lanes0
    var lanes2 = lanes0
    var lanes3 = lanes0
    let blockEnd = min(index &+ vectorsPerBlock &* width, wholeEnd)
    while index &+ 4 &* width <= blockEnd {
      lanes0.add(row.load(index))
      lanes1.add(row.load(index &+ width))
      lanes2.add(row.load(index &+ 2 &* width))
      lanes3.add(row.load(index &+ 3 &* width))
      index &+= 4 &* width
    }
    if index &+ width <= blockEnd {
      lanes0.add(row.load(index))
      index &+= width
    }
    if index &+ width <= blockEnd {
      lanes1.add(row.load(index))
      index &+= width
    }
    if index &+ width <= blockEnd {
      lanes2.add(row.load(index))
      index &+= width
    }
    if index == wholeEnd && wholeEnd < count {
      lanes3.add(last: count &- wholeEnd, of: row.loadLast(of: count))
    }
    if N.centers { sums.add((lanes0.sum + lanes1.sum) + (lanes2.sum + lanes3.sum)) }
    squares.add((lanes0.squares + lanes1.squares) + (lanes2.squares + lanes3.squares))
  } while index < wholeEnd
  return (sums.total, squares.total)
}

/// Few elements, so that their roundings do not average out: sums and squares are exact in twice the
/// precision, but for the square of the rounding error of d.
@inline(__always)
private func addShort<N: Norm, C: ComputeScalar>(
  _: N.Type, _ x: C.Vector, _ count: Int, around shift: C, to sums: inout C.Wide.LaneSums,
  _ squares: inout C.Wide.LaneSums
) {
  let zero = C.Vector(repeating: .zero)
  let center = C.Vector(repeating: shift)
  let rounded = x - center
  let d = N.centers ? rounded.keepingLast(count) : x
  let square = d * d
  squares.add(square)
  squares.add((zero - square).adding(d, times: d))
  if N.centers {
    // Knuth's error of a difference: d + low is x - shift.
    let part = x - rounded
    let low = ((x - (rounded + part)) + (part - center)).keepingLast(count)
    sums.add(d)
    sums.add(low)
    squares.add((d + d) * low)
  }
}

/// One vector of sums of d and of d^2.
private struct ShiftedLanes<N: Norm, C: ComputeScalar> {
  private(set) var sum = C.Vector(repeating: .zero)
  private(set) var squares = C.Vector(repeating: .zero)
  private let shift: C.Vector

  @inline(__always) init(_ shift: C) { self.shift = C.Vector(repeating: shift) }

  @inline(__always) mutating func add(_ x: C.Vector) {
    add(deviation: N.centers ? x - shift : x)
  }

  @inline(__always) mutating func add(last count: Int, of x: C.Vector) {
    add(deviation: (N.centers ? x - shift : x).keepingLast(count))
  }

  @inline(__always) private mutating func add(deviation: C.Vector) {
    if N.centers { sum = sum + deviation }
    squares = squares.adding(deviation, times: deviation)
  }
}
