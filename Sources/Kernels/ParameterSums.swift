import CShims

/// The sums over rows that become dweight and dbias, in twice the precision: an entry for each vector
/// of columns; where the columns are no multiple of a vector, the last entry is that of the vector that
/// ends with the row.
struct ParameterSums<C: ComputeScalar> {
  typealias Entry = C.Wide.LaneSums

  private let dweight: UnsafeMutablePointer<Entry>
  private let dbias: UnsafeMutablePointer<Entry>

  @inline(__always) init(_ memory: UnsafeMutableRawPointer, count: Int) {
    dweight = memory.assumingMemoryBound(to: Entry.self)
    dbias = dweight + (count &+ C.Vector.width &- 1) / C.Vector.width
  }

  /// The terms of one row.
  @inline(__always) func add(_ dy: C.Vector, _ normalized: C.Vector, at entry: Int) {
    dweight[entry].add(dy, times: normalized)
    dbias[entry].add(dy)
  }

  /// The terms of two rows, whose sums pass through registers only once.
  @inline(__always)
  func add<X: RowSource, G: RowSource>(
    _ terms: (RowGradient<X, G>.Terms, RowGradient<X, G>.Terms), at entry: Int
  ) where X.Compute == C {
    var dweight = self.dweight[entry]
    var dbias = self.dbias[entry]
    dweight.add(terms.0.dy, times: terms.0.normalized)
    dbias.add(terms.0.dy)
    dweight.add(terms.1.dy, times: terms.1.normalized)
    dbias.add(terms.1.dy)
    self.dweight[entry] = dweight
    self.dbias[entry] = dbias
  }

  /// The same of part 0 or 1 of an entry of float32 columns; of all of one of float64 columns.
  @inline(__always)
  func add(doubles dy: SIMD8<Double>, _ normalized: SIMD8<Double>, part: Int, at entry: Int) {
    dweight[entry].add(doubles: dy * normalized, part: part)
    dbias[entry].add(doubles: dy, part: part)
  }
}

/// Adds up the sums of all blocks, and writes them, rounded once, to the gradient of a parameter.
@inline(__always)
func join<C: ComputeScalar & Element>(
  _: C.Type, _ cols: Int64, _ blocks: Int64, _ blockBytes: Int64, _ sums: UnsafeMutableRawPointer?,
  _ gradient: UnsafeMutableRawPointer?, _ accumulates: Int32
) where C.Compute == C {
  typealias Entry = C.Wide.LaneSums
  let gradient = gradient.unsafelyUnwrapped.assumingMemoryBound(to: C.self)
  let count = Int(cols)
  func entry(_ index: Int, _ block: Int) -> UnsafeMutablePointer<Entry> {
    (sums.unsafelyUnwrapped + block &* Int(blockBytes)).assumingMemoryBound(to: Entry.self) + index
  }
  /// Pairs of blocks, then pairs of pairs, and so on.
  func total(_ index: Int, plus old: C.Vector) -> C.Vector {
    var distance = 1
    while distance < Int(blocks) {
      var block = 0
      while block &+ distance < Int(blocks) {
        entry(index, block).pointee.add(entry(index, block &+ distance).pointee)
        block &+= 2 &* distance
      }
      distance &*= 2
    }
    if accumulates != 0 { entry(index, 0).pointee.add(old) }
    return entry(index, 0).pointee.narrow
  }
  let width = C.Vector.width
  let row = Row<C, C>(UnsafePointer(gradient))
  let lastOld = row.loadLast(of: count)
  var index = 0
  while index &+ width <= count {
    C.store(total(index / width, plus: row.load(index)), to: gradient + index)
    index &+= width
  }
  if index < count {
    storeLast(total(index / width, plus: lastOld), as: C.self, of: count, to: gradient)
  }
}
