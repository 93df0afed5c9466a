import CShims

/// The sums over rows that become dweight and dbias, in twice the precision: an entry for each
/// vector of columns; where the columns are no multiple of a vector, the last entry is that of the
/// vector that ends with the row.
///
/// Of 16-bit rows, some are added up in the compute type before: their terms need no more, and half as
/// much is read and written for each.
struct ParameterSums<C: ComputeScalar> {
  typealias Entry = C.Wide.LaneSums

  private let dweight: UnsafeMutablePointer<Entry>
  private let dbias: UnsafeMutablePointer<Entry>
  private let coarse: UnsafeMutablePointer<C.Vector>
  private let entries: Int

  @inline(__always) init(_ memory: UnsafeMutableRawPointer, count: Int) {
    entries = (count &+ C.Vector.width &- 1) / C.Vector.width
    dweight = memory.assumingMemoryBound(to: Entry.self)
    dbias = dweight + entries
    coarse = UnsafeMutableRawPointer(dbias + entries).assumingMemoryBound(to: C.Vector.self)
  }

  /// The entry that begins with a column.
  @inline(__always) func dweight(at column: Int) -> UnsafeMutablePointer<Entry> {
    entry(of: dweight, at: column)
  }
  @inline(__always) func dbias(at column: Int) -> UnsafeMutablePointer<Entry> {
    entry(of: dbias, at: column)
  }

  /// That of some rows.
  @inline(__always) func coarseDweight(at column: Int) -> UnsafeMutablePointer<C.Vector> {
    entry(of: coarse, at: column)
  }
  @inline(__always) func coarseDbias(at column: Int) -> UnsafeMutablePointer<C.Vector> {
    entry(of: coarse + entries, at: column)
  }

  @inline(__always)
  private func entry<E>(
    of entries: UnsafeMutablePointer<E>, at column: Int
  ) -> UnsafeMutablePointer<E> {
    let bytes = column &* (MemoryLayout<E>.stride / C.Vector.width)
    return (UnsafeMutableRawPointer(entries) + bytes).assumingMemoryBound(to: E.self)
  }

  func clear(coarse: Bool) {
    clear(from: 0)
    if coarse { self.coarse.update(repeating: C.Vector(repeating: .zero), count: 2 &* entries) }
  }

  /// From a column that an entry begins with; no coarse ones.
  func clear(from column: Int) {
    let first = column / C.Vector.width
    (dweight + first).update(repeating: Entry(), count: entries &- first)
    (dbias + first).update(repeating: Entry(), count: entries &- first)
  }

  /// Moves the sums of some rows to those of all.
  @inline(never) func joinCoarse() {
    for index in 0..<(2 &* entries) {
      dweight[index].add(coarse[index])
      coarse[index] = C.Vector(repeating: .zero)
    }
  }

  /// The sums of some rows, which are split for so many columns.
  @inline(never) func bringInOrder(_ columns: Int) {
    var column = 0
    while column < columns {
      let dweight = coarseDweight(at: column)
      (dweight[0], dweight[1]) = C.Vector.inOrder(dweight[0], dweight[1])
      let dbias = coarseDbias(at: column)
      (dbias[0], dbias[1]) = C.Vector.inOrder(dbias[0], dbias[1])
      column &+= 2 &* C.Vector.width
    }
  }
}

/// The entries of a vector of columns.
protocol ColumnSums<C> {
  associatedtype C: ComputeScalar

  /// What is read of dy beside its vector.
  associatedtype Parts

  /// Nothing.
  init()
  init(_ sums: ParameterSums<C>, at column: Int)
  static func load(_ dy: UnsafeRawPointer) -> Parts
  mutating func add(_ dy: C.Vector, _ parts: Parts, _ normalized: C.Vector)
  func store(to sums: ParameterSums<C>, at column: Int)
}

/// In twice the precision.
struct ExactSums<C: ComputeScalar>: ColumnSums {
  private var dweight = C.Wide.LaneSums()
  private var dbias = C.Wide.LaneSums()

  @inline(__always) init() {}

  @inline(__always) init(_ sums: ParameterSums<C>, at column: Int) {
    dweight = sums.dweight(at: column).pointee
    dbias = sums.dbias(at: column).pointee
  }

  /// From memory, where half a vector costs nothing.
  @inline(__always) static func load(_ dy: UnsafeRawPointer) -> C.Wide.LaneSums.Parts {
    C.Wide.LaneSums.Parts(dy)
  }

  @inline(__always)
  mutating func add(_: C.Vector, _ parts: C.Wide.LaneSums.Parts, _ normalized: C.Vector) {
    dweight.add(parts, times: normalized)
    dbias.add(parts)
  }

