import CShims

/// Backward kernel of one dtype: dy, x, dsum and dx are of type T, weight of its compute type.
@inline(__always)
func backward<T: Element>(
  _: T.Type, _ work: UnsafePointer<ln_backward_work>?, _ begin: Int64, _ end: Int64,
  _ sums: UnsafeMutableRawPointer?, _ continues: Int32
) where T.Compute: Element {
  let work = work.unsafelyUnwrapped
  if work.pointee.is_coarse != 0 {
    var rows = BackwardRows<T, CoarsePrecision>(work, sums, continues: continues != 0)
    rows.run(Int(begin), Int(end))
  } else {
    var rows = BackwardRows<T, FinePrecision>(work, sums, continues: continues != 0)
    rows.run(Int(begin), Int(end))
  }
}

/// The rows of one block, a group at a time. A group takes two passes: one along each row for its sums,
/// and one along the columns, through all rows of the group, for dx, dweight and dbias. So weight and the
/// sums over rows are read once for all of them.
private struct BackwardRows<T: Element, P: GradientPrecision> where T.Compute: Element {
  typealias C = T.Compute

  private let work: UnsafePointer<ln_backward_work>
  private let weight: Row<C, C>
  private let count: Int
  private let reciprocalCount: C.Wide
  private var centers: Bool { work.pointee.centers != 0 }
  private let sums: ParameterSums<C>?
  /// Whether the sums hold those of earlier rows.
  private var continues: Bool

  init(
    _ work: UnsafePointer<ln_backward_work>, _ sums: UnsafeMutableRawPointer?, continues: Bool
  ) {
    self.work = work
    self.continues = continues
    weight = Row(work.pointee.weight.unsafelyUnwrapped.assumingMemoryBound(to: C.self))
    let count = Int(work.pointee.cols)
    self.count = count
    reciprocalCount = C.Wide(reciprocalOf: count)
    self.sums = sums.map { ParameterSums($0, count: count) }
  }

  /// Where a row of a group is, and what is known of it.
  private struct GroupRow {
    let x: UnsafePointer<T>
    let dy: UnsafePointer<T>
    let dsum: UnsafePointer<T>?
    let dx: UnsafeMutablePointer<T>?
  }

  @inline(never) mutating func run(_ begin: Int, _ end: Int) {
    // A multiple of four, over which coarse sums go.
    let group =
      rowsPerGroup &* count &* MemoryLayout<T>.stride <= C.bytesPerGroup
      ? rowsPerGroup : rowsPerGroup / 2
    withUnsafeTemporaryAllocation(of: GradientRowSums<C>.self, capacity: rowsPerGroup) { sums in
      if end &- begin > 1 { sums.initialize(repeating: GradientRowSums()) }
      let sums = sums.baseAddress.unsafelyUnwrapped
      withUnsafeTemporaryAllocation(of: GroupRow.self, capacity: rowsPerGroup) { rows in
        let rows = rows.baseAddress.unsafelyUnwrapped
        var position = RowPosition(begin, rowsPerBatch: work.pointee.rows_per_batch)
        while position.row < end {
          run(&position, rows: min(group, end &- position.row), sums, rows)
        }
      }
    }
  }

  private mutating func run(
    _ position: inout RowPosition, rows: Int, _ sums: UnsafeMutablePointer<GradientRowSums<C>>,
    _ group: UnsafeMutablePointer<GroupRow>
  ) {
    let first = position.row
    for index in 0..<rows {
      group[index] = GroupRow(
        x: position.pointer(in: work.pointee.x, of: T.self),
        dy: position.pointer(in: work.pointee.dy, of: T.self),
        dsum: UnsafePointer(position.pointer(ifIn: work.pointee.dsum, of: T.self)),
        dx: position.pointer(ifIn: work.pointee.dx, of: T.self))
      position.advance()
    }
    var isInRange = RowMask(repeating: -1)
    var scalars = self.scalars(first, rows, sums, group, &isInRange)
    let good = isInRange.bits(rows: rows)
    withUnsafePointer(to: &scalars) { scalars in
      if good == 1 << UInt32(rows) &- 1 {
        finish(0, rows, group, scalars)
        continues = true
        return
      }
      // In the order of the rows, since that of the sums depends on it. Four that are all in range stay
      // together, whatever else is in the group: how many rows it has must not matter.
      var four = 0
      while four < rows {
        let end = min(four &+ 4, rows)
        let inFour = (1 << UInt32(end) &- 1) & ~(1 << UInt32(four) &- 1) as UInt32
        if good & inFour == inFour {
          finish(four, end, group, scalars)
          continues = true
        } else {
          for index in four..<end {
            if good >> UInt32(index) & 1 != 0 {
              finish(index, index &+ 1, group, scalars)
            } else {
              finishScaled(group[index], first &+ index)
            }
            continues = true
          }
        }
        four = end
      }
    }
  }

