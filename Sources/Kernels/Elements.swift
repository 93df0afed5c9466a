import CShims

enum ElementType {
  case float
  case double
  case half
  case bfloat16
}

/// A storage type: how its elements become compute types, and back with one rounding to nearest.
protocol Element {
  /// The type that rows of this dtype are computed in.
  associatedtype Compute: ComputeScalar
  static var type: ElementType { get }
  /// Whether y has so few digits that rstd may be rounded before it is used.
  static var isCoarse: Bool { get }

  /// Whether numbers are rounded to it as integers, which a NaN may be lost by.
  static var roundsBits: Bool { get }

  /// Whether two vectors of elements are computed as the even and the odd ones.
  static var splits: Bool { get }

  static func loadFloats(_ source: UnsafePointer<Self>) -> SIMD16<Float>
  /// Two vectors of elements, split or in order.
  static func loadTwoFloats(_ source: UnsafePointer<Self>) -> (SIMD16<Float>, SIMD16<Float>)
  /// - Parameter nanIsShort: whether the lower half of a NaN, if it is one, is zero: it need not be looked for.
  static func storeFloats(
    _ vector: SIMD16<Float>, to destination: UnsafeMutablePointer<Self>, nanIsShort: Bool)
  /// Two vectors that are split, as 64 bytes that are stored.
  static func packFloats(
    _ vectors: (SIMD16<Float>, SIMD16<Float>), nanIsShort: Bool
  ) -> SIMD16<Float>
  static func loadDoubles(_ source: UnsafePointer<Self>) -> SIMD8<Double>
  static func storeDoubles(_ vector: SIMD8<Double>, to destination: UnsafeMutablePointer<Self>)

  /// The same past the caches, to an address that is a multiple of the vector's size.
  static func streamFloats(
    _ vector: SIMD16<Float>, to destination: UnsafeMutablePointer<Self>, nanIsShort: Bool)
  static func streamDoubles(_ vector: SIMD8<Double>, to destination: UnsafeMutablePointer<Self>)

  /// What is loaded after a store; of sums of elements, whose NaN is one of theirs.
  static func roundFloats(_ vector: SIMD16<Float>) -> SIMD16<Float>
  static func roundDoubles(_ vector: SIMD8<Double>) -> SIMD8<Double>
  /// Stores, and gives what would be loaded.
  static func storeAndRoundFloats(
    _ vector: SIMD16<Float>, to destination: UnsafeMutablePointer<Self>
  ) -> SIMD16<Float>
  /// The same of two that are split.
  static func storeAndRoundTwoFloats(
    _ vectors: (SIMD16<Float>, SIMD16<Float>), to destination: UnsafeMutablePointer<Self>
  ) -> (SIMD16<Float>, SIMD16<Float>)

  static func loadFloat(_ source: UnsafePointer<Self>) -> Float
  static func storeFloat(_ value: Float, to destination: UnsafeMutablePointer<Self>)
  static func loadDouble(_ source: UnsafePointer<Self>) -> Double
  static func storeDouble(_ value: Double, to destination: UnsafeMutablePointer<Self>)
}

