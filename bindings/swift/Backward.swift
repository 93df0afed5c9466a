// The backward calls, over spans.

/// Backward of layer norm. With x^ = (x - mean) * rstd and g = dy * weight:
///
///     dx      = rstd * (g - sum(g) / cols - x^ * sum(g * x^) / cols)
///     dweight = sum of dy * x^ over the rows
///     dbias   = sum of dy over the rows
///
/// - Parameters:
///   - dy: The gradient of y, rows * cols elements.
///   - x: What was normalized, rows * cols elements.
///   - rows: 0 or more.
///   - cols: The normalized size, 0 or more.
///   - weight: cols elements; nil for ones.
///   - mean: rows elements, as `layerNorm` gave them; nil, and so `rstd`: computed again from `x`.
///   - rstd: As `mean`.
///   - eps: Serves where `mean` and `rstd` are nil; 0 or more, finite.
///   - dx: Receives the gradient of x, rows * cols elements.
///   - dweight: Receives the gradient of weight, cols elements.
///   - dbias: Receives the gradient of bias, cols elements.
/// - Throws: An error of status `nullPointer` (one of `mean` and `rstd` is nil), `size`, `eps`,
///   `overlap`, `isa`, `numThreads` or `outOfMemory`.
@inlinable public func layerNormBackward<Element: LayerNormElement>(
  _ dy: Span<Element>, x: Span<Element>, rows: Int, cols: Int, weight: Span<Element>? = nil,
  mean: Span<Element.Statistic>? = nil, rstd: Span<Element.Statistic>? = nil, eps: Double = 1e-5,
  dx: consuming MutableSpan<Element>? = nil, dweight: consuming MutableSpan<Element>? = nil,
  dbias: consuming MutableSpan<Element>? = nil
) throws(LayerNormError) {
  try backward(
    LAYERNORM_NORM_LAYER, rows: rows, cols: cols, dy: dy, x: x, weight: weight, mean: mean,
    rstd: rstd, eps: eps, dx: dx, dweight: dweight, dbias: dbias)
}

/// Backward of RMSNorm. With x^ = x * rstd and g = dy * weight:
///
///     dx      = rstd * (g - x^ * sum(g * x^) / cols)
///     dweight = sum of dy * x^ over the rows
///
/// Parameters and errors as in `layerNormBackward`.
@inlinable public func rmsNormBackward<Element: LayerNormElement>(
  _ dy: Span<Element>, x: Span<Element>, rows: Int, cols: Int, weight: Span<Element>? = nil,
  rstd: Span<Element.Statistic>? = nil, eps: Double = 1e-5,
  dx: consuming MutableSpan<Element>? = nil, dweight: consuming MutableSpan<Element>? = nil
) throws(LayerNormError) {
  try backward(
    LAYERNORM_NORM_RMS, rows: rows, cols: cols, dy: dy, x: x, weight: weight, rstd: rstd, eps: eps,
    dx: dx, dweight: dweight)
}