  // MARK: The sums of each row

  private func scalars(
    _ first: Int, _ rows: Int, _ sums: UnsafeMutablePointer<GradientRowSums<C>>,
    _ group: UnsafePointer<GroupRow>, _ isInRange: inout RowMask
  ) -> GradientScalars<C> {
    guard let given = work.pointee.rstd else {
      return scalarsOfRecomputed(rows, sums, group, &isInRange)
    }
    let rstd: C.Rows = load(given, first, rows)
    let center = work.pointee.mean.map { load($0, first, rows) } ?? C.Rows(repeating: .zero)
    for index in 0..<rows {
      reduce(
        x: Row(group[index].x), dy: Row(group[index].dy), weight: weight, around: center[index],
        findsMean: centers, count: count, into: sums + index)
    }
    isInRange = isUsable(rstd)
    return GradientScalars(
      centers: centers, rows: rows, sums, reciprocalCount: reciprocalCount, center: center,
      mean: nil, rstd: C.Wide(rstd), outerRstd: rstd, isInRange: &isInRange)
  }

  /// The same with the statistics of x found first.
  @inline(never)
  private func scalarsOfRecomputed(
    _ rows: Int, _ sums: UnsafeMutablePointer<GradientRowSums<C>>,
    _ group: UnsafePointer<GroupRow>, _ isInRange: inout RowMask
  ) -> GradientScalars<C> {
    let moments = withUnsafeTemporaryAllocation(of: RowSums<C>.self, capacity: rowsPerGroup) {
      sums in
      sums.initialize(repeating: RowSums())
      let sums = sums.baseAddress.unsafelyUnwrapped
      func moments<N: Norm>(_: N.Type) -> Moments<C> {
        for index in 0..<rows {
          reduce(
            N.self, Row<T, C>(group[index].x), around: NoShift(), count: count, into: sums + index)
        }
        return Moments(
          N.self, rows: rows, count: count, reciprocalCount: reciprocalCount, sums: sums
        ) { Row<T, C>(group[$0].x) }
      }
      return centers ? moments(LayerNorm.self) : moments(RMSNorm.self)
    }
    let rstd = (moments.variance + C.Wide(repeating: work.pointee.eps)).reciprocalSquareRoot
    let center = moments.center.narrow
    for index in 0..<rows {
      reduce(
        x: Row(group[index].x), dy: Row(group[index].dy), weight: weight, around: center[index],
        findsMean: false, count: count, into: sums + index)
    }
    isInRange = ~moments.needsScaling(eps: work.pointee.eps)
    return withUnsafePointer(to: moments.mean) { mean in
      GradientScalars(
        centers: centers, rows: rows, sums, reciprocalCount: reciprocalCount, center: center,
        mean: mean, rstd: rstd, outerRstd: rstd.narrow, isInRange: &isInRange)
    }
  }

  /// Given statistics of some rows.
  @inline(__always)
  private func load(_ statistics: UnsafeRawPointer, _ first: Int, _ rows: Int) -> C.Rows {
    let statistics = statistics.assumingMemoryBound(to: C.self) + first
    if rows == rowsPerGroup {
      return UnsafeRawPointer(statistics).loadUnaligned(as: C.Rows.self)
    }
    var values = C.Rows(repeating: .zero)
    for index in 0..<rows { values[index] = statistics[index] }
    return values
  }

  /// Whether a given rstd is not so near the ends of its range that it may have lost digits.
  @inline(__always) private func isUsable(_ rstd: C.Rows) -> RowMask {
    let magnitude = ln_magnitude8(C.Wide(rstd).doubles)
    return ln_less8(magnitude, SIMD8(repeating: C.largestRstd))
      & ln_less8(SIMD8(repeating: 1 / C.largestRstd), magnitude)
  }

  // MARK: dx, dweight and dbias

