import CShims

/// Rows of one batch.
struct ForwardTensors<T: Element> {
  /// The number in the call of what is row 0 here.
  let first: Int
  let x: BatchRows<T>
  let residual: BatchRows<T>?
  /// What is normalized: x, or what the sums are written to.
  let normalized: BatchRows<T>
  /// Where the sums go past the caches.
  let streamed: BatchRows<T>?
  let y: BatchRows<T>
  /// How far x is from what is normalized, where what is added waits apart: later rows of x are asked for as others are
  /// normalized, those of the residual as they are added.
  let aheadOfApart: Int
  /// Whether the columns of a pair are gone through from the last to the first.
  let descends: Bool

  @inline(never)
  init(
    _ work: UnsafePointer<ln_forward_work>, _ first: Int, rows: Int, at position: RowPosition,
    adds: Bool
  ) {
    self.first = first
    x = BatchRows(work.pointee.x, at: position).unsafelyUnwrapped
    y = BatchRows(work.pointee.y, at: position).unsafelyUnwrapped
    residual = BatchRows(work.pointee.residual, at: position)
    let sum = BatchRows<T>(work.pointee.sum, at: position)
    let added = BatchRows<T>(work.pointee.added, at: RowPosition(0, rowsPerBatch: 1))
    normalized = adds ? added ?? sum ?? y : x
    streamed = added == nil ? nil : sum
    aheadOfApart = added == nil ? 0 : UnsafePointer(x[0]) - UnsafePointer(normalized[0])
    descends = rows >= 2 && ColumnOrder(reading: normalized, storing: y, rows: 2).descends
  }
}

/// The statistics of the rows of a group, whatever their weight and bias.
struct GroupStatistics<T: Element> {
  typealias C = T.Compute

  private let work: UnsafePointer<ln_forward_work>
  private let count: Int
  let reciprocalCount: C.Wide
  private var centers: Bool { work.pointee.centers != 0 }
  /// Whether the sum of rows that are added to is taken for a norm that does not center too, which does not look at it:
  /// one code for both, where that is no slower.
  @inline(__always) private var addsOneWay: Bool {
    !T.isCoarse && registersHold(accumulatorsOf: LayerNorm.sums)
  }
  var adds: Bool {
    work.pointee.residual.data != nil || work.pointee.x_bias != nil
      || work.pointee.sum.data != nil
  }

  @inline(__always) init(_ work: UnsafePointer<ln_forward_work>) {
    self.work = work
    count = Int(work.pointee.cols)
    reciprocalCount = C.Wide(reciprocalOf: Int(work.pointee.cols))
  }

  /// There is code for it where that tells.
  @inline(__always) var hasBlocks: Bool { T.self == Float.self && work.pointee.has_blocks != 0 }

  /// How many rows go through both passes together.
  @inline(never) var groupSize: Int {
    let rowBytes = count &* MemoryLayout<T>.stride
    #if !LAYERNORM_COMPACT
      if hasBlocks { return work.pointee.streams != 0 ? rowsPerChain / 2 : rowsPerChain }
    #endif
    // Lines are asked for (`fetches`) where the last level is far.
    let isFew = C.hasShortRows && work.pointee.streams != 0 && work.pointee.fetches == 0
    // Of short rows more: while the chain of some goes on, there are others to read.
    let ofShort = isFew ? bytesPerStreamedGroup : C.bytesPerGroup
    let chains =
      C.hasShortRows ? min(ofShort / rowBytes / rowsPerChain, ForwardGroup<T>.mostChains) : 0
    // Where sums are written as they are read, more rows were slower.
    let isLarge = !adds || LN_VECTORS_IN_REGISTERS <= 8
    let fitting =
      (isFew && !T.isCoarse
        ? bytesPerStreamedGroup
        : isLarge ? max(C.bytesPerGroup, Int(work.pointee.bytes_per_group)) : C.bytesPerGroup)
      / rowBytes
    // Whole pairs.
    let size =
      chains >= 2
      ? chains &* rowsPerChain : fitting < 2 ? 1 : min(rowsPerChain, fitting & (0 &- 2))
    return work.pointee.added.data == nil
      ? size : min(size, Int(work.pointee.added_bytes) / rowBytes)
  }

  /// What the rows are normalized with goes to the group. Gives those that are out of range, as bits.
  @inline(never)
  func find(
    _ tensors: UnsafePointer<ForwardTensors<T>>, _ first: Int, rows: Int, _ group: ForwardGroup<T>
  ) -> UInt32 {
    var outOfRange: UInt32 = 0
    var done = 0
    var scalars = group.scalars
    repeat {
      // Two chains side by side: one alone is longer than what a CPU looks ahead.
      let end = min(rows, done &+ 2 &* rowsPerChain)
      var row = done
      var sums = group.sums
      repeat {
        findSums(tensors, first &+ row, rows: min(rowsPerChain, end &- row), sums)
        sums = group.laterSums
        row &+= rowsPerChain
      } while row < end
      sums = group.sums
      repeat {
        outOfRange |=
          findScalars(
            tensors, first &+ done, rows: min(rowsPerChain, end &- done), sums, into: scalars)
          << UInt32(done)
        sums = group.laterSums
        scalars += 1
        done &+= rowsPerChain
      } while done < end
    } while done < rows
    return outOfRange
  }

