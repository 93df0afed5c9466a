/// The bytes of an array of a small call; none, at address 0, for NULL. It ends without overflow where
/// the address and the counts of rows and columns are below these limits.
struct ByteSpan {
  static let addressLimit: UInt = 1 << 62
  static let countLimit: Int64 = 1 << 28

  let address: UInt
  private let end: UInt

  @inline(__always) init(_ pointer: UnsafeRawPointer?, _ bytes: UInt) {
    address = UInt(bitPattern: pointer)
    end = address == 0 ? 0 : address &+ bytes
  }

  @inline(__always) func isApart(from other: ByteSpan) -> Bool {
    end <= other.address || other.end <= address
  }

  /// An output may be an input of its shape, element for element.
  @inline(__always) func isOrIsApart(from other: ByteSpan) -> Bool {
    address == other.address || isApart(from: other)
  }
}
