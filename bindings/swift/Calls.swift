/// Where an argument lies.
@usableFromInline struct Memory {
  @usableFromInline let start: UnsafeMutableRawPointer?
  @usableFromInline let count: Int

  /// Whoever takes the address of a span keeps the span alive for as long as it is used.
  @inlinable init<T: LayerNormElement>(_ span: Span<T>) {
    self.init(span.withUnsafeBufferPointer { $0 })
  }

  @inlinable init<T: LayerNormElement>(_ span: borrowing MutableSpan<T>) {
    self.init(span.withUnsafeBufferPointer { $0 })
  }

  @inlinable init<T: LayerNormElement>(_ buffer: UnsafeBufferPointer<T>) {
    self.init(UnsafeMutableBufferPointer(mutating: buffer))
  }

  @inlinable init<T: LayerNormElement>(_ buffer: UnsafeMutableBufferPointer<T>) {
    start = UnsafeMutableRawPointer(buffer.baseAddress)
    count = buffer.count
  }

  @inlinable
  static func optional<T: LayerNormElement>(_ span: Span<T>?) -> Memory? {
    if let span { Memory(span) } else { nil }
  }

  @inlinable
  static func optional<T: LayerNormElement>(_ span: borrowing MutableSpan<T>?) -> Memory? {
    switch span {
    case .some(let span): Memory(span)
    case .none: nil
    }
  }

  @inlinable
  static func optional<T: LayerNormElement>(_ buffer: UnsafeBufferPointer<T>?) -> Memory? {
    if let buffer { Memory(buffer) } else { nil }
  }

  @inlinable
  static func optional<T: LayerNormElement>(_ buffer: UnsafeMutableBufferPointer<T>?) -> Memory? {
    if let buffer { Memory(buffer) } else { nil }
  }
}

/// The rows of a call. Sizes that are negative or whose product overflows are left to the library
/// to refuse.
struct Shape {
  let rows: Int
  let cols: Int

  func checkMatrix(_ name: StaticString, _ memory: Memory?) throws(LayerNormError) {
    let (count, overflow) = rows.multipliedReportingOverflow(by: cols)
    try check(name, memory, overflow ? nil : count, "rows * cols")
  }

  func checkRow(_ name: StaticString, _ memory: Memory?) throws(LayerNormError) {
    try check(name, memory, cols, "cols")
  }

  func checkColumn(_ name: StaticString, _ memory: Memory?) throws(LayerNormError) {
    try check(name, memory, rows, "rows")
  }

  private func check(
    _ name: StaticString, _ memory: Memory?, _ count: Int?, _ meaning: StaticString
  ) throws(LayerNormError) {
    guard let memory, let count, rows >= 0, cols >= 0, memory.count != count else { return }
    throw LayerNormError(
      status: .size, message: "\(name) has \(memory.count) elements, not \(meaning) = \(count)")
  }
}

/// Every forward call over spans. Without x, y takes its place; without residual, sum does.
@inlinable func forward<Element: LayerNormElement>(
  _ norm: layernorm_norm, rows: Int, cols: Int, x: Span<Element>?, residual: Span<Element>? = nil,
  weight: Span<Element>?, bias: Span<Element>? = nil, eps: Double,
  y: borrowing MutableSpan<Element>, sum: borrowing MutableSpan<Element>? = nil,
  mean: borrowing MutableSpan<Element.Statistic>? = nil,
  rstd: borrowing MutableSpan<Element.Statistic>?
) throws(LayerNormError) {
  defer {
    extendLifetime(x)
    extendLifetime(residual)
    extendLifetime(weight)
    extendLifetime(bias)
    extendLifetime(y)
    extendLifetime(sum)
    extendLifetime(mean)
    extendLifetime(rstd)
  }
  try forward(
    Element.dtype, norm, rows: rows, cols: cols, x: .optional(x) ?? Memory(y),
    residual: .optional(residual) ?? .optional(sum), weight: .optional(weight),
    bias: .optional(bias), eps: eps, y: Memory(y), sum: .optional(sum), mean: .optional(mean),
    rstd: .optional(rstd))
}

