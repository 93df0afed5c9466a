import CShims

/// (x + bias) + residual of a row in a compute type, into sum, which may be where x or residual is.
@inline(__always)
func add<C: ComputeScalar & Element>(
  _: C.Type, _ cols: Int64, _ x: UnsafeRawPointer?, _ bias: UnsafeRawPointer?,
  _ residual: UnsafeRawPointer?, _ sum: UnsafeMutableRawPointer?
) where C.Compute == C {
  let count = Int(cols)
  let row = AddedRow<C>(
    x: Row(x.unsafelyUnwrapped.assumingMemoryBound(to: C.self)), bias: Row(raw: bias),
    residual: Row(raw: residual), sum: sum.unsafelyUnwrapped.assumingMemoryBound(to: C.self),
    ahead: (0, 0))
  let width = C.Vector.width
  let wholeEnd = C.Vector.whole(count)
  var index = 0
  while index < wholeEnd {
    _ = row.load(index)
    index &+= width
  }
  if wholeEnd < count { _ = row.loadTail(count &- wholeEnd, of: count) }
}

/// (x + bias) + residual, rounded to T. What is loaded is stored in `sum`, which may be where x or residual
/// is: every element is loaded once.
struct AddedRow<T: Element>: RowSource {
  typealias Compute = T.Compute

  let x: Row<T, Compute>
  let bias: Row<T, Compute>?
  let residual: Row<T, Compute>?
  let sum: UnsafeMutablePointer<T>
  /// How many elements ahead the next rows of x and residual are.
  let ahead: (x: Int, residual: Int)

  @inline(__always) func load(_ index: Int) -> Compute.Vector {
    var vector = x.load(index)
    ln_prefetch(x.elements + (index &+ ahead.x))
    if let bias { vector = vector + bias.load(index) }
    if let residual {
      ln_prefetch(residual.elements + (index &+ ahead.residual))
      vector = vector + residual.load(index)
    }
    Compute.store(vector, to: sum + index)
    return Compute.rounded(vector, to: T.self)
  }

  func load(short count: Int) -> Compute.Vector { loadTail(count, of: count) }

  func loadTail(_ tail: Int, of count: Int) -> Compute.Vector {
    let begin = count &- tail
    func load(_ row: Row<T, Compute>) -> Compute.Vector {
      Row<T, Compute>(row.elements + begin).load(short: tail)
    }
    var vector = load(x)
    if let bias { vector = vector + load(bias) }
    if let residual { vector = vector + load(residual) }
    storeShort(vector, as: Compute.self, of: tail, to: sum + begin)
    return Compute.rounded(vector, to: T.self)
  }
}