  #if !LAYERNORM_COMPACT
    /// The same of one row alone. Gives what is normalized as well.
    @inline(__always)
    func findOne<N: Norm>(
      _: N.Type, _ row: Int, at position: RowPosition, _ y: BatchRows<T>,
      _ sums: UnsafeMutablePointer<RowSums<C>>, into scalars: UnsafeMutablePointer<RowScalars<C>>
    ) -> (Row<T, C>, isInRange: Bool) {
      let x = BatchRows<T>(work.pointee.x, at: position).unsafelyUnwrapped
      var normalized = x
      if adds {
        normalized = BatchRows(work.pointee.sum, at: position) ?? y
        let residual = BatchRows<T>(work.pointee.residual, at: position)?[0]
        if addsOneWay {
          add(
            LayerNorm.self, work, x[0], residual, into: normalized[0], nil, sums, count, ahead: 1)
        } else {
          add(N.self, work, x[0], residual, into: normalized[0], nil, sums, count, ahead: 1)
        }
      } else {
        reduce(
          N.self, Row<T, C>(x[0]), around: NoShift(), count: count,
          fetches: work.pointee.fetches != 0, asksLater: work.pointee.fetches_later != 0,
          into: sums)
      }
      let outOfRange = N.findScalars(
        work, normalized, 0, of: row, rows: 1, sums, count, reciprocalCount, into: scalars)
      return (Row(normalized[0]), outOfRange == 0)
    }
  #endif

  /// Takes the sums of at most `rowsPerChain` rows, of what is added to a residual as it is written.
  @inline(__always)
  private func findSums(
    _ tensors: UnsafePointer<ForwardTensors<T>>, _ first: Int, rows: Int,
    _ sums: UnsafeMutablePointer<RowSums<C>>
  ) {
    let normalized = tensors.pointee.normalized
    #if !LAYERNORM_COMPACT
      if let residual = tensors.pointee.residual, work.pointee.x_bias == nil,
        isShortRow(count, of: T.self)
      {
        addShort(tensors, residual, first, rows: rows, sums, count)
        return
      }
    #endif
    if adds {
      for index in 0..<rows {
        let x = UnsafePointer(tensors.pointee.x[first &+ index])
        let residual = tensors.pointee.residual?[first &+ index]
        let sum = normalized[first &+ index]
        let streamed = tensors.pointee.streamed?[first &+ index]
        if centers || addsOneWay {
          add(
            LayerNorm.self, work, x, residual, into: sum, streamed, sums + index, count, ahead: rows
          )
        } else {
          add(
            RMSNorm.self, work, x, residual, into: sum, streamed, sums + index, count, ahead: rows)
        }
      }
    } else if centers {
      reduce(LayerNorm.self, work, normalized, first, rows: rows, into: sums)
    } else {
      reduce(RMSNorm.self, work, normalized, first, rows: rows, into: sums)
    }
  }

  /// The long chain of operations from the sums of a row to its rstd is gone through once for all rows that
  /// `findSums` has taken together. Gives those that are out of range, as bits.
  @inline(__always)
  private func findScalars(
    _ tensors: UnsafePointer<ForwardTensors<T>>, _ first: Int, rows: Int,
    _ sums: UnsafeMutablePointer<RowSums<C>>, into scalars: UnsafeMutablePointer<RowScalars<C>>
  ) -> UInt32 {
    let normalized = tensors.pointee.normalized
    return centers
      ? LayerNorm.findScalars(
        work, normalized, first, of: tensors.pointee.first &+ first, rows: rows, sums, count,
        reciprocalCount, into: scalars)
      : RMSNorm.findScalars(
        work, normalized, first, of: tensors.pointee.first &+ first, rows: rows, sums, count,
        reciprocalCount, into: scalars)
  }
}

/// What is known of a group of rows.
struct ForwardGroup<T: Element> {
  /// As many rows as there are bits for those that are out of range.
  @inline(__always) static var mostChains: Int { 4 }

  /// Of the rows of a chain, and of the next one.
  let sums, laterSums: UnsafeMutablePointer<RowSums<T.Compute>>
  /// One for each chain.
  let scalars: UnsafeMutablePointer<RowScalars<T.Compute>>

  /// The same with other scalars.
  @inline(__always) var withLaterScalars: ForwardGroup<T> {
    ForwardGroup(sums: sums, laterSums: laterSums, scalars: scalars + 1)
  }

  /// - Parameter rows: of one row alone, the sums of others are not looked at.
  @inline(__always) static func withMemory(rows: Int, _ body: (ForwardGroup<T>) -> Void) {
    withUnsafeTemporaryAllocation(of: RowScalars<T.Compute>.self, capacity: mostChains) {
      scalars in
      // Both as one would be too large to be allocated on the stack.
      withUnsafeTemporaryAllocation(of: RowSums<T.Compute>.self, capacity: rowsPerChain) { sums in
        withUnsafeTemporaryAllocation(of: RowSums<T.Compute>.self, capacity: rowsPerChain) {
          laterSums in
          if rows > 1 { sums.initialize(repeating: RowSums()) }
          if rows > rowsPerChain { laterSums.initialize(repeating: RowSums()) }
          body(
            ForwardGroup(
              sums: sums.baseAddress.unsafelyUnwrapped,
              laterSums: laterSums.baseAddress.unsafelyUnwrapped,
              scalars: scalars.baseAddress.unsafelyUnwrapped))
        }
      }
    }
  }
}
