import CShims

/// What the gradients of the rows of a group are made with, once their sums are known. With
/// x^ = (x - mean) * rstd and g = dy * weight:
///
///     dx = rstd * (g - sum(g) / n - x^ * sum(g * x^) / n)
///
/// RMSNorm is the case with a mean of 0 and without the term sum(g) / n.
///
/// The sums go over x^ and never over raw x, which a large mean would leave without digits.
struct GradientScalars<C: ComputeScalar> {
  private let center: C.Rows
  private let rstd: C.Rows
  /// -(mean - center) * rstd
  private let offset: C.Rows
  private let rstdLow: C.Rows
  /// sum(g) / n
  private let meanOfG: C.Rows
  /// -sum(g * x^) / n
  private let slope: C.Rows

  /// Writes them where they are read from: a copy, by loads that are wider than these stores, would wait for them to
  /// reach the cache.
  ///
  /// - Parameters:
  ///   - work: whether the norm centers, and what is detached, whose term is left out.
  ///   - center: near the mean of x; the sums were taken around it.
  ///   - mean: of x; nil where center is the mean, but rounded: the rest is found from the sums.
  ///   - rstd: of x.
  ///   - aroundZero: rows whose sums were taken of x as it is, and whose center is as good as the mean.
  ///   - isInRange: whether the sums are numbers that have lost nothing to underflow; else the row has to
  ///     be scaled, or holds NaN or infinity.
  @inline(never)
  static func find(
    _ work: UnsafePointer<ln_backward_work>, rows: Int,
    _ sums: UnsafePointer<GradientRowSums<C>>, from firstSum: Int, reciprocalCount: C.Wide,
    center: C.Rows, mean: UnsafePointer<C.Wide>?, rstd: C.Wide,
    aroundZero: RowMask = RowMask(repeating: 0), isInRange: inout RowMask,
    into result: UnsafeMutablePointer<Self>
  ) {
    ln_align_stack()
    let centers = work.pointee.centers != 0
    let zero = C.Wide(repeating: 0)
    let sums = sums.pointee.from(firstSum)
    let products = C.Wide.totals(rows: rows) { sums.products[$0] }
    let given = C.Wide(center)
    let wideCenter = given.replacing(with: zero, where: aroundZero)
    var meanOfG = zero
    var low = zero
    var offset = zero
    var usedCenter = wideCenter.narrow
    if centers { meanOfG = C.Wide.totals(rows: rows) { sums.g[$0] } * reciprocalCount }
    if let mean {
      low = mean.pointee - wideCenter
      offset = zero - low * rstd
    } else if centers {
      let rest = C.Wide.totals(rows: rows) { sums.deviations[$0] } * reciprocalCount
      low = rest.replacing(with: given, where: aroundZero)
      let squares = C.Wide.totals(rows: rows) { sums.squares[$0] } * reciprocalCount
      // As in `Moments.center`, which a rounded mean leaves to be done. A row that is constant has nothing to
      // find, and keeps its mean. What rstd says of the variance does not do: it knows of an eps that may not
      // be this call's.
      let dropsCenter =
        ln_less8((wideCenter * wideCenter).doubles, (squares - low * low).doubles)
        & ln_less8(SIMD8(repeating: 0), (low * low).doubles)
      offset = zero - low.replacing(with: wideCenter + low, where: dropsCenter) * rstd
      usedCenter = wideCenter.replacing(with: zero, where: dropsCenter).narrow
    }
    let slope = products * rstd * reciprocalCount - meanOfG * (low * rstd)
    let rounded = rstd.narrow
    let nothing = C.Rows(repeating: .zero)
    result.initialize(
      to: Self(
        center: usedCenter, rstd: rounded, offset: offset.narrow,
        rstdLow: work.pointee.coarse_rows != 0 ? nothing : (rstd - C.Wide(rounded)).narrow,
        meanOfG: work.pointee.detaches_mean != 0 ? nothing : meanOfG.narrow,
        slope: work.pointee.detaches_rstd != 0 ? nothing : (zero - slope).narrow))
    let isFinite = ln_less8(
      (meanOfG - meanOfG).doubles + (slope - slope).doubles, SIMD8(repeating: 1))
    let magnitude = ln_magnitude8(products.doubles)
    isInRange &= isFinite & ~ln_less8(magnitude, SIMD8(repeating: C.smallestProducts))
  }
}

