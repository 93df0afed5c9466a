import CShims

/// What distinguishes LayerNorm from RMSNorm in a kernel.
protocol Norm {
  /// Whether the mean is subtracted.
  static var centers: Bool { get }
  /// Whether it serves rows only whose center is 0.
  static var hasCenterZero: Bool { get }
}

extension Norm {
  @inline(__always) static var hasCenterZero: Bool { false }
  /// How many sums of a row its statistics are made of.
  @inline(__always) static var sums: Int { centers ? 2 : 1 }
}

enum LayerNorm: Norm {
  @inline(__always) static var centers: Bool { true }
}

/// Of rows around 0.
enum LayerNormAroundZero: Norm {
  @inline(__always) static var centers: Bool { true }
  @inline(__always) static var hasCenterZero: Bool { true }
}

enum RMSNorm: Norm {
  @inline(__always) static var centers: Bool { false }
}

/// Mean and variance of the rows of a group, in twice the precision that they are computed in.
struct Moments<C: ComputeScalar> {
  /// 0 for a norm that does not center.
  private(set) var mean: C.Wide
  /// Of a norm that does not center: the mean square.
  private(set) var variance: C.Wide
  /// Of what the sums were taken of.
  private var meanSquare: SIMD8<Double>

  init(mean: C.Wide, variance: C.Wide) {
    self.mean = mean
    self.variance = variance
    meanSquare = variance.doubles
  }

  /// From the sums of one pass over each row, and of a second one, around the mean that the first has found,
  /// over a row whose mean is more than twice its standard deviation: there digits have cancelled.
  ///
  /// - Parameters:
  ///   - rows: how many, at most `rowsPerChain`.
  ///   - sums: of a group, around 0.
  ///   - row: the row of an index.
  @inline(__always)
  init<N: Norm, S: RowSource>(
    _: N.Type, rows: Int, count: Int, reciprocalCount: C.Wide,
    sums: UnsafeMutablePointer<RowSums<C>>, row: (_ index: Int) -> S
  ) where S.Compute == C {
    self.init(rareOf: N.self, rows: rows, sums, reciprocalCount)
    guard N.centers else { return }
    let far = areFar
    let farRows = far.bits(rows: rows)
    if farRows == 0 { return }
    let shifts = mean.narrow
    for index in 0..<rows where farRows >> UInt32(index) & 1 != 0 {
      let shift = RowShift<C>(vector: C.Vector(repeating: shifts[index]))
      reduce(NormOfSums<N>.self, row(index), around: shift, count: count, into: sums + index)
    }
    let shifted = Moments(rareOf: N.self, rows: rows, sums, reciprocalCount)
    // A constant row's mean is one of its elements; what rounding has added to it, rstd would enlarge.
    let ofShifted = C.Wide(shifts) + shifted.mean
    let isConstant = ~ln_less8(SIMD8(repeating: 0), shifted.variance.doubles)
    mean = mean.replacing(
      with: ofShifted.replacing(with: C.Wide(ofShifted.narrow), where: isConstant), where: far)
    variance = variance.replacing(with: shifted.variance, where: far)
    meanSquare = ln_select8(far, shifted.meanSquare, meanSquare)
  }

  /// Of d = x - shift: the mean, which is that of x less the shift, and the variance, which is that of x:
  /// n * variance = sum(d^2) - sum(d)^2 / n.
  @inline(__always)
  init<N: Norm>(
    _: N.Type, rows: Int, _ sums: UnsafePointer<RowSums<C>>, _ reciprocalCount: C.Wide
  ) {
    let zero = C.Wide(repeating: 0)
    let square = C.Wide.totals(rows: rows) { sums[$0].squares } * reciprocalCount
    meanSquare = square.doubles
    mean = zero
    variance = square
    guard N.centers else { return }
    mean = C.Wide.totals(rows: rows) { sums[$0].sum } * reciprocalCount
    variance = square - mean * mean
    // Of a constant row, the rounding of these two lines would be left.
    variance = variance.replacing(
      with: zero,
      where: ln_less8(variance.doubles, meanSquare * SIMD8(repeating: 0x1p-48)))
  }