/// Every forward call.
@usableFromInline func forward(
  _ dtype: layernorm_dtype, _ norm: layernorm_norm, rows: Int, cols: Int, x: Memory,
  residual: Memory? = nil, weight: Memory?, bias: Memory? = nil, eps: Double, y: Memory,
  sum: Memory? = nil, mean: Memory? = nil, rstd: Memory?
) throws(LayerNormError) {
  let shape = Shape(rows: rows, cols: cols)
  try shape.checkMatrix("x", x)
  try shape.checkMatrix("residual", residual)
  try shape.checkRow("weight", weight)
  try shape.checkRow("bias", bias)
  try shape.checkMatrix("y", y)
  try shape.checkMatrix("sum", sum)
  try shape.checkColumn("mean", mean)
  try shape.checkColumn("rstd", rstd)
  var args = layernorm_forward_args()
  args.struct_size = MemoryLayout<layernorm_forward_args>.size
  args.eps = eps
  args.norm = norm
  args.x_dtype = dtype
  args.rows = Int64(rows)
  args.cols = Int64(cols)
  args.x = UnsafeRawPointer(x.start)
  args.residual = UnsafeRawPointer(residual?.start)
  args.weight = UnsafeRawPointer(weight?.start)
  args.bias = UnsafeRawPointer(bias?.start)
  args.y = y.start
  args.sum = sum?.start
  args.mean = mean?.start
  args.rstd = rstd?.start
  try check(layernorm_forward(&args))
}

/// Every backward call over spans.
@inlinable func backward<Element: LayerNormElement>(
  _ norm: layernorm_norm, rows: Int, cols: Int, dy: Span<Element>, x: Span<Element>,
  weight: Span<Element>?, mean: Span<Element.Statistic>? = nil, rstd: Span<Element.Statistic>?,
  eps: Double, dx: borrowing MutableSpan<Element>?, dweight: borrowing MutableSpan<Element>?,
  dbias: borrowing MutableSpan<Element>? = nil
) throws(LayerNormError) {
  defer {
    extendLifetime(dy)
    extendLifetime(x)
    extendLifetime(weight)
    extendLifetime(mean)
    extendLifetime(rstd)
    extendLifetime(dx)
    extendLifetime(dweight)
    extendLifetime(dbias)
  }
  try backward(
    Element.dtype, norm, rows: rows, cols: cols, dy: Memory(dy), x: Memory(x),
    weight: .optional(weight), mean: .optional(mean), rstd: .optional(rstd), eps: eps,
    dx: .optional(dx), dweight: .optional(dweight), dbias: .optional(dbias))
}

/// Every backward call.
@usableFromInline func backward(
  _ dtype: layernorm_dtype, _ norm: layernorm_norm, rows: Int, cols: Int, dy: Memory, x: Memory,
  weight: Memory?, mean: Memory? = nil, rstd: Memory?, eps: Double, dx: Memory?,
  dweight: Memory?, dbias: Memory? = nil
) throws(LayerNormError) {
  let shape = Shape(rows: rows, cols: cols)
  try shape.checkMatrix("dy", dy)
  try shape.checkMatrix("x", x)
  try shape.checkRow("weight", weight)
  try shape.checkColumn("mean", mean)
  try shape.checkColumn("rstd", rstd)
  try shape.checkMatrix("dx", dx)
  try shape.checkRow("dweight", dweight)
  try shape.checkRow("dbias", dbias)
  var args = layernorm_backward_args()
  args.struct_size = MemoryLayout<layernorm_backward_args>.size
  args.eps = eps
  args.norm = norm
  args.x_dtype = dtype
  args.rows = Int64(rows)
  args.cols = Int64(cols)
  args.dy = UnsafeRawPointer(dy.start)
  args.x = UnsafeRawPointer(x.start)
  args.weight = UnsafeRawPointer(weight?.start)
  args.mean = UnsafeRawPointer(mean?.start)
  args.rstd = UnsafeRawPointer(rstd?.start)
  args.dx = dx?.start
  args.dweight = dweight?.start
  args.dbias = dbias?.start
  try check(layernorm_backward(&args))
}