/// Those of one row, each in every lane of a vector.
struct RowGradient<C: ComputeScalar> {
  private let center: C.Vector
  private let rstd: C.Vector
  private let offset: C.Vector
  private let rstdLow: C.Vector
  private let meanOfG: C.Vector
  private let slope: C.Vector

  /// - Parameter group: one for each chain of its rows.
  @inline(__always) init(_ group: UnsafePointer<GradientScalars<C>>, row: Int) {
    self.init(rowNumbers(group, ofRow: row))
  }

  /// - Parameter scalars: a row's first number in a `GradientScalars`.
  @inline(__always) init(_ scalars: UnsafePointer<C>) {
    center = C.Vector(repeating: scalars[0])
    rstd = C.Vector(repeating: scalars[rowsPerChain])
    offset = C.Vector(repeating: scalars[2 &* rowsPerChain])
    rstdLow = C.Vector(repeating: scalars[3 &* rowsPerChain])
    meanOfG = C.Vector(repeating: scalars[4 &* rowsPerChain])
    slope = C.Vector(repeating: scalars[5 &* rowsPerChain])
  }

  /// The same row, of which numbers that do not stay in registers are read where they are used.
  @inline(__always) init(_ scalars: UnsafePointer<C>, held: RowGradient<C>) {
    let read = RowGradient(scalars)
    center = held.center
    rstd = held.rstd
    offset = read.offset
    rstdLow = read.rstdLow
    meanOfG = held.meanOfG
    slope = read.slope
  }

  /// dx, and x^, which times dy is what the columns give to dweight.
  ///
  /// - Parameters:
  ///   - outerRstd: rstd of the row as it is, where x is scaled.
  ///   - isFlat: whether the slope is 0, and x^, which may be NaN, left out of dx.
  ///   - isRounded: whether rstdLow is zero, and left out.
  ///   - isAroundZero: whether the center is zero too.
  ///   - isCoarse: whether dx has so few digits that g need not be rounded as its mean knows it, by an operation more.
  ///     Not for the vector that ends with a row: dx of one column is 0.
  @inline(__always)
  func terms(
    _ x: C.Vector, _ dy: C.Vector, weight: C.Vector, outerRstd: C.Vector? = nil,
    isFlat: Bool = false, isRounded: Bool = false, isAroundZero: Bool = false,
    isCoarse: Bool = false
  ) -> (dx: C.Vector, normalized: C.Vector) {
    // Subtracted from what is in a register, x may stay in memory.
    let negative = center - x
    let low = isRounded ? offset : offset.subtracting(negative, times: rstdLow)
    let normalized =
      isAroundZero ? offset.adding(x, times: rstd) : low.subtracting(negative, times: rstd)
    let centered =
      isCoarse
      ? (C.Vector(repeating: .zero) - meanOfG).adding(dy, times: weight) : dy * weight - meanOfG
    let projected = isFlat ? centered : centered.adding(normalized, times: slope)
    return (projected * (outerRstd ?? rstd), normalized)
  }
}

/// The sums of g, of g * d, of d and of d^2 over each of some rows, d = x - center, each in eight lanes.
struct GradientRowSums<C: ComputeScalar> {
  fileprivate let g, products, deviations, squares: UnsafeMutablePointer<C.Wide>

  /// How many chains they can be of.
  @inline(__always) static var chains: Int { C.hasShortRows ? 2 : 1 }

  /// With memory for `rows` rows, at most as many as `chains` have. Each sum's is apart: all together would be too large
  /// to be allocated on the stack.
  @inline(__always)
  static func withMemory(rows: Int, _ body: (UnsafePointer<Self>) -> Void) {
    @inline(__always)
    func withSums(_ body: (UnsafeMutablePointer<C.Wide>) -> Void) {
      withUnsafeTemporaryAllocation(of: C.Wide.self, capacity: chains &* rowsPerChain) { sums in
        let sums = sums.baseAddress.unsafelyUnwrapped
        // Of one row alone, those of others are not looked at.
        if rows > 1 {
          let count = rows > rowsPerChain ? chains &* rowsPerChain : rowsPerChain
          sums.initialize(repeating: C.Wide(repeating: 0), count: count)
        }
        body(sums)
      }
    }
    withSums { g in
      withSums { products in
        withSums { deviations in
          withSums { squares in
            let sums = Self(g: g, products: products, deviations: deviations, squares: squares)
            withUnsafePointer(to: sums, body)
          }
        }
      }
    }
  }

  /// Those from a row on.
  @inline(__always) func from(_ row: Int) -> Self {
    Self(
      g: g + row, products: products + row, deviations: deviations + row, squares: squares + row)
  }
}

