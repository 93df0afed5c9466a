import CLayerNorm
import CShims

/// How the rows of a call, or blocks of them, are divided into parts that threads take one after
/// another. No bits depend on it.
struct Partition {
  private let count: Int64
  let parts: Int64
  private let threads: Int32
  /// Where the parts run if not on the library's own threads. Taken once, for the number of parts
  /// depends on it.
  private let host: ParallelFor.Host?

  /// A part that moves less than this many bytes is not worth the hand-over to another thread.
  private static let smallestPart: Int64 = 128 << 10
  /// Fewer bytes than this take less time on one thread than with others that have to be woken.
  private static let worthWaking: Int64 = 2 << 20
  /// A matrix of no more bytes than this is never shared between threads.
  static var smallestShared: Int64 { smallestPart }
  /// More parts than threads, so that a thread that is held up does not hold up the call; not in a small
  /// one, where to take one more part costs more. A host gets
  /// no more than threads, which bounds how many of its own threads it can use. As many as the pool can keep with
  /// the same threads in every call.
  private static func partsPerThread(_ threads: Int32) -> Int64 {
    max(4, Int64(Pool.mostByBits) / Int64(threads))
  }

  /// Of `count` rows or blocks, which move so many bytes each.
  init(_ count: Int64, bytes each: Int64) throws(Failure) {
    self.count = count
    let (bytes, overflow) = count.multipliedReportingOverflow(by: each)
    let worthwhile = overflow ? Int64.max : bytes / Partition.smallestPart
    guard worthwhile > 1 && count > 1 else {
      parts = 1
      threads = 1
      host = nil
      return
    }
    threads = try ThreadCount.current()
    host = ParallelFor.host
    let isSmall = !overflow && bytes < Partition.worthWaking
    guard !isSmall || threads == 1 || host != nil || Pool.isWorthWaking() else {
      parts = 1
      return
    }
    let perThread = isSmall || host != nil || threads == 1 ? 1 : Partition.partsPerThread(threads)
    parts = min(count, worthwhile, Int64(threads) * perThread)
  }

  /// Whether no thread has to take two parts.
  var hasPartForEach: Bool { parts <= Int64(threads) }

  /// How many threads take part, if none is held up.
  var threadsUsed: Int64 { min(parts, Int64(threads)) }

  /// The thread that takes part `index`, of those, if none is held up: the pool gives each a range of its own.
  func thread(of index: Int64) -> Int64 { ((index + 1) * threadsUsed - 1) / parts }

  /// What is in part `index`; the first parts have one row more where they do not divide evenly.
  func range(of index: Int64) -> (begin: Int64, end: Int64) {
    let (size, larger) = count.quotientAndRemainder(dividingBy: parts)
    let begin = index * size + min(index, larger)
    return (begin, begin + size + (index < larger ? 1 : 0))
  }

  /// Runs task(context, i) for each part i.
  @inline(never)
  func run(_ task: layernorm_task, _ context: UnsafeMutableRawPointer) {
    if parts == 1 {
      task(context, 0)
      if threads > 1 { Pool.noteEndOfCall() }
    } else if let host {
      host.run(host.context, parts, task, context)
    } else {
      Pool.run(UInt32(parts), threads: UInt32(threads), task, context)
    }
  }
}

/// Runs part of a call's work in the default floating-point modes, whatever the thread's are.
@inline(__always)
func withDefaultFloatModes(_ body: () -> Void) {
  let modes = ln_enter_default_float_modes()
  body()
  ln_leave_default_float_modes(modes)
}