  @inline(never)
  private init<N: Norm>(
    rareOf _: N.Type, rows: Int, _ sums: UnsafePointer<RowSums<C>>, _ reciprocalCount: C.Wide
  ) {
    self.init(N.self, rows: rows, sums, reciprocalCount)
  }

  /// Where the mean is over twice the standard deviation: digits have cancelled.
  @inline(__always) var areFar: RowMask {
    ln_less8(variance.doubles, meanSquare * SIMD8(repeating: 0.2))
  }

  /// What to subtract from x first. Where the mean is large beside the spread, the mean: the difference
  /// is exact. Where it is smaller than the standard deviation, nothing cancels, and with 0 x has no
  /// rounding before its product with rstd.
  @inline(__always) var center: C.Wide {
    C.Wide(mean.narrow).replacing(
      with: C.Wide(repeating: 0), where: ln_less8((mean * mean).doubles, variance.doubles))
  }

  /// Whether sums have overflowed, or digits that matter beside eps may have been lost to underflow;
  /// also where the row holds NaN or infinity.
  @inline(__always) func needsScaling(eps: Double) -> RowMask {
    let isLarge = ~ln_less8(meanSquare, SIMD8(repeating: C.largestMeanSquare))
    guard eps < C.smallestEps else { return isLarge }
    return isLarge | ln_less8(variance.doubles, SIMD8(repeating: C.smallestVariance))
  }
}

/// The sums of d and of d^2 over a row, d = x - shift, each in eight lanes.
struct RowSums<C: ComputeScalar> {
  fileprivate var sum = C.Wide(repeating: 0)
  fileprivate var squares = C.Wide(repeating: 0)

  @inline(__always) init() {}
}

#if LAYERNORM_COMPACT
  /// Of a norm that does not center, the sum is not looked at: one code for both.
  typealias NormOfSums<N: Norm> = LayerNorm
#else
  typealias NormOfSums<N: Norm> = N
#endif

/// What is subtracted from a row before its sums are taken.
protocol Shift {
  associatedtype Compute: ComputeScalar
  static var isZero: Bool { get }
  var vector: Compute.Vector { get }
}

#if LAYERNORM_COMPACT
  /// With zero for a vector, which changes no bit: one code for both.
  typealias NoShift = RowShift
#else
  struct NoShift<Compute: ComputeScalar>: Shift {
    @inline(__always) static var isZero: Bool { true }
    @inline(__always) var vector: Compute.Vector { Compute.Vector(repeating: .zero) }
  }
#endif

struct RowShift<Compute: ComputeScalar>: Shift {
  @inline(__always) static var isZero: Bool { false }
  var vector = Compute.Vector(repeating: .zero)
}

/// How many elements ahead of a row of four vectors later ones are asked for: 4 to 8 KB.
@inline(__always) var shortRowsAhead: Int { 2048 }

/// Whether a row has a vector or more, and so few that calls and loops would take as long as what is done with it.
///
/// - Parameter isNear: whether lines that come from beyond the second-level cache come soon: then longer rows gain too,
///   where others gain more by asking for lines.
@inline(__always)
func isShortRow<T: Element>(_ count: Int, of _: T.Type, isNear: Bool = false) -> Bool {
  let width = T.Compute.Vector.width
  return T.Compute.hasShortRows && count >= width
    && count <= (isNear ? T.splits ? 32 : 64 : 16) &* width
}

/// The sums of each of some rows.
@inline(never)
func reduce<N: Norm, T: Element>(
  _: N.Type, _ work: UnsafePointer<ln_forward_work>, _ rows: BatchRows<T>, _ first: Int,
  rows rowCount: Int, into results: UnsafeMutablePointer<RowSums<T.Compute>>
) {
  let count = Int(work.pointee.cols)
  #if !LAYERNORM_COMPACT
    if isShortRow(
      count, of: T.self, isNear: LN_VECTORS_IN_REGISTERS > 8 && work.pointee.fetches == 0)
      && count != 4 &* T.Compute.Vector.width
    {
      reduceShort(N.self, rows, first, rows: rowCount, count, into: results)
      return
    }
  #endif
  for index in 0..<rowCount {
    let row = Row<T, T.Compute>(rows[first &+ index])
    #if !LAYERNORM_COMPACT
      // Calls and loops would take as long as the sums.
      if T.Compute.hasShortRows && count == 4 &* T.Compute.Vector.width {
        reduceFour(N.self, row, fetches: work.pointee.is_far != 0, into: results + index)
        continue
      }
    #endif
    reduce(
      NormOfSums<N>.self, row, around: NoShift(), count: count, fetches: work.pointee.fetches != 0,
      asksLater: work.pointee.fetches_later != 0, into: results + index)
  }
}

