import CShims
import Synchronization

/// What calls need to know of the machine's caches.
struct Caches {
  /// From this many bytes on, the caches have little of a call's memory when it begins. On Intel's servers, whose
  /// last level is far from each core, that is eight second-level caches, on AMD's three quarters of the last level.
  private let smallestFar: Int64
  /// Whether the last level is a few cores' own. There rows are asked for ahead; elsewhere the hardware does that
  /// as well by itself in most cases.
  let isLastNear: Bool
  /// How many bytes of x stay in the first level beside what is read and written with them. More rows of a group
  /// share one chain from their sums to rstd.
  let bytesPerGroup: Int64

  /// Of a call that moves so many elements of so many bytes; nil for one that second levels may hold.
  static func ofLargeCall(_ elements: Int64, of bytes: Int64) -> Caches? {
    elements >= smallestLarge / bytes ? current : nil
  }

  /// Whether a second-level cache may not hold a call.
  static func secondMayLack(_ elements: Int64, of bytes: Int64) -> Bool {
    elements >= smallestBeyondSecond / bytes
  }

  /// Whether the caches have little of a call's memory when it begins.
  func isFar(_ elements: Int64, of bytes: Int64) -> Bool { elements >= smallestFar / bytes }

  /// How many bytes of x go through both passes together; 0: few. Where lines come from further than a second level,
  /// few rows: those of the next group are read while these are written.
  func bytesPerGroup(_ elements: Int64, of bytes: Int64, isBeyondNear: Bool) -> Int64 {
    if isBeyondNear { return 0 }
    return isLastNear && Caches.secondMayLack(elements, of: bytes)
      ? min(bytesPerGroup, 16 << 10) : bytesPerGroup
  }

  /// The bytes of the shortest rows that are stored past the caches though they do not begin and end where vectors do.
  func leastStraddling(of size: Int64) -> Int64 { isLastNear ? 2 << 10 : size << 10 }

  /// Whether the caches that are near have little of it: on Intel's servers those are the first two levels, which each
  /// of the threads has.
  func isBeyondNear(_ elements: Int64, of bytes: Int64, on threads: Int64) -> Bool {
    elements >= (isLastNear ? smallestFar : smallestFar / 8 * threads) / bytes
  }

  /// Whether rows of y are worth normalizing in pairs, which share weight and bias. On Intel's servers the stores of one
  /// of them would straddle lines, where a row alone begins its second store with one, and lines of two rows that come
  /// from the last level arrive later than those of one.
  ///
  /// - Parameter areOfVectors: whether rows of y begin and end where a vector does.
  func hasPairs(areOfVectors: Bool, isBeyondNear: Bool) -> Bool {
    isLastNear || areOfVectors && !isBeyondNear
  }

  /// Whether a store past the caches, and a read of the output right after, take less time than a plain store and a
  /// read that finds part of it cached.
  ///
  /// - Parameters:
  ///   - sixteenths: of a last level that is near, what such a call moves at least.
  ///   - farSixteenths: where it is not, of what is far, how large such an output is at least.
  func streams(
    _ elements: Int64, outputOf size: Int64, allOf bytes: Int64, from sixteenths: Int64,
    far farSixteenths: Int64 = 16
  ) -> Bool {
    elements
      >= (isLastNear
        ? smallestFar / 12 * sixteenths / bytes : smallestFar / 16 * farSixteenths / size)
  }

  /// Whether the caches have lost what a large call is about to read, and will lose what it writes before that is read:
  /// how much of a last level is a guest's, its neighbours decide, and it changes.
  ///
  /// Once alone, something else has made them lose it. Streamed, a call may leave its input in the caches, which would
  /// not have held its output too: so what was found twice in a row holds for a while, the longer the more often it is
  /// found again by a call that stored as usual.
  func haveLost(_ input: Tensor, callOf bytes: Int64) -> Bool {
    guard isLastNear, input.isContiguous else { return false }
    let last = Finding(word: Caches.lastFinding.load(ordering: .relaxed))
    if last.callsLeft > 0 && bytes >= last.bytes {
      Caches.lastFinding.store(
        Finding(bytes: last.bytes, period: last.period, callsLeft: last.callsLeft - 1).word,
        ordering: .relaxed)
      return true
    }
    // What was touched longest ago goes first. One load in a hundred is late for other reasons.
    let isLost = ln_lines_lost(input.pointer, input.bytes / 4) >= 2
    guard isLost || bytes >= last.bytes else { return false }
    let isFirst = last.period == 0
    let period = !isLost ? last.period / 2 : isFirst ? 1 : min(last.period * 4, 128)
    let holds = isLost && !isFirst
    Caches.lastFinding.store(
      Finding(
        bytes: isLost ? bytes / 8 * 7 : last.bytes, period: period, callsLeft: holds ? period : 0
      ).word, ordering: .relaxed)
    return holds
  }

  /// What was found of the caches, in a word.
  private struct Finding {
    /// How much calls move at least that it is about, a multiple of 64 KB.
    let bytes: Int64
    /// For how many calls it holds if found again, below 256; 0 where the last finding was another.
    let period: Int64
    /// For how many more this one does.
    let callsLeft: Int64

    init(bytes: Int64, period: Int64, callsLeft: Int64) {
      self.bytes = bytes & ~0xffff
      self.period = period
      self.callsLeft = callsLeft
    }
    init(word: Int64) {
      self.init(bytes: word, period: word & 0xff, callsLeft: word >> 8 & 0xff)
    }
    var word: Int64 { bytes | callsLeft << 8 | period }
  }

  private static let lastFinding = Atomic<Int64>(0)

  private static let smallestBeyondSecond: Int64 = 1 << 20
  private static let smallestLarge: Int64 = 4 << 20
  private static let farWhereUnknown: Int64 = 24 << 20

  /// The size, a multiple of 4, whether the last level is near, and 2 where groups are large; 0 until they are known.
  private static let known = Atomic<Int64>(0)

  static var current: Caches {
    var value = known.load(ordering: .relaxed)
    if value == 0 { value = find() }
    return Caches(
      smallestFar: value & ~3, isLastNear: value & 1 != 0,
      bytesPerGroup: value & 2 != 0 ? 32 << 10 : 12 << 10)
  }

  @inline(never) private static func find() -> Int64 {
    let found = ln_cache_sizes()
    let size = found.last_is_near != 0 ? found.last / 4 * 3 : 8 * found.second
    var value = size == 0 ? farWhereUnknown : size & ~3
    value +=
      Int64(found.last_is_near) + (found.last_is_near != 0 || found.first >= 48 << 10 ? 2 : 0)
    known.store(value, ordering: .relaxed)
    return value
  }
}
