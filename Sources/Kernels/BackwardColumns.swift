import CShims

#if !LAYERNORM_COMPACT
  extension BackwardRows {
    /// The whole vectors of what nearly every four rows are: as the loop of `finish`, without a question for each
    /// and with the numbers of the rows in registers.
    @inline(__always)
    func finishUsual(_ four: Four, _ sums: ParameterSums<C>, ahead: Int) {
      if four.isGood != 15 {
        for row in 0..<4 where four.isGood >> UInt32(row) & 1 != 0 {
          finishOne(four, row, sums)
        }
      } else if T.isCoarse || C.hasShortRows && work.pointee.rstd != nil {
        // A rstd that is given has no low part. Float64 has so much to do that it would not tell.
        finishFour(four, sums, ahead: ahead)
      } else {
        finishFourExactly(four, sums, ahead: ahead)
      }
    }

    @inline(never)
    private func finishFour(_ four: Four, _ sums: ParameterSums<C>, ahead: Int) {
      finish(rows: 4, of: four, 0, sums, ahead: ahead, isRounded: true)
    }
    @inline(never)
    private func finishFourExactly(_ four: Four, _ sums: ParameterSums<C>, ahead: Int) {
      finish(rows: 4, of: four, 0, sums, ahead: ahead, isRounded: T.isCoarse)
    }
    /// Its rstd may have a low part.
    @inline(never) private func finishOne(_ four: Four, _ row: Int, _ sums: ParameterSums<C>) {
      finish(rows: 1, of: four, row, sums, ahead: 0, isRounded: T.isCoarse)
    }

    /// - Parameters:
    ///   - rows: 4, or 1, the row `first`.
    ///   - ahead: how many elements later a row is that is asked for; 0 for none.
    @inline(__always)
    private func finish(
      rows: Int, of four: Four, _ first: Int, _ sums: ParameterSums<C>, ahead: Int, isRounded: Bool
    ) {
      let width = C.Vector.width
      let wholeEnd = C.Vector.whole(count)
      let tensors = four.tensors.pointee
      let begin = RowColumns(
        x: tensors.x[four.first &+ first], dy: tensors.dy[four.first &+ first],
        dx: tensors.dx.unsafelyUnwrapped[four.first &+ first])
      let strides = (
        x: tensors.x.stride, dy: tensors.dy.stride, dx: tensors.dx.unsafelyUnwrapped.stride
      )
      let scalars = four.numbers + first
      let a = UsualRow(scalars, 0, isRounded: isRounded)
      let b = UsualRow(scalars, 1, isRounded: isRounded)
      let c = UsualRow(scalars, 2, isRounded: isRounded)
      let d = UsualRow(scalars, 3, isRounded: isRounded)
      // As many as registers hold; each vector reads the others again.
      let areHeld = LN_VECTORS_IN_REGISTERS >= 32
      let readsAhead = ahead != 0 && work.pointee.reads_ahead != 0
      let writesAhead = work.pointee.writes_ahead != 0
      let streams = work.pointee.streams != 0
      var column = 0
      while column < wholeEnd {
        if readsAhead {
          var later = begin.opaque(at: column &+ ahead)
          for _ in 0..<rows {
            later.fetch(writes: writesAhead)
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
            : UsualRow(numbers, row, isRounded: isRounded)
        }
        let weight = weight.load(column)
        if T.isCoarse {
          var terms = CoarseSums(sums, at: column)
          usual(a, 0).finish(row, weight, &terms, streams: streams)
          if rows == 4 {
            row.goOn(strides)
            usual(b, 1).finish(row, weight, &terms, streams: streams)
            row.goOn(strides)
            usual(c, 2).finish(row, weight, &terms, streams: streams)
            row.goOn(strides)
            usual(d, 3).finish(row, weight, &terms, streams: streams)
          }
          terms.store(to: sums, at: column)
        } else {
          var dweight = sums.dweight(at: column).pointee
          var dbias = sums.dbias(at: column).pointee
          usual(a, 0).finish(row, weight, &dweight, &dbias, streams: streams)
          if rows == 4 {
            row.goOn(strides)
            usual(b, 1).finish(row, weight, &dweight, &dbias, streams: streams)
            row.goOn(strides)
            usual(c, 2).finish(row, weight, &dweight, &dbias, streams: streams)
            row.goOn(strides)
            usual(d, 3).finish(row, weight, &dweight, &dbias, streams: streams)
          }
          sums.dweight(at: column).pointee = dweight
          sums.dbias(at: column).pointee = dbias
        }
        column &+= width
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

      @inline(__always) func fetch(writes: Bool) {
        ln_prefetch(x)
        ln_prefetch(dy)
        if writes { ln_prefetch_write(dx) }
      }
    }

    private struct UsualRow {
      private let gradient: RowGradient<C>
      private let isRounded: Bool

      @inline(__always) init(_ scalars: UnsafeRawPointer, _ row: Int, isRounded: Bool) {
        self.isRounded = isRounded
        gradient = RowGradient(scalars.assumingMemoryBound(to: C.self) + row)
      }

      @inline(__always) init(_ scalars: UnsafeRawPointer, _ row: Int, held: UsualRow) {
        isRounded = held.isRounded
        gradient = RowGradient(
          scalars.assumingMemoryBound(to: C.self) + row, held: held.gradient,
          holdsSlope: T.isCoarse)
      }

      @inline(__always)
      func finish(
        _ row: RowColumns, _ weight: C.Vector, _ sums: inout CoarseSums<C>, streams: Bool
      ) {
        let (dy, normalized) = finish(row, weight, streams: streams)
        sums.add(dy, normalized)
      }

      @inline(__always)
      func finish(
        _ row: RowColumns, _ weight: C.Vector, _ dweight: inout C.Wide.LaneSums,
        _ dbias: inout C.Wide.LaneSums, streams: Bool
      ) {
        // From memory, where half a vector costs nothing; before dx, which may be in its place.
        let dy = C.Wide.LaneSums.Parts(UnsafeRawPointer(row.dy))
        let (_, normalized) = finish(row, weight, streams: streams)
        dweight.add(dy, times: normalized)
        dbias.add(dy)
      }

      @inline(__always)
      private func finish(
        _ row: RowColumns, _ weight: C.Vector, streams: Bool
      ) -> (dy: C.Vector, normalized: C.Vector) {
        let dyVector = Row<T, C>(row.dy).load(0)
        let terms = gradient.terms(
          Row<T, C>(row.x).load(0), dyVector, weight: weight, isRounded: isRounded)
        if streams {
          C.stream(terms.dx, to: row.dx)
        } else {
          C.store(terms.dx, to: row.dx)
        }
        return (dyVector, terms.normalized)
      }
    }
  }
#endif
