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
      let a = UsualRow(four, first, isRounded: isRounded)
      let b = UsualRow(four, rows == 4 ? 1 : first, isRounded: isRounded)
      let c = UsualRow(four, rows == 4 ? 2 : first, isRounded: isRounded)
      let d = UsualRow(four, rows == 4 ? 3 : first, isRounded: isRounded)
      let readsAhead = ahead != 0 && work.pointee.reads_ahead != 0
      let writesAhead = work.pointee.writes_ahead != 0
      let streams = work.pointee.streams != 0
      var column = 0
      while column < wholeEnd {
        if readsAhead {
          a.fetch(column &+ ahead, writes: writesAhead)
          b.fetch(column &+ ahead, writes: writesAhead)
          c.fetch(column &+ ahead, writes: writesAhead)
          d.fetch(column &+ ahead, writes: writesAhead)
        }
        let weight = weight.load(column)
        if T.isCoarse {
          var terms = CoarseSums(sums, at: column)
          a.finish(column, weight, &terms, streams: streams)
          if rows == 4 {
            b.finish(column, weight, &terms, streams: streams)
            c.finish(column, weight, &terms, streams: streams)
            d.finish(column, weight, &terms, streams: streams)
          }
          terms.store(to: sums, at: column)
        } else {
          var dweight = sums.dweight(at: column).pointee
          var dbias = sums.dbias(at: column).pointee
          a.finish(column, weight, &dweight, &dbias, streams: streams)
          if rows == 4 {
            b.finish(column, weight, &dweight, &dbias, streams: streams)
            c.finish(column, weight, &dweight, &dbias, streams: streams)
            d.finish(column, weight, &dweight, &dbias, streams: streams)
          }
          sums.dweight(at: column).pointee = dweight
          sums.dbias(at: column).pointee = dbias
        }
        column &+= width
      }
    }

    private struct UsualRow {
      private let x: UnsafePointer<T>
      private let dy: UnsafePointer<T>
      private let dx: UnsafeMutablePointer<T>
      private let gradient: RowGradient<C>
      private let isRounded: Bool

      @inline(__always) init(_ four: Four, _ row: Int, isRounded: Bool) {
        self.isRounded = isRounded
        x = four.rows[row].x
        dy = four.rows[row].dy
        dx = four.rows[row].dx.unsafelyUnwrapped
        gradient = four.gradient(row)
      }

      @inline(__always) func fetch(_ column: Int, writes: Bool) {
        ln_prefetch(x + column)
        ln_prefetch(dy + column)
        if writes { ln_prefetch_write(dx + column) }
      }

      @inline(__always)
      func finish(
        _ column: Int, _ weight: C.Vector, _ sums: inout CoarseSums<C>, streams: Bool
      ) {
        let (dy, normalized) = finish(column, weight, streams: streams)
        sums.add(dy, normalized)
      }

      @inline(__always)
      func finish(
        _ column: Int, _ weight: C.Vector, _ dweight: inout C.Wide.LaneSums,
        _ dbias: inout C.Wide.LaneSums, streams: Bool
      ) {
        // From memory, where half a vector costs nothing; before dx, which may be in its place.
        let dy = C.Wide.LaneSums.Parts(UnsafeRawPointer(dy + column))
        let (_, normalized) = finish(column, weight, streams: streams)
        dweight.add(dy, times: normalized)
        dbias.add(dy)
      }

      @inline(__always)
      private func finish(
        _ column: Int, _ weight: C.Vector, streams: Bool
      ) -> (dy: C.Vector, normalized: C.Vector) {
        let dyVector = Row<T, C>(dy).load(column)
        let terms = gradient.terms(
          Row<T, C>(x).load(column), dyVector, weight: weight, isRounded: isRounded)
        if streams {
          C.stream(terms.dx, to: dx + column)
        } else {
          C.store(terms.dx, to: dx + column)
        }
        return (dyVector, terms.normalized)
      }
    }
  }
#endif
