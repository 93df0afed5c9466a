import CShims

/// What follows normalization: weight and bias, of element type P, of one row of columns.
protocol Affine {
  associatedtype Compute: ComputeScalar

  /// Combinations that seldom occur: little code is worth more than speed.
  static var isRare: Bool { get }
  /// Whether y of a row of numbers, if it is a NaN, is one with a lower half of zero: the default one, or that of a weight
  /// or bias of 16 bits. (See `mayHaveLongNaN`.)
  static var nanIsShort: Bool { get }
  /// Whether two vectors of weight and bias are split as they are read.
  static var splits: Bool { get }
  func terms(at index: Int) -> AffineTerms<Compute>
  /// Those of the even ones and of the odd ones of two vectors of columns.
  ///
  /// - Parameter isLast: of those that end with the row, and need not begin where two vectors do.
  func splitTerms(at index: Int, isLast: Bool) -> (AffineTerms<Compute>, AffineTerms<Compute>)
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
  @inline(__always) static var splits: Bool { false }

  @inline(__always)
  func splitTerms(at index: Int, isLast _: Bool) -> (AffineTerms<Compute>, AffineTerms<Compute>) {
    let (first, second) = (terms(at: index), terms(at: index &+ Compute.Vector.width))
    let weight = Compute.Vector.split(first.weight, second.weight)
    let bias = Compute.Vector.split(first.bias, second.bias)
    return (
      AffineTerms(weight: weight.0, bias: bias.0), AffineTerms(weight: weight.1, bias: bias.1)
    )
  }

  @inline(__always)
  func apply(_ normalized: Compute.Vector, at index: Int) -> Compute.Vector {
    apply(normalized, terms(at: index))
  }
}

/// A weight or bias.
struct Parameter<P: Element, Compute: ComputeScalar>: RowSource {
  let row: Row<P, Compute>
  /// Beside rows that are split, and unless its own elements are as they are read: each whole two vectors as the even
  /// elements and the odd ones.
  private let split: UnsafeRawPointer

  /// nil for NULL.
  @inline(__always) init?(raw: UnsafeRawPointer?, split: UnsafeRawPointer?) {
    guard let raw else { return nil }
    row = Row(raw.assumingMemoryBound(to: P.self))
    self.split = split ?? raw
  }

  @inline(__always) func load(_ index: Int) -> Compute.Vector { row.load(index) }
  @inline(__always) func load(short count: Int) -> Compute.Vector { row.load(short: count) }

  /// Of whole two vectors from the first column on.
  @inline(__always) func loadSplit(_ index: Int) -> (Compute.Vector, Compute.Vector) {
    if Row<P, Compute>.splits { return row.loadTwo(index) }
    let two = split + index &* MemoryLayout<P>.stride
    return (
      two.loadUnaligned(as: Compute.Vector.self),
      two.loadUnaligned(fromByteOffset: 64, as: Compute.Vector.self)
    )
  }
}

/// Splits each whole two vectors of parameters. Gives whether one may be a NaN that has more than 16 bits.
@inline(__always)
func split<C: ComputeScalar & Element>(
  _: C.Type, _ cols: Int64, _ parameters: UnsafeRawPointer?, _ split: UnsafeMutableRawPointer?
) -> Int32 {
  let parameters = Row<C, C>(
    parameters.unsafelyUnwrapped.assumingMemoryBound(to: C.self))
  let split = split.unsafelyUnwrapped.assumingMemoryBound(to: C.self)
  let width = 2 &* C.Vector.width
  var index = 0
  while index &+ width <= Int(cols) {
    let two = parameters.loadTwo(index)
    let (even, odd) = C.Vector.split(two.0, two.1)
    C.store(even, to: split + index)
    C.store(odd, to: split + (index &+ C.Vector.width))
    index &+= width
  }
  return parameters.mayHaveLongNaN(Int(cols)) ? 1 : 0
}

struct WeightOnly<P: Element, Compute: ComputeScalar>: Affine {
  @inline(__always) static var nanIsShort: Bool { true }
  @inline(__always) static var splits: Bool { Row<P, Compute>.splits }

  let weight: Parameter<P, Compute>

  @inline(__always) func terms(at index: Int) -> AffineTerms<Compute> {
    AffineTerms(weight: weight.load(index))
  }
  @inline(__always)
  func splitTerms(at index: Int, isLast: Bool) -> (AffineTerms<Compute>, AffineTerms<Compute>) {
    let weight = isLast ? weight.row.loadSplit(index) : weight.loadSplit(index)
    return (AffineTerms(weight: weight.0), AffineTerms(weight: weight.1))
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
  @inline(__always) static var splits: Bool { Row<P, Compute>.splits }

  let weight: Parameter<P, Compute>
  let bias: Parameter<P, Compute>

  @inline(__always) func terms(at index: Int) -> AffineTerms<Compute> {
    AffineTerms(weight: weight.load(index), bias: bias.load(index))
  }
  @inline(__always)
  func splitTerms(at index: Int, isLast: Bool) -> (AffineTerms<Compute>, AffineTerms<Compute>) {
    let weight = isLast ? weight.row.loadSplit(index) : weight.loadSplit(index)
    let bias = isLast ? bias.row.loadSplit(index) : bias.loadSplit(index)
    return (
      AffineTerms(weight: weight.0, bias: bias.0), AffineTerms(weight: weight.1, bias: bias.1)
    )
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
    return nothing.lanesAtLeast(Compute.Vector(repeating: .zero), and: nothing) < 2 &* Self.width
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
struct AnyAffine<Source: ParameterRow>: Affine {
  typealias Compute = Source.Compute

  @inline(__always) static var isRare: Bool { true }

  private let weight, bias: Source
  /// All bits, or none for what is absent.
  private let ofWeight, ofBias: Int

  @inline(__always) init(weight: Source?, bias: Source?) {
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
    func last(_ row: Source, _ mask: Int) -> Compute.Vector {
      row.loadLast(of: mask == 0 ? Compute.Vector.width : count)
    }
    return last(bias, ofBias).adding(normalized, times: last(weight, ofWeight))
  }
}