#if !LAYERNORM_COMPACT
  /// The same of short rows.
  @inline(never)
  private func reduceShort<N: Norm, T: Element>(
    _: N.Type, _ rows: BatchRows<T>, _ first: Int, rows rowCount: Int, _ count: Int,
    into results: UnsafeMutablePointer<RowSums<T.Compute>>
  ) {
    for index in 0..<rowCount {
      reduceShort(N.self, Row<T, T.Compute>(rows[first &+ index]), count, into: results + index)
    }
  }

  @inline(__always)
  func reduceShort<N: Norm, S: RowSource>(
    _: N.Type, _ row: S, _ count: Int, into result: UnsafeMutablePointer<RowSums<S.Compute>>
  ) {
    ShiftedSums<N, S, NoShift<S.Compute>>(
      row: row, shift: NoShift(), fetches: false, asksLater: false
    ).reduceShortOrFour(count).write(to: result)
  }

  /// The same of a row of four vectors.
  ///
  /// - Parameter fetches: whether a later row is asked for.
  @inline(__always)
  func reduceFour<N: Norm, S: RowSource>(
    _: N.Type, _ row: S, fetches: Bool = false,
    into result: UnsafeMutablePointer<RowSums<S.Compute>>
  ) {
    let reduction = ShiftedSums<N, S, NoShift<S.Compute>>(
      row: row, shift: NoShift(), fetches: fetches, asksLater: false)
    if fetches { row.fetch(shortRowsAhead) }
    reduction.reduceFour().write(to: result)
  }
#endif

/// - Parameters:
///   - fetches: whether the lines of the row are asked for.
///   - asksLater: see `RowReduction.asksLater`.
///   - result: where the sums go.
@inline(never)
func reduce<N: Norm, S: RowSource, D: Shift>(
  _: N.Type, _ row: S, around shift: D, count: Int, fetches: Bool = false,
  asksLater: Bool = false, into result: UnsafeMutablePointer<RowSums<S.Compute>>
) where D.Compute == S.Compute {
  #if LAYERNORM_COMPACT
    if S.self == Row<Double, Double>.self {
      // Multiply-adds without an instruction are what takes time: by the code for rows that are rare.
      let row = AnyRow(unsafeBitCast(row, to: Row<Double, Double>.self).elements)
      reduce(
        N.self, ScaledRow(row: row, scale: 1),
        around: RowShift(vector: unsafeBitCast(shift.vector, to: SIMD8<Double>.self)),
        count: count,
        into: UnsafeMutableRawPointer(result).assumingMemoryBound(to: RowSums<Double>.self))
      return
    }
  #endif
  reduceHere(
    N.self, row, around: shift, count: count, fetches: fetches, asksLater: asksLater, into: result)
}

/// The same without a call, for a row that is made of much: a copy of it is read by wider loads than it has just been
/// stored by, which wait for these to reach the cache.
@inline(__always)
func reduceHere<N: Norm, S: RowSource, D: Shift>(
  _: N.Type, _ row: S, around shift: D, count: Int, fetches: Bool, asksLater: Bool = false,
  into result: UnsafeMutablePointer<RowSums<S.Compute>>
) where D.Compute == S.Compute {
  let reduction = ShiftedSums<N, S, D>(
    row: row, shift: shift, fetches: fetches, asksLater: asksLater)
  reduction.reduce(count).write(to: result)
}

