import CShims

/// Forward kernel of one dtype: x, residual, sum and y are of type T, weight and bias of type P.
@inline(__always)
func forward<T: Element, P: Element>(
  _: T.Type, params _: P.Type, _ work: UnsafePointer<ln_forward_work>?, _ begin: Int64, _ end: Int64
) {
  let work = work.unsafelyUnwrapped
  #if !LAYERNORM_COMPACT
    let weight = Parameter<P, T.Compute>(
      raw: work.pointee.weight, split: work.pointee.split_weight)
    let bias = Parameter<P, T.Compute>(raw: work.pointee.bias, split: work.pointee.split_bias)
    let count = Int(work.pointee.cols)
    let lacksSplit = T.splits && !P.splits && work.pointee.split_weight == nil
    let mayHaveLongNaN =
      T.splits
      ? work.pointee.has_long_nan != 0
      : T.roundsBits
        && (weight?.row.mayHaveLongNaN(count) ?? false
          || bias?.row.mayHaveLongNaN(count) ?? false)
    if !lacksSplit, !mayHaveLongNaN, work.pointee.centers != 0, let weight, let bias {
      ForwardRows<LayerNorm, T, P, WeightAndBias>(work, WeightAndBias(weight: weight, bias: bias))
        .run(Int(begin), Int(end))
      return
    }
    if !lacksSplit, !mayHaveLongNaN, work.pointee.centers == 0, let weight, bias == nil {
      ForwardRows<RMSNorm, T, P, WeightOnly>(work, WeightOnly(weight: weight))
        .run(Int(begin), Int(end))
      return
    }
    // Plans convert 16-bit parameters for the rest, whose code would be once more as much.
    if P.isCoarse { return }
  #endif
  let affine = AnyAffine<Row<P, T.Compute>>(
    weight: Row(raw: work.pointee.weight), bias: Row(raw: work.pointee.bias))
  // RMSNorm is LayerNorm with a mean of 0.
  ForwardRows<LayerNorm, T, P, AnyAffine>(work, affine).run(Int(begin), Int(end))
}

