import CShims

/// Backward kernel of one dtype: dy, x, dsum and dx are of type T, weight of its compute type.
@inline(__always)
func backward<T: Element>(
  _: T.Type, _ work: UnsafePointer<ln_backward_work>?, _ begin: Int64, _ end: Int64,
  _ sums: UnsafeMutableRawPointer?, _ before: Int64
) where T.Compute: Element {
  let rows = BackwardRows<T>(work.unsafelyUnwrapped, sums, before: Int(before))
  rows.run(Int(begin), Int(end))
}

/// The rows of one block, a group at a time. A group takes two passes: one along each row for its sums,
/// and one along the columns of four rows at a time for dx, dweight and dbias.
struct BackwardRows<T: Element> where T.Compute: Element {
  typealias C = T.Compute

  let work: UnsafePointer<ln_backward_work>
  let weight: Row<C, C>
  let count: Int
  private let reciprocalCount: C.Wide
  /// For 16-bit rows: what some give to dweight and dbias is added up in the compute type before it goes on in
  /// twice the precision.
  var isCoarse: Bool { T.isCoarse || work.pointee.coarse_rows != 0 }
  private var centers: Bool { work.pointee.centers != 0 }
  private let sums: ParameterSums<C>?
  /// How many rows the sums hold already.
  private let before: Int

  init(
    _ work: UnsafePointer<ln_backward_work>, _ sums: UnsafeMutableRawPointer?, before: Int
  ) {
    self.work = work
    self.before = before
    weight = Row(work.pointee.weight.unsafelyUnwrapped.assumingMemoryBound(to: C.self))
    let count = Int(work.pointee.cols)
    self.count = count
    reciprocalCount = C.Wide(reciprocalOf: count)
    self.sums = sums.map { ParameterSums($0, count: count) }
    if before == 0 { self.sums?.clear(coarse: isCoarse) }
  }

  /// Where a row of a group is, and what is known of it.
  struct GroupRow {
    let x: UnsafePointer<T>
    let dy: UnsafePointer<T>
    let dsum: UnsafePointer<T>?
    let dx: UnsafeMutablePointer<T>?
  }

  @inline(never) func run(_ begin: Int, _ end: Int) {
    if end &- begin == 1 {
      // Those of a group would be too large to be allocated on the stack.
      var sums = GradientRowSums<C>()
      run(begin, end, &sums)
    } else {
      withUnsafeTemporaryAllocation(of: GradientRowSums<C>.self, capacity: rowsPerGroup) { sums in
        sums.initialize(repeating: GradientRowSums())
        run(begin, end, sums.baseAddress.unsafelyUnwrapped)
      }
    }
    if work.pointee.streams != 0 { ln_stream_fence() }
  }

  @inline(never)
  private func run(
    _ begin: Int, _ end: Int, _ sums: UnsafeMutablePointer<GradientRowSums<C>>
  ) {
    // Whole fours.
    let group =
      rowsPerGroup &* count &* MemoryLayout<T>.stride <= C.bytesPerGroup
      ? rowsPerGroup : rowsPerGroup / 2
    withUnsafeTemporaryAllocation(of: GroupRow.self, capacity: rowsPerGroup) { rows in
      let rows = rows.baseAddress.unsafelyUnwrapped
      var cursors = Cursors(work, at: begin)
      var row = begin
      while row < end {
        let count = min(group, end &- row)
        run(&cursors, first: row, rows: count, sums, rows)
        row &+= count
        if isCoarse, let sums = self.sums,
          (before &+ row &- begin) % Int(work.pointee.coarse_rows) == 0
        {
          sums.joinCoarse()
        }
      }
    }
  }

  private struct Cursors {
    var x: RowCursor<T>
    var dy: RowCursor<T>
    var dsum: RowCursor<T>?
    var dx: RowCursor<T>?

    @inline(__always) init(_ work: UnsafePointer<ln_backward_work>, at first: Int) {
      func cursor(_ rows: ln_rows) -> RowCursor<T>? {
        RowCursor(rows, at: first, rowsPerBatch: work.pointee.rows_per_batch)
      }
      x = cursor(work.pointee.x).unsafelyUnwrapped
      dy = cursor(work.pointee.dy).unsafelyUnwrapped
      dsum = cursor(work.pointee.dsum)
      dx = cursor(work.pointee.dx)
    }
  }

