import CLayerNorm
import CShims
import Synchronization

/// How many threads one call may use, the caller's included.
enum ThreadCount {
  private static let largest: Int32 = 1024
  /// 0 until it is settled or set.
  private static let value = Atomic<Int32>(0)

  static func current() throws(Failure) -> Int32 {
    let settled = value.load(ordering: .relaxed)
    if settled != 0 { return settled }
    var count = ln_cpu_count()
    if let text = getenv("LAYERNORM_NUM_THREADS"), text.pointee != 0 {
      count = parse(text)
      guard count != 0 else {
        throw failure(
          LAYERNORM_ERROR_NUM_THREADS, "LAYERNORM_NUM_THREADS is ", .quoted(UnsafePointer(text)),
          ", not a whole number from 1 to 1024")
      }
    }
    count = min(count, largest)
    // A setter that came in between wins.
    let (exchanged, now) = value.compareExchange(expected: 0, desired: count, ordering: .relaxed)
    return exchanged ? count : now
  }

  static func set(_ count: Int32) throws(Failure) {
    guard count >= 0 && count <= largest else {
      throw failure(
        LAYERNORM_ERROR_NUM_THREADS, "num_threads is ", .number(Int64(count)),
        ", not from 0 to 1024")
    }
    value.store(count == 0 ? min(ln_cpu_count(), largest) : count, ordering: .relaxed)
  }

  /// A whole number from 1 to 1024 in decimal digits, or 0.
  private static func parse(_ text: UnsafePointer<CChar>) -> Int32 {
    var number: Int32 = 0
    var index = 0
    while text[index] != 0 {
      let digit = Int32(text[index]) - 48
      guard digit >= 0 && digit <= 9 else { return 0 }
      number = number * 10 + digit
      guard number <= largest else { return 0 }
      index &+= 1
    }
    return number
  }
}

@_cdecl("layernorm_get_num_threads") @implementation
public func layernorm_get_num_threads() -> Int32 { (try? ThreadCount.current()) ?? 1 }

@_cdecl("layernorm_set_num_threads") @implementation
public func layernorm_set_num_threads(_ num_threads: Int32) -> layernorm_status {
  status { () throws(Failure) in try ThreadCount.set(num_threads) }
}
