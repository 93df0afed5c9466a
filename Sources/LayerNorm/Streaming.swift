import CShims
import Synchronization

/// Whether an output of so many bytes is stored past the caches: where a store past them, and a read of the
/// output right after, take less time than a plain store and a read that finds part of it cached. On Intel's
/// servers, whose last level is far from each core, that is from eight second-level caches on; on AMD's
/// from three quarters of the last level on.
func isWorthStreaming(_ bytes: Int64) -> Bool {
  guard bytes >= neverBelow else { return false }
  var smallest = smallestStreamed.load(ordering: .relaxed)
  if smallest == 0 {
    let caches = ln_cache_sizes()
    smallest = max(
      neverBelow, caches.last_is_near != 0 ? caches.last / 4 * 3 : 8 * caches.second)
    if caches.second == 0 || caches.last == 0 { smallest = ofUnknownCaches }
    smallestStreamed.store(smallest, ordering: .relaxed)
  }
  return bytes >= smallest
}

private let neverBelow: Int64 = 8 << 20
private let ofUnknownCaches: Int64 = 24 << 20
private let smallestStreamed = Atomic<Int64>(0)
