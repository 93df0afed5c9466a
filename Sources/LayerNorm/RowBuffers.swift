import CLayerNorm
import CShims
import Synchronization

/// The rows of a call that kernels do not take as they are, in chunks that go through buffers.
struct RowChunks {
  let count: Int64
  /// How many rows a chunk has, and how many it may have: the last of a batch takes what is left over with it.
  let rows, most: Int64
  private let perBatch: Int64
  private let rowsPerBatch: Int64

  private static let mostTransposed: Int64 = 256
  private static let bytesTransposed: Int64 = 512 << 10
  /// Of long rows, up to twice as many bytes.
  private static let manyTransposed: Int64 = 64
  private static let mostConverted: Int64 = 16
  private static let bytesConverted: Int64 = 32 << 10

  /// - Parameter transposes: whether the elements of a column lie side by side, not those of a row. Then a chunk is
  ///   of one batch, and of enough rows for squares to be transposed and for memory to be read by more than a line,
  ///   unless that leaves threads without work.
  init(_ norm: NormArguments, transposes: Bool) throws(Failure) {
    let rowBytes = RowBuffers.bytes(of: norm.cols, norm.compute.size) ?? .max
    let square = RowBuffers.lineSize / norm.compute.size
    guard transposes && norm.rows >= square else {
      rows = min(max(RowChunks.bytesConverted / rowBytes, 1), RowChunks.mostConverted)
      most = rows
      rowsPerBatch = norm.allRows
      perBatch = (norm.allRows - 1) / rows + 1
      count = perBatch
      return
    }
    let forEach = norm.allRows / (2 * Int64(try ThreadCount.current()))
    let fit = RowChunks.bytesTransposed / rowBytes
    let wanted = min(
      max(fit, min(2 * fit, RowChunks.manyTransposed)), RowChunks.mostTransposed, forEach)
    rows = max(wanted / square, 1) * square
    most = rows + square - 1
    rowsPerBatch = norm.rows
    perBatch = max((norm.rows - square) / rows + 1, 1)
    count = norm.allRows / norm.rows * perBatch
  }

  func range(of chunk: Int64) -> (begin: Int64, end: Int64) {
    let (batch, index) = chunk.quotientAndRemainder(dividingBy: perBatch)
    let begin = batch * rowsPerBatch + index * rows
    return (begin, index == perBatch - 1 ? (batch + 1) * rowsPerBatch : begin + rows)
  }

  /// Where the chunk ends that begins with a row, if it ends with `end` at the latest.
  func end(after begin: Int64, until end: Int64) -> Int64 {
    end - begin <= most ? end : begin + rows
  }
}

/// Buffers of some rows of a compute type, each row on cache lines of its own: a number of them for
/// each thread, and single rows that are shared.
struct RowBuffers {
  private let cols: Int64
  private let elementSize: Int64
  private let rows: Int64
  private let memory: UnsafeMutableRawPointer
  let rowBytes: Int64
  private let perThread: Int64
  private let threads: Int64
  private let firstShared: Int64
  private let bytes: Int64

  static let lineSize: Int64 = 64

  /// Of a row in a buffer: an odd number of lines, so that not all rows of a column share a set of the cache.
  static func bytes(of cols: Int64, _ elementSize: Int64) -> Int64? {
    let (bytes, o1) = cols.multipliedReportingOverflow(by: elementSize)
    let (padded, o2) = bytes.addingReportingOverflow(lineSize - 1)
    return o1 || o2 ? nil : padded & ~(lineSize - 1) | lineSize
  }

  /// - Parameter rows: of a buffer.
  init(
    cols: Int64, elementSize: Int64, rows: Int64 = 0, perThread: Int64 = 0, threads: Int64 = 0,
    shared: Int64
  ) throws(Failure) {
    self.cols = cols
    self.elementSize = elementSize
    self.rows = rows
    self.perThread = perThread
    self.threads = threads
    firstShared = perThread * threads * rows
    let flags = threads * RowBuffers.lineSize
    guard let rowBytes = RowBuffers.bytes(of: cols, elementSize),
      case let (bytes, o1) = rowBytes.multipliedReportingOverflow(by: firstShared + shared),
      case let (all, o2) = bytes.addingReportingOverflow(flags), !o1 && !o2,
      let memory = allocate(all)
    else {
      throw failure(
        LAYERNORM_ERROR_OUT_OF_MEMORY, "cols is ", .number(cols),
        ": no memory for buffers of so many")
    }
    self.rowBytes = rowBytes
    self.bytes = bytes
    self.memory = memory
    memset(memory + Int(bytes), 0, Int(flags))
  }

