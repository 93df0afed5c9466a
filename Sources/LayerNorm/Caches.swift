import CShims
import Synchronization

/// What large calls need to know of the machine's caches.
struct Caches {
  /// From this many bytes of an output on, a store past the caches, and a read of the output right after,
  /// take less time than a plain store and a read that finds part of it cached. On Intel's servers, whose
  /// last level is far from each core, that is from eight second-level caches on; on AMD's from three
  /// quarters of the last level on.
  let smallestStreamed: Int64
  /// Whether the last level is a few cores' own. There rows are asked for ahead; elsewhere the hardware does that
  /// as well by itself in most cases.
  let isLastNear: Bool

  /// Of a call that moves so many elements of so many bytes; nil for one that second levels may hold.
  static func ofLargeCall(_ elements: Int64, of bytes: Int64) -> Caches? {
    elements >= smallestLarge / bytes ? current : nil
  }

  /// Whether the caches have little of a call's memory when it begins.
  func isFar(_ elements: Int64, of bytes: Int64) -> Bool { elements >= smallestStreamed / bytes }

  private static let smallestLarge: Int64 = 4 << 20
  private static let neverStreamed: Int64 = 8 << 20
  private static let streamedWhereUnknown: Int64 = 24 << 20

  /// The size, which is even, and whether the last level is near; 0 until they are known.
  private static let known = Atomic<Int64>(0)

  static var current: Caches {
    var value = known.load(ordering: .relaxed)
    if value == 0 {
      let found = ln_cache_sizes()
      let size = found.last_is_near != 0 ? found.last / 4 * 3 : 8 * found.second
      value = size == 0 ? streamedWhereUnknown : max(size, neverStreamed) & ~1
      value += Int64(found.last_is_near)
      known.store(value, ordering: .relaxed)
    }
    return Caches(smallestStreamed: value & ~1, isLastNear: value & 1 != 0)
  }
}
