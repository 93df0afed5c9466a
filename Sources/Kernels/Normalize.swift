import CShims

/// What the rows of a group are normalized with, once their moments are known. Mean and rstd stay pairs, a
/// number rounded to C and what the rounding left behind, so that y has no error of theirs.
struct RowScalars<C: ComputeScalar> {
  private let center: C.Rows
  private let rstd: C.Rows
  private let rstdLow: C.Rows
  /// -(mean - center) * rstd
  private let offset: C.Rows

  /// - Parameter rounds: whether rstd is used rounded, for a coarse y.
  @inline(__always)
  init<N: Norm>(_: N.Type, _ moments: Moments<C>, rstd: C.Wide, rounds: Bool) {
    let center = moments.center
    self.rstd = rstd.narrow
    rstdLow =
      rounds ? C.Rows(repeating: .zero) : (rstd - C.Wide(self.rstd)).narrow
    if N.centers {
      self.center = center.narrow
      // Of a zero, the sign would depend on whether a product with rstdLow is added.
      let offset = C.Wide(((center - moments.mean) * rstd).narrow)
      self.offset = (offset + C.Wide(repeating: 0)).narrow
    } else {
      // From -0, x is subtracted without loss of its sign, and -0 added to a product changes no bit, so the formula
      // with a mean serves too.
      self.center = C.Rows(repeating: -C.zero)
      offset = C.Rows(repeating: -C.zero)
    }
  }

  /// Those of one row, each in every lane of a vector.
  struct Vectors {
    let center: C.Vector
    let rstd: C.Vector
    let rstdLow: C.Vector
    let offset: C.Vector

    /// - Parameter group: one for each chain of its rows.
    @inline(__always) init(_ group: UnsafePointer<RowScalars<C>>, row: Int) {
      let scalars: UnsafePointer<C> = rowNumbers(group, ofRow: row)
      center = C.Vector(repeating: scalars[0])
      rstd = C.Vector(repeating: scalars[rowsPerChain])
      rstdLow = C.Vector(repeating: scalars[2 &* rowsPerChain])
      offset = C.Vector(repeating: scalars[3 &* rowsPerChain])
    }
  }
}

/// Whether the center of a row is 0, as it is of most: with it goes one operation of four. No bit depends on that.
@inline(__always)
func hasCenterZero<C: ComputeScalar>(_ group: UnsafePointer<RowScalars<C>>, _ row: Int) -> Bool {
  let center: UnsafePointer<C> = rowNumbers(group, ofRow: row)
  return center.pointee == C.zero
}

/// Normalizes two rows into y: weight and bias are read once for both.
///
/// - Parameter descends: whether from the last column to the first; see `ColumnOrder`.
@inline(__always)
func normalizeRows<N: Norm, A: Affine, T: Element>(
  _ affine: A, _ a: Normalization<N, A>, _ b: Normalization<N, A>,
  _ x: (UnsafePointer<T>, UnsafePointer<T>),
  into y: (UnsafeMutablePointer<T>, UnsafeMutablePointer<T>), count: Int, descends: Bool
) where A.Compute == T.Compute {
  let width = columnsAtOnce(T.self)
  let wholeEnd = count & (0 &- width)
  let (first, step) = columns(0..<wholeEnd, by: width, descends: descends)
  @inline(__always)
  func normalized(
    _ index: Int, isLast: Bool = false
  ) -> (ColumnVectors<A.Compute>, ColumnVectors<A.Compute>) {
    let terms = affine.termsOfColumns(at: index, isLast: isLast, of: T.self)
    return (
      a.normalized(Row(x.0), at: index, terms, as: T.self),
      b.normalized(Row(x.1), at: index, terms, as: T.self)
    )
  }
  @inline(__always)
  func store(
    _ rows: (ColumnVectors<A.Compute>, ColumnVectors<A.Compute>), at index: Int
  ) {
    a.store(rows.0, to: y.0 + index)
    a.store(rows.1, to: y.1 + index)
  }
  // What ends with the rows, before the vectors that it overlaps are stored where it is read from.
  let last = wholeEnd < count ? count &- width : first
  let ofLast = normalized(last, isLast: true)
  var index = first
  for _ in 0..<wholeEnd / width {
    // Both are read before either is stored, which may look as if it were where the other is read from.
    store(normalized(index), at: index)
    index = Int(ln_opaque_index(Int64(index &+ step)))
  }
  if wholeEnd < count { store(ofLast, at: last) }
}

