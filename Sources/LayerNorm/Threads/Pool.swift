import CLayerNorm
import CShims
import Synchronization

/// The library's own threads. Started when a call first needs them; between calls they watch for
/// work for some microseconds, then sleep. One call uses them at a time: one that finds them taken
/// does its work alone.
struct Pool {
  /// What the workers look at between calls, in one cache line, which they then have all they need of.
  private struct Job {
    /// The number of the job, written last; workers sleep on it.
    var number: UInt32
    /// How many workers may take part: those of the lowest indices.
    var seats: UInt32
    var task: layernorm_task
    var context: UnsafeMutableRawPointer?
    var count: UInt32
  }

  private typealias Word = UnsafeMutablePointer<Atomic<UInt32>>

  /// Cache lines, so that no two of the words below share one.
  private let memory: UnsafeMutableRawPointer
  private static let lineSize = 64
  private static let lines = 5

  private var job: UnsafeMutablePointer<Job> { line(0) }
  private var jobNumber: Word { line(0) }
  /// The number of the job in the upper half, so that a worker that comes late takes nothing from the job after
  /// its own; in the lower half, of at most `mostByBits` indices, which are taken, as bits, of more the next one.
  private var next: UnsafeMutablePointer<Atomic<UInt64>> { line(1) }
  /// How many indices workers are done with, and whether the caller sleeps until they are with all.
  private var finished: Word { line(2) }
  private var sleepers: Word { line(3) }
  /// 1 while a call uses the pool.
  private var taken: Word { line(4) }
  /// Threads started, for the life of the process; changed by the call that has the pool.
  private var workers: UnsafeMutablePointer<UInt32> {
    (memory + Pool.lines * Pool.lineSize).assumingMemoryBound(to: UInt32.self)
  }

  private func line<T: ~Copyable>(_ index: Int) -> UnsafeMutablePointer<T> {
    (memory + index * Pool.lineSize).assumingMemoryBound(to: T.self)
  }

  // MARK: Whether it is worth it

  /// In nanoseconds: the time that a small call takes and that workers watch after a call.
  private static let watch: Int64 = 100_000
  /// When the pool was last done with a call, or a thread with one that was not worth it.
  private static let lastCall = Atomic<Int64>(0)

  /// Whether calls follow one another so closely that workers are still awake, or that one woken for this
  /// call is for the next. To wake it takes as long as a small call.
  static func isWorthWaking() -> Bool {
    ln_nanoseconds() - lastCall.load(ordering: .relaxed) < watch
  }

  /// Of a call that was not worth it: the next one may be.
  static func noteEndOfCall() { lastCall.store(ln_nanoseconds(), ordering: .relaxed) }

  // MARK: Running a job

  /// Runs task(context, i) for each i in 0 ..< count on up to `threads` threads, the caller's included.
  static func run(
    _ count: UInt32, threads: UInt32, _ task: layernorm_task, _ context: UnsafeMutableRawPointer?
  ) {
    guard let pool = current(), pool.take() else {
      for index in 0..<count { task(context, Int64(index)) }
      return
    }
    pool.startWorkers(threads &- 1)
    let number = pool.open(count, seats: threads &- 1, task, context)
    // The first index is the caller's.
    task(context, 0)
    let own = 1 &+ pool.work(number, Seat(0, of: threads, count), task, context)
    pool.waitForWorkers(count &- own)
    noteEndOfCall()
    pool.taken.pointee.store(0, ordering: .releasing)
  }

  private func take() -> Bool {
    taken.pointee.compareExchange(expected: 0, desired: 1, ordering: .acquiring).exchanged
  }

  /// - Returns: the number of the job.
  private func open(
    _ count: UInt32, seats: UInt32, _ task: layernorm_task, _ context: UnsafeMutableRawPointer?
  ) -> UInt32 {
    let number = job.pointee.number &+ 1
    finished.pointee.store(0, ordering: .relaxed)
    // First, so that who has seen any of the rest can take nothing of the job before.
    next.pointee.store(UInt64(number) << 32 | 1, ordering: .relaxed)
    atomicMemoryFence(ordering: .releasing)
    job.pointee.seats = seats
    job.pointee.task = task
    job.pointee.context = context
    job.pointee.count = count
    jobNumber.pointee.store(number, ordering: .sequentiallyConsistent)
    if sleepers.pointee.load(ordering: .sequentiallyConsistent) > 0 {
      ln_futex_wake(jobNumber, Int32.max)
    }
    return number
  }

  static let mostByBits: UInt32 = 32

  /// A thread's place in a job. It begins with a range of indices of its own, the same ones in every call, whose rows
  /// its second-level cache may still have, and then takes what others have left.
  private struct Seat {
    let count: UInt32
    private let all: UInt32
    private let own: UInt32

    init(_ index: UInt32, of seats: UInt32, _ count: UInt32) {
      func below(_ bit: UInt32) -> UInt32 { bit >= 32 ? ~0 : (1 << bit) &- 1 }
      self.count = count
      all = below(count)
      let begin = UInt32(truncatingIfNeeded: UInt64(index) &* UInt64(count) / UInt64(seats))
      let end = UInt32(truncatingIfNeeded: UInt64(index &+ 1) &* UInt64(count) / UInt64(seats))
      own = below(end) & ~below(begin)
    }

