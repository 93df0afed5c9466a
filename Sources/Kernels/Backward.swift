import CShims

/// Backward kernel of one dtype: dy, x, dsum and dx are of type T, weight of its compute type.
@inline(__always)
func backward<T: Element>(
  _: T.Type, _ work: UnsafePointer<ln_backward_work>?, _ begin: Int64, _ end: Int64,
  _ sums: UnsafeMutableRawPointer?, _ before: Int64
) where T.Compute: Element {
  let rows = BackwardRows<T>(
    work.unsafelyUnwrapped, sums, before: Int(before), rows: Int(end &- begin))
  rows.run(Int(begin), Int(end))
}

/// The rows of one block, a group at a time. A group takes two passes: one along each row for its sums,
/// and one along the columns of four rows at a time for dx, dweight and dbias.
struct BackwardRows<T: Element> where T.Compute: Element {
  typealias C = T.Compute

  let work: UnsafePointer<ln_backward_work>
  let weight: Parameter<C, C>
  let count: Int
  let reciprocalCount: C.Wide
  /// For 16-bit rows: what some give to dweight and dbias is added up in the compute type before it goes on in
  /// twice the precision.
  var isCoarse: Bool { T.isCoarse || work.pointee.coarse_rows != 0 }
  var centers: Bool { work.pointee.centers != 0 }
  private let sums: ParameterSums<C>?
  /// How many rows the sums hold already.
  private let before: Int
  /// Whether the sums are those of one row of float32, which begins them: to clear them takes a sixth of its time.
  let isOneRow: Bool

  init(
    _ work: UnsafePointer<ln_backward_work>, _ sums: UnsafeMutableRawPointer?, before: Int,
    rows: Int
  ) {
    self.work = work
    self.before = before
    weight =
      Parameter(raw: work.pointee.weight, split: work.pointee.split_weight).unsafelyUnwrapped
    let count = Int(work.pointee.cols)
    self.count = count
    reciprocalCount = C.Wide(reciprocalOf: count)
    self.sums = sums.map { ParameterSums($0, count: count) }
    #if LAYERNORM_COMPACT
      isOneRow = false
    #else
      isOneRow =
        T.self == Float.self && work.pointee.coarse_rows == 0 && before &+ rows == 1
    #endif
    if before == 0 && !isOneRow { self.sums?.clear(coarse: isCoarse) }
  }

  /// Rows of one batch.
  struct Tensors {
    /// The number in the call of what is row 0 here.
    let first: Int
    let x: BatchRows<T>
    let dy: BatchRows<T>
    let dsum: BatchRows<T>?
    let dx: BatchRows<T>?
    /// Whether columns are gone through from the last to the first.
    let descends: Bool

    @inline(__always)
    init(_ work: UnsafePointer<ln_backward_work>, _ first: Int, at position: RowPosition) {
      self.first = first
      x = BatchRows(work.pointee.x, at: position).unsafelyUnwrapped
      dy = BatchRows(work.pointee.dy, at: position).unsafelyUnwrapped
      dsum = BatchRows(work.pointee.dsum, at: position)
      dx = BatchRows(work.pointee.dx, at: position)
      var order = ColumnOrder()
      // Of short rows it would not tell.
      if let dx, work.pointee.is_near != 0, work.pointee.cols > 4 &* Int64(C.Vector.width) {
        order.add(reading: x, storing: dx, rows: 4)
        order.add(reading: dy, storing: dx, rows: 4)
      }
      descends = order.descends
    }
  }

  @inline(never) func run(_ begin: Int, _ end: Int) {
    // Of shorter rows, and of 16 bits, chains of few are slower than what they wait for.
    let isFew =
      C.hasShortRows && !T.isCoarse && count >= 8 &* C.Vector.width
      && work.pointee.streams != 0 && work.pointee.is_near != 0
    let fitting =
      (isFew ? bytesPerStreamedGroup : C.bytesPerGroup) / (count &* MemoryLayout<T>.stride)
    // Whole fours.
    let size =
      fitting < rowsPerChain
      ? rowsPerChain / 2 : min(fitting / rowsPerChain, GradientRowSums<C>.chains) &* rowsPerChain
    GradientRowSums<C>.withMemory(rows: min(size, end &- begin)) { sums in
      withUnsafeTemporaryAllocation(
        of: GradientScalars<C>.self, capacity: GradientRowSums<C>.chains
      ) { scalars in
        let group = Group(sums: sums, scalars: scalars.baseAddress.unsafelyUnwrapped)
        run(begin, end, size: size, group)
      }
    }
    if T.splits && leftToJoin(before &+ end &- begin) != coarseRows {
      sums?.bringInOrder(splitColumns)
    }
    if work.pointee.streams != 0 { ln_stream_fence() }
  }

