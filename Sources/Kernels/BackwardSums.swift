import CShims

/// The sums of each row, and what they come to.
extension BackwardRows {
  /// Of the rows of a group, whose statistics are given: of two chains, which then go on side by side, since one alone
  /// is longer than what a CPU looks ahead.
  ///
  /// - Returns: as bits, the rows whose sums were taken of x as it is.
  @inline(never)
  func findSums(
    _ tensors: UnsafePointer<Tensors>, _ first: Int, rows: Int,
    _ sums: UnsafePointer<GradientRowSums<C>>
  ) -> UInt32 {
    #if !LAYERNORM_COMPACT
      if isShortRow(count, of: T.self, isNear: work.pointee.is_near != 0) {
        return findShortSums(tensors, first, rows: rows, sums)
      }
    #endif
    var aroundZero: UInt32 = 0
    let means = work.pointee.mean?.assumingMemoryBound(to: C.self)
    let asks = work.pointee.writes_ahead == 1
    for index in 0..<rows {
      let row = first &+ index
      let x = Row<T, C>(tensors.pointee.x[row])
      let dy = Row<T, C>(tensors.pointee.dy[row])
      let mean = means?[tensors.pointee.first &+ row] ?? .zero
      let isAroundZero = isAroundZero(x, mean: mean)
      let center = isAroundZero ? .zero : mean
      if isAroundZero { aroundZero |= 1 << UInt32(index) }
      if asks, let dx = tensors.pointee.dx?[row] {
        // Here and not in the second pass, where they would take the places that loads of later rows wait in.
        var line = 0
        while line < count &* MemoryLayout<T>.stride {
          ln_prefetch_write(UnsafeMutableRawPointer(dx) + line)
          line &+= 64
        }
      }
      #if !LAYERNORM_COMPACT
        if C.hasShortRows && isAroundZero {
          reduceAroundZero(
            x: x, dy: dy, weight: weight, count: count, fetches: work.pointee.fetches != 0,
            asksLater: work.pointee.fetches_later != 0, into: sums, row: index)
          continue
        }
      #endif
      reduce(
        x: x, dy: dy, weight: weight, around: center, findsMean: !isAroundZero, count: count,
        fetches: work.pointee.fetches != 0, asksLater: work.pointee.fetches_later != 0,
        into: sums, row: index)
    }
    return aroundZero
  }

  #if !LAYERNORM_COMPACT
    /// The same of short rows.
    @inline(never)
    private func findShortSums(
      _ tensors: UnsafePointer<Tensors>, _ first: Int, rows: Int,
      _ sums: UnsafePointer<GradientRowSums<C>>
    ) -> UInt32 {
      var aroundZero: UInt32 = 0
      let (rowsOfX, rowsOfDy) = (tensors.pointee.x, tensors.pointee.dy)
      let means = work.pointee.mean.map {
        $0.assumingMemoryBound(to: C.self) + (tensors.pointee.first &+ first)
      }
      let centers = centers
      var x = Row<T, C>(rowsOfX[first])
      var dy = Row<T, C>(rowsOfDy[first])
      var bit: UInt32 = 1
      for index in 0..<rows {
        let mean = means?[index] ?? .zero
        if !centers || hasMeanNearZero(x, mean: mean) {
          aroundZero |= bit
          reduceShort(x: x, dy: dy, weight: weight, count: count, into: sums, row: index)
        } else {
          reduce(
            x: x, dy: dy, weight: weight, around: mean, findsMean: true, count: count, into: sums,
            row: index)
        }
        x = Row(x.elements + rowsOfX.stride)
        dy = Row(dy.elements + rowsOfDy.stride)
        bit = bit &+ bit
      }
      return aroundZero
    }
  #endif

  /// Whether a row's given mean is small beside the spread, so that what its rounding left does not matter: by the first
  /// and the last vector, of whose elements at least a quarter have to be further from it than it is from 0. (What
  /// rstd says of the spread does not do: it knows of an eps that may not be this call's.) The sums are then taken
  /// of x as it is, and need not find the mean.
  @inline(__always) private func isAroundZero(_ x: Row<T, C>, mean: C) -> Bool {
    guard centers else { return true }
    return count >= C.Vector.width && hasMeanNearZero(x, mean: mean)
  }