extension Element {
  @inline(__always) static var isCoarse: Bool { false }
  @inline(__always) static var roundsBits: Bool { false }
  @inline(__always) static var splits: Bool { false }
  @inline(__always)
  static func loadTwoFloats(_ source: UnsafePointer<Self>) -> (SIMD16<Float>, SIMD16<Float>) {
    (loadFloats(source), loadFloats(source + 16))
  }
  @inline(__always)
  static func packFloats(
    _ vectors: (SIMD16<Float>, SIMD16<Float>), nanIsShort _: Bool
  ) -> SIMD16<Float> {
    vectors.0
  }
  @inline(__always)
  static func streamFloats(
    _ vector: SIMD16<Float>, to destination: UnsafeMutablePointer<Self>, nanIsShort: Bool
  ) {
    storeFloats(vector, to: destination, nanIsShort: nanIsShort)
  }
  @inline(__always)
  static func streamDoubles(_ vector: SIMD8<Double>, to destination: UnsafeMutablePointer<Self>) {
    storeDoubles(vector, to: destination)
  }
  @inline(__always)
  static func storeAndRoundFloats(
    _ vector: SIMD16<Float>, to destination: UnsafeMutablePointer<Self>
  ) -> SIMD16<Float> {
    storeFloats(vector, to: destination, nanIsShort: true)
    return roundFloats(vector)
  }
  @inline(__always)
  static func storeAndRoundTwoFloats(
    _ vectors: (SIMD16<Float>, SIMD16<Float>), to _: UnsafeMutablePointer<Self>
  ) -> (SIMD16<Float>, SIMD16<Float>) {
    vectors
  }
}

@inline(__always)
private func loadUnaligned<T, V>(_ source: UnsafePointer<T>) -> V {
  UnsafeRawPointer(source).loadUnaligned(as: V.self)
}

@inline(__always)
private func storeUnaligned<T, V>(_ vector: V, to destination: UnsafeMutablePointer<T>) {
  UnsafeMutableRawPointer(destination).storeBytes(of: vector, as: V.self)
}

extension Float: Element {
  typealias Compute = Float
  @inline(__always) static var type: ElementType { .float }

  @inline(__always)
  static func streamFloats(
    _ vector: SIMD16<Float>, to destination: UnsafeMutablePointer<Float>, nanIsShort: Bool
  ) {
    ln_stream_float16(destination, vector)
  }

  @inline(__always) static func loadFloats(_ source: UnsafePointer<Float>) -> SIMD16<Float> {
    loadUnaligned(source)
  }
  @inline(__always)
  static func storeFloats(
    _ vector: SIMD16<Float>, to destination: UnsafeMutablePointer<Float>, nanIsShort: Bool
  ) {
    storeUnaligned(vector, to: destination)
  }
  @inline(__always) static func loadDoubles(_ source: UnsafePointer<Float>) -> SIMD8<Double> {
    ln_widen8(loadUnaligned(source))
  }
  @inline(__always)
  static func storeDoubles(_ vector: SIMD8<Double>, to destination: UnsafeMutablePointer<Float>) {
    storeUnaligned(ln_narrow8(vector), to: destination)
  }

  @inline(__always) static func roundFloats(_ vector: SIMD16<Float>) -> SIMD16<Float> { vector }
  @inline(__always) static func roundDoubles(_ vector: SIMD8<Double>) -> SIMD8<Double> {
    ln_widen8(ln_narrow8(vector))
  }
  @inline(__always) static func loadFloat(_ source: UnsafePointer<Float>) -> Float {
    source.pointee
  }
  @inline(__always) static func storeFloat(
    _ value: Float, to destination: UnsafeMutablePointer<Float>
  ) {
    destination.pointee = value
  }
  @inline(__always) static func loadDouble(_ source: UnsafePointer<Float>) -> Double {
    Double(source.pointee)
  }
  @inline(__always)
  static func storeDouble(_ value: Double, to destination: UnsafeMutablePointer<Float>) {
    destination.pointee = Float(value)
  }
}

extension Double: Element {
  typealias Compute = Double
  @inline(__always) static var type: ElementType { .double }

  @inline(__always)
  static func streamDoubles(_ vector: SIMD8<Double>, to destination: UnsafeMutablePointer<Double>) {
    ln_stream_double8(destination, vector)
  }

