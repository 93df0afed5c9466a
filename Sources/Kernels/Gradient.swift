/// The gradient of one row, once its sums are known. With x^ = (x - mean) * rstd and g = dy * weight:
///
///     dx = rstd * (g - sum(g) / n - x^ * sum(g * x^) / n)
///
/// RMSNorm is the case with a mean of 0 and without the term sum(g) / n.
///
/// The sums go over x^ and never over raw x, which a large mean would leave without digits.
struct RowGradient<X: RowSource, G: RowSource> where X.Compute == G.Compute {
  typealias C = X.Compute

  let x: X
  let dy: G
  /// What dx is added to: the gradient that arrives at the sum, and dx itself.
  let addends: (G?, G?)

  private let center: C
  private let rstd: C
  private let rstdLow: C
  /// -(mean - center) * rstd
  private let offset: C
  /// sum(g) / n
  private let meanOfG: C
  /// -sum(g * x^) / n
  private let slope: C
  /// rstd of the row as it is, where x is scaled.
  private let outerRstd: C
  /// Whether the sums are numbers that have lost nothing to underflow; else the row has to be scaled, or
  /// holds NaN or infinity.
  let isInRange: Bool

  /// - Parameters:
  ///   - centers: LayerNorm; else RMSNorm, with a mean of 0.
  ///   - center: near the mean of x.
  ///   - mean: of x; nil where center is the mean, but rounded: the rest is found from the row.
  ///   - rstd: of x; `outerRstd` that of the row before it was scaled.
  @inline(never)
  init<P: Element>(
    centers: Bool, x: X, dy: G, addends: (G?, G?), weight: Row<P, C>, count: Int,
    reciprocalCount: C.Wide, center: C, mean: C.Wide?, rstd: C.Wide, outerRstd: C
  ) {
    var sums = GradientSums<X, G, P>(x: x, dy: dy, weight: weight, around: center)
    sums.reduce(count)
    let g = sums.g.total
    let products = sums.products.total
    let zero = C.Wide(double: 0)
    let low =
      mean.map { $0 - C.Wide(center) }
      ?? (centers ? sums.deviations.total * reciprocalCount : zero)
    let meanOfG = centers ? g * reciprocalCount : zero
    let slope = (products * rstd - g * (low * rstd)) * reciprocalCount
    // As in `Moments.center`, which a rounded mean leaves to be done. A row that is constant has nothing to
    // find, and keeps its mean.
    let variance = (sums.squares.total * reciprocalCount - low * low).double
    let dropsCenter =
      mean == nil && low.double != 0 && (C.Wide(center) * C.Wide(center)).double < variance
    let offset = zero - (dropsCenter ? C.Wide(center) + low : low) * rstd
    self.center = dropsCenter ? .zero : center
    self.x = x
    self.dy = dy
    self.addends = addends
    self.rstd = rstd.narrow
    self.rstdLow = (rstd - C.Wide(rstd.narrow)).narrow
    self.offset = offset.narrow
    self.meanOfG = meanOfG.narrow
    self.slope = -slope.narrow
    self.outerRstd = outerRstd
    isInRange =
      (meanOfG.double - meanOfG.double) + (slope.double - slope.double) == 0
      && products.double.magnitude >= C.smallestProducts
  }

  /// What some columns of the row give: dy * normalized for dweight, dy for dbias.
  struct Terms {
    var dx: C.Vector
    let normalized: C.Vector
    let dy: C.Vector
  }

  /// Of the columns index ..< index + width.
  @inline(__always) func terms(at index: Int, weight: C.Vector) -> Terms {
    var terms = terms(x.load(index), dy.load(index), weight)
    if let addend = addends.0 { terms.dx = terms.dx + addend.load(index) }
    if let addend = addends.1 { terms.dx = terms.dx + addend.load(index) }
    return terms
  }

  /// Of the columns before `end`, as many as a vector holds; see `RowSource.loadLast`.
  @inline(__always) func terms(endingAt end: Int, weight: C.Vector) -> Terms {
    var terms = terms(x.loadLast(of: end), dy.loadLast(of: end), weight)
    if let addend = addends.0 { terms.dx = terms.dx + addend.loadLast(of: end) }
    if let addend = addends.1 { terms.dx = terms.dx + addend.loadLast(of: end) }
    return terms
  }

  @inline(__always)
  private func terms(_ x: C.Vector, _ dy: C.Vector, _ weight: C.Vector) -> Terms {
    let deviation = x - C.Vector(repeating: center)
    let normalized = C.Vector(repeating: offset)
      .adding(deviation, times: C.Vector(repeating: rstdLow))
      .adding(deviation, times: C.Vector(repeating: rstd))
    let projected = (dy * weight - C.Vector(repeating: meanOfG))
      .adding(normalized, times: C.Vector(repeating: slope))
    return Terms(
      dx: projected * C.Vector(repeating: outerRstd), normalized: normalized, dy: dy)
  }
}

/// The sums of g, of g * d, of d and of d^2 over a row, d = x - center.
private struct GradientSums<X: RowSource, G: RowSource, P: Element>: RowReduction
where X.Compute == G.Compute {
  typealias Source = X

  private let x: X
  private let dy: G
  private let weight: Row<P, Compute>
  private let center: Compute.Vector
  private(set) var g = Compute.Wide.LaneSums()
  private(set) var products = Compute.Wide.LaneSums()
  private(set) var deviations = Compute.Wide.LaneSums()
  private(set) var squares = Compute.Wide.LaneSums()

  @inline(__always)
  init(x: X, dy: G, weight: Row<P, Compute>, around center: Compute) {
    self.x = x
    self.dy = dy
    self.weight = weight
    self.center = Compute.Vector(repeating: center)
  }

  struct Lanes: EmptyInitializable {
    var g = Compute.Vector(repeating: .zero)
    var products = Compute.Vector(repeating: .zero)
    var deviations = Compute.Vector(repeating: .zero)
    var squares = Compute.Vector(repeating: .zero)

    @inline(__always) init() {}
  }

  @inline(__always) func add(_ index: Int, to lanes: inout Lanes) {
    let dy = dy.load(index)
    let x = x.load(index)
    add(dy * weight.load(index), x - center, to: &lanes)
  }

  @inline(__always) func add(last tail: Int, of count: Int, to lanes: inout Lanes) {
    let dy = dy.loadLast(of: count)
    let x = x.loadLast(of: count)
    let g = dy * weight.loadLast(of: count)
    add(g.keepingLast(tail), (x - center).keepingLast(tail), to: &lanes)
  }

  @inline(__always)
  private func add(_ g: Compute.Vector, _ deviation: Compute.Vector, to lanes: inout Lanes) {
    lanes.g = lanes.g + g
    lanes.deviations = lanes.deviations + deviation
    lanes.squares = lanes.squares.adding(deviation, times: deviation)
    lanes.products = lanes.products.adding(g, times: deviation)
  }

  @inline(__always) mutating func add(_ a: Lanes, _ b: Lanes, _ c: Lanes, _ d: Lanes) {
    g.add((a.g + b.g) + (c.g + d.g))
    deviations.add((a.deviations + b.deviations) + (c.deviations + d.deviations))
    squares.add((a.squares + b.squares) + (c.squares + d.squares))
    products.add((a.products + b.products) + (c.products + d.products))
  }

  @inline(__always) mutating func add(short count: Int) {
    let zero = Lanes()
    var lanes = Lanes()
    add(last: count, of: count, to: &lanes)
    add(lanes, zero, zero, zero)
  }
}