    /// The index to take next and what is taken then; nil where none is left.
    func choice(_ taken: UInt32) -> (index: UInt32, taken: UInt32)? {
      guard count <= Pool.mostByBits else {
        return taken < count ? (taken, taken &+ 1) : nil
      }
      let free = all & ~taken
      guard free != 0 else { return nil }
      let ownFree = free & own
      // Of others', the one that its owner would come to last.
      let index = UInt32(
        ownFree != 0 ? ownFree.trailingZeroBitCount : 31 &- free.leadingZeroBitCount)
      return (index, taken | 1 << index)
    }
  }

  /// Takes indices of a job and runs them until none is left.
  ///
  /// - Returns: how many.
  private func work(
    _ number: UInt32, _ seat: Seat, _ task: layernorm_task, _ context: UnsafeMutableRawPointer?
  ) -> UInt32 {
    var count: UInt32 = 0
    var value = next.pointee.load(ordering: .relaxed)
    while UInt32(truncatingIfNeeded: value >> 32) == number {
      guard let choice = seat.choice(UInt32(truncatingIfNeeded: value)) else { break }
      let (exchanged, now) = next.pointee.compareExchange(
        expected: value, desired: UInt64(number) << 32 | UInt64(choice.taken), ordering: .acquiring)
      guard exchanged else {
        value = now
        continue
      }
      task(context, Int64(choice.index))
      count &+= 1
      value = next.pointee.load(ordering: .relaxed)
    }
    return count
  }

  // MARK: Waiting

  /// Set in `finished` while the caller sleeps.
  private static let callerSleeps: UInt32 = 1 << 31
  /// How often to look before going to sleep: tens of microseconds.
  private static let looks = 2000

  /// Between two looks. Where there are more threads than CPUs, the one that is waited for may need this.
  @inline(__always) private static func pause(_ look: Int) {
    if look % 64 == 63 { sched_yield() } else { ln_spin_pause() }
  }

  /// Until they are done with so many indices.
  private func waitForWorkers(_ count: UInt32) {
    var value = finished.pointee.load(ordering: .acquiring)
    var looks = 0
    while value != count && looks < Pool.looks {
      Pool.pause(looks)
      looks &+= 1
      value = finished.pointee.load(ordering: .acquiring)
    }
    guard value != count else { return }
    value = finished.pointee.bitwiseOr(Pool.callerSleeps, ordering: .acquiring).newValue
    while value != Pool.callerSleeps | count {
      ln_futex_wait(finished, value)
      value = finished.pointee.load(ordering: .acquiring)
    }
  }

  // MARK: Workers

  private func startWorkers(_ wanted: UInt32) {
    while workers.pointee < wanted {
      let failure = ln_start_thread(
        { index in
          Pool.current()?.serve(UInt32(truncatingIfNeeded: UInt(bitPattern: index)))
          return nil
        }, UnsafeMutableRawPointer(bitPattern: UInt(workers.pointee)))
      guard failure == 0 else { return }
      workers.pointee &+= 1
    }
  }

  private func serve(_ index: UInt32) {
    // Of no job: a thread that is started for one takes part in it.
    var seen = jobNumber.pointee.load(ordering: .acquiring) &- 1
    while true {
      var looks = 0
      while looks < Pool.looks && jobNumber.pointee.load(ordering: .relaxed) == seen {
        Pool.pause(looks)
        looks &+= 1
      }
      if looks == Pool.looks {
        sleepers.pointee.wrappingAdd(1, ordering: .sequentiallyConsistent)
        ln_futex_wait(jobNumber, seen)
        sleepers.pointee.wrappingSubtract(1, ordering: .sequentiallyConsistent)
      }
      let number = jobNumber.pointee.load(ordering: .acquiring)
      guard number != seen else { continue }
      seen = number
      let job = job.pointee
      // What was read may be of a later job already; then nothing of this one can be taken any more.
      atomicMemoryFence(ordering: .acquiring)
      guard index < job.seats else { continue }
      let seat = Seat(index &+ 1, of: job.seats &+ 1, job.count)
      let taken = work(number, seat, job.task, job.context)
      guard taken > 0 else { continue }
      let before = finished.pointee.wrappingAdd(taken, ordering: .acquiringAndReleasing).oldValue
      if before & Pool.callerSleeps != 0 { ln_futex_wake(finished, 1) }
    }
  }

  // MARK: The one pool

  nonisolated(unsafe) private static let shared = Atomic<UnsafeMutableRawPointer?>(nil)

  private static func current() -> Pool? {
    if let memory = shared.load(ordering: .acquiring) { return Pool(memory: memory) }
    var memory: UnsafeMutableRawPointer?
    guard posix_memalign(&memory, lineSize, (lines + 1) * lineSize) == 0, let memory else {
      return nil
    }
    memset(memory, 0, (lines + 1) * lineSize)
    let (exchanged, first) = shared.compareExchange(
      expected: nil, desired: memory, ordering: .acquiringAndReleasing)
    guard exchanged else {
      free(memory)
      return first.map { Pool(memory: $0) }
    }
    // A forked child has none of the workers: it begins anew.
    pthread_atfork(nil, nil) { Pool.shared.store(nil, ordering: .releasing) }
    return Pool(memory: memory)
  }
}