  /// Of how many of the first columns a row is split, and so are sums over some rows.
  private var splitColumns: Int { T.splits ? count & (0 &- 2 &* C.Vector.width) : 0 }

  /// What is known of a group of rows: their sums, and for each chain what they come to.
  struct Group {
    let sums: UnsafePointer<GradientRowSums<C>>
    let scalars: UnsafeMutablePointer<GradientScalars<C>>
  }

  @inline(__always)
  private func run(_ begin: Int, _ end: Int, size: Int, _ group: Group) {
    var first = begin
    while first < end {
      let position = RowPosition(first, rowsPerBatch: work.pointee.rows_per_batch)
      let rows = min(end &- first, position.leftInBatch)
      withUnsafePointer(to: Tensors(work, first, at: position)) { tensors in
        var row = 0
        while row < rows {
          let count = min(size, rows &- row, leftToJoin(before &+ first &- begin &+ row))
          run(tensors, row, rows: count, group)
          row &+= count
          if let sums, leftToJoin(before &+ first &- begin &+ row) == coarseRows {
            if T.splits { sums.bringInOrder(splitColumns) }
            sums.joinCoarse()
          }
        }
      }
      first &+= rows
    }
  }

  private var coarseRows: Int { Int(work.pointee.coarse_rows) }

  /// How many rows are added up in the compute type until they go on in twice the precision, after so many of a
  /// block.
  @inline(__always) private func leftToJoin(_ rows: Int) -> Int {
    isCoarse ? coarseRows &- rows % coarseRows : Int.max
  }

  @inline(__always)
  private func run(
    _ tensors: UnsafePointer<Tensors>, _ first: Int, rows: Int, _ group: Group
  ) {
    let aroundZero =
      work.pointee.rstd != nil ? findSums(tensors, first, rows: rows, group.sums) : 0
    var good: UInt32 = 0
    var done = 0
    repeat {
      let count = min(rowsPerChain, rows &- done)
      var isInRange = RowMask(repeating: -1)
      findScalars(
        tensors, first &+ done, rows: count, group, sumsFrom: done,
        aroundZero: RowMask(bits: aroundZero >> UInt32(done)), &isInRange)
      good |= isInRange.bits(rows: count) << UInt32(done)
      done &+= rowsPerChain
    } while done < rows
    var index = 0
    while index < rows {
      let four = Four(
        tensors: tensors, first: first &+ index, isGood: good >> UInt32(index) & 15,
        scalars: group.scalars, firstScalar: index)
      finish(
        four, ahead: max(rows &* Int(work.pointee.x.row_stride), 32768 / MemoryLayout<T>.stride))
      for row in index..<min(index &+ 4, rows) where good >> UInt32(row) & 1 == 0 {
        finishScaled(tensors, first &+ row)
      }
      index &+= 4
    }
  }

  /// Four rows, counted from the first of a block, or what is left of them at its end: sums over rows are
  /// added up in this order.
  struct Four {
    let tensors: UnsafePointer<Tensors>
    let first: Int
    /// As bits, the rows that there are and that are not out of range.
    let isGood: UInt32
    private let scalars: UnsafePointer<GradientScalars<C>>
    private let firstScalar: Int

    @inline(__always) init(
      tensors: UnsafePointer<Tensors>, first: Int, isGood: UInt32,
      scalars: UnsafePointer<GradientScalars<C>>, firstScalar: Int
    ) {
      self.tensors = tensors
      self.first = first
      self.isGood = isGood
      self.scalars = scalars
      self.firstScalar = firstScalar
    }

    @inline(__always) func gradient(_ row: Int) -> RowGradient<C> {
      RowGradient(scalars, row: firstScalar &+ row)
    }

    /// Those of all four, side by side.
    @inline(__always) var numbers: UnsafePointer<C> { rowNumbers(scalars, ofRow: firstScalar) }
  }

  // MARK: dx, dweight and dbias

