import CShims

/// Sums over a row, in an order that the number of its elements alone determines: vector v of the row
/// goes to accumulator v mod 4; the elements after the last whole vector, as the last lanes of the
/// vector that ends with the row, to the accumulator before the next one's.
protocol RowReduction {
  typealias Compute = Source.Compute
  associatedtype Source: RowSource
  associatedtype Lanes: Accumulator
  /// Those of a row, in twice the precision. Not held by what takes them: a compiler would copy that, by loads that are
  /// wider than the stores before them and wait for these to reach the cache.
  associatedtype Sums: BlockSums where Sums.Lanes == Lanes

  /// How many vectors an accumulator has.
  static var sumsPerAccumulator: Int { get }
  /// In little code rather than fast: for rows that are rare. The order is the same.
  static var isCompact: Bool { get }

  /// Adds the columns index ..< index + width.
  func add(_ index: Int, to lanes: inout Lanes)
  /// Whether columns are added as even ones and odd ones, where there are many.
  static var splits: Bool { get }
  /// Adds the columns index ..< index + 2 * width so.
  func addSplit(_ index: Int, to even: inout Lanes, _ odd: inout Lanes)
  /// Adds the last `tail` < width columns of a row of `count` >= width.
  func add(last tail: Int, of count: Int, to lanes: inout Lanes)
  /// Adds a row of `count` < width columns.
  func add(short count: Int, to sums: inout Sums)
  /// Asks for what follows some way after the columns index ..< index + 4 * width.
  func fetch(_ index: Int)
  /// The same of one vector.
  func fetchOne(_ index: Int)
  /// Whether later columns are asked for where columns are not read in order.
  var asksLater: Bool { get }
  /// Asks for the columns index ..< index + width, of a later row where this one has ended.
  func fetchLater(_ index: Int)
}

/// A vector of each sum.
protocol Accumulator {
  /// -0, to which anything can be added without an operation.
  init()
  static func + (a: Self, b: Self) -> Self
  /// Those of even and of odd columns, as those of columns in order.
  static func inOrder(_ even: Self, _ odd: Self) -> (Self, Self)
}

/// The sums of blocks, in twice the precision.
protocol BlockSums {
  associatedtype Lanes
  init()
  mutating func add(_ block: Lanes)
}

/// How many vectors are added up lane by lane, 16 to a lane, before the sums move to twice the
/// precision. More would let one outlier, beside which every later addition to its lane is rounded,
/// cost several units in the last place.
@inline(__always) private var vectorsPerBlock: Int { 64 }

/// Whether registers hold the four accumulators with something to spare.
@inline(__always) func registersHold(accumulatorsOf vectors: Int) -> Bool {
  4 &* vectors < Int(LN_VECTORS_IN_REGISTERS)
}

extension RowReduction {
  @inline(__always) static var splits: Bool { false }
  @inline(__always) func addSplit(_: Int, to _: inout Lanes, _: inout Lanes) {}
  @inline(__always) func fetch(_: Int) {}
  @inline(__always) func fetchOne(_: Int) {}
  @inline(__always) var asksLater: Bool { false }
  @inline(__always) func fetchLater(_: Int) {}

  #if LAYERNORM_COMPACT
    @inline(__always) static var isCompact: Bool { true }
  #else
    @inline(__always) static var isCompact: Bool { Source.isRare }
  #endif
  @inline(__always) static var width: Int { Compute.Vector.width }

  /// The same of a row of four vectors, which is what `reduce` does of them.
  @inline(__always) func reduceFour() -> Sums {
    let width = Self.width
    @inline(__always) func lanes(_ index: Int) -> Lanes {
      var lanes = Lanes()
      add(index, to: &lanes)
      return lanes
    }
    let first = lanes(0) + lanes(width)
    var sums = Sums()
    sums.add(first + (lanes(2 &* width) + lanes(3 &* width)))
    return sums
  }

