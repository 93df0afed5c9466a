import CShims

/// (x + bias) + residual of a row in a compute type, into sum, which may be where x or residual is.
@inline(__always)
func add<C: ComputeScalar & Element>(
  _: C.Type, _ cols: Int64, _ x: UnsafeRawPointer?, _ bias: UnsafeRawPointer?,
  _ residual: UnsafeRawPointer?, _ sum: UnsafeMutableRawPointer?
) where C.Compute == C {
  let row = AddedRow<Row<C, C>>(
    x: Row(x.unsafelyUnwrapped.assumingMemoryBound(to: C.self)), bias: Row(raw: bias),
    residual: Row(raw: residual), sum: sum.unsafelyUnwrapped.assumingMemoryBound(to: C.self),
    streamed: nil)
  row.store(Int(cols))
}

/// (x + bias) + residual, rounded to T. What is loaded is stored in `sum`, which may be where x or residual
/// is: every element is loaded before any that comes after it is stored.
struct AddedRow<X: StoredRow> where X.Compute == X.Stored.Compute {
  typealias T = X.Stored
  typealias Compute = T.Compute

  let x: X
  let bias: Row<T, Compute>?
  let residual: X?
  let sum: UnsafeMutablePointer<T>
  /// Where the sum goes past the caches as well as it is written, of a row of whole cache lines.
  let streamed: UnsafeMutablePointer<T>?

  @inline(__always) fileprivate static var width: Int { Compute.Vector.width }

  /// Of `count` elements.
  @inline(never) func store(_ count: Int) {
    ln_align_stack()
    let wholeEnd = Compute.Vector.whole(count)
    let last = last(of: count)
    var index = 0
    if T.splits {
      let splitEnd = count & (0 &- 2 &* Self.width)
      while index < splitEnd {
        if index & (4 &* Self.width &- 1) == 0 { fetch(index &+ Self.fetchDistance) }
        _ = Compute.storeAndRoundTwo(addTwo(index), to: sum + index)
        index &+= 2 &* Self.width
      }
    }
    while index < wholeEnd {
      #if !LAYERNORM_COMPACT
        if index & (4 &* Self.width &- 1) == 0 { fetch(index &+ Self.fetchDistance) }
      #endif
      Compute.store(add(index), to: sum + index)
      index &+= Self.width
    }
    guard wholeEnd < count else { return }
    if wholeEnd > 0 {
      Compute.store(last, to: sum + (count &- Self.width))
    } else {
      _ = store(short: count)
    }
  }

  @inline(__always) fileprivate func add(_ index: Int) -> Compute.Vector {
    var vector = x.load(index)
    if let bias { vector = vector + bias.load(index) }
    if let residual { vector = vector + residual.load(index) }
    return vector
  }

  @inline(__always) fileprivate func addTwo(_ index: Int) -> (Compute.Vector, Compute.Vector) {
    var two = x.loadTwo(index)
    if let bias {
      let bias = bias.loadTwo(index)
      two = (two.0 + bias.0, two.1 + bias.1)
    }
    if let residual {
      let residual = residual.loadTwo(index)
      two = (two.0 + residual.0, two.1 + residual.1)
    }
    return two
  }

  /// The vector that ends with the row, where that is not the last of whole ones: what it has in common with the one
  /// before is stored twice, and read before either.
  @inline(__always) fileprivate func last(of count: Int) -> Compute.Vector {
    count > Self.width && Compute.Vector.whole(count) < count
      ? add(count &- Self.width) : Compute.Vector(repeating: Compute.zero)
  }

  /// How far behind vectors are streamed: they have left for the cache.
  @inline(__always) static var fetchDistance: Int { -(T.isCoarse ? 8 : 4) &* width }
  /// Streams them. They come from the cache, and nothing is asked for.
  @inline(__always) func fetch(_ index: Int) {
    // Not a loop for either case.
    guard index >= 0, let streamed = ln_opaque(streamed) else { return }
    let size = MemoryLayout<T>.stride
    stream(sum + index, to: streamed + index &* size, bytes: 4 &* Self.width &* size)
  }

  /// A row that is shorter than a vector.
  fileprivate func store(short count: Int) -> Compute.Vector {
    var vector = x.load(short: count)
    if let bias { vector = vector + bias.load(short: count) }
    if let residual { vector = vector + residual.load(short: count) }
    storeShort(vector, as: Compute.self, of: count, to: sum)
    return Compute.rounded(vector, to: T.self)
  }
}

/// The same row, stored as it is read.
private struct SummedRow<X: StoredRow>: RowSource where X.Compute == X.Stored.Compute {
  typealias Compute = X.Compute

  private let row: AddedRow<X>
  /// Not part of what is stored in a loop of its own: where registers are few, that was a third slower.
  private let last: Compute.Vector

  /// Of `count` elements.
  @inline(__always) init(_ row: AddedRow<X>, _ count: Int) {
    self.row = row
    last = row.last(of: count)
  }

  @inline(__always) func load(_ index: Int) -> Compute.Vector {
    Compute.storeAndRound(row.add(index), to: row.sum + index)
  }
  @inline(__always) static var splits: Bool { X.splits }
  @inline(__always) func loadTwo(_ index: Int) -> (Compute.Vector, Compute.Vector) {
    return Compute.storeAndRoundTwo(row.addTwo(index), to: row.sum + index)
  }
  @inline(__always) func loadTail(_: Int, of count: Int) -> Compute.Vector {
    Compute.storeAndRound(last, to: row.sum + (count &- Self.width))
  }
  func load(short count: Int) -> Compute.Vector { row.store(short: count) }

