import CShims

/// Rows of one batch of a tensor, which are all the same distance apart; counted from one of them.
struct BatchRows<T> {
  private let first: UnsafeMutablePointer<T>
  let stride: Int

  /// nil for a tensor that is absent.
  @inline(__always) init?(_ rows: ln_rows, at position: RowPosition) {
    guard let data = rows.data else { return nil }
    stride = Int(rows.row_stride)
    first =
      data.assumingMemoryBound(to: T.self)
      + (position.batch &* Int(rows.batch_stride) &+ position.row &* stride)
  }

  @inline(__always) subscript(row: Int) -> UnsafeMutablePointer<T> { first + row &* stride }
}

/// Where a row is in the tensors of a call.
struct RowPosition {
  let batch: Int
  let row: Int
  private let rowsPerBatch: Int

  @inline(__always) init(_ row: Int, rowsPerBatch: Int64) {
    self.rowsPerBatch = Int(rowsPerBatch)
    (batch, self.row) =
      row < self.rowsPerBatch
      ? (0, row) : row.quotientAndRemainder(dividingBy: self.rowsPerBatch)
  }

  /// How many rows there are from this one to the end of its batch.
  @inline(__always) var leftInBatch: Int { rowsPerBatch &- row }
}
