import CLayerNorm
import CShims

/// A failed check: its status. Its sentence is in the thread's error buffer by the time it is thrown.
struct Failure: Error {
  let status: layernorm_status
}

/// Writes the sentence of `layernorm_last_error` and returns what to throw.
func failure(_ status: layernorm_status, _ parts: Sentence.Part...) -> Failure {
  var sentence = Sentence()
  for part in parts { sentence.append(part) }
  return Failure(status: status)
}

/// The sentence of this thread's last error, written without allocation and cut where the buffer ends.
struct Sentence {
  enum Part: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral {
    case text(StaticString)
    case number(Int64)
    /// Text from outside, such as an environment variable.
    case quoted(UnsafePointer<CChar>)

    init(stringLiteral value: StaticString) { self = .text(value) }
    init(integerLiteral value: Int64) { self = .number(value) }
  }

  private let buffer = ln_error_buffer().unsafelyUnwrapped
  private var length = 0

  init() { buffer[0] = 0 }

  mutating func append(_ part: Part) {
    switch part {
    case .text(let text): append(bytes: text.utf8Start, text.utf8CodeUnitCount)
    case .number(let number): append(number)
    case .quoted(let string):
      append(bytes: "\"", 1)
      append(
        bytes: UnsafeRawPointer(string).assumingMemoryBound(to: UInt8.self), min(strlen(string), 40)
      )
      append(bytes: "\"", 1)
    }
  }

  private mutating func append(bytes: UnsafePointer<UInt8>, _ count: Int) {
    for index in 0..<count {
      guard length < Int(LN_ERROR_CAPACITY) - 1 else { break }
      buffer[length] = CChar(bitPattern: bytes[index])
      length &+= 1
    }
    buffer[length] = 0
  }

  private mutating func append(_ number: Int64) {
    if number < 0 { append(bytes: "-", 1) }
    var rest = number.magnitude
    var divisor: UInt64 = 1
    while rest / divisor >= 10 { divisor *= 10 }
    while divisor > 0 {
      var digit = UInt8(truncatingIfNeeded: rest / divisor) &+ UInt8(ascii: "0")
      append(bytes: &digit, 1)
      rest %= divisor
      divisor /= 10
    }
  }
}

@_cdecl("layernorm_last_error") @implementation
public func layernorm_last_error() -> UnsafePointer<CChar>! {
  UnsafePointer(ln_error_buffer())
}

@_cdecl("layernorm_status_string") @implementation
public func layernorm_status_string(_ status: layernorm_status) -> UnsafePointer<CChar>! {
  let name: StaticString =
    switch status {
    case LAYERNORM_SUCCESS: "LAYERNORM_SUCCESS"
    case LAYERNORM_ERROR_NULL_POINTER: "LAYERNORM_ERROR_NULL_POINTER"
    case LAYERNORM_ERROR_SIZE: "LAYERNORM_ERROR_SIZE"
    case LAYERNORM_ERROR_EPS: "LAYERNORM_ERROR_EPS"
    case LAYERNORM_ERROR_DTYPE: "LAYERNORM_ERROR_DTYPE"
    case LAYERNORM_ERROR_NORM: "LAYERNORM_ERROR_NORM"
    case LAYERNORM_ERROR_FLAGS: "LAYERNORM_ERROR_FLAGS"
    case LAYERNORM_ERROR_STRUCT_SIZE: "LAYERNORM_ERROR_STRUCT_SIZE"
    case LAYERNORM_ERROR_STRIDE: "LAYERNORM_ERROR_STRIDE"
    case LAYERNORM_ERROR_OVERLAP: "LAYERNORM_ERROR_OVERLAP"
    case LAYERNORM_ERROR_ALIGNMENT: "LAYERNORM_ERROR_ALIGNMENT"
    case LAYERNORM_ERROR_ISA: "LAYERNORM_ERROR_ISA"
    case LAYERNORM_ERROR_NUM_THREADS: "LAYERNORM_ERROR_NUM_THREADS"
    case LAYERNORM_ERROR_OUT_OF_MEMORY: "LAYERNORM_ERROR_OUT_OF_MEMORY"
    case LAYERNORM_ERROR_CELL: "LAYERNORM_ERROR_CELL"
    default: "not a layernorm_status"
    }
  return cString(name)
}

/// A static string as C text; Swift ends its literals with a NUL.
func cString(_ string: StaticString) -> UnsafePointer<CChar> {
  UnsafeRawPointer(string.utf8Start).assumingMemoryBound(to: CChar.self)
}