  @inline(never) private func finish(_ four: Four, ahead: Int) {
    let width = C.Vector.width
    let wholeEnd = C.Vector.whole(count)
    #if LAYERNORM_COMPACT
      let isUsual = false
    #else
      let isUsual =
        !addsTwo && (T.isCoarse || !isCoarse) && (four.isGood == 15 || C.hasShortRows)
        && sums != nil && four.tensors.pointee.dx != nil
      if isOneRow { sums?.clear(from: isUsual && four.isGood != 0 ? wholeEnd : 0) }
    #endif
    withUnsafeTemporaryAllocation(of: C.Vector.self, capacity: 12) { dx in
      let dx = dx.baseAddress.unsafelyUnwrapped
      // What ends with the rows, before the vectors that it overlaps are stored where it is read from.
      let last = dx + 8
      if wholeEnd < count { findTerms(four, wholeEnd, isLast: true, dx: last) }
      var column = 0
      #if !LAYERNORM_COMPACT
        if isUsual, let sums {
          finishUsual(four, sums, ahead: ahead)
          column = T.splits ? splitColumns : wholeEnd
        }
      #endif
      while column < wholeEnd {
        let isSplit = column < splitColumns
        findTerms(four, column, isLast: false, isSplit: isSplit, dx: dx)
        for row in 0..<4 where four.isGood >> UInt32(row) & 1 != 0 {
          if let into = four.tensors.pointee.dx?[four.first &+ row] {
            if T.splits && isSplit {
              ReadyColumns<T, C>((dx[row], dx[row &+ 4]), nanIsShort: false)
                .store(to: into + column, streams: false)
            } else {
              C.store(dx[row], to: into + column)
            }
          }
        }
        column &+= isSplit ? 2 &* width : width
      }
      guard wholeEnd < count else { return }
      for row in 0..<4 where four.isGood >> UInt32(row) & 1 != 0 {
        if let into = four.tensors.pointee.dx?[four.first &+ row] {
          storeLast(last[row], as: C.self, of: count, to: into)
        }
      }
    }
  }

  /// A vector of columns of the good rows: adds to their entry of the sums, and gives dx.
  ///
  /// - Parameters:
  ///   - isLast: the vector that ends with the rows.
  ///   - isSplit: two vectors, the even columns and the odd ones; those of dx are four apart.
  @inline(never)
  private func findTerms(
    _ four: Four, _ column: Int, isLast: Bool, isSplit: Bool = false,
    dx: UnsafeMutablePointer<C.Vector>
  ) {
    ln_align_stack()
    for half in 0..<(T.splits && isSplit ? 2 : 1) {
      @inline(__always) func load<S: RowSource>(_ row: S) -> C.Vector where S.Compute == C {
        if T.splits && isSplit {
          let two = row.loadSplit(column)
          return half == 0 ? two.0 : two.1
        }
        return isLast ? row.loadLast(of: count) : row.load(column)
      }
      let entry = column &+ half &* C.Vector.width
      let weight = load(weight)
      for index in 0..<4 where four.isGood >> UInt32(index) & 1 != 0 {
        let row = four.first &+ index
        let tensors = four.tensors.pointee
        let dy = load(Row<T, C>(tensors.dy[row]))
        let terms = four.gradient(index).terms(
          load(Row<T, C>(tensors.x[row])), dy, weight: weight, isCoarse: isCoarse && !isLast)
        if let sums {
          if isCoarse {
            var ofRow = CoarseSums(sums, at: entry)
            ofRow.add(dy, terms.normalized)
            ofRow.store(to: sums, at: entry)
          } else {
            sums.dweight(at: entry).pointee.add(dy, times: terms.normalized)
            sums.dbias(at: entry).pointee.add(dy)
          }
        }
        var sum = terms.dx
        if let dsum = tensors.dsum?[row] { sum = sum + load(Row<T, C>(dsum)) }
        if work.pointee.accumulates_dx != 0, let old = tensors.dx?[row] {
          sum = sum + load(Row<T, C>(UnsafePointer(old)))
        }
        dx[index &+ 4 &* half] = sum
      }
    }
  }

  /// Whether both a dsum and what dx holds are added to dx.
  @inline(__always) private var addsTwo: Bool {
    work.pointee.dsum.data != nil && work.pointee.accumulates_dx != 0
  }

  /// Whether anything is added to dx.
  @inline(__always) var adds: Bool {
    work.pointee.dsum.data != nil || work.pointee.accumulates_dx != 0
  }

  // MARK: Rows out of range

  private func finishScaled(_ tensors: UnsafePointer<Tensors>, _ row: Int) {
    let index = tensors.pointee.first &+ row
    let tensors = tensors.pointee
    var usableRstd = 0.0
    if let given = work.pointee.rstd {
      let given: C.Rows = load(given, index, 1)
      if isUsable(given).bits(rows: 1) != 0 { usableRstd = C.Wide(given).doubles[0] }
    }
    let accumulated = work.pointee.accumulates_dx != 0 ? tensors.dx?[row] : nil
    let scaled = ScaledBackward(
      work: work, sums: sums, x: AnyRow(tensors.x[row]), dy: AnyRow(tensors.dy[row]),
      weight: AnyRow(weight.row.elements), dx: AnyRow(raw: tensors.dx?[row], of: T.self),
      addends: (AnyRow(raw: tensors.dsum?[row], of: T.self), AnyRow(raw: accumulated, of: T.self))
    )
    let kernels = work.pointee.kernels.unsafelyUnwrapped
    let run =
      C.self == Double.self
      ? kernels.pointee.scaled_backward_f64 : kernels.pointee.scaled_backward_f32
    withUnsafePointer(to: scaled) { run.unsafelyUnwrapped($0, usableRstd) }
  }
}
