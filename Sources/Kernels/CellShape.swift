import CShims

/// A dtype of the recurrent cells, which compute in twice its precision.
protocol CellScalar: ComputeScalar, Element {
  associatedtype Number: CellNumber
  /// The last `count` < 8 elements, in the last lanes; zero in the others.
  static func load(short count: Int, _ elements: UnsafePointer<Self>) -> SIMD8<Double>
}

extension Float: CellScalar {
  typealias Number = SIMD8<Double>

  @inline(__always)
  static func load(short count: Int, _ elements: UnsafePointer<Float>) -> SIMD8<Double> {
    ln_widen8(ln_load_short_float8(elements, Int64(count)))
  }
}

extension Double: CellScalar {
  typealias Number = CellPair

  @inline(__always)
  static func load(short count: Int, _ elements: UnsafePointer<Double>) -> SIMD8<Double> {
    ln_load_short8(elements, Int64(count))
  }
}

/// What kind of a cell a call is of.
struct CellShape {
  /// Values of `layernorm_cell`.
  @inline(__always) static var tanh: Int32 { 0 }
  @inline(__always) static var lstm: Int32 { 2 }

  let hidden: Int
  let gates: Int
  let isLSTM: Bool
  let isRNN: Bool
  /// How many norms the gates of a product go through.
  let norms: Int

  @inline(__always) init(_ work: UnsafePointer<ln_cell_work>) {
    let cell = work.pointee.cell
    hidden = Int(work.pointee.hidden)
    isLSTM = cell == CellShape.lstm
    isRNN = cell < CellShape.lstm
    gates = isLSTM ? 4 : isRNN ? 1 : 3
    norms = work.pointee.per_gate != 0 || isRNN ? gates : isLSTM ? 1 : 2
  }

  /// An RNN normalizes the sum of both.
  @inline(__always) var products: Int { isRNN ? 1 : 2 }
  /// The norms of a row: of the product with x, of that with h, and of the LSTM's c.
  @inline(__always) var normsOfRow: Int { products &* norms &+ (isLSTM ? 1 : 0) }
  /// How many vectors hold a gate.
  @inline(__always) var vectors: Int { (hidden &+ 7) / 8 }

  /// The gates that a norm of a product spans.
  @inline(__always) func gates(of norm: Int) -> Range<Int> {
    if norms == gates { return norm..<(norm &+ 1) }
    return isLSTM ? 0..<4 : norm == 0 ? 0..<2 : 2..<3
  }

  @inline(__always) func norm(of gate: Int) -> Int {
    norms == gates ? gate : isLSTM ? 0 : gate / 2
  }
}

/// A vector of columns of one gate. The last one holds what is left, in its last lanes: it overlaps no other,
/// so that an output may be an input.
struct Columns {
  let index: Int
  /// How many columns the last vector holds; 8 in any other.
  let count: Int

  @inline(__always) init(_ vector: Int, of hidden: Int) {
    index = 8 &* vector
    count = min(8, hidden &- index)
  }

  #if LAYERNORM_COMPACT
    @inline(never)
  #else
    @inline(__always)
  #endif
  func load<C: CellScalar>(_ row: UnsafePointer<C>) -> SIMD8<Double> {
    count == 8 ? C.loadDoubles(row + index) : C.load(short: count, row + index)
  }

  /// `absent` in every lane where there is no such row.
  @inline(__always)
  func load<C: CellScalar>(_ row: UnsafePointer<C>?, else absent: Double = 0) -> SIMD8<Double> {
    guard let row else { return SIMD8(repeating: absent) }
    return load(row)
  }

  #if LAYERNORM_COMPACT
    @inline(never)
  #else
    @inline(__always)
  #endif
  func store<C: CellScalar>(_ vector: SIMD8<Double>, to row: UnsafeMutablePointer<C>) {
    if count == 8 {
      C.storeDoubles(vector, to: row + index)
    } else {
      storeShort(vector, as: Double.self, of: count, to: row + index)
    }
  }

  /// Rounds to nearest.
  @inline(__always)
  func store<C: CellScalar>(_ number: C.Number, to row: UnsafeMutablePointer<C>) {
    store(number.doubles, to: row)
  }
}
