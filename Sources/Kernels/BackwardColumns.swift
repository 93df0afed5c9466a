import CShims

#if !LAYERNORM_COMPACT
  extension BackwardRows {
    /// The whole vectors of what nearly every four rows are: as the loop of `finish`, without a question for each
    /// and with the numbers of the rows in registers.
    @inline(__always)
    func finishUsual(_ four: Four, _ sums: ParameterSums<C>, ahead: Int) {
      if C.hasShortRows && four.isGood != 15 {
        for row in 0..<4 where four.isGood >> UInt32(row) & 1 != 0 {
          finishOne(four, row, sums)
        }
      } else if T.isCoarse || C.hasShortRows && work.pointee.rstd != nil, !adds,
        areAroundZero(four)
      {
        // A rstd that is given has no low part. Float64 has so much to do that it would not tell.
        finishFour(four, sums, ahead: ahead)
      } else {
        finishFourExactly(four, sums, ahead: ahead)
      }
    }

    @inline(__always) private func areAroundZero(_ four: Four) -> Bool {
      let centers = four.numbers
      return centers[0] == .zero && centers[1] == .zero && centers[2] == .zero
        && centers[3] == .zero
    }

    @inline(never)
    private func finishFour(_ four: Four, _ sums: ParameterSums<C>, ahead: Int) {
      finish(rows: 4, of: four, 0, sums, ahead: ahead, isAroundZero: true)
    }
    @inline(never)
    private func finishFourExactly(_ four: Four, _ sums: ParameterSums<C>, ahead: Int) {
      finish(rows: 4, of: four, 0, sums, ahead: ahead)
    }
    /// Its rstd may have a low part.
    @inline(never) private func finishOne(_ four: Four, _ row: Int, _ sums: ParameterSums<C>) {
      finish(rows: 1, of: four, row, sums, ahead: 0, begins: isOneRow)
    }

    /// - Parameters:
    ///   - rows: 4, or 1, the row `firstRow`.
    ///   - ahead: how many elements later a row is that is asked for; 0 for none.
    ///   - begins: whether the sums are nothing yet, and not cleared.
    @inline(__always)
    private func finish(
      rows: Int, of four: Four, _ firstRow: Int, _ sums: ParameterSums<C>, ahead: Int,
      isAroundZero: Bool = false, begins: Bool = false
    ) {
      ln_align_stack()
      let width = columnsAtOnce(T.self)
      let wholeEnd = count & (0 &- width)
      let tensors = four.tensors.pointee
      let begin = RowColumns(
        x: tensors.x[four.first &+ firstRow], dy: tensors.dy[four.first &+ firstRow],
        dx: tensors.dx.unsafelyUnwrapped[four.first &+ firstRow])
      let strides = (
        x: tensors.x.stride, dy: tensors.dy.stride, dx: tensors.dx.unsafelyUnwrapped.stride
      )
      // What is added to dx: dsum, or what is there. Where nothing is, a question for each vector takes 2 %.
      let addend =
        isAroundZero
        ? nil : tensors.dsum ?? (work.pointee.accumulates_dx != 0 ? tensors.dx : nil)
      let scalars = four.numbers + firstRow
      let a = UsualRow(scalars, 0, isAroundZero: isAroundZero)
      let b = UsualRow(scalars, 1, isAroundZero: isAroundZero)
      let c = UsualRow(scalars, 2, isAroundZero: isAroundZero)
      let d = UsualRow(scalars, 3, isAroundZero: isAroundZero)
      // As many as registers hold; each vector reads the others again.
      let areHeld = LN_VECTORS_IN_REGISTERS >= 32
      let readsAhead =
        ahead != 0 && work.pointee.reads_ahead != 0 && (work.pointee.reads_ahead == 1 || !areHeld)
      let writesAhead = work.pointee.writes_ahead == 2
      let streams = work.pointee.streams != 0
      let (firstColumn, step) = columns(0..<wholeEnd, by: width, descends: tensors.descends)
      var column = firstColumn
      for _ in 0..<wholeEnd / width {
        if readsAhead {
          var later = begin.opaque(at: column &+ ahead)
          for _ in 0..<rows {
            later.fetch()
            later.goOn(strides)
          }
        }
        if writesAhead {
          // A few columns: 1 KB ahead was slower than not at all.
          var later = begin.opaque(at: column)
          for _ in 0..<rows {
            ln_prefetch_write(UnsafeMutableRawPointer(later.dx) + 192)
            later.goOn(strides)
          }
        }
        var row = begin.opaque(at: column)
        let numbers = ln_opaque(scalars).unsafelyUnwrapped
        /// A row, with its scalars where they are used.
        @inline(__always) func usual(_ held: UsualRow, _ row: Int) -> UsualRow {
          if areHeld && T.self == Half.self { return held }
          return areHeld
            ? UsualRow(numbers, row, held: held)
            : UsualRow(numbers, row, isAroundZero: isAroundZero)
        }
        let weight =
          T.splits ? weight.loadSplit(column) : { ($0, $0) }(weight.load(column))
        // All rows are read before one is stored: those that are a multiple of 4 KB long look as if each were where the
        // other is.
        @inline(__always) func finish<S: ColumnSums<C>>(_: S.Type) {
          let later = T.splits ? column &+ C.Vector.width : column
          var sumsOfColumns =
            rows == 1 && C.self == Float.self && begins
            ? (S(), S()) : (S(sums, at: column), S(sums, at: later))
          var next = addend.map { $0[four.first &+ firstRow] + column }
          @inline(__always)
          func finished(_ row: RowColumns, _ held: UsualRow, _ index: Int) -> ReadyColumns<T, C> {
            var dx = usual(held, index).dx(of: row, weight, &sumsOfColumns)
            if let addend, let old = next {
              let old = Row<T, C>(old).loadColumns(0)
              dx = (dx.0 + old.0, dx.1 + old.1)
              next = next.unsafelyUnwrapped + addend.stride
            }
            // Of a row with a NaN in it the sums are NaN, so it is not a good one.
            return ReadyColumns(dx, nanIsShort: true)
          }
          let first = (dx: finished(row, a, 0), memory: row.dx)
          var (second, third, fourth) = (first, first, first)
          if rows == 4 {
            row.goOn(strides)
            second = (finished(row, b, 1), row.dx)
            row.goOn(strides)
            third = (finished(row, c, 2), row.dx)
            row.goOn(strides)
            fourth = (finished(row, d, 3), row.dx)
          }
          sumsOfColumns.0.store(to: sums, at: column)
          if T.splits { sumsOfColumns.1.store(to: sums, at: later) }
          first.dx.store(to: first.memory, streams: streams)
          if rows == 4 {
            second.dx.store(to: second.memory, streams: streams)
            third.dx.store(to: third.memory, streams: streams)
            fourth.dx.store(to: fourth.memory, streams: streams)
          }
        }
        if T.isCoarse { finish(CoarseSums<C>.self) } else { finish(ExactSums<C>.self) }
        column &+= step
      }
    }

    /// The columns of a row from one on.
    private struct RowColumns {
      var x: UnsafeMutablePointer<T>
      var dy: UnsafeMutablePointer<T>
      var dx: UnsafeMutablePointer<T>

      @inline(__always) func opaque(at column: Int) -> Self {
        func opaque(_ row: UnsafeMutablePointer<T>) -> UnsafeMutablePointer<T> {
          ln_opaque(row + column).unsafelyUnwrapped.assumingMemoryBound(to: T.self)
        }
        return Self(x: opaque(x), dy: opaque(dy), dx: opaque(dx))
      }

      /// To the next row.
      @inline(__always) mutating func goOn(_ strides: (x: Int, dy: Int, dx: Int)) {
        x += strides.x
        dy += strides.dy
        dx += strides.dx
      }

      @inline(__always) func fetch() {
        ln_prefetch(x)
        ln_prefetch(dy)
      }
    }

    private struct UsualRow {
      private let gradient: RowGradient<C>
      private let isAroundZero: Bool

      @inline(__always) init(_ scalars: UnsafeRawPointer, _ row: Int, isAroundZero: Bool) {
        self.isAroundZero = isAroundZero
        gradient = RowGradient(scalars.assumingMemoryBound(to: C.self) + row)
      }

      @inline(__always) init(_ scalars: UnsafeRawPointer, _ row: Int, held: UsualRow) {
        isAroundZero = held.isAroundZero
        gradient = RowGradient(
          scalars.assumingMemoryBound(to: C.self) + row, held: held.gradient)
      }

      @inline(__always)
      func dx<S: ColumnSums<C>>(
        of row: RowColumns, _ weight: ColumnVectors<C>, _ sums: inout (S, S)
      ) -> ColumnVectors<C> {
        let parts = S.load(row.dy)
        let dy = Row<T, C>(row.dy).loadColumns(0)
        let x = Row<T, C>(row.x).loadColumns(0)
        let first = dx(x.0, dy.0, parts, weight.0, &sums.0)
        // Only 16-bit rows are split, whose sums have no parts.
        return T.splits ? (first, dx(x.1, dy.1, parts, weight.1, &sums.1)) : (first, first)
      }

      @inline(__always)
      private func dx<S: ColumnSums<C>>(
        _ x: C.Vector, _ dy: C.Vector, _ parts: S.Parts, _ weight: C.Vector, _ sums: inout S
      ) -> C.Vector {
        let terms = gradient.terms(
          x, dy, weight: weight, isRounded: T.isCoarse, isAroundZero: isAroundZero,
          isCoarse: T.isCoarse)
        sums.add(dy, parts, terms.normalized)
        return terms.dx
      }
    }
  }
#endif
