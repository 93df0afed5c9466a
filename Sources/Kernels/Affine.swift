/// What follows normalization: weight and bias, of element type P, of one row of columns.
protocol Affine {
  associatedtype Compute: ComputeScalar

  /// Combinations that seldom occur: little code is worth more than speed.
  static var isRare: Bool { get }
  /// Whether y of a row of numbers, if it is a NaN, is one with a lower half of zero: the default one, or that of a weight
  /// or bias of 16 bits. (See `mayHaveLongNaN`.)
  static var nanIsShort: Bool { get }
  func terms(at index: Int) -> AffineTerms<Compute>
  func apply(_ normalized: Compute.Vector, _ terms: AffineTerms<Compute>) -> Compute.Vector
  /// Of the columns index ..< index + width.
  func apply(_ normalized: Compute.Vector, at index: Int) -> Compute.Vector
  /// Of the vector that ends with a row of `count` columns; see `RowSource.loadLast`.
  func apply(_ normalized: Compute.Vector, last count: Int) -> Compute.Vector
}

/// What a vector of columns of every row is multiplied with and what is then added to it.
struct AffineTerms<Compute: ComputeScalar> {
  let weight: Compute.Vector
  var bias = Compute.Vector(repeating: -Compute.zero)
}

extension Affine {
  @inline(__always) static var isRare: Bool { false }
  @inline(__always) static var nanIsShort: Bool { false }

  @inline(__always)
  func apply(_ normalized: Compute.Vector, at index: Int) -> Compute.Vector {
    apply(normalized, terms(at: index))
  }
}

struct WeightOnly<P: Element, Compute: ComputeScalar>: Affine {
  @inline(__always) static var nanIsShort: Bool { true }

  let weight: Row<P, Compute>

  @inline(__always) func terms(at index: Int) -> AffineTerms<Compute> {
    AffineTerms(weight: weight.load(index))
  }
  @inline(__always)
  func apply(_ normalized: Compute.Vector, _ terms: AffineTerms<Compute>) -> Compute.Vector {
    normalized * terms.weight
  }
  @inline(__always)
  func apply(_ normalized: Compute.Vector, last count: Int) -> Compute.Vector {
    normalized * weight.loadLast(of: count)
  }
}

struct WeightAndBias<P: Element, Compute: ComputeScalar>: Affine {
  @inline(__always) static var nanIsShort: Bool { true }

  let weight: Row<P, Compute>
  let bias: Row<P, Compute>

  @inline(__always) func terms(at index: Int) -> AffineTerms<Compute> {
    AffineTerms(weight: weight.load(index), bias: bias.load(index))
  }
  @inline(__always)
  func apply(_ normalized: Compute.Vector, _ terms: AffineTerms<Compute>) -> Compute.Vector {
    terms.bias.adding(normalized, times: terms.weight)
  }
  @inline(__always)
  func apply(_ normalized: Compute.Vector, last count: Int) -> Compute.Vector {
    bias.loadLast(of: count).adding(normalized, times: weight.loadLast(of: count))
  }
}

extension Row {
  /// Whether one of `count` elements may be a NaN that is not one of 16 bits: of those that have 16 bits none is,
  /// others are looked at, and infinities taken for one.
  func mayHaveLongNaN(_ count: Int) -> Bool {
    if T.isCoarse { return false }
    var nothing = Compute.Vector(repeating: .zero)
    var index = 0
    while index &+ Self.width <= count {
      let vector = load(index)
      nothing = nothing + (vector - vector)
      index &+= Self.width
    }
    let last = loadLast(of: count)
    nothing = nothing + (last - last)
    return nothing.lanesAtLeast(Compute.Vector(repeating: .zero), and: nothing) < Self.width
  }
}

/// Any combination, found out at run time: for those, and for rows, that have no kernel of their own.
struct AnyAffine<Parameter: RowSource>: Affine {
  typealias Compute = Parameter.Compute

  @inline(__always) static var isRare: Bool { true }

  let weight: Weight<Parameter>
  let bias: Parameter?

  @inline(__always) func terms(at index: Int) -> AffineTerms<Compute> {
    var terms = AffineTerms<Compute>(
      weight: weight.isAbsent ? Compute.Vector(repeating: Compute(1)) : weight.load(index))
    if let bias { terms.bias = bias.load(index) }
    return terms
  }
  @inline(__always)
  func apply(_ normalized: Compute.Vector, _ terms: AffineTerms<Compute>) -> Compute.Vector {
    terms.bias.adding(normalized, times: terms.weight)
  }
  @inline(__always)
  func apply(_ normalized: Compute.Vector, at index: Int) -> Compute.Vector {
    guard let bias else { return weight.isAbsent ? normalized : normalized * weight.load(index) }
    return weight.isAbsent
      ? normalized + bias.load(index)
      : bias.load(index).adding(normalized, times: weight.load(index))
  }
  @inline(__always)
  func apply(_ normalized: Compute.Vector, last count: Int) -> Compute.Vector {
    guard let bias else {
      return weight.isAbsent ? normalized : normalized * weight.loadLast(of: count)
    }
    return weight.isAbsent
      ? normalized + bias.loadLast(of: count)
      : bias.loadLast(of: count).adding(normalized, times: weight.loadLast(of: count))
  }
}

/// A weight that may be absent, plus an offset.
struct Weight<Parameter: RowSource> {
  private let row: Parameter?
  private let offset: Parameter.Compute.Vector

  @inline(__always) init(_ row: Parameter?, offset: Double) {
    self.row = row
    self.offset = Parameter.Compute.Vector(repeating: Parameter.Compute(offset))
  }

  @inline(__always) var isAbsent: Bool { row == nil }

  /// Of a weight that is there.
  @inline(__always) func load(_ index: Int) -> Parameter.Compute.Vector {
    row.unsafelyUnwrapped.load(index) + offset
  }
  @inline(__always) func loadLast(of count: Int) -> Parameter.Compute.Vector {
    row.unsafelyUnwrapped.loadLast(of: count) + offset
  }
}
