import CShims

#if !LAYERNORM_COMPACT
  extension ForwardRows {
    /// Whether there is code for one row alone: of calls that are small and of one type.
    @inline(__always) static var hasOneRow: Bool {
      C.self == Float.self && P.self == T.self && !A.isRare
    }

    /// One row alone: what finds its way through many takes as long as the row.
    @inline(never)
    func runOne(_ row: Int) {
      let position = RowPosition(row, rowsPerBatch: work.pointee.rows_per_batch)
      let y = BatchRows<T>(work.pointee.y, at: position).unsafelyUnwrapped
      withUnsafeTemporaryAllocation(of: RowScalars<C>.self, capacity: 1) { scalars in
        withUnsafeTemporaryAllocation(of: RowSums<C>.self, capacity: 1) { sums in
          let scalars = scalars.baseAddress.unsafelyUnwrapped
          let (x, isInRange) = GroupStatistics<T>(work).findOne(
            N.self, row, at: position, y, sums.baseAddress.unsafelyUnwrapped, into: scalars)
          if isInRange {
            normalizeOne(x, scalars, 0, into: y[0], ahead: 0)
          } else {
            normalizeOutOfRange(x, into: y[0], row: row)
          }
        }
      }
    }

    /// Rows one by one, from the first column to the last.
    @inline(never)
    func normalizePlainly(
      _ tensors: UnsafePointer<ForwardTensors<T>>, _ first: Int, rows: Int, _ group: ForwardGroup<T>
    ) {
      if !streams && T.isCoarse && !T.splits && count == 4 &* C.Vector.width {
        normalizeFour(tensors, first, rows: rows, group)
      } else if !streams {
        normalizePlainly(tensors, first, rows: rows, group, streams: false)
      } else if C.hasShortRows && Self.takesLargeCalls
        && canStreamAll(tensors)
      {
        streamPlainly(tensors, first, rows: rows, group)
      } else {
        normalize(tensors, first, 0..<rows, group, 0)
      }
    }
    /// The same of four vectors, with weight and bias in registers: where elements are converted, that tells.
    @inline(never)
    private func normalizeFour(
      _ tensors: UnsafePointer<ForwardTensors<T>>, _ first: Int, rows: Int, _ group: ForwardGroup<T>
    ) {
      ln_align_stack()
      let width = C.Vector.width
      let a = affine.terms(at: 0)
      let b = affine.terms(at: width)
      let c = affine.terms(at: 2 &* width)
      let d = affine.terms(at: 3 &* width)
      for index in 0..<rows {
        let normalization = Normalization(
          N.self, affine, RowScalars.Vectors(group.scalars, row: index))
        let x = Row<T, C>(tensors.pointee.normalized[first &+ index])
        let y = tensors.pointee.y[first &+ index]
        normalization(x, at: 0, a, into: y, streams: false)
        normalization(x, at: width, b, into: y, streams: false)
        normalization(x, at: 2 &* width, c, into: y, streams: false)
        normalization(x, at: 3 &* width, d, into: y, streams: false)
      }
    }
    /// Past the caches.
    @inline(never)
    private func streamPlainly(
      _ tensors: UnsafePointer<ForwardTensors<T>>, _ first: Int, rows: Int, _ group: ForwardGroup<T>
    ) {
      normalizePlainly(tensors, first, rows: rows, group, streams: true)
    }

    @inline(__always)
    private func normalizePlainly(
      _ tensors: UnsafePointer<ForwardTensors<T>>, _ first: Int, rows: Int,
      _ group: ForwardGroup<T>,
      streams: Bool
    ) {
      ln_align_stack()
      let rowsOfX = tensors.pointee.normalized
      let rowsOfY = tensors.pointee.y
      let width = C.Vector.width
      let wholeEnd = C.Vector.whole(count)
      let splitEnd = T.splits ? count & (0 &- 2 &* width) : 0
      let end = count &- width
      let descends =
        streams
        && ColumnOrder(reading: UnsafePointer(rowsOfX[first]), storing: rowsOfY[first]).descends
      var index = descends ? rows &- 1 : 0
      let step = descends ? -1 : 1
      // What the loop keeps in memory would wait for stores as well.
      var elements = rowsOfX[first &+ index]
      var into = rowsOfY[first &+ index]
      let strides = (x: rowsOfX.stride &* step, y: rowsOfY.stride &* step)
      for _ in 0..<rows {
        let x = Row<T, C>(elements)
        let y = into
        @inline(__always) func normalize<M: Norm>(_: M.Type) {
          let normalization = Normalization(
            M.self, affine, RowScalars.Vectors(group.scalars, row: index))
          // Before the vectors that it overlaps are stored, which may be where it is read from.
          let last =
            wholeEnd < count
            ? normalization.normalized(x, at: end, affine.terms(at: end), as: T.self)
            : C.Vector(repeating: .zero)
          var column = 0
          while T.splits && column < splitEnd {
            normalization(twoOf: x, at: column, into: y, streams: streams)
            column &+= 2 &* width
          }
          while column < wholeEnd {
            normalization(x, at: column, into: y, streams: streams)
            column &+= width
          }
          if wholeEnd < count { C.store(last, to: y + end, nanIsShort: A.nanIsShort) }
        }
        if T.isCoarse && N.centers && hasCenterZero(group.scalars, index) {
          normalize(LayerNormAroundZero.self)
        } else {
          normalize(N.self)
        }
        elements += strides.x
        into += strides.y
        index &+= step
      }
    }

    /// Long rows, some columns of each before the next ones.
    @inline(never)
    func normalizeBlocks(
      _ tensors: UnsafePointer<ForwardTensors<T>>, _ first: Int, rows: Int, _ group: ForwardGroup<T>
    ) {
      ln_align_stack()
      let width = C.Vector.width
      let wholeEnd = C.Vector.whole(count)
      let end = count &- width
      let streams = streams
      var begin = 0
      repeat {
        // The last block has what the last vector overlaps.
        let stop =
          wholeEnd &- begin < 2 &* columnsPerBlock ? wholeEnd : begin &+ columnsPerBlock
        let hasLast = stop == wholeEnd && wholeEnd < count
        for index in 0..<rows {
          let normalization = Normalization(
            N.self, affine, RowScalars.Vectors(group.scalars, row: index))
          let x = Row<T, C>(tensors.pointee.normalized[first &+ index])
          let y = tensors.pointee.y[first &+ index]
          // Before the vectors that it overlaps are stored, which may be where it is read from.
          let last =
            hasLast
            ? normalization.normalized(x, at: end, affine.terms(at: end), as: T.self)
            : C.Vector(repeating: .zero)
          var column = begin
          while column < stop {
            normalization(x, at: column, into: y, streams: streams)
            column &+= width
          }
          if hasLast { C.store(last, to: y + end, nanIsShort: A.nanIsShort) }
        }
        begin = stop
      } while begin < wholeEnd
    }
  }

  /// Weight and bias of so many columns stay in the first level beside the rows of a group.
  @inline(__always) private var columnsPerBlock: Int { 1024 }
#endif
