import CShims

/// Copies a matrix from one type and layout to another, with one rounding to nearest where the destination is
/// narrower. Serves layouts and dtypes that have no kernel of their own. Fast where the elements of a
/// row lie side by side in both, and where those of a column do in one: then squares of a vector's
/// width are transposed in registers.
@inline(__always)
func convert<Source: Element, Destination: Element, C: ComputeScalar>(
  _: Source.Type, to _: Destination.Type, through _: C.Type, _ rows: Int64, _ cols: Int64,
  _ source: ln_matrix, _ destination: ln_matrix
) {
  Conversion<Source, Destination, C>(
    rows: Int(rows), cols: Int(cols),
    source: Conversion.Matrix(
      data: source.data.unsafelyUnwrapped.assumingMemoryBound(to: Source.self),
      rowStride: Int(source.row_stride), colStride: Int(source.col_stride)),
    destination: Conversion.Matrix(
      data: destination.data.unsafelyUnwrapped.assumingMemoryBound(to: Destination.self),
      rowStride: Int(destination.row_stride), colStride: Int(destination.col_stride))
  ).run()
}

private struct Conversion<Source: Element, Destination: Element, C: ComputeScalar> {
  struct Matrix<T> {
    let data: UnsafeMutablePointer<T>
    let rowStride: Int
    let colStride: Int

    @inline(__always) func pointer(_ row: Int, _ col: Int) -> UnsafeMutablePointer<T> {
      data + (row &* rowStride &+ col &* colStride)
    }
  }

  let rows: Int
  let cols: Int
  let source: Matrix<Source>
  let destination: Matrix<Destination>

  func run() {
    // Between the two compute types, which is rare, little code is worth more than speed.
    guard Source.Compute.self == C.self && Destination.Compute.self == C.self else {
      copy(0, rows, from: 0)
      return
    }
    let width = C.Vector.width
    if source.colStride == 1 && destination.colStride == 1 {
      for row in 0..<rows {
        var col = 0
        while col &+ width <= cols {
          C.store(C.load(source.pointer(row, col)), to: destination.pointer(row, col))
          col &+= width
        }
        copy(row, row &+ 1, from: col)
      }
      return
    }
    let transposes =
      (source.rowStride == 1 && destination.colStride == 1)
      || (source.colStride == 1 && destination.rowStride == 1)
    guard transposes && rows >= width && cols >= width else {
      copy(0, rows, from: 0)
      return
    }
    let wholeRows = C.Vector.whole(rows)
    let wholeCols = C.Vector.whole(cols)
    withUnsafeTemporaryAllocation(of: C.Vector.self, capacity: 2 &* width) { buffer in
      var row = 0
      while row < wholeRows {
        var col = 0
        while col < wholeCols {
          transpose(row, col, in: buffer.baseAddress.unsafelyUnwrapped)
          col &+= width
        }
        row &+= width
      }
    }
    copy(0, wholeRows, from: wholeCols)
    copy(wholeRows, rows, from: 0)
  }

  /// Element by element.
  @inline(never) private func copy(_ begin: Int, _ end: Int, from firstCol: Int) {
    for row in begin..<end {
      for col in firstCol..<cols {
        let element: C = C.load(scalar: source.pointer(row, col))
        C.store(scalar: element, to: destination.pointer(row, col))
      }
    }
  }

  /// A square of the vector's width; `buffer` has room for two.
  @inline(__always)
  private func transpose(_ row: Int, _ col: Int, in buffer: UnsafeMutablePointer<C.Vector>) {
    let width = C.Vector.width
    let readsAcross = source.rowStride == 1
    let writesAcross = !readsAcross
    for index in 0..<width {
      let pointer =
        readsAcross ? source.pointer(row, col &+ index) : source.pointer(row &+ index, col)
      buffer[index] = C.load(pointer)
    }
    let transposed = transposedSquare(buffer)
    for index in 0..<width {
      let pointer =
        writesAcross
        ? destination.pointer(row, col &+ index) : destination.pointer(row &+ index, col)
      C.store(transposed[index], to: pointer)
    }
  }
}

/// Exchanges rows and columns of as many vectors as one has lanes: each step interleaves the first half of
/// them with the second. Returns where in the buffer, of two squares, the result is.
@inline(never)
private func transposedSquare<V: ComputeVector>(
  _ buffer: UnsafeMutablePointer<V>
) -> UnsafeMutablePointer<V> {
  var from = buffer
  var to = buffer + V.width
  var distance = V.width
  while distance > 1 {
    for index in 0..<V.width / 2 {
      let a = from[index]
      let b = from[index &+ V.width / 2]
      to[2 &* index] = a.interleavedLow(with: b)
      to[2 &* index &+ 1] = a.interleavedHigh(with: b)
    }
    (from, to) = (to, from)
    distance /= 2
  }
  return from
}