private struct ShiftedSums<N: Norm, S: RowSource, D: Shift>: RowReduction
where D.Compute == S.Compute {
  typealias Source = S

  @inline(__always) static var sumsPerAccumulator: Int { N.sums }

  let row: S
  let shift: D
  private let fetches: Bool
  private let fetchesLater: Bool

  @inline(__always) init(row: S, shift: D, fetches: Bool, asksLater: Bool) {
    self.row = row
    self.shift = shift
    self.fetches = fetches
    fetchesLater = asksLater
  }

  struct Sums: BlockSums {
    var sum = Compute.Wide.LaneSums.nothing
    var squares = Compute.Wide.LaneSums.nothing

    @inline(__always) init() {}

    @inline(__always) mutating func add(_ block: Lanes) {
      if N.centers { sum.add(block.sum) }
      squares.add(block.squares)
    }

    @inline(__always) func write(to result: UnsafeMutablePointer<RowSums<Compute>>) {
      if N.centers { result.pointee.sum = sum.eight }
      result.pointee.squares = squares.eight
    }
  }

  struct Lanes: Accumulator {
    var sum = Compute.Vector(repeating: -Compute.zero)
    var squares = Compute.Vector(repeating: -Compute.zero)

    @inline(__always) init() {}

    @inline(__always) static func + (a: Lanes, b: Lanes) -> Lanes {
      var sums = Lanes()
      if N.centers { sums.sum = a.sum + b.sum }
      sums.squares = a.squares + b.squares
      return sums
    }

    @inline(__always) static func inOrder(_ even: Lanes, _ odd: Lanes) -> (Lanes, Lanes) {
      var (first, second) = (even, odd)
      if N.centers { (first.sum, second.sum) = Compute.Vector.inOrder(even.sum, odd.sum) }
      (first.squares, second.squares) = Compute.Vector.inOrder(even.squares, odd.squares)
      return (first, second)
    }
  }

  @inline(__always) private func deviation(_ x: Compute.Vector) -> Compute.Vector {
    D.isZero ? x : x - shift.vector
  }

  @inline(__always) func fetch(_ index: Int) {
    guard fetches else { return }
    row.fetch(index &+ S.fetchDistance)
  }
  @inline(__always) func fetchOne(_ index: Int) {
    guard fetches else { return }
    row.fetchOne(index &+ S.fetchDistance)
  }
  @inline(__always) var asksLater: Bool { S.fetchesLater && fetchesLater }
  @inline(__always) func fetchLater(_ index: Int) { row.fetchLater(index) }

  @inline(__always) func add(_ index: Int, to lanes: inout Lanes) {
    add(deviation(row.load(index)), to: &lanes)
  }

  @inline(__always) static var splits: Bool { S.splits }
  @inline(__always) func addSplit(_ index: Int, to even: inout Lanes, _ odd: inout Lanes) {
    let x = row.loadTwo(index)
    add(deviation(x.0), to: &even)
    add(deviation(x.1), to: &odd)
  }

  @inline(__always) func add(last tail: Int, of count: Int, to lanes: inout Lanes) {
    add(deviation(row.loadTail(tail, of: count)).keepingLast(tail), to: &lanes)
  }

  @inline(__always) private func add(_ deviation: Compute.Vector, to lanes: inout Lanes) {
    if N.centers { lanes.sum = lanes.sum + deviation }
    lanes.squares = lanes.squares.adding(deviation, times: deviation)
  }

  /// Few elements, so that their roundings do not average out: sums and squares are exact in twice the
  /// precision, but for the square of the rounding error of d.
  @inline(__always) func add(short count: Int, to sums: inout Sums) {
    let zero = Compute.Vector(repeating: .zero)
    let x = row.load(short: count)
    let d = deviation(x).keepingLast(count)
    let square = d * d
    sums.squares.add(square)
    sums.squares.add((zero - square).adding(d, times: d))
    guard N.centers else { return }
    sums.sum.add(d)
    if !D.isZero {
      // Knuth's error of a difference: d + low is x - shift.
      let rounded = deviation(x)
      let part = x - rounded
      let low = ((x - (rounded + part)) + (part - shift.vector)).keepingLast(count)
      sums.sum.add(low)
      sums.squares.add((d + d) * low)
    }
  }
}