/// As many columns as are computed together: the second vector of one is the first.
typealias ColumnVectors<C: ComputeScalar> = (C.Vector, C.Vector)

/// How many columns of a row of T are computed together: of rows that are split, those of two vectors.
@inline(__always) func columnsAtOnce<T: Element>(_: T.Type) -> Int {
  T.splits ? 2 &* T.Compute.Vector.width : T.Compute.Vector.width
}

/// Columns that are ready to be stored: what is split has been packed.
struct ReadyColumns<T: Element, C: ComputeScalar> {
  private let vector: C.Vector
  private let nanIsShort: Bool

  @inline(__always) init(_ columns: ColumnVectors<C>, nanIsShort: Bool) {
    vector =
      T.splits
      ? C.packed(columns, as: T.self, nanIsShort: nanIsShort) : columns.0
    self.nanIsShort = nanIsShort
  }

  @inline(__always) func store(to memory: UnsafeMutablePointer<T>, streams: Bool) {
    switch (T.splits, streams) {
    case (true, true): C.stream(packed: vector, to: memory)
    case (true, false): C.store(packed: vector, to: memory)
    case (false, true): C.stream(vector, to: memory, nanIsShort: nanIsShort)
    case (false, false): C.store(vector, to: memory, nanIsShort: nanIsShort)
    }
  }
}

extension RowSource {
  @inline(__always) func loadColumns(_ index: Int) -> ColumnVectors<Compute> {
    if Self.splits { return loadTwo(index) }
    let vector = load(index)
    return (vector, vector)
  }
}

extension Affine {
  /// Of as many columns: the second of one vector is the first.
  @inline(__always)
  func termsOfColumns<T: Element>(
    at index: Int, isLast: Bool = false, of _: T.Type
  ) -> (AffineTerms<Compute>, AffineTerms<Compute>) {
    if T.splits { return splitTerms(at: index, isLast: isLast) }
    let terms = terms(at: index)
    return (terms, terms)
  }
}

/// The step from x to y.
struct Normalization<N: Norm, A: Affine> {
  typealias C = A.Compute

  private let affine: A
  private let scalars: RowScalars<C>.Vectors

  @inline(__always) init(_: N.Type, _ affine: A, _ scalars: RowScalars<C>.Vectors) {
    self.affine = affine
    self.scalars = scalars
  }

  /// - Parameter isCoarse: whether rstdLow is zero, and left out.
  @inline(__always) private func normalize(_ x: C.Vector, isCoarse: Bool) -> C.Vector {
    guard N.centers else {
      return isCoarse
        ? x * scalars.rstd : (x * scalars.rstdLow).adding(x, times: scalars.rstd)
    }
    if N.hasCenterZero {
      let low = isCoarse ? scalars.offset : scalars.offset.adding(x, times: scalars.rstdLow)
      return low.adding(x, times: scalars.rstd)
    }
    // Subtracted from what is in a register, x may stay in memory.
    let negative = scalars.center - x
    let low =
      isCoarse ? scalars.offset : scalars.offset.subtracting(negative, times: scalars.rstdLow)
    return low.subtracting(negative, times: scalars.rstd)
  }

  /// The columns before `end`, as many as a vector holds; see `RowSource.loadLast`.
  @inline(__always)
  func normalized<S: RowSource>(_ row: S, endingAt end: Int) -> C.Vector where S.Compute == C {
    affine.apply(normalize(row.loadLast(of: end), isCoarse: false), last: end)
  }

