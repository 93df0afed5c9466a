import CShims

/// What kind of a cell a call is of.
struct CellShape {
  /// Values of `layernorm_cell`.
  @inline(__always) static var tanh: Int32 { 0 }
  @inline(__always) static var lstm: Int32 { 2 }
  @inline(__always) static var gru: Int32 { 3 }

  let hidden: Int
  let gates: Int
  let isLSTM: Bool
  let isRNN: Bool
  /// How many norms the gates of a product go through.
  let norms: Int

  @inline(__always) init(_ work: UnsafePointer<ln_cell_work>) {
    let cell = work.pointee.cell
    hidden = Int(work.pointee.hidden)
    isLSTM = cell == CellShape.lstm
    isRNN = cell < CellShape.lstm
    gates = isLSTM ? 4 : isRNN ? 1 : 3
    norms = work.pointee.per_gate != 0 ? gates : isLSTM ? 1 : 2
  }

  /// The norms of a row: of the product with x, of that with h, and of the LSTM's c.
  @inline(__always) var normsOfRow: Int { 2 &* norms &+ (isLSTM ? 1 : 0) }

  /// The gates that a norm of a product spans.
  @inline(__always) func gates(of norm: Int) -> Range<Int> {
    if norms == gates { return norm..<(norm &+ 1) }
    return isLSTM ? 0..<4 : norm == 0 ? 0..<2 : 2..<3
  }

  @inline(__always) func norm(of gate: Int) -> Int {
    norms == gates ? gate : isLSTM ? 0 : gate / 2
  }
}

/// A vector of columns of a row of `count`. The last one holds what is left, in its last lanes: it overlaps no
/// other, so that an output may be an input.
struct Columns<C: CellScalar> {
  private(set) var index: Int
  /// How many columns the last vector holds; 0 in any other.
  private var tail: Int

  @inline(__always) init(_ index: Int, of count: Int) {
    self.index = index
    tail = count &- index < C.Vector.width ? count &- index : 0
  }

  @inline(__always) mutating func advance(of count: Int) {
    self = Columns(index &+ C.Vector.width, of: count)
  }

  #if LAYERNORM_COMPACT
    @inline(never)
  #else
    @inline(__always)
  #endif
  func load(_ row: UnsafePointer<C>) -> C.Vector {
    tail == 0 ? C.load(row + index) : C.load(short: tail, row + index)
  }

  /// `absent` in every lane where there is no such row.
  @inline(__always)
  func load(_ row: UnsafePointer<C>?, else absent: Double, from offset: Int = 0) -> C.Vector {
    guard let row else { return C.Vector(repeating: C(absent)) }
    return load(row + offset)
  }

  #if LAYERNORM_COMPACT
    @inline(never)
  #else
    @inline(__always)
  #endif
  func store(_ vector: C.Vector, to row: UnsafeMutablePointer<C>) {
    if tail == 0 {
      C.store(vector, to: row + index)
    } else {
      storeShort(vector, as: C.self, of: tail, to: row + index)
    }
  }
}

/// How many rows of two products go through the chain from their sums to rstd together.
@inline(__always) var cellRowsPerGroup: Int { rowsPerGroup / 2 }

/// What is known of a group of rows. The norms of both products share vectors: of row r, that with x is at 2 r,
/// that with h at 2 r + 1.
struct CellGroup<C: CellScalar> {
  let sums: UnsafeMutablePointer<RowSums<C>>
  /// Of each norm of the products; then of the LSTM's c.
  let scalars: UnsafeMutablePointer<NormScalars<C>>
  /// The gates of a row, some columns.
  let gates: UnsafeMutablePointer<C.Vector>

  static func withMemory(_ body: (CellGroup<C>) -> Void) {
    var sums = InlineArray<8, RowSums<C>>(repeating: RowSums())
    // Of up to four norms.
    var scalars = InlineArray<20, C.Rows>(repeating: C.Rows(repeating: .zero))
    var gates = InlineArray<4, C.Vector>(repeating: C.Vector(repeating: .zero))
    withUnsafeMutableBytes(of: &sums) { sums in
      withUnsafeMutableBytes(of: &scalars) { scalars in
        withUnsafeMutableBytes(of: &gates) { gates in
          body(
            CellGroup(
              sums: sums.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: RowSums<C>.self),
              scalars: scalars.baseAddress.unsafelyUnwrapped
                .assumingMemoryBound(to: NormScalars<C>.self),
              gates: gates.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: C.Vector.self)))
        }
      }
    }
  }

  /// Finds the scalars of up to eight rows of `count` elements.
  @inline(never)
  func normalize(
    _ scalars: UnsafeMutablePointer<NormScalars<C>>, _ rows: CellSegments<C>, count: Int,
    eps: Double
  ) {
    for index in 0..<rows.count {
      reduce(
        LayerNorm.self, Row<C, C>(rows.row(index)), around: NoShift(), count: count,
        into: sums + index)
    }
    let moments = Moments<C>(
      LayerNorm.self, rows: rows.count, count: count, reciprocalCount: C.Wide(reciprocalOf: count),
      sums: sums
    ) { Row<C, C>(rows.row($0)) }
    let rstd = (moments.variance + C.Wide(repeating: eps)).reciprocalSquareRoot
    scalars.pointee = NormScalars(moments, rstd: rstd)
    var mean = moments.mean.narrow
    var rounded = rstd.narrow
    let outOfRange = moments.needsScaling(eps: eps).bits(rows: rows.count)
    if outOfRange != 0 {
      for index in 0..<rows.count where outOfRange >> UInt32(index) & 1 != 0 {
        let scaled = ScaledMoments(
          LayerNorm.self, AnyRow(rows.row(index)), count: count, eps: eps)
        scalars.pointee.replace(index, with: NormScalars(scaled))
        mean[index] = C(scaled.unscaledMean)
        rounded[index] = C(scaled.unscaledRstd)
      }
    }
    for index in 0..<rows.count {
      rows.statistic(index, in: rows.mean)?.pointee = mean[index]
      rows.statistic(index, in: rows.rstd)?.pointee = rounded[index]
    }
  }
}

/// Up to eight rows that are normalized side by side, and where their statistics go.
struct CellSegments<C: CellScalar> {
  let count: Int
  /// How many of them belong to one row of the batch: of one product each, or one alone.
  let perRow: Int
  /// The first of each product.
  let first: (UnsafePointer<C>, UnsafePointer<C>)
  /// From one row of the batch to the next.
  let stride: Int
  /// Of the first, where they are wanted.
  let mean, rstd: UnsafeMutablePointer<C>?
  /// From one row of the batch to the next, and from one product to the other.
  let statisticStrides: (row: Int, product: Int)

  @inline(__always) func row(_ index: Int) -> UnsafePointer<C> {
    let (row, product) = index.quotientAndRemainder(dividingBy: perRow)
    return (product == 0 ? first.0 : first.1) + row &* stride
  }

  @inline(__always)
  func statistic(
    _ index: Int, in statistics: UnsafeMutablePointer<C>?
  ) -> UnsafeMutablePointer<C>? {
    guard let statistics else { return nil }
    let (row, product) = index.quotientAndRemainder(dividingBy: perRow)
    return statistics + (row &* statisticStrides.row &+ product &* statisticStrides.product)
  }
}
