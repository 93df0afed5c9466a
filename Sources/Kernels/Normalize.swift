/// What a row is normalized with, once its moments are known. Mean and rstd stay pairs, a number rounded
/// to C and what the rounding left behind, so that y has no error of theirs.
struct RowScalars<C: ComputeScalar> {
  let center: C
  let rstd: C
  let rstdLow: C
  /// -(mean - center) * rstd
  let offset: C

  @inline(__always) init(_ moments: Moments<C>, rstd: C.Wide) {
    center = moments.center
    self.rstd = rstd.narrow
    rstdLow = (rstd - C.Wide(rstd.narrow)).narrow
    offset = -((moments.mean - C.Wide(center)) * rstd).narrow
  }
}

/// The step from x to y.
struct Normalization<N: Norm, A: Affine> {
  typealias C = A.Compute

  private let affine: A
  private let center: C.Vector
  private let rstd: C.Vector
  private let rstdLow: C.Vector
  private let offset: C.Vector

  @inline(__always) init(_: N.Type, _ affine: A, _ scalars: RowScalars<C>) {
    self.affine = affine
    center = C.Vector(repeating: scalars.center)
    rstd = C.Vector(repeating: scalars.rstd)
    rstdLow = C.Vector(repeating: scalars.rstdLow)
    offset = C.Vector(repeating: scalars.offset)
  }

  @inline(__always) private func normalize(_ x: C.Vector) -> C.Vector {
    let deviation = N.centers ? x - center : x
    let low = N.centers ? offset.adding(deviation, times: rstdLow) : deviation * rstdLow
    return low.adding(deviation, times: rstd)
  }

  /// Normalizes a row of `count` elements into y, which may be where the row is.
  @inline(__always)
  func callAsFunction<S: RowSource, Y: Element>(
    _ row: S, count: Int, into y: UnsafeMutablePointer<Y>
  ) where S.Compute == C {
    let width = S.width
    let last = row.loadLast(of: count)
    var index = 0
    while index &+ width <= count {
      C.store(affine.apply(normalize(row.load(index)), at: index), to: y + index)
      index &+= width
    }
    if index < count {
      storeLast(affine.apply(normalize(last), last: count), as: C.self, of: count, to: y)
    }
  }

  /// Whether a row may go past the caches. A cache line that is stored to both ways costs far more than
  /// one that is stored to either way, so a row has to end where a vector does, or to be long enough for
  /// its ends not to matter.
  @inline(__always)
  static func canStream<Y: Element>(_ y: UnsafeMutablePointer<Y>, count: Int) -> Bool {
    !A.isRare && (count >= 1024 || misalignment(y) == 0 && count % C.Vector.width == 0)
  }

  /// Elements from y to the next multiple of a vector's size.
  @inline(__always)
  private static func misalignment<Y: Element>(_ y: UnsafeMutablePointer<Y>) -> Int {
    let bytes = UInt(C.Vector.width &* MemoryLayout<Y>.stride)
    return Int((bytes &- UInt(bitPattern: y) % bytes) % bytes) / MemoryLayout<Y>.stride
  }

  /// The same past the caches, for a y that is apart from x and too large to stay in them.
  @inline(__always)
  func stream<S: RowSource, Y: Element>(
    _ row: S, count: Int, into y: UnsafeMutablePointer<Y>
  ) where S.Compute == C {
    let width = S.width
    var index = Self.misalignment(y)
    if index > 0 {
      let first = affine.apply(normalize(row.load(short: index)), last: index)
      storeShort(first, as: C.self, of: index, to: y)
    }
    while index &+ width <= count {
      C.stream(affine.apply(normalize(row.load(index)), at: index), to: y + index)
      index &+= width
    }
    if index < count {
      let last = affine.apply(normalize(row.loadLast(of: count)), last: count)
      storeShort(last, as: C.self, of: count &- index, to: y + index)
    }
  }
}