  /// The same as a row of type Y gets it.
  @inline(__always)
  func normalizedForStore<S: RowSource, Y: Element>(
    _ row: S, endingAt end: Int, as _: Y.Type
  ) -> C.Vector where S.Compute == C {
    affine.apply(normalize(row.loadLast(of: end), isCoarse: Y.isCoarse), last: end)
  }

  /// Normalizes a row of `count` elements into y, which may be where the row is.
  ///
  /// - Parameters:
  ///   - ahead: how many elements later a row is that is asked for; 0 for none.
  ///   - storesAhead: how many bytes before a store its cache line is then asked for.
  @inline(__always)
  func callAsFunction<S: StoredRow, Y: Element>(
    _ row: S, count: Int, into y: UnsafeMutablePointer<Y>, ahead: Int = 0, storesAhead: Int = 0
  ) where S.Compute == C, S.Stored == Y {
    let width = S.width
    let last = row.loadLast(of: count)
    var index = 0
    // Stores that straddle cache lines take twice as long: the second begins where a line does.
    let second = Self.misalignment(y)
    if !A.isRare && second > 0 && count >= 8 &* width {
      // Both are read before either is stored, since y may be x.
      let ofSecond = affine.apply(
        normalize(row.load(second), isCoarse: Y.isCoarse), at: second)
      C.store(
        affine.apply(normalize(row.load(0), isCoarse: Y.isCoarse), at: 0), to: y,
        nanIsShort: A.nanIsShort)
      C.store(ofSecond, to: y + second, nanIsShort: A.nanIsShort)
      index = second &+ width
    }
    // To split weight and bias for one row takes as long as that saves.
    let atOnce = A.splits ? 2 &* width : width
    let end = index &+ (count &- index) & (0 &- atOnce)
    let descends =
      !A.isRare && ahead == 0 && ColumnOrder(reading: row.elements, storing: y).descends
    let (first, step) = columns(index..<end, by: atOnce, descends: descends)
    var column = first
    while index < end {
      if ahead != 0 {
        ln_prefetch(row.elements + (column &+ ahead))
        ln_prefetch_write(UnsafeMutableRawPointer(y + column) + storesAhead)
      }
      if A.splits {
        self(twoOf: Row(row.elements), at: column, into: y, streams: false)
      } else {
        C.store(
          affine.apply(normalize(row.load(column), isCoarse: Y.isCoarse), at: column),
          to: y + column, nanIsShort: A.nanIsShort)
      }
      column = Int(ln_opaque_index(Int64(column &+ step)))
      index &+= atOnce
    }
    if atOnce > width && index &+ width <= count {
      self(row, at: index, into: y, streams: false)
      index &+= width
    }
    if index < count {
      storeLast(
        affine.apply(normalize(last, isCoarse: Y.isCoarse), last: count), as: C.self, of: count,
        to: y)
    }
  }

  @inline(__always)
  func normalized<S: RowSource, T: Element>(
    _ row: S, at index: Int, _ terms: (AffineTerms<C>, AffineTerms<C>), as _: T.Type
  ) -> ColumnVectors<C> where S.Compute == C {
    let x = row.loadColumns(index)
    return (
      affine.apply(normalize(x.0, isCoarse: T.isCoarse), terms.0),
      affine.apply(normalize(x.1, isCoarse: T.isCoarse), terms.1)
    )
  }

  @inline(__always)
  func store<T: Element>(
    _ columns: ColumnVectors<C>, to y: UnsafeMutablePointer<T>, streams: Bool = false
  ) {
    ReadyColumns<T, C>(columns, nanIsShort: A.nanIsShort).store(to: y, streams: streams)
  }

  /// Two vectors of columns of a row that is split.
  @inline(__always)
  func callAsFunction<S: RowSource, T: Element>(
    twoOf row: S, at index: Int, into y: UnsafeMutablePointer<T>, streams: Bool
  ) where S.Compute == C {
    store(
      normalized(row, at: index, affine.splitTerms(at: index, isLast: false), as: T.self),
      to: y + index,
      streams: streams)
  }