  private func run(
    _ cursors: inout Cursors, first: Int, rows: Int,
    _ sums: UnsafeMutablePointer<GradientRowSums<C>>, _ group: UnsafeMutablePointer<GroupRow>
  ) {
    for index in 0..<rows {
      group[index] = GroupRow(
        x: cursors.x.next(), dy: cursors.dy.next(),
        dsum: (cursors.dsum?.next()).map { UnsafePointer($0) }, dx: cursors.dx?.next())
    }
    var isInRange = RowMask(repeating: -1)
    var scalars = self.scalars(first, rows, sums, group, &isInRange)
    let good = isInRange.bits(rows: rows)
    withUnsafePointer(to: &scalars) { scalars in
      var index = 0
      while index < rows {
        let four = Four(
          rows: group + index, isGood: good >> UInt32(index) & 15,
          scalars: scalars, firstScalar: index)
        finish(four, ahead: rows &* Int(work.pointee.x.row_stride))
        for row in index..<min(index &+ 4, rows) where good >> UInt32(row) & 1 == 0 {
          finishScaled(group[row], first &+ row)
        }
        index &+= 4
      }
    }
  }

  /// Four rows, counted from the first of a block, or what is left of them at its end: sums over rows are
  /// added up in this order.
  struct Four {
    let rows: UnsafePointer<GroupRow>
    /// As bits, the rows that there are and that are not out of range.
    let isGood: UInt32
    private let scalars: UnsafePointer<GradientScalars<C>>
    private let firstScalar: Int

    @inline(__always) init(
      rows: UnsafePointer<GroupRow>, isGood: UInt32,
      scalars: UnsafePointer<GradientScalars<C>>, firstScalar: Int
    ) {
      self.rows = rows
      self.isGood = isGood
      self.scalars = scalars
      self.firstScalar = firstScalar
    }