  @inline(__always) static func loadFloats(_ source: UnsafePointer<Double>) -> SIMD16<Float> {
    ln_narrow16(loadUnaligned(source))
  }
  @inline(__always)
  static func storeFloats(
    _ vector: SIMD16<Float>, to destination: UnsafeMutablePointer<Double>, nanIsShort: Bool
  ) {
    storeUnaligned(ln_widen16(vector), to: destination)
  }
  @inline(__always) static func loadDoubles(_ source: UnsafePointer<Double>) -> SIMD8<Double> {
    loadUnaligned(source)
  }
  @inline(__always)
  static func storeDoubles(_ vector: SIMD8<Double>, to destination: UnsafeMutablePointer<Double>) {
    storeUnaligned(vector, to: destination)
  }

  @inline(__always) static func roundFloats(_ vector: SIMD16<Float>) -> SIMD16<Float> { vector }
  @inline(__always) static func roundDoubles(_ vector: SIMD8<Double>) -> SIMD8<Double> { vector }
  @inline(__always) static func loadFloat(_ source: UnsafePointer<Double>) -> Float {
    Float(source.pointee)
  }
  @inline(__always)
  static func storeFloat(_ value: Float, to destination: UnsafeMutablePointer<Double>) {
    destination.pointee = Double(value)
  }
  @inline(__always) static func loadDouble(_ source: UnsafePointer<Double>) -> Double {
    source.pointee
  }
  @inline(__always)
  static func storeDouble(_ value: Double, to destination: UnsafeMutablePointer<Double>) {
    destination.pointee = value
  }
}

/// A 16-bit type, passed as its bits, that is computed in float32.
protocol HalfElement: Element where Compute == Float {
  static func widen(_ bits: SIMD16<UInt16>) -> SIMD16<Float>
  static func narrow(_ vector: SIMD16<Float>, nanIsShort: Bool) -> SIMD16<UInt16>
}

extension HalfElement {
  @inline(__always) static func narrow(_ vector: SIMD16<Float>) -> SIMD16<UInt16> {
    narrow(vector, nanIsShort: false)
  }
  @inline(__always) static var isCoarse: Bool { true }
  @inline(__always)
  static func streamFloats(
    _ vector: SIMD16<Float>, to destination: UnsafeMutablePointer<Self>, nanIsShort: Bool
  ) {
    ln_stream_ushort16(destination, narrow(vector, nanIsShort: nanIsShort))
  }
  @inline(__always) static func loadFloats(_ source: UnsafePointer<Self>) -> SIMD16<Float> {
    widen(loadUnaligned(source))
  }
  @inline(__always)
  static func storeFloats(
    _ vector: SIMD16<Float>, to destination: UnsafeMutablePointer<Self>, nanIsShort: Bool
  ) {
    storeUnaligned(narrow(vector, nanIsShort: nanIsShort), to: destination)
  }
  @inline(__always) static func loadDoubles(_ source: UnsafePointer<Self>) -> SIMD8<Double> {
    let bits: SIMD8<UInt16> = loadUnaligned(source)
    return ln_widen_low16(widen(SIMD16(lowHalf: bits, highHalf: SIMD8(repeating: 0))))
  }
  @inline(__always)
  static func storeDoubles(_ vector: SIMD8<Double>, to destination: UnsafeMutablePointer<Self>) {
    let floats = SIMD16(lowHalf: ln_narrow8(vector), highHalf: SIMD8(repeating: 0))
    storeUnaligned(narrow(floats).lowHalf, to: destination)
  }

  @inline(__always) static func roundFloats(_ vector: SIMD16<Float>) -> SIMD16<Float> {
    widen(narrow(vector, nanIsShort: true))
  }
  @inline(__always) static func roundDoubles(_ vector: SIMD8<Double>) -> SIMD8<Double> {
    let floats = SIMD16(lowHalf: ln_narrow8(vector), highHalf: SIMD8(repeating: 0))
    return ln_widen_low16(widen(narrow(floats)))
  }
  @inline(__always) static func loadFloat(_ source: UnsafePointer<Self>) -> Float {
    widen(SIMD16(repeating: UnsafeRawPointer(source).loadUnaligned(as: UInt16.self)))[0]
  }
  @inline(__always)
  static func storeFloat(_ value: Float, to destination: UnsafeMutablePointer<Self>) {
    storeUnaligned(narrow(SIMD16(repeating: value))[0], to: destination)
  }
  @inline(__always) static func loadDouble(_ source: UnsafePointer<Self>) -> Double {
    Double(loadFloat(source))
  }
  @inline(__always)
  static func storeDouble(_ value: Double, to destination: UnsafeMutablePointer<Self>) {
    storeFloat(Float(value), to: destination)
  }
}

