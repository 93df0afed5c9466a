import CLayerNorm
import CShims
import Synchronization

/// Where the parts of a call's work run: on the host's threads, if it has given us a way to them, or
/// on the library's own.
enum ParallelFor {
  private struct Host {
    var run: layernorm_parallel_for
    var context: UnsafeMutableRawPointer?
    var previous: UnsafeMutablePointer<Host>?
  }

  nonisolated(unsafe) private static let host = Atomic<UnsafeMutablePointer<Host>?>(nil)
  /// Every host there has been: a call may still be using one that was replaced.
  nonisolated(unsafe) private static let hosts = Atomic<UnsafeMutablePointer<Host>?>(nil)

  static func run(
    _ count: Int64, threads: Int32, _ task: layernorm_task, _ context: UnsafeMutableRawPointer?
  ) {
    if let host = host.load(ordering: .acquiring) {
      host.pointee.run(host.pointee.context, count, task, context)
    } else {
      Pool.run(count, threads: threads, task, context)
    }
  }

  static func set(
    _ run: layernorm_parallel_for?, _ context: UnsafeMutableRawPointer?
  ) throws(Failure) {
    guard let run else {
      host.store(nil, ordering: .releasing)
      return
    }
    var known = hosts.load(ordering: .acquiring)
    while let candidate = known {
      if candidate.pointee.context == context && address(candidate.pointee.run) == address(run) {
        host.store(candidate, ordering: .releasing)
        return
      }
      known = candidate.pointee.previous
    }
    guard let memory = malloc(MemoryLayout<Host>.size) else {
      throw failure(LAYERNORM_ERROR_OUT_OF_MEMORY, "no memory for parallel_for")
    }
    let new = memory.bindMemory(to: Host.self, capacity: 1)
    var previous = hosts.load(ordering: .acquiring)
    repeat {
      new.initialize(to: Host(run: run, context: context, previous: previous))
      let (exchanged, now) = hosts.compareExchange(
        expected: previous, desired: new, ordering: .acquiringAndReleasing)
      if exchanged { break }
      previous = now
    } while true
    host.store(new, ordering: .releasing)
  }

  private static func address(_ function: layernorm_parallel_for) -> UnsafeRawPointer {
    unsafeBitCast(function, to: UnsafeRawPointer.self)
  }
}

@_cdecl("layernorm_set_parallel_for") @implementation
public func layernorm_set_parallel_for(
  _ parallel_for: layernorm_parallel_for?, _ context: UnsafeMutableRawPointer?
) -> layernorm_status {
  status { () throws(Failure) in try ParallelFor.set(parallel_for, context) }
}
