/// An element type of rows: `Float`, `Double`, `Float16` or `BFloat16`.
///
/// Float16 and BFloat16 are computed in float32, and so are their mean and rstd.
public protocol LayerNormElement: BitwiseCopyable {
  /// The type of mean and rstd: Double for Double, else Float.
  associatedtype Statistic: LayerNormElement

  /// The number of the type in the C interface.
  static var dtype: layernorm_dtype { get }
}

extension Float: LayerNormElement {
  public typealias Statistic = Float
  public static var dtype: layernorm_dtype { LAYERNORM_F32 }
}

extension Double: LayerNormElement {
  public typealias Statistic = Double
  public static var dtype: layernorm_dtype { LAYERNORM_F64 }
}

extension Float16: LayerNormElement {
  public typealias Statistic = Float
  public static var dtype: layernorm_dtype { LAYERNORM_F16 }
}

extension BFloat16: LayerNormElement {
  public typealias Statistic = Float
  public static var dtype: layernorm_dtype { LAYERNORM_BF16 }
}

/// The upper half of a Float: its sign and exponent, and 7 bits of its significand. A type to
/// store, not to compute with.
public struct BFloat16: BitwiseCopyable, Sendable, Equatable {
  public var bitPattern: UInt16

  public init(bitPattern: UInt16) { self.bitPattern = bitPattern }

  /// The nearest value to `value`; of two that are as near, the one whose last bit is 0.
  public init(_ value: Float) {
    let bits = value.bitPattern
    if value.isNaN {
      bitPattern = UInt16(bits >> 16) | 0x40  // The bits that go might be all that made it a NaN.
    } else {
      bitPattern = UInt16((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)
    }
  }

  public static func == (a: BFloat16, b: BFloat16) -> Bool { Float(a) == Float(b) }
}

extension BFloat16: ExpressibleByFloatLiteral, ExpressibleByIntegerLiteral {
  public init(floatLiteral value: Float) { self.init(value) }
  public init(integerLiteral value: Int32) { self.init(Float(value)) }
}

extension BFloat16: CustomStringConvertible {
  public var description: String { Float(self).description }
}

extension Float {
  /// `value`, exactly.
  public init(_ value: BFloat16) { self.init(bitPattern: UInt32(value.bitPattern) << 16) }
}
