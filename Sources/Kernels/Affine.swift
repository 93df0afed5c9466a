import CShims

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

/// A row of parameters that may be absent.
protocol ParameterRow: RowSource {
  /// Rows of one vector, of ones and of -0.
  static var ones: Self { get }
  static var zeros: Self { get }
}

extension Row: ParameterRow {
  @inline(__always) static var ones: Self {
    Row(ln_ones(Int64(MemoryLayout<T>.size)).assumingMemoryBound(to: T.self))
  }
  @inline(__always) static var zeros: Self {
    Row(ln_negative_zeros(Int64(MemoryLayout<T>.size)).assumingMemoryBound(to: T.self))
  }
}

extension AnyRow: ParameterRow {
  @inline(__always) static var ones: Self { AnyRow(Row<Double, Double>.ones.elements) }
  @inline(__always) static var zeros: Self { AnyRow(Row<Double, Double>.zeros.elements) }
}

/// Any combination, found out at run time: for those, and for rows, that have no kernel of their own. What is absent
/// is a row of one vector, at which all columns are; a branch for each vector took longer.
struct AnyAffine<Parameter: ParameterRow>: Affine {
  typealias Compute = Parameter.Compute

  @inline(__always) static var isRare: Bool { true }

  private let weight, bias: Parameter
  /// All bits, or none for what is absent.
  private let ofWeight, ofBias: Int

  @inline(__always) init(weight: Parameter?, bias: Parameter?) {
    self.weight = weight ?? .ones
    self.bias = bias ?? .zeros
    ofWeight = weight == nil ? 0 : -1
    ofBias = bias == nil ? 0 : -1
  }

  @inline(__always) func terms(at index: Int) -> AffineTerms<Compute> {
    AffineTerms(weight: weight.load(index & ofWeight), bias: bias.load(index & ofBias))
  }
  @inline(__always)
  func apply(_ normalized: Compute.Vector, _ terms: AffineTerms<Compute>) -> Compute.Vector {
    terms.bias.adding(normalized, times: terms.weight)
  }
  @inline(__always)
  func apply(_ normalized: Compute.Vector, last count: Int) -> Compute.Vector {
    func last(_ row: Parameter, _ mask: Int) -> Compute.Vector {
      row.loadLast(of: mask == 0 ? Compute.Vector.width : count)
    }
    return last(bias, ofBias).adding(normalized, times: last(weight, ofWeight))
  }
}
