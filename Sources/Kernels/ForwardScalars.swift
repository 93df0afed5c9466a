import CShims

extension Norm {
  /// Finds, and writes where it is wanted, the statistics of at most `rowsPerChain` rows; gives those that do not
  /// fit C's range, or are not finite, as bits.
  @inline(__always)
  static func findScalars<T: Element>(
    _ work: UnsafePointer<ln_forward_work>, _ x: BatchRows<T>, _ first: Int, of firstInCall: Int,
    rows: Int, _ sums: UnsafeMutablePointer<RowSums<T.Compute>>, _ count: Int,
    _ reciprocalCount: T.Compute.Wide, into scalars: UnsafeMutablePointer<RowScalars<T.Compute>>
  ) -> UInt32 {
    #if !LAYERNORM_COMPACT
      if T.Compute.hasShortRows {
        let outOfRange = findUsualScalars(
          work, firstInCall, rows: rows, sums, reciprocalCount, rounds: roundsRstd(T.self, work),
          into: scalars)
        if !centers || outOfRange != hasFarRows { return outOfRange }
      }
    #endif
    return findFarScalars(
      work, x, first, of: firstInCall, rows: rows, sums, count, reciprocalCount, into: scalars)
  }

  /// More bits than there are rows.
  @inline(__always) private static var hasFarRows: UInt32 { 1 << 31 }

  /// The same, unless a row needs a second pass: then `hasFarRows`. Once for all dtypes, and in one piece.
  @inline(never)
  private static func findUsualScalars<C: ComputeScalar>(
    _ work: UnsafePointer<ln_forward_work>, _ first: Int, rows: Int,
    _ sums: UnsafePointer<RowSums<C>>, _ reciprocalCount: C.Wide, rounds: Bool,
    into scalars: UnsafeMutablePointer<RowScalars<C>>
  ) -> UInt32 {
    let moments = Moments<C>(Self.self, rows: rows, sums, reciprocalCount)
    if centers && moments.areFar.bits(rows: rows) != 0 { return hasFarRows }
    return write(moments, work, first, rows: rows, rounds: rounds, into: scalars)
  }

  /// The same of any rows.
  @inline(never)
  private static func findFarScalars<T: Element>(
    _ work: UnsafePointer<ln_forward_work>, _ x: BatchRows<T>, _ first: Int, of firstInCall: Int,
    rows: Int, _ sums: UnsafeMutablePointer<RowSums<T.Compute>>, _ count: Int,
    _ reciprocalCount: T.Compute.Wide, into scalars: UnsafeMutablePointer<RowScalars<T.Compute>>
  ) -> UInt32 {
    let moments = Moments<T.Compute>(
      Self.self, rows: rows, count: count, reciprocalCount: reciprocalCount, sums: sums
    ) { Row<T, T.Compute>(x[first &+ $0]) }
    return writeFar(
      moments, work, firstInCall, rows: rows, rounds: roundsRstd(T.self, work), into: scalars)
  }

  @inline(never)
  private static func writeFar<C: ComputeScalar>(
    _ moments: Moments<C>, _ work: UnsafePointer<ln_forward_work>, _ first: Int, rows: Int,
    rounds: Bool, into scalars: UnsafeMutablePointer<RowScalars<C>>
  ) -> UInt32 {
    write(moments, work, first, rows: rows, rounds: rounds, into: scalars)
  }

  @inline(__always)
  private static func write<C: ComputeScalar>(
    _ moments: Moments<C>, _ work: UnsafePointer<ln_forward_work>, _ first: Int, rows: Int,
    rounds: Bool, into scalars: UnsafeMutablePointer<RowScalars<C>>
  ) -> UInt32 {
    let rstd = (moments.variance + C.Wide(repeating: work.pointee.eps)).reciprocalSquareRoot(
      rows: rows)
    if centers { write(moments.mean.narrow, to: work.pointee.mean, first, rows) }
    write(rstd.narrow, to: work.pointee.rstd, first, rows)
    scalars.pointee = RowScalars(Self.self, moments, rstd: rstd, rounds: rounds)
    return moments.needsScaling(eps: work.pointee.eps).bits(rows: rows)
  }

  /// Writes the statistics of the rows first ..< first + rows.
  @inline(__always)
  private static func write<R: RowValues>(
    _ values: R, to statistics: UnsafeMutableRawPointer?, _ first: Int, _ rows: Int
  ) {
    guard let statistics = statistics?.assumingMemoryBound(to: R.Scalar.self) else { return }
    values.store(to: statistics + first, rows: rows)
  }
}

/// The same whether a row of 16-bit elements has a kernel of its own or was converted first.
@inline(__always)
func roundsRstd<T: Element>(_: T.Type, _ work: UnsafePointer<ln_forward_work>) -> Bool {
  T.isCoarse || work.pointee.rounds_rstd != 0
}
