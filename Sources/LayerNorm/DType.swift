import CLayerNorm

/// An element type of the ABI.
enum DType: UInt32 {
  case f32 = 1
  case f64 = 2
  case f16 = 3
  case bf16 = 4

  /// Bytes of an element, and the alignment that it needs.
  @inline(__always) var size: Int64 {
    switch self {
    case .f32: 4
    case .f64: 8
    case .f16, .bf16: 2
    }
  }

  /// How long forward takes for a byte, beside one of 32-bit elements: an element of 16 bits takes as long.
  @inline(__always) var timeOfByte: Int64 { size == 2 ? 2 : 1 }

  /// How many elements kernels take at once, and their bytes in memory.
  @inline(__always) var lanes: Int64 { self == .f64 ? 8 : 16 }
  @inline(__always) var vectorSize: Int64 { lanes &* size }

  /// The type that rows of this dtype are computed in; mean and rstd are stored in it.
  @inline(__always) var compute: DType { self == .f64 ? .f64 : .f32 }

  init(
    _ dtype: layernorm_dtype, default standard: DType, _ name: StaticString
  ) throws(Failure) {
    if dtype == LAYERNORM_DTYPE_DEFAULT {
      self = standard
    } else if let known = DType(rawValue: dtype.rawValue) {
      self = known
    } else {
      throw failure(
        LAYERNORM_ERROR_DTYPE, .text(name), " is ", .number(Int64(dtype.rawValue)),
        ", not a layernorm_dtype")
    }
  }

  /// The ABI's number for this dtype.
  var abi: layernorm_dtype { layernorm_dtype(rawValue: rawValue) }
}
