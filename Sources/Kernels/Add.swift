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
    Compute.store(vector, to: sum + index)
    return Compute.rounded(vector, to: T.self)
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