  @inline(__always) func store(to sums: ParameterSums<C>, at column: Int) {
    sums.dweight(at: column).pointee = dweight
    sums.dbias(at: column).pointee = dbias
  }
}

/// Of some 16-bit rows.
struct CoarseSums<C: ComputeScalar>: ColumnSums {
  private var dweight = C.Vector(repeating: .zero)
  private var dbias = C.Vector(repeating: .zero)

  @inline(__always) init() {}

  @inline(__always) init(_ sums: ParameterSums<C>, at column: Int) {
    dweight = sums.coarseDweight(at: column).pointee
    dbias = sums.coarseDbias(at: column).pointee
  }

  @inline(__always) static func load(_: UnsafeRawPointer) {}

  @inline(__always) mutating func add(_ dy: C.Vector, _: Void, _ normalized: C.Vector) {
    add(dy, normalized)
  }

  @inline(__always) mutating func add(_ dy: C.Vector, _ normalized: C.Vector) {
    dweight = dweight.adding(dy, times: normalized)
    dbias = dbias + dy
  }

  @inline(__always) func store(to sums: ParameterSums<C>, at column: Int) {
    sums.coarseDweight(at: column).pointee = dweight
    sums.coarseDbias(at: column).pointee = dbias
  }
}

/// How many entries before it is read one is asked for.
@inline(__always) private var entriesAhead: Int { 16 }

/// Adds up the sums of all blocks, and writes them, rounded once, to the gradient of a parameter.
@inline(__always)
func join<C: ComputeScalar & Element>(
  _: C.Type, _ cols: Int64, _ blocks: Int64, _ blockBytes: Int64, _ sums: UnsafeMutableRawPointer?,
  _ coarse: UnsafeMutableRawPointer?, _ gradient: UnsafeMutableRawPointer?, _ accumulates: Int32
) where C.Compute == C {
  let gradient = gradient.unsafelyUnwrapped.assumingMemoryBound(to: C.self)
  let count = Int(cols)
  func total(_ entry: Int, _ block: Int) -> UnsafeMutablePointer<C.Wide.LaneSums> {
    (sums.unsafelyUnwrapped + block &* Int(blockBytes))
      .assumingMemoryBound(to: C.Wide.LaneSums.self) + entry
  }
  @inline(__always) func read(_ entry: Int, _ block: Int) -> C.Wide.LaneSums {
    var sums = total(entry, block).pointee
    if let coarse {
      sums.add((coarse + block &* Int(blockBytes)).assumingMemoryBound(to: C.Vector.self)[entry])
    }
    return sums
  }
  /// Those of other threads come from their caches.
  @inline(__always) func fetch(_ entry: Int) {
    for block in 0..<Int(blocks) {
      let later = UnsafeRawPointer(total(entry, block))
      ln_prefetch(later)
      ln_prefetch(later + 64)
    }
  }
  /// Pairs of blocks, then pairs of pairs, and so on.
  @inline(__always) func joined(_ entry: Int, plus old: C.Vector) -> C.Vector {
    if blocks > 1 { fetch(entry &+ entriesAhead) }
    var block = 0
    while block < Int(blocks) {
      var sums = read(entry, block)
      if block &+ 1 < Int(blocks) { sums.add(read(entry, block &+ 1)) }
      total(entry, block).pointee = sums
      block &+= 2
    }
    var distance = 2
    while distance < Int(blocks) {
      block = 0
      while block &+ distance < Int(blocks) {
        total(entry, block).pointee.add(total(entry, block &+ distance).pointee)
        block &+= 2 &* distance
      }
      distance &*= 2
    }
    var joined = total(entry, 0).pointee
    if accumulates != 0 { joined.add(old) }
    return joined.narrow
  }
  let width = C.Vector.width
  let row = Row<C, C>(UnsafePointer(gradient))
  let lastOld = row.loadLast(of: count)
  var index = 0
  var entry = 0
  if blocks > 1 { for entry in 0..<entriesAhead { fetch(entry) } }
  if blocks == 1 && coarse == nil && accumulates == 0 {
    // Of a small call, which would spend a fifth of its time on the questions below.
    while index &+ width <= count {
      C.store(total(entry, 0).pointee.narrow, to: gradient + index)
      index &+= width
      entry &+= 1
    }
  }
  while index < count {
    let isWhole = index &+ width <= count
    let gradientOfEntry = joined(entry, plus: isWhole ? row.load(index) : lastOld)
    if isWhole {
      C.store(gradientOfEntry, to: gradient + index)
    } else {
      storeLast(gradientOfEntry, as: C.self, of: count, to: gradient)
    }
    index &+= width
    entry &+= 1
  }
}
