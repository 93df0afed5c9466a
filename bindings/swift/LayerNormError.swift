@_exported public import CLayerNorm

/// What was wrong with a call. No output has been written where one is thrown.
public struct LayerNormError: Error, Equatable, CustomStringConvertible {
  /// The kind of error, by the names of `layernorm_status` in the C interface.
  public enum Status: UInt32, Sendable {
    case nullPointer = 1
    case size, eps, dtype, norm, flags, structSize, stride, overlap, alignment, isa, numThreads
    case outOfMemory, cell
  }

  public let status: Status

  /// One sentence that begins with the argument's name.
  public let message: String

  public var description: String { message }
}

/// Throws what the library says of a call that failed.
func check(_ status: layernorm_status) throws(LayerNormError) {
  guard status != LAYERNORM_SUCCESS else { return }
  guard let known = LayerNormError.Status(rawValue: status.rawValue) else {
    fatalError("LayerNormError.Status lacks \(String(cString: layernorm_status_string(status)))")
  }
  throw LayerNormError(status: known, message: String(cString: layernorm_last_error()))
}
