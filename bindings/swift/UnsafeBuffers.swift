// The same calls over unsafe buffers, where an output may be an input itself: y == x, sum == x,
// sum == residual, dx == dy, dx == x. Any other overlap is refused.

/// `layerNorm` over unsafe buffers.
@inlinable public func layerNorm<Element: LayerNormElement>(
  _ x: UnsafeBufferPointer<Element>, rows: Int, cols: Int,
  weight: UnsafeBufferPointer<Element>? = nil, bias: UnsafeBufferPointer<Element>? = nil,
  eps: Double = 1e-5, into y: UnsafeMutableBufferPointer<Element>,
  mean: UnsafeMutableBufferPointer<Element.Statistic>? = nil,
  rstd: UnsafeMutableBufferPointer<Element.Statistic>? = nil
) throws(LayerNormError) {
  try forward(
    Element.dtype, LAYERNORM_NORM_LAYER, rows: rows, cols: cols, x: Memory(x),
    weight: .optional(weight), bias: .optional(bias), eps: eps, y: Memory(y),
    mean: .optional(mean), rstd: .optional(rstd))
}

/// `rmsNorm` over unsafe buffers.
@inlinable public func rmsNorm<Element: LayerNormElement>(
  _ x: UnsafeBufferPointer<Element>, rows: Int, cols: Int,
  weight: UnsafeBufferPointer<Element>? = nil, eps: Double = 1e-5,
  into y: UnsafeMutableBufferPointer<Element>,
  rstd: UnsafeMutableBufferPointer<Element.Statistic>? = nil
) throws(LayerNormError) {
  try forward(
    Element.dtype, LAYERNORM_NORM_RMS, rows: rows, cols: cols, x: Memory(x),
    weight: .optional(weight), eps: eps, y: Memory(y), rstd: .optional(rstd))
}

/// `addLayerNorm` over unsafe buffers.
@inlinable public func addLayerNorm<Element: LayerNormElement>(
  _ x: UnsafeBufferPointer<Element>, residual: UnsafeBufferPointer<Element>, rows: Int, cols: Int,
  weight: UnsafeBufferPointer<Element>? = nil, bias: UnsafeBufferPointer<Element>? = nil,
  eps: Double = 1e-5, into y: UnsafeMutableBufferPointer<Element>,
  sum: UnsafeMutableBufferPointer<Element>? = nil,
  mean: UnsafeMutableBufferPointer<Element.Statistic>? = nil,
  rstd: UnsafeMutableBufferPointer<Element.Statistic>? = nil
) throws(LayerNormError) {
  try forward(
    Element.dtype, LAYERNORM_NORM_LAYER, rows: rows, cols: cols, x: Memory(x),
    residual: Memory(residual), weight: .optional(weight), bias: .optional(bias),
    eps: eps, y: Memory(y), sum: .optional(sum), mean: .optional(mean),
    rstd: .optional(rstd))
}

/// `addRMSNorm` over unsafe buffers.
@inlinable public func addRMSNorm<Element: LayerNormElement>(
  _ x: UnsafeBufferPointer<Element>, residual: UnsafeBufferPointer<Element>, rows: Int, cols: Int,
  weight: UnsafeBufferPointer<Element>? = nil, eps: Double = 1e-5,
  into y: UnsafeMutableBufferPointer<Element>, sum: UnsafeMutableBufferPointer<Element>? = nil,
  rstd: UnsafeMutableBufferPointer<Element.Statistic>? = nil
) throws(LayerNormError) {
  try forward(
    Element.dtype, LAYERNORM_NORM_RMS, rows: rows, cols: cols, x: Memory(x),
    residual: Memory(residual), weight: .optional(weight), eps: eps, y: Memory(y),
    sum: .optional(sum), rstd: .optional(rstd))
}

/// `layerNormBackward` over unsafe buffers.
@inlinable public func layerNormBackward<Element: LayerNormElement>(
  _ dy: UnsafeBufferPointer<Element>, x: UnsafeBufferPointer<Element>, rows: Int, cols: Int,
  weight: UnsafeBufferPointer<Element>? = nil,
  mean: UnsafeBufferPointer<Element.Statistic>? = nil,
  rstd: UnsafeBufferPointer<Element.Statistic>? = nil, eps: Double = 1e-5,
  dx: UnsafeMutableBufferPointer<Element>? = nil,
  dweight: UnsafeMutableBufferPointer<Element>? = nil,
  dbias: UnsafeMutableBufferPointer<Element>? = nil
) throws(LayerNormError) {
  try backward(
    Element.dtype, LAYERNORM_NORM_LAYER, rows: rows, cols: cols, dy: Memory(dy), x: Memory(x),
    weight: .optional(weight), mean: .optional(mean), rstd: .optional(rstd),
    eps: eps, dx: .optional(dx), dweight: .optional(dweight),
    dbias: .optional(dbias))
}

/// `rmsNormBackward` over unsafe buffers.
@inlinable public func rmsNormBackward<Element: LayerNormElement>(
  _ dy: UnsafeBufferPointer<Element>, x: UnsafeBufferPointer<Element>, rows: Int, cols: Int,
  weight: UnsafeBufferPointer<Element>? = nil,
  rstd: UnsafeBufferPointer<Element.Statistic>? = nil, eps: Double = 1e-5,
  dx: UnsafeMutableBufferPointer<Element>? = nil,
  dweight: UnsafeMutableBufferPointer<Element>? = nil
) throws(LayerNormError) {
  try backward(
    Element.dtype, LAYERNORM_NORM_RMS, rows: rows, cols: cols, dy: Memory(dy), x: Memory(x),
    weight: .optional(weight), rstd: .optional(rstd), eps: eps,
    dx: .optional(dx), dweight: .optional(dweight))
}