    @inline(__always) func gradient(_ row: Int) -> RowGradient<C> {
      RowGradient(scalars, row: firstScalar &+ row)
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
      let x = Row<T, C>(group[index].x)
      let dy = Row<T, C>(group[index].dy)
      #if !LAYERNORM_COMPACT
        if C.hasShortRows && count == 4 &* C.Vector.width {
          reduceFour(
            x: x, dy: dy, weight: weight, around: center[index], findsMean: centers,
            into: sums + index)
          continue
        }
      #endif
      reduce(
        x: x, dy: dy, weight: weight, around: center[index], findsMean: centers, count: count,
        into: sums + index)
    }
    isInRange = isUsable(rstd)
    return GradientScalars(
      work, rows: rows, sums, reciprocalCount: reciprocalCount, center: center, mean: nil,
      rstd: C.Wide(rstd), isInRange: &isInRange)
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
            NormOfSums<N>.self, Row<T, C>(group[index].x), around: NoShift(), count: count,
            into: sums + index)
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
        work, rows: rows, sums, reciprocalCount: reciprocalCount, center: center, mean: mean,
        rstd: rstd, isInRange: &isInRange)
    }
  }

  /// Given statistics of some rows.
  @inline(__always)
  private func load(_ statistics: UnsafeRawPointer, _ first: Int, _ rows: Int) -> C.Rows {
    C.Rows(statistics.assumingMemoryBound(to: C.self) + first, rows: rows)
  }

  /// Whether a given rstd is not so near the ends of its range that it may have lost digits.
  @inline(__always) private func isUsable(_ rstd: C.Rows) -> RowMask {
    let magnitude = ln_magnitude8(C.Wide(rstd).doubles)
    return ln_less8(magnitude, SIMD8(repeating: C.largestRstd))
      & ln_less8(SIMD8(repeating: 1 / C.largestRstd), magnitude)
  }

  // MARK: dx, dweight and dbias

  @inline(never) private func finish(_ four: Four, ahead: Int) {
    let width = C.Vector.width
    let wholeEnd = C.Vector.whole(count)
    withUnsafeTemporaryAllocation(of: C.Vector.self, capacity: 8) { dx in
      let dx = dx.baseAddress.unsafelyUnwrapped
      // What ends with the rows, before the vectors that it overlaps are stored where it is read from.
      let last = dx + 4
      if wholeEnd < count { findTerms(four, wholeEnd, isLast: true, dx: last) }
      var column = 0
      #if !LAYERNORM_COMPACT
        if !adds, T.isCoarse || !isCoarse, four.isGood == 15 || C.hasShortRows, let sums,
          four.rows[0].dx != nil
        {
          finishUsual(four, sums, ahead: ahead)
          column = wholeEnd
        }
      #endif
      while column < wholeEnd {
        findTerms(four, column, isLast: false, dx: dx)
        for row in 0..<4 where four.isGood >> UInt32(row) & 1 != 0 {
          if let into = four.rows[row].dx { C.store(dx[row], to: into + column) }
        }
        column &+= width
      }
      guard wholeEnd < count else { return }
      for row in 0..<4 where four.isGood >> UInt32(row) & 1 != 0 {
        if let into = four.rows[row].dx { storeLast(last[row], as: C.self, of: count, to: into) }
      }
    }
  }

  /// A vector of columns of the good rows: adds to their entry of the sums, and gives dx.
  ///
  /// - Parameter isLast: the vector that ends with the rows.
  @inline(never)
  private func findTerms(
    _ four: Four, _ column: Int, isLast: Bool, dx: UnsafeMutablePointer<C.Vector>
  ) {
    let weight = isLast ? weight.loadLast(of: count) : weight.load(column)
    for index in 0..<4 where four.isGood >> UInt32(index) & 1 != 0 {
      let row = four.rows[index]
      let dy = load(row.dy, column, isLast: isLast)
      let terms = four.gradient(index).terms(
        load(row.x, column, isLast: isLast), dy, weight: weight)
      if let sums {
        if isCoarse {
          var ofRow = CoarseSums(sums, at: column)
          ofRow.add(dy, terms.normalized)
          ofRow.store(to: sums, at: column)
        } else {
          sums.dweight(at: column).pointee.add(dy, times: terms.normalized)
          sums.dbias(at: column).pointee.add(dy)
        }
      }
      dx[index] =
        adds ? add(to: terms.dx, of: row, column, isLast: isLast) : terms.dx
    }
  }

  @inline(__always)
  private func load(_ row: UnsafePointer<T>, _ column: Int, isLast: Bool) -> C.Vector {
    isLast ? Row<T, C>(row).loadLast(of: count) : Row<T, C>(row).load(column)
  }

  /// Whether anything is added to dx.
  @inline(__always) private var adds: Bool {
    work.pointee.dsum.data != nil || work.pointee.accumulates_dx != 0
  }

  @inline(__always)
  private func add(to dx: C.Vector, of row: GroupRow, _ column: Int, isLast: Bool) -> C.Vector {
    var dx = dx
    if let dsum = row.dsum { dx = dx + load(dsum, column, isLast: isLast) }
    if work.pointee.accumulates_dx != 0, let old = row.dx {
      dx = dx + load(UnsafePointer(old), column, isLast: isLast)
    }
    return dx
  }

  // MARK: Rows out of range

  private func finishScaled(_ row: GroupRow, _ index: Int) {
    var usableRstd = 0.0
    if let given = work.pointee.rstd {
      let given: C.Rows = load(given, index, 1)
      if isUsable(given).bits(rows: 1) != 0 { usableRstd = C.Wide(given).doubles[0] }
    }
    let accumulated = work.pointee.accumulates_dx != 0 ? row.dx : nil
    ScaledBackward(
      work: work, sums: sums, x: AnyRow(row.x), dy: AnyRow(row.dy),
      weight: AnyRow(weight.elements), dx: AnyRow(raw: row.dx, of: T.self),
      addends: (AnyRow(raw: row.dsum, of: T.self), AnyRow(raw: accumulated, of: T.self))
    ).run(givenRstd: usableRstd)
  }
}
