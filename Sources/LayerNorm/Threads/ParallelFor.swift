import CLayerNorm
import CShims
import Synchronization

/// The host's way to run work on its own threads, if it has given us one.
enum ParallelFor {
  struct Host {
    let run: layernorm_parallel_for
    let context: UnsafeMutableRawPointer?
    fileprivate let previous: UnsafeMutablePointer<Host>?
  }

  nonisolated(unsafe) private static let chosen = Atomic<UnsafeMutablePointer<Host>?>(nil)
  /// Every host there has been: a call may still be using one that was replaced.
  nonisolated(unsafe) private static let known = Atomic<UnsafeMutablePointer<Host>?>(nil)

  /// Not inlined: each file is compiled by itself, and would have a variable of its own.
  fileprivate static var thisThread: UnsafeMutablePointer<ln_thread_host> {
    @inline(never) get { ln_this_thread_host() }
  }

  /// That of the calling thread, or else that of the process.
  static var host: Host? {
    let own = thisThread.pointee
    if let run = own.run { return Host(run: run, context: own.context, previous: nil) }
    return chosen.load(ordering: .acquiring)?.pointee
  }

  static func set(
    _ run: layernorm_parallel_for?, _ context: UnsafeMutableRawPointer?
  ) throws(Failure) {
    guard let run else {
      chosen.store(nil, ordering: .releasing)
      return
    }
    var next = known.load(ordering: .acquiring)
    while let candidate = next {
      if candidate.pointee.context == context && address(candidate.pointee.run) == address(run) {
        chosen.store(candidate, ordering: .releasing)
        return
      }
      next = candidate.pointee.previous
    }
    guard let memory = malloc(MemoryLayout<Host>.size) else {
      throw failure(LAYERNORM_ERROR_OUT_OF_MEMORY, "no memory for parallel_for")
    }
    let new = memory.bindMemory(to: Host.self, capacity: 1)
    var previous = known.load(ordering: .acquiring)
    repeat {
      new.initialize(to: Host(run: run, context: context, previous: previous))
      let (exchanged, now) = known.compareExchange(
        expected: previous, desired: new, ordering: .acquiringAndReleasing)
      if exchanged { break }
      previous = now
    } while true
    chosen.store(new, ordering: .releasing)
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

@_cdecl("layernorm_set_thread_parallel_for") @implementation
public func layernorm_set_thread_parallel_for(
  _ parallel_for: layernorm_parallel_for?, _ context: UnsafeMutableRawPointer?
) -> layernorm_status {
  ParallelFor.thisThread.pointee = ln_thread_host(run: parallel_for, context: context)
  return LAYERNORM_SUCCESS
}
