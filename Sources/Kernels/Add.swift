import CShims

/// (x + bias) + residual of a row in a compute type.
@inline(__always)
func add<C: ComputeScalar & Element>(
  _: C.Type, _ cols: Int64, _ x: UnsafeRawPointer?, _ bias: UnsafeRawPointer?,
  _ residual: UnsafeRawPointer?, _ sum: UnsafeMutableRawPointer?
) {
  addRow(
    Row<C, C>(x.unsafelyUnwrapped.assumingMemoryBound(to: C.self)), Row(raw: bias),
    Row(raw: residual), count: Int(cols),
    into: sum.unsafelyUnwrapped.assumingMemoryBound(to: C.self), prefetching: (0, 0))
}

/// (x + bias) + residual into `sum`, which may be where x or residual is.
///
/// - Parameter prefetching: how many elements ahead x and residual go on with the next rows.
@inline(__always)
func addRow<T: Element, C: ComputeScalar>(
  _ x: Row<T, C>, _ bias: Row<T, C>?, _ residual: Row<T, C>?, count: Int,
  into sum: UnsafeMutablePointer<T>, prefetching ahead: (x: Int, residual: Int)
) {
  let width = C.Vector.width
  var last = x.loadLast(of: count)
  if let bias { last = last + bias.loadLast(of: count) }
  if let residual { last = last + residual.loadLast(of: count) }
  var index = 0
  while index &+ width <= count {
    var vector = x.load(index)
    ln_prefetch(x.elements + (index &+ ahead.x))
    if let bias { vector = vector + bias.load(index) }
    if let residual {
      ln_prefetch(residual.elements + (index &+ ahead.residual))
      vector = vector + residual.load(index)
    }
    C.store(vector, to: sum + index)
    index &+= width
  }
  if index < count { storeLast(last, as: C.self, of: count, to: sum) }
}
