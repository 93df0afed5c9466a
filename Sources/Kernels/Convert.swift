import CShims

/// Copies a matrix from one type and layout to another, with one rounding to nearest where the destination is
/// narrower. Serves layouts and dtypes that have no kernel of their own. Fast where the elements of a
/// row lie side by side in both, and where those of a column do in one: then squares of a vector's
/// width are transposed in registers.
@inline(__always)
func convert<Source: Element, Destination: Element, C: ComputeScalar & Element>(
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

private struct Conversion<Source: Element, Destination: Element, C: ComputeScalar & Element> {
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
    let width = C.Vector.width
    // Between the two compute types, which is rare, little code is worth more than speed.
    guard Source.Compute.self == C.self && Destination.Compute.self == C.self else {
      copy(0, rows, 0, cols)
      return
    }
    if source.colStride == 1 && destination.colStride == 1 {
      for row in 0..<rows {
        convertVectors(
          C.self, cols / width, source.pointer(row, 0), width, destination.pointer(row, 0), width)
        copy(row, row &+ 1, C.Vector.whole(cols), cols)
      }
      return
    }
    let readsAcross = source.rowStride == 1
    guard readsAcross || destination.rowStride == 1 else {
      copy(0, rows, 0, cols)
      return
    }
    // Down the rows, since the elements of a column are what lies side by side outside the buffer.
    withUnsafeTemporaryAllocation(of: C.self, capacity: width &* width) { buffer in
      let square = buffer.baseAddress.unsafelyUnwrapped
      for firstCol in stride(from: 0, to: cols, by: width) {
        for firstRow in stride(from: 0, to: rows, by: width) {
          guard rows >= width && cols >= width else {
            copy(firstRow, min(firstRow &+ width, rows), firstCol, min(firstCol &+ width, cols))
            continue
          }
          // What is left after whole squares is in one that overlaps the others.
          let row = min(firstRow, rows &- width)
          let col = min(firstCol, cols &- width)
          let from = source.pointer(row, col)
          let to = destination.pointer(row, col)
          if readsAcross {
            let isReady = Source.self == C.self
            if !isReady { convertVectors(C.self, width, from, source.colStride, square, width) }
            transposeSquare(
              of: C.Vector.self, isReady ? UnsafeRawPointer(from) : UnsafeRawPointer(square),
              (isReady ? source.colStride : width) &* MemoryLayout<C>.size,
              to, destination.rowStride &* MemoryLayout<C>.size)
          } else {
            let isReady = Destination.self == C.self
            // Those that the next columns are written to: stores wait for them.
            for index in width..<2 &* width {
              ln_prefetch_write(to + index &* destination.colStride)
            }
            transposeSquare(
              of: C.Vector.self, from, source.rowStride &* MemoryLayout<C>.size,
              isReady ? UnsafeMutableRawPointer(to) : UnsafeMutableRawPointer(square),
              (isReady ? destination.colStride : width) &* MemoryLayout<C>.size)
            if !isReady { convertVectors(C.self, width, square, width, to, destination.colStride) }
          }
        }
      }
    }
  }

  /// Element by element.
  @inline(never) private func copy(_ begin: Int, _ end: Int, _ firstCol: Int, _ endCol: Int) {
    for row in begin..<end {
      for col in firstCol..<endCol {
        let element: C = C.load(scalar: source.pointer(row, col))
        C.store(scalar: element, to: destination.pointer(row, col))
      }
    }
  }
}

/// Vector after vector, so many elements apart.
@inline(never)
private func convertVectors<From: Element, To: Element, C: ComputeScalar & Element>(
  _: C.Type, _ count: Int, _ source: UnsafePointer<From>, _ sourceStride: Int,
  _ destination: UnsafeMutablePointer<To>,
  _ destinationStride: Int
) {
  var (from, to) = (source, destination)
  for _ in 0..<count {
    C.store(C.load(from), to: to)
    from += sourceStride
    to += destinationStride
  }
}

/// Exchanges rows and columns of as many vectors as one has lanes, so many bytes apart: each step interleaves the first
/// half of them with the second.
@inline(never)
@_optimize(speed)
private func transposeSquare<V: ComputeVector>(
  of _: V.Type, _ source: UnsafeRawPointer, _ sourceStride: Int,
  _ destination: UnsafeMutableRawPointer, _ destinationStride: Int
) {
  var square = InlineArray<16, V> { index in
    (source + min(index, V.width &- 1) &* sourceStride).loadUnaligned(as: V.self)
  }
  var distance = V.width
  while distance > 1 {
    let halves = square
    for index in 0..<V.width / 2 {
      let (a, b) = (halves[index], halves[index &+ V.width / 2])
      square[2 &* index] = a.interleavedLow(with: b)
      square[2 &* index &+ 1] = a.interleavedHigh(with: b)
    }
    distance /= 2
  }
  for index in 0..<V.width {
    (destination + index &* destinationStride).storeBytes(of: square[index], as: V.self)
  }
}