  @inline(__always) static var fetchDistance: Int { AddedRow<X>.fetchDistance }
  @inline(__always) func fetch(_ index: Int) { row.fetch(index) }
}

/// Whole cache lines: those that are stored in halves take longer.
@inline(__always)
private func stream(
  _ stored: UnsafeRawPointer, to streamed: UnsafeMutableRawPointer, bytes: Int
) {
  var offset = 0
  while offset < bytes {
    ln_stream_float16(streamed + offset, (stored + offset).loadUnaligned(as: SIMD16<Float>.self))
    offset &+= 64
  }
}

/// The lines that a row has with others are stored in no other way by either.
@inline(never)
private func streamRow(
  _ stored: UnsafeRawPointer, to streamed: UnsafeMutableRawPointer, bytes: Int
) {
  let head = min(bytes, Int((0 &- UInt(bitPattern: streamed)) & 63))
  let tail = head &+ (bytes &- head) & (0 &- 64)
  if head > 0 { streamed.copyMemory(from: stored, byteCount: head) }
  stream(stored + head, to: streamed + head, bytes: tail &- head)
  if tail < bytes { (streamed + tail).copyMemory(from: stored + tail, byteCount: bytes &- tail) }
}

/// How many bytes later what is asked for is at least: nearer lines of long rows come too late.
@inline(__always) private var leastAhead: Int { 16384 }

/// Takes the sums of (x + x_bias) + residual, rounded to T, and writes it to `sum`, where it is normalized, and to
/// `streamed`.
@inline(never)
func add<N: Norm, T: Element>(
  _: N.Type, _ work: UnsafePointer<ln_forward_work>, _ x: UnsafePointer<T>,
  _ residual: UnsafeMutablePointer<T>?, into sum: UnsafeMutablePointer<T>,
  _ streamed: UnsafeMutablePointer<T>?, _ sums: UnsafeMutablePointer<RowSums<T.Compute>>,
  _ count: Int, ahead: Int
) {
  let residual = residual.map { UnsafePointer($0) }
  let bias = Row<T, T.Compute>(raw: work.pointee.x_bias)
  let isFar = T.isCoarse && work.pointee.is_far != 0
  let bytes = count &* MemoryLayout<T>.stride
  let isOfLines = (UInt(bitPattern: streamed) | UInt(bytes)) & 63 == 0
  let inLines = isOfLines ? streamed : nil
  let added = AddedRow<Row<T, T.Compute>>(
    x: Row(x), bias: bias, residual: residual.map { Row($0) }, sum: sum, streamed: inLines)
  #if LAYERNORM_COMPACT
    reduce(N.self, added, into: sums, count)
  #else
    // Wider elements come without being asked for.
    if isFar {
      func far(_ elements: UnsafePointer<T>, _ rows: ln_rows) -> FarRow<T, T.Compute> {
        FarRow(
          elements, ahead: max(ahead &* Int(rows.row_stride), leastAhead / MemoryLayout<T>.stride))
      }
      reduce(
        N.self,
        AddedRow(
          // Where the sums wait apart, what normalizes them asks for x.
          x: work.pointee.added.data == nil ? far(x, work.pointee.x) : FarRow(x, ahead: 0),
          bias: bias, residual: residual.map { far($0, work.pointee.residual) }, sum: sum,
          streamed: inLines),
        into: sums, count)
    } else {
      reduce(N.self, added, into: sums, count)
    }
  #endif
  guard let streamed else { return }
  #if LAYERNORM_COMPACT
    let begin = 0
  #else
    // What `fetch` has left.
    let fetched = T.Compute.Vector.whole(count) & (0 &- 4 &* T.Compute.Vector.width)
    let begin = isOfLines ? max(fetched &+ AddedRow<Row<T, T.Compute>>.fetchDistance, 0) : 0
  #endif
  streamRow(sum + begin, to: streamed + begin, bytes: bytes &- begin &* MemoryLayout<T>.stride)
}

#if !LAYERNORM_COMPACT
  /// The same of short rows, with nothing but a residual to add. Of a norm that does not center, the sum is not looked
  /// at: one code for both.
  @inline(never)
  func addShort<T: Element>(
    _ tensors: UnsafePointer<ForwardTensors<T>>, _ residual: BatchRows<T>, _ first: Int, rows: Int,
    _ sums: UnsafeMutablePointer<RowSums<T.Compute>>, _ count: Int
  ) {
    for index in 0..<rows {
      let row = first &+ index
      let sum = tensors.pointee.normalized[row]
      let added = AddedRow<Row<T, T.Compute>>(
        x: Row(tensors.pointee.x[row]), bias: nil, residual: Row(residual[row]), sum: sum,
        streamed: nil)
      reduceShort(LayerNorm.self, SummedRow(added, count), count, into: sums + index)
      if let streamed = tensors.pointee.streamed?[row] {
        streamRow(sum, to: streamed, bytes: count &* MemoryLayout<T>.stride)
      }
    }
  }
#endif

/// Writes the sums x + residual, and takes theirs.
@inline(__always)
private func reduce<N: Norm, S: StoredRow>(
  _: N.Type, _ added: AddedRow<S>, into sums: UnsafeMutablePointer<RowSums<S.Compute>>, _ count: Int
) {
  #if !LAYERNORM_COMPACT
    if S.Compute.hasShortRows && registersHold(accumulatorsOf: N.sums) {
      reduceHere(
        NormOfSums<N>.self, SummedRow(added, count), around: NoShift(), count: count, fetches: true,
        into: sums)
      return
    }
  #endif
  added.store(count)
  reduce(
    NormOfSums<N>.self, Row<S.Stored, S.Compute>(added.sum), around: NoShift(), count: count,
    into: sums)
}
