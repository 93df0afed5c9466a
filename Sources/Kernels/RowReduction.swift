import CShims

/// Sums over a row, in an order that the number of its elements alone determines: vector v of the row
/// goes to accumulator v mod 4; the elements after the last whole vector, as the last lanes of the
/// vector that ends with the row, to the accumulator before the next one's.
protocol RowReduction {
  typealias Compute = Source.Compute
  associatedtype Source: RowSource
  /// One accumulator: a vector of each sum. At first -0, to which anything can be added without an operation.
  associatedtype Lanes: EmptyInitializable

  /// How many vectors an accumulator has.
  static var sumsPerAccumulator: Int { get }
  /// In little code rather than fast: for rows that are rare. The order is the same.
  static var isCompact: Bool { get }

  /// Adds the columns index ..< index + width.
  func add(_ index: Int, to lanes: inout Lanes)
  /// Adds the last `tail` < width columns of a row of `count` >= width.
  func add(last tail: Int, of count: Int, to lanes: inout Lanes)
  /// Joins the accumulators of a block and moves them to twice the precision.
  mutating func add(_ a: Lanes, _ b: Lanes, _ c: Lanes, _ d: Lanes)
  /// Adds a row of `count` < width columns.
  mutating func add(short count: Int)
  /// Asks for the columns index ..< index + 4 * width.
  func fetch(_ index: Int)
}

protocol EmptyInitializable {
  init()
}

/// How many vectors are added up lane by lane, 16 to a lane, before the sums move to twice the
/// precision. More would let one outlier, beside which every later addition to its lane is rounded,
/// cost several units in the last place.
@inline(__always) private var vectorsPerBlock: Int { 64 }

extension RowReduction {
  @inline(__always) func fetch(_: Int) {}

  #if LAYERNORM_COMPACT
    @inline(__always) static var isCompact: Bool { true }
  #else
    @inline(__always) static var isCompact: Bool { Source.isRare }
  #endif
  @inline(__always) static var width: Int { Compute.Vector.width }
  /// With something to spare; or the order in which columns are read matters more.
  @inline(__always) private static var fitsRegisters: Bool {
    4 &* sumsPerAccumulator < Int(LN_VECTORS_IN_REGISTERS) || Source.isStored
  }

  /// The same of a row of four vectors, which is what `reduce` does of them.
  @inline(__always) mutating func reduceFour() {
    let width = Self.width
    var a = Lanes()
    var b = Lanes()
    var c = Lanes()
    var d = Lanes()
    add(0, to: &a)
    add(width, to: &b)
    add(2 &* width, to: &c)
    add(3 &* width, to: &d)
    add(a, b, c, d)
  }

  @inline(__always) mutating func reduce(_ count: Int) {
    let width = Self.width
    let wholeEnd = Compute.Vector.whole(count)
    guard wholeEnd > 0 else {
      add(short: count)
      return
    }
    var index = 0
    repeat {
      var a = Lanes()
      var b = Lanes()
      var c = Lanes()
      var d = Lanes()
      let blockEnd = min(index &+ vectorsPerBlock &* width, wholeEnd)
      if !Self.isCompact && !Self.fitsRegisters {
        if Self.sumsPerAccumulator == 4 {
          a = everyFourth(index, before: blockEnd)
          b = everyFourth(index &+ width, before: blockEnd)
          c = everyFourth(index &+ 2 &* width, before: blockEnd)
          d = everyFourth(index &+ 3 &* width, before: blockEnd)
        } else {
          (a, b) = twoOfFour(index, before: blockEnd)
          (c, d) = twoOfFour(index &+ 2 &* width, before: blockEnd)
        }
        // As the loop below would leave them.
        var rest = (blockEnd &- index) & (3 &* width)
        while rest > 0 {
          (a, b, c, d) = (b, c, d, a)
          rest &-= width
        }
        index = blockEnd
      } else if !Self.isCompact {
        while index &+ 4 &* width <= blockEnd {
          // The hardware fetches lines, and loads that straddle two wait for both.
          fetch(index &+ 12 &* width)
          add(index, to: &a)
          add(index &+ width, to: &b)
          add(index &+ 2 &* width, to: &c)
          add(index &+ 3 &* width, to: &d)
          index &+= 4 &* width
        }
      }
      while index &+ width <= blockEnd {
        add(index, to: &a)
        (a, b, c, d) = (b, c, d, a)
        index &+= width
      }
      if index == wholeEnd && wholeEnd < count {
        add(last: count &- wholeEnd, of: count, to: &d)
      }
      add(a, b, c, d)
    } while index < wholeEnd
  }

  @inline(__always)
  private func twoOfFour(_ begin: Int, before end: Int) -> (Lanes, Lanes) {
    let width = Self.width
    var a = Lanes()
    var b = Lanes()
    var index = begin
    while index &+ width < end {
      add(index, to: &a)
      add(index &+ width, to: &b)
      index &+= 4 &* width
    }
    if index < end { add(index, to: &a) }
    return (a, b)
  }

  /// The accumulator of a vector of columns and of every fourth after it.
  @inline(__always) private func everyFourth(_ begin: Int, before end: Int) -> Lanes {
    var lanes = Lanes()
    var index = begin
    while index < end {
      add(index, to: &lanes)
      index &+= 4 &* Self.width
    }
    return lanes
  }
}