  @inline(__always) private func hasMeanNearZero(_ x: Row<T, C>, mean: C) -> Bool {
    // A subnormal mean has been rounded by more than others.
    let bound = C.Vector(repeating: mean.magnitude + mean.magnitude + C(0x1p-125))
    return x.load(0).lanesAtLeast(bound, and: x.load(count &- C.Vector.width))
      >= C.Vector.width / 2
  }

  /// Of the rows of a chain.
  ///
  /// - Parameter sumsFrom: the row of the sums that theirs begin with.
  @inline(__always)
  func findScalars(
    _ tensors: UnsafePointer<Tensors>, _ first: Int, rows: Int, _ group: Group, sumsFrom: Int,
    aroundZero: RowMask, _ isInRange: inout RowMask
  ) {
    let scalars = group.scalars + sumsFrom / rowsPerChain
    guard let given = work.pointee.rstd else {
      findScalarsOfRecomputed(tensors, first, rows, group.sums, into: scalars, &isInRange)
      return
    }
    let firstInCall = tensors.pointee.first &+ first
    let rstd: C.Rows = load(given, firstInCall, rows)
    isInRange = isUsable(rstd)
    GradientScalars.find(
      work, rows: rows, group.sums, from: sumsFrom, reciprocalCount: reciprocalCount,
      center: work.pointee.mean.map { load($0, firstInCall, rows) } ?? C.Rows(repeating: .zero),
      mean: nil, rstd: C.Wide(rstd), aroundZero: aroundZero, isInRange: &isInRange, into: scalars)
  }

  /// The same with the statistics of x found first.
  @inline(never)
  private func findScalarsOfRecomputed(
    _ tensors: UnsafePointer<Tensors>, _ first: Int, _ rows: Int,
    _ sums: UnsafePointer<GradientRowSums<C>>,
    into scalars: UnsafeMutablePointer<GradientScalars<C>>, _ isInRange: inout RowMask
  ) {
    let moments = withUnsafeTemporaryAllocation(of: RowSums<C>.self, capacity: rowsPerChain) {
      sums in
      sums.initialize(repeating: RowSums())
      let sums = sums.baseAddress.unsafelyUnwrapped
      func moments<N: Norm>(_: N.Type) -> Moments<C> {
        for index in 0..<rows {
          reduce(
            NormOfSums<N>.self, Row<T, C>(tensors.pointee.x[first &+ index]), around: NoShift(),
            count: count,
            into: sums + index)
        }
        return Moments(
          N.self, rows: rows, count: count, reciprocalCount: reciprocalCount, sums: sums
        ) { Row<T, C>(tensors.pointee.x[first &+ $0]) }
      }
      return centers ? moments(LayerNorm.self) : moments(RMSNorm.self)
    }
    let rstd = (moments.variance + C.Wide(repeating: work.pointee.eps)).reciprocalSquareRoot
    let center = moments.center.narrow
    for index in 0..<rows {
      reduce(
        x: Row(tensors.pointee.x[first &+ index]), dy: Row(tensors.pointee.dy[first &+ index]),
        weight: weight, around: center[index],
        findsMean: center[index] != .zero, count: count, into: sums, row: index)
    }
    isInRange = ~moments.needsScaling(eps: work.pointee.eps)
    withUnsafePointer(to: moments.mean) { mean in
      GradientScalars.find(
        work, rows: rows, sums, from: 0, reciprocalCount: reciprocalCount, center: center,
        mean: mean, rstd: rstd, isInRange: &isInRange, into: scalars)
    }
  }

  /// Given statistics of some rows.
  @inline(__always)
  func load(_ statistics: UnsafeRawPointer, _ first: Int, _ rows: Int) -> C.Rows {
    C.Rows(statistics.assumingMemoryBound(to: C.self) + first, rows: rows)
  }

  /// Whether a given rstd is not so near the ends of its range that it may have lost digits.
  @inline(__always) func isUsable(_ rstd: C.Rows) -> RowMask {
    let magnitude = ln_magnitude8(C.Wide(rstd).doubles)
    return ln_less8(magnitude, SIMD8(repeating: C.largestRstd))
      & ln_less8(SIMD8(repeating: 1 / C.largestRstd), magnitude)
  }
}
