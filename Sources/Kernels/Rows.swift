import CShims

/// Goes through the rows of a tensor, batch after batch.
struct RowCursor<T> {
  private var row: UnsafeMutablePointer<T>
  private var leftInBatch: Int
  private let rowsPerBatch: Int
  private let stride: Int
  /// From the last row of a batch to the first of the next one.
  private let toNextBatch: Int

  /// nil for a tensor that is absent.
  @inline(__always) init?(_ rows: ln_rows, at first: Int, rowsPerBatch: Int64) {
    guard let data = rows.data else { return nil }
    let rowsPerBatch = Int(rowsPerBatch)
    let (batch, rowInBatch) =
      first < rowsPerBatch ? (0, first) : first.quotientAndRemainder(dividingBy: rowsPerBatch)
    self.rowsPerBatch = rowsPerBatch
    leftInBatch = rowsPerBatch &- rowInBatch
    stride = Int(rows.row_stride)
    toNextBatch = Int(rows.batch_stride) &- (rowsPerBatch &- 1) &* stride
    row =
      data.assumingMemoryBound(to: T.self)
      + (batch &* Int(rows.batch_stride) &+ rowInBatch &* stride)
  }

  /// The first element of the row that it is at; goes on to the next one.
  @inline(__always) mutating func next() -> UnsafeMutablePointer<T> {
    let current = row
    leftInBatch &-= 1
    if leftInBatch == 0 {
      leftInBatch = rowsPerBatch
      row += toNextBatch
    } else {
      row += stride
    }
    return current
  }
}