/// - Parameters:
///   - center: zero, unless the sums find the mean, or the row is a rare one.
///   - findsMean: whether the sums of d and d^2 are wanted.
///   - fetches: whether lines of the rows are asked for.
///   - asksLater: see `RowReduction.asksLater`.
@inline(never)
func reduce<X: RowSource, G: RowSource, W: RowSource>(
  x: X, dy: G, weight: W, around center: X.Compute, findsMean: Bool, count: Int,
  fetches: Bool = false, asksLater: Bool = false,
  into result: UnsafePointer<GradientRowSums<X.Compute>>, row: Int
) where X.Compute == G.Compute, W.Compute == X.Compute {
  #if LAYERNORM_COMPACT
    if X.self == Row<Double, Double>.self {
      // As in forward.
      let x = AnyRow(unsafeBitCast(x, to: Row<Double, Double>.self).elements)
      reduce(
        x: ScaledRow(row: x, scale: 1),
        dy: AnyRow(unsafeBitCast(dy, to: Row<Double, Double>.self).elements),
        weight: AnyRow(unsafeBitCast(weight, to: Parameter<Double, Double>.self).row.elements),
        around: unsafeBitCast(center, to: Double.self), findsMean: findsMean, count: count,
        into: UnsafeRawPointer(result).assumingMemoryBound(to: GradientRowSums<Double>.self),
        row: row)
      return
    }
  #endif
  // Of rare rows, what is found is not looked at: one code for both.
  if findsMean || AroundZero.findsMean || X.isRare {
    GradientSums<X, G, W, AroundCenter>(
      x: x, dy: dy, weight: weight, around: center, fetches: fetches, asksLater: asksLater
    ).reduce(count).write(to: result, row: row)
  } else {
    reduceAroundZero(
      x: x, dy: dy, weight: weight, count: count, fetches: fetches, asksLater: asksLater,
      into: result, row: row)
  }
}

/// The same of x as it is, where nothing is to be found of its mean.
@inline(never)
func reduceAroundZero<X: RowSource, G: RowSource, W: RowSource>(
  x: X, dy: G, weight: W, count: Int, fetches: Bool, asksLater: Bool,
  into result: UnsafePointer<GradientRowSums<X.Compute>>, row: Int
) where X.Compute == G.Compute, W.Compute == X.Compute {
  GradientSums<X, G, W, AroundZero>(
    x: x, dy: dy, weight: weight, around: .zero, fetches: fetches, asksLater: asksLater
  ).reduce(count).write(to: result, row: row)
}

#if !LAYERNORM_COMPACT
  /// The same of a short row, around zero.
  @inline(__always)
  func reduceShort<X: RowSource, G: RowSource, W: RowSource>(
    x: X, dy: G, weight: W, count: Int, into result: UnsafePointer<GradientRowSums<X.Compute>>,
    row: Int
  ) where X.Compute == G.Compute, W.Compute == X.Compute {
    GradientSums<X, G, W, AroundZero>(x: x, dy: dy, weight: weight, around: .zero)
      .reduceShortOrFour(count).write(to: result, row: row)
  }
#endif

private protocol GradientCenter {
  static var findsMean: Bool { get }
}
private enum AroundCenter: GradientCenter {
  @inline(__always) static var findsMean: Bool { true }
}
#if LAYERNORM_COMPACT
  /// With zero for the center, and what is found of the mean not looked at: one code for both.
  private typealias AroundZero = AroundCenter
#else
  private enum AroundZero: GradientCenter {
    @inline(__always) static var findsMean: Bool { false }
  }
#endif

private struct GradientSums<X: RowSource, G: RowSource, W: RowSource, M: GradientCenter>:
  RowReduction
