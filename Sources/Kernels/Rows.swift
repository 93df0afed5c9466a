import CShims

/// Where a kernel is among the rows of all batches.
struct RowPosition {
  private(set) var row: Int
  private var batch: Int
  private var rowInBatch: Int
  private let rowsPerBatch: Int

  @inline(__always) init(_ row: Int, rowsPerBatch: Int64) {
    self.row = row
    self.rowsPerBatch = Int(rowsPerBatch)
    (batch, rowInBatch) =
      row < self.rowsPerBatch ? (0, row) : row.quotientAndRemainder(dividingBy: self.rowsPerBatch)
  }

  @inline(__always) mutating func advance() {
    row &+= 1
    rowInBatch &+= 1
    if rowInBatch == rowsPerBatch {
      rowInBatch = 0
      batch &+= 1
    }
  }

  /// The first element of this row.
  @inline(__always) func pointer<T>(in rows: ln_rows, of _: T.Type) -> UnsafeMutablePointer<T> {
    let offset = batch &* Int(rows.batch_stride) &+ rowInBatch &* Int(rows.row_stride)
    return rows.data.unsafelyUnwrapped.assumingMemoryBound(to: T.self) + offset
  }

  /// nil where the tensor is absent.
  @inline(__always)
  func pointer<T>(ifIn rows: ln_rows, of type: T.Type) -> UnsafeMutablePointer<T>? {
    rows.data == nil ? nil : pointer(in: rows, of: type)
  }
}
