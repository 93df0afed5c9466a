import CShims

#if !LAYERNORM_COMPACT
  extension ForwardRows {
    /// Each row of a group is normalized while the sums of one of the next group are taken: where both wait for memory,
    /// reading and writing go on at the same time.
    @inline(never)
    func runPiped(
      _ tensors: UnsafePointer<ForwardTensors<T>>, rows: Int, _ group: ForwardGroup<T>,
      _ reciprocalCount: C.Wide
    ) {
      ln_align_stack()
      // The first level has two groups, and weight and bias.
      let size = max(1, min(rowsPerChain, 8192 / (count &* MemoryLayout<T>.stride)))
      let x = tensors.pointee.x
      func findScalars(_ first: Int, rows: Int, _ group: ForwardGroup<T>) -> UInt32 {
        N.findScalars(
          work, x, first, of: tensors.pointee.first &+ first, rows: rows, group.sums, count,
          reciprocalCount, into: group.scalars)
      }
      var first = 0
      var inGroup = min(size, rows)
      var group = group
      var later = group.withLaterScalars
      reduce(N.self, work, x, 0, rows: inGroup, into: group.sums)
      var outOfRange = findScalars(0, rows: inGroup, group)
      while true {
        let next = first &+ inGroup
        let inNext = min(size, rows &- next)
        for index in 0..<inNext {
          let row = first &+ index
          let sums = group.sums + index
          func pipe<M: Norm>(_: M.Type) {
            let piped = PipedRow(
              row: Row<T, C>(x[next &+ index]), before: Row<T, C>(x[row]),
              y: tensors.pointee.y[row],
              count: count,
              Normalization(M.self, affine, RowScalars.Vectors(group.scalars, row: index)),
              streams: streams)
            reduceHere(N.self, piped, around: NoShift(), count: count, fetches: true, into: sums)
          }
          let isInRange = outOfRange >> UInt32(index) & 1 == 0
          if T.isCoarse && N.centers {
            // Of others, what subtracts their center binds.
            if isInRange && hasCenterZero(group.scalars, index) {
              pipe(LayerNormAroundZero.self)
              continue
            }
          } else if isInRange {
            pipe(N.self)
            continue
          }
          normalize(tensors, first, index..<(index &+ 1), group, outOfRange)
          reduce(N.self, work, x, next &+ index, rows: 1, into: sums)
        }
        if inNext < inGroup { normalize(tensors, first, inNext..<inGroup, group, outOfRange) }
        if inNext == 0 { return }
        outOfRange = findScalars(next, rows: inNext, later)
        (group, later) = (later, group)
        first = next
        inGroup = inNext
      }
    }
  }

  /// A row whose columns, each time that some are read, have those of the row before normalized.
  private struct PipedRow<N: Norm, T: Element, A: Affine>: RowSource
  where A.Compute == T.Compute {
    typealias Compute = T.Compute

    private let row: Row<T, Compute>
    private let before: Row<T, Compute>
    private let y: UnsafeMutablePointer<T>
    private let normalization: Normalization<N, A>
    private let streams: Bool
    /// The last vector of the row before, which is read before it is stored to.
    private let last: Compute.Vector

    @inline(__always) init(
      row: Row<T, Compute>, before: Row<T, Compute>, y: UnsafeMutablePointer<T>, count: Int,
      _ normalization: Normalization<N, A>, streams: Bool
    ) {
      self.row = row
      self.before = before
      self.y = y
      self.normalization = normalization
      self.streams = streams
      last = normalization.normalizedForStore(before, endingAt: count, as: T.self)
    }

    @inline(__always) func fetch(_ index: Int) { row.fetch(index) }
    @inline(__always) func fetchOne(_ index: Int) { row.fetchOne(index) }

    @inline(__always) func load(_ index: Int) -> Compute.Vector {
      // Stores would wait for the last level before loads do.
      if !streams { ln_prefetch_write(UnsafeMutableRawPointer(y + index) + 1024) }
      normalization(before, at: index, into: y, streams: streams)
      return row.load(index)
    }

    @inline(__always) static var splits: Bool { Row<T, Compute>.splits }
    @inline(__always) func loadTwo(_ index: Int) -> (Compute.Vector, Compute.Vector) {
      if !streams { ln_prefetch_write(UnsafeMutableRawPointer(y + index) + 1024) }
      normalization(twoOf: before, at: index, into: y, streams: streams)
      return row.loadTwo(index)
    }

    @inline(__always) func loadTail(_: Int, of count: Int) -> Compute.Vector {
      storeLast(last, as: Compute.self, of: count, to: y)
      return row.loadLast(of: count)
    }

    @inline(__always) func load(short count: Int) -> Compute.Vector { row.load(short: count) }
  }
#endif