  /// A vector of columns of a row.
  @inline(__always)
  func callAsFunction<S: RowSource, Y: Element>(
    _ row: S, at index: Int, into y: UnsafeMutablePointer<Y>, streams: Bool
  ) where S.Compute == C {
    self(row, at: index, affine.terms(at: index), into: y, streams: streams)
  }

  /// A vector of columns of a row, whose weight and bias are at hand.
  @inline(__always)
  func callAsFunction<S: RowSource, Y: Element>(
    _ row: S, at index: Int, _ terms: AffineTerms<C>, into y: UnsafeMutablePointer<Y>,
    streams: Bool
  ) where S.Compute == C {
    let vector = normalized(row, at: index, terms, as: Y.self)
    if streams {
      C.stream(vector, to: y + index, nanIsShort: A.nanIsShort)
    } else {
      C.store(vector, to: y + index, nanIsShort: A.nanIsShort)
    }
  }

  /// The same as a row of type Y gets it.
  @inline(__always)
  func normalized<S: RowSource, Y: Element>(
    _ row: S, at index: Int, _ terms: AffineTerms<C>, as _: Y.Type
  ) -> C.Vector where S.Compute == C {
    affine.apply(normalize(row.load(index), isCoarse: Y.isCoarse), terms)
  }

  /// Whether a row may go past the caches. A cache line that is stored to both ways costs far more than
  /// one that is stored to either way, so a row has to end where a vector does, or to be long enough for
  /// its ends not to matter.
  @inline(__always)
  static func canStream<Y: Element>(
    _ y: UnsafeMutablePointer<Y>, count: Int, leastStraddling: Int
  ) -> Bool {
    !A.isRare
      && (count &* MemoryLayout<Y>.stride >= leastStraddling
        || misalignment(y) == 0 && C.Vector.whole(count) == count)
  }

  /// Elements from y to the next multiple of a vector's size.
  @inline(__always)
  private static func misalignment<Y: Element>(_ y: UnsafeMutablePointer<Y>) -> Int {
    let bytes = UInt(C.Vector.width &* MemoryLayout<Y>.stride)
    return Int(((0 &- UInt(bitPattern: y)) & (bytes &- 1)) / UInt(MemoryLayout<Y>.stride))
  }

  /// The same past the caches, for a y that is apart from x and too large to stay in them.
  @inline(__always)
  func stream<S: StoredRow, Y: Element>(
    _ row: S, count: Int, into y: UnsafeMutablePointer<Y>
  ) where S.Compute == C, S.Stored == Y {
    let width = S.width
    var index = Self.misalignment(y)
    if index > 0 {
      let first = affine.apply(normalize(row.load(short: index), isCoarse: Y.isCoarse), last: index)
      storeShort(first, as: C.self, of: index, to: y)
    }
    let descends = ColumnOrder(reading: row.elements, storing: y).descends
    // For rows off 0, which are few, there is no code.
    if S.splits && (N.hasCenterZero || !N.centers) && UInt(bitPattern: y) & 63 == 0 {
      let end = count & (0 &- 2 &* width)
      let (first, step) = columns(0..<end, by: 2 &* width, descends: descends)
      var column = first
      while index < end {
        self(twoOf: row, at: column, into: y, streams: true)
        column &+= step
        index &+= 2 &* width
      }
    }
    let end = index &+ C.Vector.whole(count &- index)
    let (first, step) = columns(index..<end, by: width, descends: descends)
    var column = first
    while index < end {
      C.stream(
        affine.apply(normalize(row.load(column), isCoarse: Y.isCoarse), at: column), to: y + column,
        nanIsShort: A.nanIsShort)
      column &+= step
      index &+= width
    }
    if index < count {
      let last = affine.apply(normalize(row.loadLast(of: count), isCoarse: Y.isCoarse), last: count)
      storeShort(last, as: C.self, of: count &- index, to: y + index)
    }
  }
}
