import CShims

/// (x + bias) + residual of a row in a compute type, into sum, which may be where x or residual is.
@inline(__always)
func add<C: ComputeScalar & Element>(
  _: C.Type, _ cols: Int64, _ x: UnsafeRawPointer?, _ bias: UnsafeRawPointer?,
  _ residual: UnsafeRawPointer?, _ sum: UnsafeMutableRawPointer?
) where C.Compute == C {
  let row = AddedRow<Row<C, C>>(
    x: Row(x.unsafelyUnwrapped.assumingMemoryBound(to: C.self)), bias: Row(raw: bias),
    residual: Row(raw: residual), sum: sum.unsafelyUnwrapped.assumingMemoryBound(to: C.self))
  row.store(Int(cols))
}

/// (x + bias) + residual, rounded to T. What is loaded is stored in `sum`, which may be where x or residual
/// is: every element is loaded once.
struct AddedRow<X: StoredRow>: RowSource where X.Compute == X.Stored.Compute {
  typealias T = X.Stored
  typealias Compute = T.Compute

  let x: X
  let bias: Row<T, Compute>?
  let residual: X?
  let sum: UnsafeMutablePointer<T>

  /// Of `count` elements.
  @inline(never) func store(_ count: Int) {
    ln_align_stack()
    let wholeEnd = Compute.Vector.whole(count)
    var index = 0
    while index < wholeEnd {
      _ = load(index)
      index &+= Self.width
    }
    if wholeEnd < count { _ = loadTail(count &- wholeEnd, of: count) }
  }

  @inline(__always) func load(_ index: Int) -> Compute.Vector {
    var vector = x.load(index)
    if let bias { vector = vector + bias.load(index) }
    if let residual { vector = vector + residual.load(index) }
    return Compute.storeAndRound(vector, to: sum + index)
  }

  func load(short count: Int) -> Compute.Vector { loadTail(count, of: count) }

  func loadTail(_ tail: Int, of count: Int) -> Compute.Vector {
    let begin = count &- tail
    func load(_ row: Row<T, Compute>) -> Compute.Vector {
      Row<T, Compute>(row.elements + begin).load(short: tail)
    }
    var vector = load(Row(x.elements))
    if let bias { vector = vector + load(bias) }
    if let residual { vector = vector + load(Row(residual.elements)) }
    storeShort(vector, as: Compute.self, of: tail, to: sum + begin)
    return Compute.rounded(vector, to: T.self)
  }
}

/// Takes the sums of (x + x_bias) + residual, rounded to T, and writes it to `sum`, which is y where the sum is
/// not wanted: there it is normalized in place.
@inline(never)
func add<N: Norm, T: Element>(
  _: N.Type, _ work: UnsafePointer<ln_forward_work>, _ x: UnsafePointer<T>,
  _ residual: UnsafeMutablePointer<T>?, into sum: UnsafeMutablePointer<T>,
  _ sums: UnsafeMutablePointer<RowSums<T.Compute>>, _ count: Int, ahead: Int
) {
  let residual = residual.map { UnsafePointer($0) }
  let bias = Row<T, T.Compute>(raw: work.pointee.x_bias)
  #if !LAYERNORM_COMPACT
    // Wider elements come without being asked for.
    if T.isCoarse && work.pointee.is_far != 0 {
      func far(_ elements: UnsafePointer<T>, _ rows: ln_rows) -> FarRow<T, T.Compute> {
        FarRow(elements, ahead: ahead &* Int(rows.row_stride))
      }
      reduce(
        N.self,
        AddedRow(
          x: far(x, work.pointee.x), bias: bias,
          residual: residual.map { far($0, work.pointee.residual) }, sum: sum),
        into: sums, count)
      return
    }
  #endif
  let added = AddedRow<Row<T, T.Compute>>(
    x: Row(x), bias: bias, residual: residual.map { Row($0) }, sum: sum)
  #if !LAYERNORM_COMPACT
    if T.Compute.hasShortRows && count == 4 &* T.Compute.Vector.width {
      reduceFour(N.self, added, into: sums)
      return
    }
  #endif
  reduce(N.self, added, into: sums, count)
}

/// Writes the sums x + residual, and takes theirs.
@inline(__always)
private func reduce<N: Norm, S: StoredRow>(
  _: N.Type, _ added: AddedRow<S>, into sums: UnsafeMutablePointer<RowSums<S.Compute>>, _ count: Int
) {
  #if !LAYERNORM_COMPACT
    if S.Compute.hasShortRows && registersHold(accumulatorsOf: N.sums) {
      reduce(NormOfSums<N>.self, added, around: NoShift(), count: count, into: sums)
      return
    }
  #endif
  added.store(count)
  reduce(
    NormOfSums<N>.self, Row<S.Stored, S.Compute>(added.sum), around: NoShift(), count: count,
    into: sums)
}
