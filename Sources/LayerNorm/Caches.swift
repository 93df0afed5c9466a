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

  /// Whether the caches have little of a call's memory when it begins.
  func isFar(_ elements: Int64, of bytes: Int64) -> Bool { elements >= smallestFar / bytes }

  /// Whether a store past the caches, and a read of the output right after, take less time than a plain store and a
  /// read that finds part of it cached.
  ///
  /// - Parameter sixteenths: of a last level that is near, what such a call moves at least. Elsewhere its output is as
  ///   large as what is far.
  func streams(
    _ elements: Int64, outputOf size: Int64, allOf bytes: Int64, from sixteenths: Int64
  ) -> Bool {
    elements >= (isLastNear ? smallestFar / 12 * sixteenths / bytes : smallestFar / size)
  }

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
