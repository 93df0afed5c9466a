import CShims

/// What is normalized, gate by gate. One type, since there is a kernel for each.
struct CellSource<C: CellScalar> {
  private let row, addend: UnsafePointer<C>?
  private let unrounded: UnsafePointer<C.Number>?
  private let hidden: Int

  /// A row of a product, or the sum of both, rounded; or a row of c.
  @inline(__always)
  init(_ row: UnsafePointer<C>, plus addend: UnsafePointer<C>? = nil, hidden: Int) {
    self.row = row
    self.addend = addend
    unrounded = nil
    self.hidden = hidden
  }

  /// The LSTM's c before it is rounded.
  @inline(__always) init(unrounded: UnsafePointer<C.Number>) {
    row = nil
    addend = nil
    self.unrounded = unrounded
    hidden = 0
  }

  @inline(__always) func load(_ gate: Int, _ columns: Columns) -> C.Number {
    guard let row else { return unrounded.unsafelyUnwrapped[columns.index / 8] }
    let offset = gate &* hidden
    var values = columns.load(row + offset)
    if let addend { values = C.roundDoubles(values + columns.load(addend + offset)) }
    return C.Number(exactly: values)
  }
}

/// Some gates of one row.
struct CellSpan {
  let gates: Range<Int>
  let hidden: Int

  @inline(__always) var count: Int { gates.count &* hidden }

  @inline(__always) func forEachColumns(_ body: (_ gate: Int, _ columns: Columns) -> Void) {
    let vectors = (hidden &+ 7) / 8
    for gate in gates {
      for vector in 0..<vectors { body(gate, Columns(vector, of: hidden)) }
    }
  }
}

/// What a span is normalized with: x^ = (x - mean) * rstd. Numbers whose squares may leave the range are taken
/// times a power of two near rstd.
struct CellNorm<C: CellScalar> {
  typealias Number = C.Number

  private let scale: SIMD8<Double>
  private let minusMean: Number
  private let rstd: Number

  @inline(__always)
  init(of source: CellSource<C>, _ span: CellSpan, eps: Double) {
    if Number.isNarrow {
      let extent = Extent(of: source, span)
      self.init(
        of: source, span, center: extent.middle,
        scale: min(1 / extent.reach, 1 / eps.squareRoot()), eps: eps)
    } else {
      // No element is further from the mean than the square root of their number in spreads.
      let any = source.load(span.gates.lowerBound, Columns(0, of: span.hidden)).doubles[7]
      self.init(of: source, span, center: any, scale: 1, eps: eps)
    }
  }

  /// From statistics that were rounded, to all their digits.
  @inline(__always)
  init(
    of source: CellSource<C>, _ span: CellSpan, completing mean: Double, _ rstd: Double, eps: Double
  ) {
    self.init(of: source, span, center: mean, scale: rstd, eps: eps)
  }

  /// - Parameters:
  ///   - center: not many spreads from the mean.
  ///   - scale: about rstd.
  @inline(never)
  private init(
    of source: CellSource<C>, _ span: CellSpan, center: Double, scale: Double, eps: Double
  ) {
    let power = Number.isNarrow ? powerOfTwo(min(scale, 0x1p1000 / center.magnitude)) : 1
    let powers = SIMD8<Double>(repeating: power)
    let center = SIMD8<Double>(repeating: center * power)
    let minusCenter = ln_negate8(center)
    var sums = PairOfSums<Number>()
    span.forEachColumns { gate, columns in
      let x = source.load(gate, columns)
      var deviation = (Number.isNarrow ? x.scaled(powers) : x).plus(minusCenter)
      if columns.count < 8 { deviation = deviation.keepingLast(columns.count) }
      sums.add(deviation, times: deviation)
    }
    let low = sums.mean(of: span.count)
    let variance = sums.meanProduct(of: span.count) - low * low
    let rstd = variance.plus(SIMD8(repeating: eps * power * power)).reciprocalSquareRoot
    self.scale = powers
    minusMean = low.plus(center).scaled(SIMD8(repeating: -1))
    // Of a constant row with eps 0, x^ is 0, its limit as eps goes to 0.
    let isInfinite = ln_less8(
      SIMD8(repeating: Double.greatestFiniteMagnitude), rstd.doubles)
    self.rstd = rstd.replacing(with: Number(0), where: isInfinite)
  }

