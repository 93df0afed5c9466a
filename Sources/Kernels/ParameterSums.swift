import CShims

/// The sums over rows that become dweight and dbias, in twice the precision: an entry for each
/// vector of columns; where the columns are no multiple of a vector, the last entry is that of the
/// vector that ends with the row.
struct ParameterSums<C: ComputeScalar> {
  typealias Entry = C.Wide.LaneSums

  private let dweight: UnsafeMutablePointer<Entry>
  private let dbias: UnsafeMutablePointer<Entry>
  private let entries: Int

  @inline(__always) init(_ memory: UnsafeMutableRawPointer, count: Int) {
    entries = (count &+ C.Vector.width &- 1) / C.Vector.width
    dweight = memory.assumingMemoryBound(to: Entry.self)
    dbias = dweight + entries
  }

  /// The entry that begins with a column.
  @inline(__always) func dweight(at column: Int) -> UnsafeMutablePointer<Entry> {
    entry(of: dweight, at: column)
  }
  @inline(__always) func dbias(at column: Int) -> UnsafeMutablePointer<Entry> {
    entry(of: dbias, at: column)
  }

  @inline(__always)
  private func entry(
    of entries: UnsafeMutablePointer<Entry>, at column: Int
  ) -> UnsafeMutablePointer<Entry> {
    let bytes = column &* (MemoryLayout<Entry>.stride / C.Vector.width)
    return (UnsafeMutableRawPointer(entries) + bytes).assumingMemoryBound(to: Entry.self)
  }

  func clear() {
    dweight.update(repeating: Entry(), count: 2 &* entries)
  }
}

/// Adds up the sums of all blocks, and writes them, rounded once, to the gradient of a parameter.
@inline(__always)
func join<C: ComputeScalar & Element>(
  _: C.Type, _ cols: Int64, _ blocks: Int64, _ blockBytes: Int64, _ sums: UnsafeMutableRawPointer?,
  _ gradient: UnsafeMutableRawPointer?, _ accumulates: Int32
) where C.Compute == C {
  let gradient = gradient.unsafelyUnwrapped.assumingMemoryBound(to: C.self)
  let count = Int(cols)
  func total(_ entry: Int, _ block: Int) -> UnsafeMutablePointer<C.Wide.LaneSums> {
    (sums.unsafelyUnwrapped + block &* Int(blockBytes))
      .assumingMemoryBound(to: C.Wide.LaneSums.self) + entry
  }
  /// Pairs of blocks, then pairs of pairs, and so on.
  @inline(__always) func joined(_ entry: Int, plus old: C.Vector) -> C.Vector {
    var distance = 1
    while distance < Int(blocks) {
      var block = 0
      while block &+ distance < Int(blocks) {
        total(entry, block).pointee.add(total(entry, block &+ distance).pointee)
        block &+= 2 &* distance
      }
      distance &*= 2
    }
    if accumulates != 0 { total(entry, 0).pointee.add(old) }
    return total(entry, 0).pointee.narrow
  }
  let width = C.Vector.width
  let row = Row<C, C>(UnsafePointer(gradient))
  let lastOld = row.loadLast(of: count)
  var index = 0
  var entry = 0
  while index &+ width <= count {
    C.store(joined(entry, plus: row.load(index)), to: gradient + index)
    index &+= width
    entry &+= 1
  }
  if index < count {
    storeLast(joined(entry, plus: lastOld), as: C.self, of: count, to: gradient)
  }
}