where X.Compute == G.Compute, W.Compute == X.Compute {
  typealias Source = X

  @inline(__always) static var sumsPerAccumulator: Int { M.findsMean ? 4 : 2 }

  private let x: X
  private let dy: G
  private let weight: W
  private let center: Compute.Vector
  private let fetches: Bool
  private let fetchesLater: Bool

  @inline(__always)
  init(
    x: X, dy: G, weight: W, around center: Compute, fetches: Bool = false, asksLater: Bool = false
  ) {
    self.x = x
    self.dy = dy
    self.weight = weight
    self.center = Compute.Vector(repeating: center)
    self.fetches = fetches
    fetchesLater = asksLater
  }

  @inline(__always) var asksLater: Bool { X.fetchesLater && fetchesLater }

  @inline(__always) func fetch(_ index: Int) {
    guard fetches else { return }
    // Further than forward asks: there is more to do for each line.
    x.fetch(index &+ 512)
    dy.fetch(index &+ 512)
  }
  @inline(__always) func fetchLater(_ index: Int) {
    x.fetchLater(index)
    dy.fetchLater(index)
  }

  struct Sums: BlockSums {
    var g = Compute.Wide.LaneSums.nothing
    var products = Compute.Wide.LaneSums.nothing
    var deviations = Compute.Wide.LaneSums.nothing
    var squares = Compute.Wide.LaneSums.nothing

    @inline(__always) init() {}

    #if LAYERNORM_COMPACT
      // A row shorter than a vector does the same, and it is 2 KB.
      @inline(never)
    #else
      @inline(__always)
    #endif
    mutating func add(_ block: Lanes) {
      g.add(block.g)
      products.add(block.products)
      guard M.findsMean else { return }
      deviations.add(block.deviations)
      squares.add(block.squares)
    }

    @inline(__always)
    func write(to result: UnsafePointer<GradientRowSums<Compute>>, row: Int) {
      result.pointee.g[row] = g.eight
      result.pointee.products[row] = products.eight
      guard M.findsMean else { return }
      result.pointee.deviations[row] = deviations.eight
      result.pointee.squares[row] = squares.eight
    }
  }

  struct Lanes: Accumulator {
    var g = Compute.Vector(repeating: -Compute.zero)
    var products = Compute.Vector(repeating: -Compute.zero)
    var deviations = Compute.Vector(repeating: -Compute.zero)
    var squares = Compute.Vector(repeating: -Compute.zero)

    @inline(__always) init() {}

    @inline(__always) static func + (a: Lanes, b: Lanes) -> Lanes {
      var sums = Lanes()
      sums.g = a.g + b.g
      sums.products = a.products + b.products
      guard M.findsMean else { return sums }
      sums.deviations = a.deviations + b.deviations
      sums.squares = a.squares + b.squares
      return sums
    }

    @inline(__always) static func inOrder(_ even: Lanes, _ odd: Lanes) -> (Lanes, Lanes) {
      var (first, second) = (even, odd)
      (first.g, second.g) = Compute.Vector.inOrder(even.g, odd.g)
      (first.products, second.products) = Compute.Vector.inOrder(even.products, odd.products)
      guard M.findsMean else { return (first, second) }
      (first.deviations, second.deviations) = Compute.Vector.inOrder(
        even.deviations, odd.deviations)
      (first.squares, second.squares) = Compute.Vector.inOrder(even.squares, odd.squares)
      return (first, second)
    }
  }

  @inline(__always) func add(_ index: Int, to lanes: inout Lanes) {
    let dy = dy.load(index)
    let x = x.load(index)
    let g = dy * weight.load(index)
    add(x: x, g, to: &lanes)
  }

  @inline(__always) static var splits: Bool { X.splits && G.splits }
  @inline(__always) func addSplit(_ index: Int, to even: inout Lanes, _ odd: inout Lanes) {
    let dy = dy.loadTwo(index)
    let x = x.loadTwo(index)
    let weight = weight.loadSplit(index)
    add(x: x.0, dy.0 * weight.0, to: &even)
    add(x: x.1, dy.1 * weight.1, to: &odd)
  }

  @inline(__always)
  private func add(x: Compute.Vector, _ g: Compute.Vector, to lanes: inout Lanes) {
    guard M.findsMean else {
      lanes.g = lanes.g + g
      lanes.products = lanes.products.adding(g, times: x)
      return
    }
    add(g, center - x, to: &lanes)
  }

  @inline(__always) func add(last tail: Int, of count: Int, to lanes: inout Lanes) {
    let dy = dy.loadLast(of: count)
    let x = x.loadLast(of: count)
    let g = dy * weight.loadLast(of: count)
    add(g.keepingLast(tail), (center - x).keepingLast(tail), to: &lanes)
  }

  @inline(__always)
  private func add(_ g: Compute.Vector, _ negative: Compute.Vector, to lanes: inout Lanes) {
    lanes.g = lanes.g + g
    lanes.products = lanes.products.subtracting(g, times: negative)
    guard M.findsMean else { return }
    lanes.deviations = lanes.deviations - negative
    lanes.squares = lanes.squares.adding(negative, times: negative)
  }

  @inline(__always) func add(short count: Int, to sums: inout Sums) {
    var lanes = Lanes()
    add(last: count, of: count, to: &lanes)
    sums.add(lanes)
  }
}
