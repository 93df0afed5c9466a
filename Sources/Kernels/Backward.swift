import CShims

/// Backward kernel of one dtype: dy, x, dsum and dx are of type T, weight of its compute type.
@inline(__always)
func backward<T: Element>(
  _: T.Type, _ work: UnsafePointer<ln_backward_work>?, _ begin: Int64, _ end: Int64,
  _ sums: UnsafeMutableRawPointer?, _ continues: Int32
) where T.Compute: Element {
  let rows = BackwardRows<T>(work.unsafelyUnwrapped, sums, continues: continues != 0)
  rows.run(Int(begin), Int(end))
}

/// The rows of one block, a group at a time. A group takes two passes: one along each row for its sums,
/// and one along each pair of rows for dx, dweight and dbias.
private struct BackwardRows<T: Element> where T.Compute: Element {
  typealias C = T.Compute

  private let work: UnsafePointer<ln_backward_work>
  private let weight: Row<C, C>
  private let count: Int
  private let reciprocalCount: C.Wide
  /// For 16-bit rows: what a few give to dweight and dbias is added up in the compute type before it goes on
  /// in twice the precision.
  private var isCoarse: Bool { T.isCoarse || work.pointee.is_coarse != 0 }
  private var centers: Bool { work.pointee.centers != 0 }
  private let sums: ParameterSums<C>?

  /// - Parameter continues: whether the sums hold those of earlier rows.
  init(
    _ work: UnsafePointer<ln_backward_work>, _ sums: UnsafeMutableRawPointer?, continues: Bool
  ) {
    self.work = work
    weight = Row(work.pointee.weight.unsafelyUnwrapped.assumingMemoryBound(to: C.self))
    let count = Int(work.pointee.cols)
    self.count = count
    reciprocalCount = C.Wide(reciprocalOf: count)
    self.sums = sums.map { ParameterSums($0, count: count) }
    if !continues { self.sums?.clear(coarse: isCoarse) }
  }

  /// Where a row of a group is, and what is known of it.
  private struct GroupRow {
    let x: UnsafePointer<T>
    let dy: UnsafePointer<T>
    let dsum: UnsafePointer<T>?
    let dx: UnsafeMutablePointer<T>?
  }