  /// Whether a thread has taken its buffers, or what `once` has come to.
  private func flag(_ thread: Int64) -> UnsafeMutablePointer<Atomic<UInt32>> {
    (memory + Int(bytes + thread * RowBuffers.lineSize)).assumingMemoryBound(
      to: Atomic<UInt32>.self)
  }

  /// The number of a thread whose buffers are not in use; of no more threads at a time than there are.
  func take() -> Int64 {
    var thread: Int64 = 0
    while !flag(thread).pointee.compareExchange(expected: 0, desired: 1, ordering: .acquiring)
      .exchanged
    {
      thread = thread == threads - 1 ? 0 : thread + 1
    }
    return thread
  }

  func giveBack(_ thread: Int64) { flag(thread).pointee.store(0, ordering: .releasing) }

  /// What the first call for this thread's rows gave, whose `fill` alone is run; others wait for it.
  func once(_ thread: Int64, _ fill: () -> Bool) -> Bool {
    let isFull: UInt32 = 2
    let flag = flag(thread)
    var state = flag.pointee.load(ordering: .acquiring)
    if state == 0
      && flag.pointee.compareExchange(expected: 0, desired: 1, ordering: .acquiring).exchanged
    {
      state = fill() ? isFull | 1 : isFull
      flag.pointee.store(state, ordering: .releasing)
    }
    while state < isFull {
      ln_spin_pause()
      state = flag.pointee.load(ordering: .acquiring)
    }
    return state & 1 != 0
  }

  func buffer(_ index: Int64, of thread: Int64) -> UnsafeMutableRawPointer {
    memory + Int((thread * perThread + index) * rows * rowBytes)
  }

  func shared(_ index: Int64) -> UnsafeMutableRawPointer {
    memory + Int((firstShared + index) * rowBytes)
  }

  /// The rows of a buffer, for a kernel, which counts rows from the call's first; the buffer's first is row `begin`.
  func kernelRows(
    _ buffer: UnsafeMutableRawPointer, from begin: Int64, _ norm: NormArguments
  ) -> ln_rows {
    let stride = rowBytes / elementSize
    return ln_rows(
      data: moved(buffer, back: begin &* rowBytes), row_stride: stride,
      batch_stride: norm.rows &* stride)
  }

  /// Converts a parameter into a shared row; nil if it is absent.
  func fill(shared index: Int64, from parameter: ParameterRow?) -> UnsafeMutableRawPointer? {
    parameter.map {
      $0.widen(1, cols, $0.elements, matrix(shared(index)))
      return shared(index)
    }
  }

  /// Fills a shared row with one number.
  @_optimize(speed)
  func fill(shared index: Int64, with value: Double) -> UnsafeMutableRawPointer {
    let row = shared(index)
    if elementSize == MemoryLayout<Double>.size {
      row.initializeMemory(as: Double.self, repeating: value, count: Int(cols))
    } else {
      row.initializeMemory(as: Float.self, repeating: Float(value), count: Int(cols))
    }
    return row
  }

  /// The weight that kernels take, in a shared row: ones where it is absent, else plus one where that is asked for, by
  /// way of the next row.
  func fillWeight(
    shared index: Int64 = 0, from parameter: ParameterRow?, addsOne: Bool, _ add: ln_add_kernel
  ) -> UnsafeMutableRawPointer {
    guard let weight = fill(shared: index, from: parameter) else {
      return fill(shared: index, with: 1)
    }
    if addsOne { add(cols, weight, fill(shared: index + 1, with: 1), nil, weight) }
    return weight
  }

  /// Converts the rows begin ..< end of a tensor into a buffer.
  func gather(
    _ tensor: Tensor, _ begin: Int64, _ end: Int64, into buffer: UnsafeMutableRawPointer,
    _ convert: ln_convert_kernels
  ) {
    forEachPiece(of: tensor, begin, end, buffer) { rows, outside, inside in
      convert.from(tensor.dtype)(rows, cols, outside, inside)
    }
  }

