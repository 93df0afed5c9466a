// The forward calls, over spans.

/// Layer norm of each row: y = (x - mean) * rstd * weight + bias, where
/// rstd = 1 / sqrt(variance + eps).
///
/// - Parameters:
///   - x: rows * cols elements, one row after the other.
///   - rows: 0 or more.
///   - cols: The normalized size, 0 or more.
///   - weight: cols elements; nil for ones.
///   - bias: cols elements; nil for zeros.
///   - eps: 0 or more, finite.
///   - y: Receives the result, rows * cols elements.
///   - mean: Receives the mean of each row, rows elements.
///   - rstd: Receives the rstd of each row, rows elements.
/// - Throws: An error of status `size`, `eps`, `overlap`, `isa`, `numThreads` or `outOfMemory`.
@inlinable public func layerNorm<Element: LayerNormElement>(
  _ x: Span<Element>, rows: Int, cols: Int, weight: Span<Element>? = nil,
  bias: Span<Element>? = nil, eps: Double = 1e-5, into y: consuming MutableSpan<Element>,
  mean: consuming MutableSpan<Element.Statistic>? = nil,
  rstd: consuming MutableSpan<Element.Statistic>? = nil
) throws(LayerNormError) {
  try forward(
    LAYERNORM_NORM_LAYER, rows: rows, cols: cols, x: x, weight: weight, bias: bias, eps: eps, y: y,
    mean: mean, rstd: rstd)
}

/// Layer norm of each row of `x`, in its place. Otherwise as `layerNorm(_:rows:cols:into:)`.
@inlinable public func layerNorm<Element: LayerNormElement>(
  inPlace x: consuming MutableSpan<Element>, rows: Int, cols: Int, weight: Span<Element>? = nil,
  bias: Span<Element>? = nil, eps: Double = 1e-5,
  mean: consuming MutableSpan<Element.Statistic>? = nil,
  rstd: consuming MutableSpan<Element.Statistic>? = nil
) throws(LayerNormError) {
  try forward(
    LAYERNORM_NORM_LAYER, rows: rows, cols: cols, x: nil, weight: weight, bias: bias, eps: eps,
    y: x, mean: mean, rstd: rstd)
}

/// RMSNorm of each row: y = x * rstd * weight, where rstd = 1 / sqrt(sum(x * x) / cols + eps).
///
/// Parameters and errors as in `layerNorm`.
@inlinable public func rmsNorm<Element: LayerNormElement>(
  _ x: Span<Element>, rows: Int, cols: Int, weight: Span<Element>? = nil, eps: Double = 1e-5,
  into y: consuming MutableSpan<Element>, rstd: consuming MutableSpan<Element.Statistic>? = nil
) throws(LayerNormError) {
  try forward(
    LAYERNORM_NORM_RMS, rows: rows, cols: cols, x: x, weight: weight, eps: eps, y: y, rstd: rstd)
}

/// RMSNorm of each row of `x`, in its place. Otherwise as `rmsNorm(_:rows:cols:into:)`.
@inlinable public func rmsNorm<Element: LayerNormElement>(
  inPlace x: consuming MutableSpan<Element>, rows: Int, cols: Int, weight: Span<Element>? = nil,
  eps: Double = 1e-5, rstd: consuming MutableSpan<Element.Statistic>? = nil
) throws(LayerNormError) {
  try forward(
    LAYERNORM_NORM_RMS, rows: rows, cols: cols, x: nil, weight: weight, eps: eps, y: x, rstd: rstd)
}

/// Residual addition and layer norm in one call: sum = x + residual, rounded to Element, and y is
/// the layer norm of that sum, with the bits of the two steps one after the other.
///
/// - Parameters:
///   - residual: rows * cols elements.
///   - sum: Receives the sum, rows * cols elements.
///
/// Other parameters and errors as in `layerNorm`.
@inlinable public func addLayerNorm<Element: LayerNormElement>(
  _ x: Span<Element>, residual: Span<Element>, rows: Int, cols: Int,
  weight: Span<Element>? = nil, bias: Span<Element>? = nil, eps: Double = 1e-5,
  into y: consuming MutableSpan<Element>, sum: consuming MutableSpan<Element>? = nil,
  mean: consuming MutableSpan<Element.Statistic>? = nil,
  rstd: consuming MutableSpan<Element.Statistic>? = nil
) throws(LayerNormError) {
  try forward(
    LAYERNORM_NORM_LAYER, rows: rows, cols: cols, x: x, residual: residual, weight: weight,
    bias: bias, eps: eps, y: y, sum: sum, mean: mean, rstd: rstd)
}

/// The same where the sum takes the place of `residual`: one step of a residual stream.
@inlinable public func addLayerNorm<Element: LayerNormElement>(
  _ x: Span<Element>, updating residual: consuming MutableSpan<Element>, rows: Int, cols: Int,
  weight: Span<Element>? = nil, bias: Span<Element>? = nil, eps: Double = 1e-5,
  into y: consuming MutableSpan<Element>,
  mean: consuming MutableSpan<Element.Statistic>? = nil,
  rstd: consuming MutableSpan<Element.Statistic>? = nil
) throws(LayerNormError) {
  try forward(
    LAYERNORM_NORM_LAYER, rows: rows, cols: cols, x: x, weight: weight, bias: bias, eps: eps, y: y,
    sum: consume residual, mean: mean, rstd: rstd)
}

/// Residual addition and RMSNorm in one call, as `addLayerNorm`.
@inlinable public func addRMSNorm<Element: LayerNormElement>(
  _ x: Span<Element>, residual: Span<Element>, rows: Int, cols: Int,
  weight: Span<Element>? = nil, eps: Double = 1e-5, into y: consuming MutableSpan<Element>,
  sum: consuming MutableSpan<Element>? = nil,
  rstd: consuming MutableSpan<Element.Statistic>? = nil
) throws(LayerNormError) {
  try forward(
    LAYERNORM_NORM_RMS, rows: rows, cols: cols, x: x, residual: residual, weight: weight, eps: eps,
    y: y, sum: sum, rstd: rstd)
}

/// The same where the sum takes the place of `residual`: one step of a residual stream.
@inlinable public func addRMSNorm<Element: LayerNormElement>(
  _ x: Span<Element>, updating residual: consuming MutableSpan<Element>, rows: Int, cols: Int,
  weight: Span<Element>? = nil, eps: Double = 1e-5, into y: consuming MutableSpan<Element>,
  rstd: consuming MutableSpan<Element.Statistic>? = nil
) throws(LayerNormError) {
  try forward(
    LAYERNORM_NORM_RMS, rows: rows, cols: cols, x: x, weight: weight, eps: eps, y: y,
    sum: consume residual, rstd: rstd)
}
