/// Which of weight and bias a kernel applies.
protocol Affine {
  var hasWeight: Bool { get }
  var hasBias: Bool { get }
}

struct NoAffine: Affine {
  @inline(__always) var hasWeight: Bool { false }
  @inline(__always) var hasBias: Bool { false }
}

struct WeightOnly: Affine {
  @inline(__always) var hasWeight: Bool { true }
  @inline(__always) var hasBias: Bool { false }
}

struct BiasOnly: Affine {
  @inline(__always) var hasWeight: Bool { false }
  @inline(__always) var hasBias: Bool { true }
}

struct WeightAndBias: Affine {
  @inline(__always) var hasWeight: Bool { true }
  @inline(__always) var hasBias: Bool { true }
}

/// Found out at run time, for rows that are too rare for a kernel of their own.
struct AnyAffine: Affine {
  let hasWeight: Bool
  let hasBias: Bool
}

/// The step from x to y, once mean and rstd of the row are known. Both stay pairs, a number rounded to
/// C and what the rounding left behind, so that y has no error of theirs.
struct Normalization<N: Norm, A: Affine, C: ComputeScalar> {
  private let affine: A
  private let center: C.Vector
  private let rstd: C.Vector
  private let rstdLow: C.Vector
  /// -(mean - center) * rstd
  private let offset: C.Vector

  @inline(__always) init(_: N.Type, _ affine: A, _ moments: Moments<C>, rstd: C.Wide) {
    self.affine = affine
    let mean = moments.mean
    let center = (mean * mean).double < moments.variance.double ? C.zero : mean.narrow
    self.center = C.Vector(repeating: center)
    self.rstd = C.Vector(repeating: rstd.narrow)
    self.rstdLow = C.Vector(repeating: (rstd - C.Wide(rstd.narrow)).narrow)
    self.offset = C.Vector(repeating: -((mean - C.Wide(center)) * rstd).narrow)
  }

  /// Where the mean is large beside the spread, it is subtracted before anything is scaled, and the
  /// difference is exact. Where it is smaller than the standard deviation, nothing cancels: center is
  /// 0, and x has no rounding before the product.
  @inline(__always)
  func callAsFunction(
    _ x: C.Vector, weight: @autoclosure () -> C.Vector, bias: @autoclosure () -> C.Vector
  ) -> C.Vector {
    let deviation = N.centers ? x - center : x
    let low = N.centers ? offset.adding(deviation, times: rstdLow) : deviation * rstdLow
    let normalized = low.adding(deviation, times: rstd)
    if affine.hasWeight && affine.hasBias { return bias().adding(normalized, times: weight()) }
    if affine.hasWeight { return normalized * weight() }
    if affine.hasBias { return normalized + bias() }
    return normalized
  }

  /// Normalizes a row of `count` elements into y, which may be where the row is.
  @inline(__always)
  func callAsFunction<S: RowSource, P: Element, Y: Element>(
    _ row: S, count: Int, weight: UnsafePointer<P>, bias: UnsafePointer<P>,
    into y: UnsafeMutablePointer<Y>
  ) where S.Compute == C {
    let width = S.width
    let last = row.loadLast(of: count)
    var index = 0
    while index &+ width <= count {
      let result = self(
        row.load(index), weight: C.load(weight + index), bias: C.load(bias + index))
      C.store(result, to: y + index)
      index &+= width
    }
    if index < count {
      let weight = Row<P, C>(weight)
      let bias = Row<P, C>(bias)
      let result = self(
        last, weight: weight.loadLast(of: count), bias: bias.loadLast(of: count))
      storeLast(result, as: C.self, of: count, to: y)
    }
  }
}