/// The rows of one call.
struct ForwardRows<N: Norm, T: Element, P: Element, A: Affine>
where A.Compute == T.Compute {
  typealias C = T.Compute

  let work: UnsafePointer<ln_forward_work>
  let affine: A
  let count: Int
  /// Large calls have had 16-bit parameters converted.
  @inline(__always) static var takesLargeCalls: Bool { P.self == C.self }
  @inline(__always) var isFar: Bool {
    #if LAYERNORM_COMPACT
      false
    #else
      Self.takesLargeCalls && work.pointee.is_far != 0
    #endif
  }
  @inline(__always) var streams: Bool {
    Self.takesLargeCalls && work.pointee.streams != 0
  }

  /// Whether rows are normalized plainly: where it is asked for, but for long rows in few registers, which wait less in
  /// pairs, and those whose weight and bias are converted, which share that there. Of float64 there is no code for pairs.
  @inline(__always) private var isPlain: Bool {
    guard C.hasShortRows else { return count >= C.Vector.width && !isFar }
    let mayBeLong = LN_VECTORS_IN_REGISTERS > 8 && Self.takesLargeCalls
    return work.pointee.is_plain != 0 && (mayBeLong || count <= 8 &* C.Vector.width)
  }

  /// Whether there is code for rows to be normalized while others are read: where registers do not hold the numbers of
  /// both, computing binds.
  @inline(__always) private var canBePiped: Bool {
    C.self == Float.self && Self.takesLargeCalls && !A.isRare && LN_VECTORS_IN_REGISTERS > 8
  }

  @inline(__always) init(_ work: UnsafePointer<ln_forward_work>, _ affine: A) {
    self.work = work
    self.affine = affine
    count = Int(work.pointee.cols)
  }

  @inline(__always) func run(_ begin: Int, _ end: Int) {
    #if !LAYERNORM_COMPACT
      if Self.hasOneRow && end &- begin == 1 && work.pointee.is_far == 0
        && work.pointee.added.data == nil && !streams
      {
        runOne(begin)
        return
      }
    #endif
    runGroups(begin, end)
  }

  /// First the statistics of a group of rows, then their normalization: the rows of a group stay in the
  /// first-level cache in between.
  @inline(never) private func runGroups(_ begin: Int, _ end: Int) {
    // Not held: a compiler copied it for each pair of rows, by two stores that overlapped and a load across both, which
    // waited until whatever was stored before had left for the cache.
    let statistics = GroupStatistics<T>(work)
    let size = statistics.groupSize
    let mostRows = work.pointee.added.data == nil ? Int.max : size
    ForwardGroup<T>.withMemory(rows: end &- begin) { group in
      var first = begin
      while first < end {
        let position = RowPosition(first, rowsPerBatch: work.pointee.rows_per_batch)
        let stop = min(end, first &+ min(position.leftInBatch, mostRows))
        withUnsafePointer(
          to: ForwardTensors(work, first, rows: stop &- first, at: position, adds: statistics.adds)
        ) {
          run($0, rows: stop &- first, size: size, group, statistics)
        }
        first = stop
      }
    }
    if streams { ln_stream_fence() }
  }

  @inline(__always)
  private func run(
    _ tensors: UnsafePointer<ForwardTensors<T>>, rows: Int, size: Int, _ group: ForwardGroup<T>,
    _ statistics: GroupStatistics<T>
  ) {
    #if !LAYERNORM_COMPACT
      if canBePiped && work.pointee.is_piped != 0 {
        runPiped(tensors, rows: rows, group, statistics.reciprocalCount)
        return
      }
    #endif
    var row = 0
    while row < rows {
      let count = min(size, rows &- row)
      run(tensors, row, rows: count, group, statistics)
      row &+= count
    }
  }

  @inline(__always)
  private func run(
    _ tensors: UnsafePointer<ForwardTensors<T>>, _ first: Int, rows: Int, _ group: ForwardGroup<T>,
    _ statistics: GroupStatistics<T>
  ) {
    let outOfRange = statistics.find(tensors, first, rows: rows, group)
    #if !LAYERNORM_COMPACT
      if !A.isRare && outOfRange == 0 && isPlain {
        normalizePlainly(tensors, first, rows: rows, group)
        return
      }
      if !A.isRare && N.centers && outOfRange == 0 && rows > 1 && statistics.hasBlocks
        && (!streams || canStreamAll(tensors))
      {
        normalizeBlocks(tensors, first, rows: rows, group)
        return
      }
    #endif
    normalize(tensors, first, 0..<rows, group, outOfRange)
  }

  @inline(never)
  func normalize(
    _ tensors: UnsafePointer<ForwardTensors<T>>, _ first: Int, _ rows: Range<Int>,
    _ group: ForwardGroup<T>, _ outOfRange: UInt32
  ) {
    ln_align_stack()
    // A group, or 16 KB: nearer ones come too late.
    let ahead =
      max(rows.upperBound &* Int(work.pointee.x.row_stride), 16384 / MemoryLayout<T>.stride)
      &+ tensors.pointee.aheadOfApart
    let isFar = !A.isRare && isFar && count &* MemoryLayout<T>.stride >= 512
    let hasPairs =
      C.hasShortRows && !isFar && work.pointee.has_pairs != 0 && !streams
      && count >= columnsAtOnce(T.self)
    // Pairs from the last on: y drives out of the first level what that has kept longest, which are the first rows.
    var left = rows.upperBound
    while left > rows.lowerBound {
      let isPair =
        !A.isRare && hasPairs && left &- rows.lowerBound >= 2
        && outOfRange >> UInt32(left &- 2) & 3 == 0
      let index =
        isPair ? left &- 2 : hasPairs ? left &- 1 : rows.lowerBound &+ rows.upperBound &- left
      let x = Row<T, C>(tensors.pointee.normalized[first &+ index])
      let into = tensors.pointee.y[first &+ index]
      if !A.isRare && isPair {
        let next = index &+ 1
        let x = (x.elements, UnsafePointer(tensors.pointee.normalized[first &+ next]))
        let y = (into, tensors.pointee.y[first &+ next])
        if N.centers && hasCenterZero(group.scalars, index) && hasCenterZero(group.scalars, next) {
          normalizePair(
            LayerNormAroundZero.self, group, index, x, into: y, descends: tensors.pointee.descends)
        } else {
          normalizePair(N.self, group, index, x, into: y, descends: tensors.pointee.descends)
        }
        left &-= 2
        continue
      }
      left &-= 1
      if outOfRange >> UInt32(index) & 1 != 0 {
        normalizeOutOfRange(x, into: into, row: tensors.pointee.first &+ first &+ index)
      } else if A.isRare && work.pointee.ada_scale != 0 {
        normalizeAda(work, group.scalars, index: index, x.elements, into: into)
      } else if T.isCoarse && Self.takesLargeCalls && N.centers && !A.isRare
        && hasCenterZero(group.scalars, index)
      {
        // Where elements are converted it tells, in large calls, whose parameters are not.
        normalizeAroundZero(x.elements, ahead: ahead, isFar: isFar, group, index, into: into)
      } else if canStream(into) {
        normalization(group, index).stream(
          FarRow<T, C>(x.elements, ahead: ahead), count: count, into: into)
      } else {
        normalizeOne(x, group.scalars, index, into: into, ahead: isFar ? ahead : 0)
      }
    }
  }

  /// Whether all rows begin and end where vectors do.
  @inline(__always) func canStreamAll(_ tensors: UnsafePointer<ForwardTensors<T>>) -> Bool {
    let y = tensors.pointee.y
    return y.stride &* MemoryLayout<T>.stride & (C.Vector.width &* MemoryLayout<T>.stride &- 1) == 0
      && Normalization<N, A>.canStream(y[0], count: count, leastStraddling: .max)
  }

  @inline(__always) func canStream(_ y: UnsafeMutablePointer<T>) -> Bool {
    streams
      && Normalization<N, A>.canStream(
        y, count: count, leastStraddling: Int(work.pointee.streams))
  }

  @inline(never)
  func normalizeOne(
    _ x: Row<T, C>, _ scalars: UnsafePointer<RowScalars<C>>, _ row: Int,
    into y: UnsafeMutablePointer<T>, ahead: Int
  ) {
    ln_align_stack()
    Normalization(N.self, affine, RowScalars.Vectors(scalars, row: row))(
      x, count: count, into: y, ahead: ahead, storesAhead: Int(work.pointee.stores_ahead))
  }

  /// - Parameter row: its number in the call.
  @inline(never)
  func normalizeOutOfRange(_ x: Row<T, C>, into y: UnsafeMutablePointer<T>, row: Int) {
    let scaled = ScaledForward(
      work: work, x: AnyRow(x.elements), y: AnyRow(y), row: row,
      weight: AnyRow(raw: work.pointee.weight, of: P.self),
      bias: AnyRow(raw: work.pointee.bias, of: P.self), rounds: roundsRstd(T.self, work),
      isDouble: C.self == Double.self)
    let kernels = work.pointee.kernels.unsafelyUnwrapped
    withUnsafePointer(to: scaled) { kernels.pointee.scaled_forward.unsafelyUnwrapped($0) }
  }

  /// As the last two branches above, which as one generic function were 3 to 6 % slower for float32.
  @inline(never)
  private func normalizeAroundZero(
    _ x: UnsafePointer<T>, ahead: Int, isFar: Bool, _ group: ForwardGroup<T>, _ row: Int,
    into y: UnsafeMutablePointer<T>
  ) {
    ln_align_stack()
    let normalization = Normalization(
      LayerNormAroundZero.self, affine, RowScalars.Vectors(group.scalars, row: row))
    if canStream(y) {
      normalization.stream(FarRow<T, C>(x, ahead: ahead), count: count, into: y)
    } else {
      normalization(
        Row<T, C>(x), count: count, into: y, ahead: isFar ? ahead : 0,
        storesAhead: Int(work.pointee.stores_ahead))
    }
  }

  @inline(__always)
  private func normalization(_ group: ForwardGroup<T>, _ row: Int) -> Normalization<N, A> {
    Normalization(N.self, affine, RowScalars.Vectors(group.scalars, row: row))
  }

  /// Two rows of a group.
  @inline(__always)
  private func normalizePair<M: Norm>(
    _: M.Type, _ group: ForwardGroup<T>, _ row: Int, _ x: (UnsafePointer<T>, UnsafePointer<T>),
    into y: (UnsafeMutablePointer<T>, UnsafeMutablePointer<T>), descends: Bool
  ) {
    func normalization(_ row: Int) -> Normalization<M, A> {
      Normalization(M.self, affine, RowScalars.Vectors(group.scalars, row: row))
    }
    normalizeRows(
      affine, normalization(row), normalization(row &+ 1), x, into: y, count: count,
      descends: descends)
  }
}