  @inline(__always) var unscaledMean: Double {
    minusMean.scaled(ln_divide8(SIMD8(repeating: -1), scale)).doubles[0]
  }
  @inline(__always) var unscaledRstd: Double {
    let unscaled = rstd.scaled(scale).doubles[0]
    return unscaled == 0 ? .infinity : unscaled
  }

  /// x^
  @inline(__always) func callAsFunction(_ x: Number) -> Number {
    ((Number.isNarrow ? x.scaled(scale) : x) + minusMean) * rstd
  }

  /// From g = dy * weight to the gradient of x: rstd * (g - sum(g) / n - x^ * sum(g * x^) / n).
  struct Projection {
    private let scale: SIMD8<Double>
    private let rstd, mean, minusSlope: Number

    /// - Parameter sums: of g, and of g * x^.
    @inline(__always) init(_ norm: CellNorm, _ sums: PairOfSums<Number>, count: Int) {
      scale = norm.scale
      rstd = norm.rstd
      mean = sums.mean(of: count)
      minusSlope = Number(0) - sums.meanProduct(of: count)
    }

    @inline(__always) func callAsFunction(_ g: Number, _ normalized: Number) -> Number {
      ((g - mean).adding(normalized, times: minusSlope) * rstd).scaled(scale)
    }
  }
}

/// The sums of some numbers and of some products over a span. Vectors go to two accumulators in turn.
struct PairOfSums<Number: CellNumber> {
  private var sum = Number(0)
  private var products = Number(0)
  private var otherSum = Number(0)
  private var otherProducts = Number(0)

  @inline(__always) init() {}

  /// Adds a, and a * b.
  @inline(__always) mutating func add(_ a: Number, times b: Number) {
    (sum, otherSum) = (otherSum, sum + a)
    (products, otherProducts) = (otherProducts, products.adding(a, times: b))
  }

  @inline(__always) func mean(of count: Int) -> Number {
    (sum + otherSum).total * Number(reciprocalOf: count)
  }
  @inline(__always) func meanProduct(of count: Int) -> Number {
    (products + otherProducts).total * Number(reciprocalOf: count)
  }
}

/// The largest and the smallest element of a span.
private struct Extent {
  let middle: Double
  /// From the middle to both.
  let reach: Double

  @inline(__always) init<C: CellScalar>(of source: CellSource<C>, _ span: CellSpan) {
    let first = source.load(span.gates.lowerBound, Columns(0, of: span.hidden)).doubles[7]
    let filling = SIMD8<Double>(repeating: first)
    var largest = filling
    var smallest = filling
    span.forEachColumns { gate, columns in
      var x = source.load(gate, columns).doubles
      if columns.count < 8 { x = x.keepingLast(columns.count, else: filling) }
      largest = ln_at_least8(largest, x)
      smallest = ln_at_most8(smallest, x)
    }
    let most = largest.largestLane
    let least = -ln_negate8(smallest).largestLane
    middle = 0.5 * most + 0.5 * least
    reach = 0.5 * most - 0.5 * least
  }
}

extension SIMD8<Double> {
  @inline(__always) fileprivate func keepingLast(_ count: Int, else other: Self) -> Self {
    let lane = SIMD8<Int64>(0, 1, 2, 3, 4, 5, 6, 7)
    return replacing(with: other, where: lane .< SIMD8<Int64>(repeating: Int64(8 &- count)))
  }

  @inline(__always) fileprivate var largestLane: Double {
    let fours = ln_at_least8(ln_eights_low8(self, self), ln_eights_high8(self, self))
    let twos = ln_at_least8(ln_fours_low8(fours, fours), ln_fours_high8(fours, fours))
    return ln_at_least8(ln_twos_low8(twos, twos), ln_twos_high8(twos, twos))[0]
  }
}

/// The largest power of two that is not above a bound, in the range of numbers whose inverse is normal too.
@inline(never) private func powerOfTwo(_ bound: Double) -> Double {
  let inRange = bound > 0x1p-1000 ? min(bound, 0x1p1000) : 0x1p-1000
  return Double(bitPattern: inRange.bitPattern & 0x7ff0_0000_0000_0000)
}