  /// Converts a buffer into the rows begin ..< end of a tensor.
  func scatter(
    _ buffer: UnsafeMutableRawPointer, into tensor: Tensor, _ begin: Int64, _ end: Int64,
    _ convert: ln_convert_kernels
  ) {
    forEachPiece(of: tensor, begin, end, buffer) { rows, outside, inside in
      convert.to(tensor.dtype)(rows, cols, inside, outside)
    }
  }

  /// Rounds the rows of a buffer to a dtype and back.
  func round(
    _ rows: Int64, of buffer: UnsafeMutableRawPointer, to dtype: DType,
    through other: UnsafeMutableRawPointer, _ convert: ln_convert_kernels
  ) {
    let compute = matrix(buffer)
    let narrow = ln_matrix(data: other, row_stride: cols, col_stride: 1)
    convert.to(dtype)(rows, cols, compute, narrow)
    convert.from(dtype)(rows, cols, narrow, compute)
  }

  private func matrix(_ buffer: UnsafeMutableRawPointer) -> ln_matrix {
    ln_matrix(data: buffer, row_stride: rowBytes / elementSize, col_stride: 1)
  }

  /// Rows of a tensor within one batch, and where they are in a buffer.
  private func forEachPiece(
    of tensor: Tensor, _ begin: Int64, _ end: Int64, _ buffer: UnsafeMutableRawPointer,
    _ body: (Int64, ln_matrix, ln_matrix) -> Void
  ) {
    var row = begin
    while row < end {
      let (batch, rowInBatch) = row.quotientAndRemainder(dividingBy: tensor.rows.count)
      let pieceEnd = min(end, row + tensor.rows.count - rowInBatch)
      let first = batch &* tensor.batch.stride &+ rowInBatch &* tensor.rows.stride
      let outside = ln_matrix(
        data: UnsafeMutableRawPointer(
          bitPattern: tensor.address &+ UInt(bitPattern: Int(first &* tensor.dtype.size))),
        row_stride: tensor.rows.stride, col_stride: tensor.cols.stride)
      body(pieceEnd - row, outside, matrix(buffer + Int((row - begin) * rowBytes)))
      row = pieceEnd
    }
  }

  func free() { CShims.free(memory) }
}

/// A parameter [cols], and what converts it to the compute type.
struct ParameterRow {
  let elements: ln_matrix
  let widen: ln_convert_kernel

  /// nil if it is absent.
  init?(_ tensor: Tensor?, _ convert: ln_convert_kernels) {
    guard let tensor else { return nil }
    elements = ln_matrix(
      data: tensor.mutablePointer, row_stride: tensor.rows.stride, col_stride: tensor.cols.stride)
    widen = convert.from(tensor.dtype)
  }
}

/// Where the first of so many bytes would be if those before a pointer were before it.
func moved(_ pointer: UnsafeMutableRawPointer, back bytes: Int64) -> UnsafeMutableRawPointer? {
  UnsafeMutableRawPointer(bitPattern: UInt(bitPattern: pointer) &- UInt(bitPattern: Int(bytes)))
}

/// Memory on a cache line of its own; nil if there is none.
func allocate(_ bytes: Int64) -> UnsafeMutableRawPointer? {
  var memory: UnsafeMutableRawPointer?
  return posix_memalign(&memory, 64, Int(bytes)) == 0 ? memory : nil
}

extension Tensor {
  var pointer: UnsafeRawPointer? { UnsafeRawPointer(bitPattern: address) }
  var mutablePointer: UnsafeMutableRawPointer? { UnsafeMutableRawPointer(bitPattern: address) }

  /// Whether kernels of a compute type take its rows as they are.
  func isReady(_ compute: DType) -> Bool { dtype == compute && hasContiguousRows }

  /// For a kernel, where the elements of a row lie side by side.
  var kernelRows: ln_rows {
    ln_rows(data: mutablePointer, row_stride: rows.stride, batch_stride: batch.stride)
  }
}

extension ln_convert_kernels {
  func from(_ dtype: DType) -> ln_convert_kernel {
    switch dtype {
    case .f32: from_f32
    case .f64: from_f64
    case .f16: from_f16
    case .bf16: from_bf16
    }
  }

  func to(_ dtype: DType) -> ln_convert_kernel {
    switch dtype {
    case .f32: to_f32
    case .f64: to_f64
    case .f16: to_f16
    case .bf16: to_bf16
    }
  }
}
