import CShims

/// Copies `count` elements from one type and stride to another, with one rounding to nearest where
/// the destination is narrower. Serves layouts and dtypes that have no kernel of their own.
@inline(__always)
func convert<Source: Element, Destination: Element, C: ComputeScalar>(
  _: Source.Type, to _: Destination.Type, through _: C.Type, _ count: Int64,
  _ source: UnsafeRawPointer?, _ sourceStride: Int64, _ destination: UnsafeMutableRawPointer?,
  _ destinationStride: Int64
) {
  let source = source.unsafelyUnwrapped.assumingMemoryBound(to: Source.self)
  let destination = destination.unsafelyUnwrapped.assumingMemoryBound(to: Destination.self)
  let count = Int(count)
  var index = 0
  if sourceStride == 1 && destinationStride == 1 {
    while index &+ C.Vector.width <= count {
      C.store(C.load(source + index) as C.Vector, to: destination + index)
      index &+= C.Vector.width
    }
  }
  while index < count {
    let element: C = C.load(scalar: source + index &* Int(sourceStride))
    C.store(scalar: element, to: destination + index &* Int(destinationStride))
    index &+= 1
  }
}