  @inline(never) func run(_ begin: Int, _ end: Int) {
    // An even number, for pairs.
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
          if isCoarse, let sums = self.sums,
            position.row == end
              || (position.row &- begin) % ParameterSums<C>.coarseRows(count) == 0
          {
            sums.joinCoarse()
          }
        }
      }
    }
  }

  private func run(
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
      let ahead = rows &* Int(work.pointee.x.row_stride)
      // In the order of the rows, since that of the sums depends on it.
      var index = 0
      while index < rows {
        if good >> UInt32(index) & 1 == 0 {
          finishScaled(group[index], first &+ index)
          index &+= 1
        } else if index & 1 == 0 && good >> UInt32(index) & 2 != 0 {
          finish(group, index, index &+ 1, scalars, ahead: ahead)
          index &+= 2
        } else {
          finish(group, index, index, scalars, ahead: ahead)
          index &+= 1
        }
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
      rstd: C.Wide(rstd), outerRstd: rstd, isInRange: &isInRange)
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
        rstd: rstd, outerRstd: rstd.narrow, isInRange: &isInRange)
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

  /// Of two rows of a group, or of one, which is then named twice.
  @inline(never)
  private func finish(
    _ group: UnsafePointer<GroupRow>, _ first: Int, _ second: Int,
    _ scalars: UnsafePointer<GradientScalars<C>>, ahead: Int
  ) {
    let pair = RowPair(
      a: group[first], b: group[second], isPair: first != second,
      gradientOfA: RowGradient(scalars, row: first), gradientOfB: RowGradient(scalars, row: second))
    let width = C.Vector.width
    let wholeEnd = C.Vector.whole(count)
    // What ends with the rows, before the vectors that it overlaps are stored where it is read from.
    var last = (a: C.Vector(repeating: .zero), b: C.Vector(repeating: .zero))
    if wholeEnd < count { last = terms(pair, wholeEnd, isLast: true) }
    var column = 0
    #if !LAYERNORM_COMPACT
      if pair.isPair && !adds, let sums, let dxOfA = pair.a.dx, let dxOfB = pair.b.dx {
        let readsAhead = work.pointee.reads_ahead != 0
        let writesAhead = work.pointee.writes_ahead != 0
        // What nearly every pair is: the same as below without a question for each vector.
        while column < wholeEnd {
          let weight = weight.load(column)
          let dyOfA = Row<T, C>(pair.a.dy).load(column)
          let dyOfB = Row<T, C>(pair.b.dy).load(column)
          let a = pair.gradientOfA.terms(
            Row<T, C>(pair.a.x).load(column), dyOfA, weight: weight, isCoarse: T.isCoarse)
          let b = pair.gradientOfB.terms(
            Row<T, C>(pair.b.x).load(column), dyOfB, weight: weight, isCoarse: T.isCoarse)
          if readsAhead {
            ln_prefetch(pair.a.x + (column &+ ahead))
            ln_prefetch(pair.b.x + (column &+ ahead))
            ln_prefetch(pair.a.dy + (column &+ ahead))
            ln_prefetch(pair.b.dy + (column &+ ahead))
            if writesAhead {
              ln_prefetch_write(dxOfA + (column &+ ahead))
              ln_prefetch_write(dxOfB + (column &+ ahead))
            }
          }
          C.store(a.dx, to: dxOfA + column)
          C.store(b.dx, to: dxOfB + column)
          if isCoarse {
            let dweight = sums.coarseDweight(at: column)
            dweight.pointee = dweight.pointee.adding(dyOfA, times: a.normalized)
              .adding(dyOfB, times: b.normalized)
            let dbias = sums.coarseDbias(at: column)
            dbias.pointee = dbias.pointee + dyOfA + dyOfB
          } else {
            sums.dweight(at: column).pointee.add(dyOfA, times: a.normalized)
            sums.dweight(at: column).pointee.add(dyOfB, times: b.normalized)
            sums.dbias(at: column).pointee.add(dyOfA)
            sums.dbias(at: column).pointee.add(dyOfB)
          }
          column &+= width
        }
      }
    #endif
    while column < wholeEnd {
      let dx = terms(pair, column, isLast: false)
      if let into = pair.a.dx { C.store(dx.a, to: into + column) }
      if pair.isPair, let into = pair.b.dx { C.store(dx.b, to: into + column) }
      column &+= width
    }
    guard wholeEnd < count else { return }
    if let into = pair.a.dx { storeLast(last.a, as: C.self, of: count, to: into) }
    if pair.isPair, let into = pair.b.dx { storeLast(last.b, as: C.self, of: count, to: into) }
  }

  private struct RowPair {
    let a: GroupRow
    let b: GroupRow
    let isPair: Bool
    let gradientOfA: RowGradient<C>
    let gradientOfB: RowGradient<C>
  }

  /// A vector of columns: adds to their entry of the sums, and gives dx.
  ///
  /// - Parameter isLast: the vector that ends with the rows.
  #if LAYERNORM_COMPACT
    @inline(never)
  #else
    @inline(__always)
  #endif
  private func terms(_ pair: RowPair, _ column: Int, isLast: Bool) -> (a: C.Vector, b: C.Vector) {
    let weight = isLast ? weight.loadLast(of: count) : weight.load(column)
    let dyOfA = load(pair.a.dy, column, isLast: isLast)
    let a = pair.gradientOfA.terms(
      load(pair.a.x, column, isLast: isLast), dyOfA, weight: weight)
    let dyOfB = load(pair.b.dy, column, isLast: isLast)
    let b = pair.gradientOfB.terms(
      load(pair.b.x, column, isLast: isLast), dyOfB, weight: weight)
    var dx = (a: a.dx, b: b.dx)
    if let sums {
      if isCoarse {
        let dweight = sums.coarseDweight(at: column)
        let dbias = sums.coarseDbias(at: column)
        dweight.pointee = dweight.pointee.adding(dyOfA, times: a.normalized)
        dbias.pointee = dbias.pointee + dyOfA
        if pair.isPair {
          dweight.pointee = dweight.pointee.adding(dyOfB, times: b.normalized)
          dbias.pointee = dbias.pointee + dyOfB
        }
      } else {
        sums.dweight(at: column).pointee.add(dyOfA, times: a.normalized)
        sums.dbias(at: column).pointee.add(dyOfA)
        if pair.isPair {
          sums.dweight(at: column).pointee.add(dyOfB, times: b.normalized)
          sums.dbias(at: column).pointee.add(dyOfB)
        }
      }
    }
    if adds {
      dx.a = add(to: dx.a, of: pair.a, column, isLast: isLast)
      dx.b = add(to: dx.b, of: pair.b, column, isLast: isLast)
    }
    return dx
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
