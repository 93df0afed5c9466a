import CLayerNorm

/// How the rows of a call are divided into parts that threads take one after another. A row's bits do
/// not depend on it.
struct Partition {
  let rows: Int64
  let parts: Int64
  private let threads: Int32
  /// Where the parts run if not on the library's own threads. Taken once, for the number of parts
  /// depends on it.
  private let host: ParallelFor.Host?

  /// A part that moves less than this many bytes is not worth the hand-over to another thread.
  private static let smallestPart: Int64 = 128 << 10
  /// More parts than threads, so that a thread that is held up does not hold up the call. A host gets
  /// no more than threads, which bounds how many of its own threads it can use.
  private static let partsPerThread: Int64 = 4

  init(rows: Int64, bytesPerRow: Int64) throws(Failure) {
    self.rows = rows
    let (bytes, overflow) = rows.multipliedReportingOverflow(by: bytesPerRow)
    let worthwhile = overflow ? Int64.max : bytes / Partition.smallestPart
    guard worthwhile > 1 && rows > 1 else {
      parts = 1
      threads = 1
      host = nil
      return
    }
    threads = try ThreadCount.current()
    host = ParallelFor.host
    let perThread = host == nil && threads > 1 ? Partition.partsPerThread : 1
    parts = min(rows, worthwhile, Int64(threads) * perThread)
  }

  /// The rows of part `index`; the first parts have one row more where they do not divide evenly.
  func range(of index: Int64) -> (begin: Int64, end: Int64) {
    let (size, larger) = rows.quotientAndRemainder(dividingBy: parts)
    let begin = index * size + min(index, larger)
    return (begin, begin + size + (index < larger ? 1 : 0))
  }

  func run(_ task: layernorm_task, _ context: UnsafeMutableRawPointer) {
    if parts == 1 {
      task(context, 0)
    } else if let host {
      host.run(host.context, parts, task, context)
    } else {
      Pool.run(parts, threads: threads, task, context)
    }
  }
}