/// IEEE binary16.
struct Half: HalfElement {
  typealias Compute = Float
  @inline(__always) static var type: ElementType { .half }
  var bits: UInt16

  @inline(__always) static func widen(_ bits: SIMD16<UInt16>) -> SIMD16<Float> { ln_from_f16(bits) }
  @inline(__always)
  static func narrow(_ vector: SIMD16<Float>, nanIsShort: Bool) -> SIMD16<UInt16> {
    ln_to_f16(vector)
  }

  @inline(__always) static func loadFloats(_ source: UnsafePointer<Self>) -> SIMD16<Float> {
    ln_load_f16(source)
  }
  @inline(__always)
  static func storeFloats(
    _ vector: SIMD16<Float>, to destination: UnsafeMutablePointer<Self>, nanIsShort: Bool
  ) {
    ln_store_f16(destination, vector)
  }
  @inline(__always)
  static func storeAndRoundFloats(
    _ vector: SIMD16<Float>, to destination: UnsafeMutablePointer<Self>
  ) -> SIMD16<Float> {
    let bits = narrow(vector)
    storeUnaligned(bits, to: destination)
    return widen(bits)
  }
}

/// bfloat16: the upper half of a float32.
struct BFloat16: HalfElement {
  typealias Compute = Float
  @inline(__always) static var type: ElementType { .bfloat16 }
  @inline(__always) static var roundsBits: Bool { true }
  var bits: UInt16

  @inline(__always) static func widen(_ bits: SIMD16<UInt16>) -> SIMD16<Float> {
    ln_from_bf16(bits)
  }
  @inline(__always)
  static func narrow(_ vector: SIMD16<Float>, nanIsShort: Bool) -> SIMD16<UInt16> {
    ln_to_bf16(vector, nanIsShort)
  }

  @inline(__always) static func loadFloats(_ source: UnsafePointer<Self>) -> SIMD16<Float> {
    ln_load_bf16(source)
  }
  @inline(__always) static func roundFloats(_ vector: SIMD16<Float>) -> SIMD16<Float> {
    ln_round_bf16(vector)
  }

  @inline(__always) static var splits: Bool { LN_SPLITS_BF16 != 0 }
  @inline(__always)
  static func loadTwoFloats(_ source: UnsafePointer<Self>) -> (SIMD16<Float>, SIMD16<Float>) {
    guard splits else { return (loadFloats(source), loadFloats(source + 16)) }
    let pairs = ln_load_pairs(source)
    return (ln_even_bf16(pairs), ln_odd_bf16(pairs))
  }
  @inline(__always)
  static func packFloats(
    _ vectors: (SIMD16<Float>, SIMD16<Float>), nanIsShort: Bool
  ) -> SIMD16<Float> {
    ln_pack_bf16(vectors.0, vectors.1, nanIsShort)
  }
  @inline(__always)
  static func storeAndRoundTwoFloats(
    _ vectors: (SIMD16<Float>, SIMD16<Float>), to destination: UnsafeMutablePointer<Self>
  ) -> (SIMD16<Float>, SIMD16<Float>) {
    let packed = ln_pack_bf16(vectors.0, vectors.1, true)
    storeUnaligned(packed, to: destination)
    let pairs = unsafeBitCast(packed, to: SIMD16<UInt32>.self)
    return (ln_even_bf16(pairs), ln_odd_bf16(pairs))
  }
}
