import CLayerNorm
import CShims
import Synchronization

/// The library's own threads. Started when a call first needs them; between calls they watch for
/// work for some microseconds, then sleep. One call uses them at a time: one that finds them taken
/// does its work alone.
struct Pool {
  private struct Job {
    var task: layernorm_task
    var context: UnsafeMutableRawPointer?
    var count: Int64
  }

  private typealias Word = UnsafeMutablePointer<Atomic<UInt32>>

  /// Six cache lines, so that no two of the words below share one.
  private let memory: UnsafeMutableRawPointer
  private static let lineSize = 64

  /// Who may be in the job: `seats` are left for workers to take, `active` workers are in it.
  private var gate: Word { line(0) }
  /// Counts jobs; workers sleep on it.
  private var jobs: Word { line(1) }
  private var sleepers: Word { line(2) }
  /// 1 while a call uses the pool.
  private var taken: Word { line(3) }
  /// The next index of the job.
  private var next: UnsafeMutablePointer<Atomic<Int64>> { line(4) }
  private var job: UnsafeMutablePointer<Job> { line(5) }
  /// Threads started, for the life of the process; changed by the call that has the pool.
  private var workers: UnsafeMutablePointer<Int32> {
    (memory + 6 * Pool.lineSize).assumingMemoryBound(to: Int32.self)
  }

  private func line<T: ~Copyable>(_ index: Int) -> UnsafeMutablePointer<T> {
    (memory + index * Pool.lineSize).assumingMemoryBound(to: T.self)
  }

  // MARK: Whether it is worth it

  /// In nanoseconds: the time that a small call takes and that workers watch after a call.
  private static let watch: Int64 = 100_000
  /// When the pool was last done with a call, or asked whether one is worth it.
  private static let lastCall = Atomic<Int64>(0)

  /// Whether calls follow one another so closely that workers are still awake, or that one woken for this
  /// call is for the next. To wake it takes as long as a small call.
  static func isWorthWaking() -> Bool {
    let now = ln_nanoseconds()
    return now - lastCall.exchange(now, ordering: .relaxed) < watch
  }

  // MARK: Running a job

  /// Runs task(context, i) for each i in 0 ..< count on up to `threads` threads, the caller's included.
  static func run(
    _ count: Int64, threads: Int32, _ task: layernorm_task, _ context: UnsafeMutableRawPointer?
  ) {
    guard let pool = current(), pool.take() else {
      for index in 0..<count { task(context, index) }
      return
    }
    pool.job.pointee = Job(task: task, context: context, count: count)
    pool.next.pointee.store(0, ordering: .relaxed)
    pool.startWorkers(threads - 1)
    pool.open(seats: min(threads - 1, pool.workers.pointee))
    pool.work()
    pool.close()
    lastCall.store(ln_nanoseconds(), ordering: .relaxed)
    pool.taken.pointee.store(0, ordering: .releasing)
  }

  private func take() -> Bool {
    taken.pointee.compareExchange(expected: 0, desired: 1, ordering: .acquiring).exchanged
  }

  private func work() {
    let job = job.pointee
    while true {
      let index = next.pointee.wrappingAdd(1, ordering: .relaxed).oldValue
      guard index < job.count else { return }
      job.task(job.context, index)
    }
  }

  // MARK: The gate

  private static let seat: UInt32 = 1 << 16
  private static let activeMask: UInt32 = (1 << 16) - 1
  /// Set in the gate while the caller sleeps until no worker is active.
  private static let callerSleeps: UInt32 = 1 << 31
  /// How often to look before going to sleep: tens of microseconds.
  private static let looks = 2000

  /// Between two looks. Where there are more threads than CPUs, the one that is waited for may need this.
  @inline(__always) private static func pause(_ look: Int) {
    if look % 64 == 63 { sched_yield() } else { ln_spin_pause() }
  }

  private func open(seats: Int32) {
    guard seats > 0 else { return }
    gate.pointee.store(UInt32(truncatingIfNeeded: seats) &* Pool.seat, ordering: .releasing)
    jobs.pointee.wrappingAdd(1, ordering: .sequentiallyConsistent)
    if sleepers.pointee.load(ordering: .sequentiallyConsistent) > 0 {
      ln_futex_wake(jobs, seats)
    }
  }

  /// Takes a seat, if one is left.
  private func enter() -> Bool {
    var value = gate.pointee.load(ordering: .relaxed)
    while value & ~Pool.callerSleeps >= Pool.seat {
      let (exchanged, now) = gate.pointee.compareExchange(
        expected: value, desired: value &- Pool.seat &+ 1, ordering: .acquiring)
      if exchanged { return true }
      value = now
    }
    return false
  }

  private func leave() {
    let left = gate.pointee.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue
    if left == Pool.callerSleeps { ln_futex_wake(gate, 1) }
  }

  /// Takes the seats away that are left and waits until no worker is active.
  private func close() {
    var value = gate.pointee.bitwiseAnd(Pool.activeMask, ordering: .acquiring).newValue
    for look in 0..<Pool.looks where value != 0 {
      Pool.pause(look)
      value = gate.pointee.load(ordering: .acquiring)
    }
    guard value != 0 else { return }
    value = gate.pointee.bitwiseOr(Pool.callerSleeps, ordering: .acquiring).newValue
    while value != Pool.callerSleeps {
      ln_futex_wait(gate, value)
      value = gate.pointee.load(ordering: .acquiring)
    }
    gate.pointee.store(0, ordering: .relaxed)
  }

  // MARK: Workers

  private func startWorkers(_ wanted: Int32) {
    while workers.pointee < wanted {
      let failure = ln_start_thread { _ in
        Pool.current()?.serve()
        return nil
      }
      guard failure == 0 else { return }
      workers.pointee &+= 1
    }
  }

  private func serve() {
    while true {
      let seen = jobs.pointee.load(ordering: .acquiring)
      while enter() {
        work()
        leave()
      }
      var looks = 0
      while looks < Pool.looks && jobs.pointee.load(ordering: .relaxed) == seen {
        Pool.pause(looks)
        looks &+= 1
      }
      guard looks == Pool.looks else { continue }
      sleepers.pointee.wrappingAdd(1, ordering: .sequentiallyConsistent)
      ln_futex_wait(jobs, seen)
      sleepers.pointee.wrappingSubtract(1, ordering: .sequentiallyConsistent)
    }
  }

  // MARK: The one pool

  nonisolated(unsafe) private static let shared = Atomic<UnsafeMutableRawPointer?>(nil)

  private static func current() -> Pool? {
    if let memory = shared.load(ordering: .acquiring) { return Pool(memory: memory) }
    var memory: UnsafeMutableRawPointer?
    guard posix_memalign(&memory, lineSize, 7 * lineSize) == 0, let memory else { return nil }
    memset(memory, 0, 7 * lineSize)
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