  /// Of the rows first ..< end of a group.
  private func finish(
    _ first: Int, _ end: Int, _ group: UnsafePointer<GroupRow>,
    _ scalars: UnsafePointer<GradientScalars<C>>
  ) {
    let width = C.Vector.width
    let wholeEnd = count &- count % width
    withUnsafeTemporaryAllocation(of: C.Vector.self, capacity: rowsPerGroup) { last in
      // What ends with the rows, before the vectors that it overlaps are stored where it is read from.
      if wholeEnd < count {
        finish(
          first, end, group, scalars, weight: weight.loadLast(of: count), entry: wholeEnd / width,
          load: { Row<T, C>($0).loadLast(of: count) }, store: { last[$0] = $1 })
      }
      var column = 0
      while column < wholeEnd {
        finish(
          first, end, group, scalars, weight: weight.load(column), entry: column / width,
          load: { Row<T, C>($0).load(column) },
          store: { C.store($1, to: group[$0].dx.unsafelyUnwrapped + column) })
        column &+= width
      }
      if wholeEnd < count && work.pointee.dx.data != nil {
        for index in first..<end {
          let dx = group[index].dx.unsafelyUnwrapped
          storeLast(last[index], as: C.self, of: count, to: dx)
        }
      }
    }
  }

  /// One vector of columns.
  @inline(__always)
  private func finish(
    _ first: Int, _ end: Int, _ group: UnsafePointer<GroupRow>,
    _ scalars: UnsafePointer<GradientScalars<C>>, weight: C.Vector, entry: Int,
    load: (UnsafePointer<T>) -> C.Vector, store: (_ row: Int, _ dx: C.Vector) -> Void
  ) {
    var dweight = ParameterSums<C>.Entry()
    var dbias = ParameterSums<C>.Entry()
    if let sums, continues {
      dweight = sums.dweight[entry]
      dbias = sums.dbias[entry]
    }
    let adds = work.pointee.dsum.data != nil || work.pointee.accumulates_dx != 0
    let wantsDX = work.pointee.dx.data != nil
    let ahead = (end &- first) &* Int(work.pointee.x.row_stride) &+ entry &* C.Vector.width
    var index = first
    while index < end {
      var ofRows = (dweight: C.Vector(repeating: .zero), dbias: C.Vector(repeating: .zero))
      let stop = P.isCoarse ? min(end, (index | 3) &+ 1) : end
      while index < stop {
        let row = group + index
        ln_prefetch(row.pointee.dy + ahead)
        ln_prefetch(row.pointee.x + ahead)
        let dy = load(row.pointee.dy)
        var (dx, normalized) = RowGradient(scalars, row: index)
          .terms(load(row.pointee.x), dy, weight: weight)
        if P.isCoarse {
          ofRows.dweight = ofRows.dweight.adding(dy, times: normalized)
          ofRows.dbias = ofRows.dbias + dy
        } else {
          dweight.add(dy, times: normalized)
          dbias.add(dy)
        }
        if adds {
          if let dsum = row.pointee.dsum { dx = dx + load(dsum) }
          if work.pointee.accumulates_dx != 0, let old = row.pointee.dx {
            dx = dx + load(UnsafePointer(old))
          }
        }
        if wantsDX { store(index, dx) }
        index &+= 1
      }
      if P.isCoarse {
        dweight.add(ofRows.dweight)
        dbias.add(ofRows.dbias)
      }
    }
    if let sums {
      sums.dweight[entry] = dweight
      sums.dbias[entry] = dbias
    }
  }

  // MARK: Rows out of range

  private func finishScaled(_ row: GroupRow, _ index: Int) {
    var usableRstd = 0.0
    if let given = work.pointee.rstd {
      let given: C.Rows = load(given, index, 1)
      if isUsable(given).bits(rows: 1) != 0 { usableRstd = C.Wide(given).doubles[0] }
    }
    if !continues { sums?.clear() }
    let accumulated = work.pointee.accumulates_dx != 0 ? row.dx : nil
    ScaledBackward(
      work: work, sums: sums, x: AnyRow(row.x), dy: AnyRow(row.dy),
      weight: AnyRow(weight.elements), dx: AnyRow(raw: row.dx, of: T.self),
      addends: (AnyRow(raw: row.dsum, of: T.self), AnyRow(raw: accumulated, of: T.self))
    ).run(givenRstd: usableRstd)
  }
}