  /// The same of a row of a vector or more, but so few that calls, loops over blocks, and taking even and odd columns
  /// apart would take as long as the sums.
  @inline(__always) func reduceShort(_ count: Int) -> Sums {
    let width = Self.width
    let wholeEnd = Compute.Vector.whole(count)
    // What is over four at a time comes first: then the last vector is in the last accumulator, however many there are.
    let over = wholeEnd & (3 &* width)
    let tail = count &- wholeEnd
    var sums = Sums()
    if registersHold(accumulatorsOf: Self.sumsPerAccumulator) {
      var a = Lanes()
      var b = Lanes()
      var c = Lanes()
      var d = Lanes()
      var index = 0
      @inline(__always) func addNext(to lanes: inout Lanes) {
        add(index, to: &lanes)
        index &+= width
      }
      if over != 0 {
        if over > 2 &* width { addNext(to: &b) }
        if over > width { addNext(to: &c) }
        addNext(to: &d)
      }
      while index < wholeEnd {
        addNext(to: &a)
        addNext(to: &b)
        addNext(to: &c)
        addNext(to: &d)
      }
      if tail > 0 { add(last: tail, of: count, to: &d) }
      sums.add((a + b) + (c + d))
    } else {
      withUnsafeTemporaryAllocation(of: Lanes.self, capacity: 4) { memory in
        // As in `totalInTurn`.
        let lanes = ln_opaque(memory.baseAddress).unsafelyUnwrapped.assumingMemoryBound(
          to: Lanes.self)
        var offset = over
        for turn in 0..<4 {
          var ofTurn = Lanes()
          addEveryFourth(offset, before: wholeEnd, to: &ofTurn) {}
          if turn == 3 && tail > 0 { add(last: tail, of: count, to: &ofTurn) }
          lanes[turn] = ofTurn
          offset = (offset &+ width) & (3 &* width)
        }
        sums.add((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]))
      }
    }
    return sums
  }

  /// Where registers are few, of four vectors by code of its own.
  @inline(__always) func reduceShortOrFour(_ count: Int) -> Sums {
    !registersHold(accumulatorsOf: Self.sumsPerAccumulator) && count == 4 &* Self.width
      ? reduceFour() : reduceShort(count)
  }

  @inline(__always) func reduce(_ count: Int) -> Sums {
    guard count >= Self.width else {
      var sums = Sums()
      add(short: count, to: &sums)
      return sums
    }
    return reduceVectors(count)
  }

  /// The same of a row of a vector or more. Apart, or a compiler calls `total` by a pointer, which takes up to 30 ns.
  @inline(__always) private func reduceVectors(_ count: Int) -> Sums {
    ln_align_stack()
    let wholeEnd = Compute.Vector.whole(count)
    var sums = Sums()
    var begin = 0
    repeat {
      let end = min(begin &+ vectorsPerBlock &* Self.width, wholeEnd)
      let tail = end == wholeEnd ? count &- end : 0
      if Self.isCompact || registersHold(accumulatorsOf: Self.sumsPerAccumulator) {
        sums.add(total(begin, end, tail: tail, of: count))
      } else if asksLater {
        sums.add(totalInTurn(begin, end, tail: tail, of: count, asksLater: true))
      } else {
        // Without a question for each vector.
        sums.add(totalInTurn(begin, end, tail: tail, of: count, asksLater: false))
      }
      begin = end
    } while begin < wholeEnd
    return sums
  }

  /// - Parameter tail: how many columns there are after those of the block's vectors.
  @inline(__always)
  private func total(_ begin: Int, _ end: Int, tail: Int, of count: Int) -> Lanes {
    ln_align_stack()
    if Self.isCompact { return totalOneByOne(begin, end, tail: tail, of: count) }
    let width = Self.width
    var a = Lanes()
    var b = Lanes()
    var c = Lanes()
    var d = Lanes()
    var index = begin
    while index &+ 4 &* width <= end {
      // The hardware fetches lines, and loads that straddle two wait for both.
      fetch(index)
      if Self.splits {
        addSplit(index, to: &a, &b)
        addSplit(index &+ 2 &* width, to: &c, &d)
      } else {
        add(index, to: &a)
        add(index &+ width, to: &b)
        add(index &+ 2 &* width, to: &c)
        add(index &+ 3 &* width, to: &d)
      }
      index &+= 4 &* width
    }
    if Self.splits {
      (a, b) = Lanes.inOrder(a, b)
      (c, d) = Lanes.inOrder(c, d)
    }
    while index < end {
      fetchOne(index)
      add(index, to: &a)
      (a, b, c, d) = (b, c, d, a)
      index &+= width
    }
    if tail > 0 { add(last: tail, of: count, to: &d) }
    return (a + b) + (c + d)
  }

  /// The same in little code.
  @inline(__always)
  private func totalOneByOne(_ begin: Int, _ end: Int, tail: Int, of count: Int) -> Lanes {
    withUnsafeTemporaryAllocation(of: Lanes.self, capacity: 4) { sums in
      sums.initialize(repeating: Lanes())
      let sums = sums.baseAddress.unsafelyUnwrapped
      var turn = 0
      var index = begin
      while index < end {
        add(index, to: &sums[turn])
        turn = (turn &+ 1) & 3
        index &+= Self.width
      }
      if tail > 0 { add(last: tail, of: count, to: &sums[(turn &- 1) & 3]) }
      return (sums[turn] + sums[(turn &+ 1) & 3])
        + (sums[(turn &+ 2) & 3] + sums[(turn &+ 3) & 3])
    }
  }

  /// The same where registers hold two accumulators or one. The last vectors have moved them on there: the first
  /// is the one after the last vector's.
  ///
  /// - Parameter asksLater: whether the columns of the next block are asked for, one after the other: what the
  ///   hardware sees of every fourth vector tells it little.
  @inline(__always)
  private func totalInTurn(
    _ begin: Int, _ end: Int, tail: Int, of count: Int, asksLater: Bool
  ) -> Lanes {
    if Self.splits {
      return totalOfSplit(begin, end, tail: tail, of: count)
    }
    let width = Self.width
    let atOnce = Self.sumsPerAccumulator > 2 ? 1 : 2
    return withUnsafeTemporaryAllocation(of: Lanes.self, capacity: 4) { memory in
      // A compiler would keep them in registers, and others in memory that are added to.
      let sums = ln_opaque(memory.baseAddress).unsafelyUnwrapped.assumingMemoryBound(to: Lanes.self)
      var offset = (end &- begin) & (3 &* width)
      var done = 0
      var later = end
      @inline(__always) func ask() {
        guard asksLater else { return }
        fetchLater(later)
        later &+= width
      }
      repeat {
        let first = begin &+ offset
        offset = (offset &+ width) & (3 &* width)
        let second = begin &+ offset
        var a = Lanes()
        var b = Lanes()
        if atOnce == 2 {
          addEveryFourth(first, to: &a, second, to: &b, before: end, ask)
        } else {
          addEveryFourth(first, before: end, to: &b, ask)
        }
        if atOnce == 2 { offset = (offset &+ width) & (3 &* width) }
        done &+= atOnce
        if done == 4 && tail > 0 { add(last: tail, of: count, to: &b) }
        sums[done &- atOnce] = atOnce == 2 ? a + b : b
      } while done < 4
      return atOnce == 2 ? sums[0] + sums[2] : (sums[0] + sums[1]) + (sums[2] + sums[3])
    }
  }

  /// The same of even and odd columns: those of the first two vectors of four and of the others.
  @inline(__always)
  private func totalOfSplit(_ begin: Int, _ end: Int, tail: Int, of count: Int) -> Lanes {
    let width = Self.width
    return withUnsafeTemporaryAllocation(of: Lanes.self, capacity: 4) { memory in
      let sums = ln_opaque(memory.baseAddress).unsafelyUnwrapped.assumingMemoryBound(to: Lanes.self)
      let splitEnd = begin &+ (end &- begin) & (0 &- 4 &* width)
      var turn = 0
      repeat {
        var even = Lanes()
        var odd = Lanes()
        var index = begin &+ turn &* width
        while index < splitEnd {
          addSplit(index, to: &even, &odd)
          index &+= 4 &* width
        }
        (sums[turn], sums[turn &+ 1]) = Lanes.inOrder(even, odd)
        turn &+= 2
      } while turn < 4
      var index = splitEnd
      while index < end {
        add(index, to: &sums[turn & 3])
        turn &+= 1
        index &+= width
      }
      if tail > 0 { add(last: tail, of: count, to: &sums[(turn &- 1) & 3]) }
      return (sums[turn & 3] + sums[(turn &+ 1) & 3])
        + (sums[(turn &+ 2) & 3] + sums[(turn &+ 3) & 3])
    }
  }

  /// A vector of columns and every fourth after it.
  @inline(__always)
  private func addEveryFourth(
    _ begin: Int, before end: Int, to lanes: inout Lanes, _ ask: () -> Void
  ) {
    var index = begin
    while index < end {
      ask()
      add(index, to: &lanes)
      index &+= 4 &* Self.width
    }
  }

  @inline(__always)
  private func addEveryFourth(
    _ first: Int, to a: inout Lanes, _ second: Int, to b: inout Lanes, before end: Int,
    _ ask: () -> Void
  ) {
    var first = first
    var second = second
    while max(first, second) < end {
      ask()
      ask()
      add(first, to: &a)
      add(second, to: &b)
      first &+= 4 &* Self.width
      second &+= 4 &* Self.width
    }
    addEveryFourth(first, before: end, to: &a, ask)
    addEveryFourth(second, before: end, to: &b, ask)
  }
}
