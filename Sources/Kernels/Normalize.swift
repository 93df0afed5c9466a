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

/// The step from x to y, once mean and rstd of the row are known.
struct Normalization<N: Norm, A: Affine, C: ComputeScalar> {
  private let affine: A
  private let center: C.Vector
  private let rstd: C.Vector
  /// -(low part of the mean) * rstd: what subtracting the mean rounded to C leaves behind.
  private let offset: C.Vector

  @inline(__always) init(_: N.Type, _ affine: A, mean: C.Wide, rstd: C) {
    self.affine = affine
    let center = mean.narrow
    let low = (mean - C.Wide(center)).narrow
    self.center = C.Vector(repeating: center)
    self.rstd = C.Vector(repeating: rstd)
    self.offset = C.Vector(repeating: -(low * rstd))
  }

  /// The mean is subtracted before anything is scaled: x - center is exact where the mean is large
  /// beside the spread.
  @inline(__always)
  func callAsFunction(
    _ x: C.Vector, weight: @autoclosure () -> C.Vector, bias: @autoclosure () -> C.Vector
  ) -> C.Vector {
    let normalized = N.centers ? offset.adding(x - center, times: rstd) : x * rstd
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
