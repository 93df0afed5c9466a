import LayerNorm

// Two rows of four; weight and bias are left out.
let x: [Float] = [1, 2, 3, 4, 10, 20, 30, 50]
var y = [Float](repeating: 0, count: x.count)
var mean: [Float] = [0, 0]
try layerNorm(x.span, rows: 2, cols: 4, into: y.mutableSpan, mean: mean.mutableSpan)
print("layer norm of rows with mean \(mean[0]) and \(mean[1]): \(y)")

// One step of a residual stream in bfloat16: stream += x, and y is the RMSNorm of the sum.
let delta: [BFloat16] = [0.5, -1, 2, 0.25]
let weight: [BFloat16] = [1, 2, 1, 2]
var stream: [BFloat16] = [1, 2, 3, 4]
var normalized = stream
try addRMSNorm(
  delta.span, updating: stream.mutableSpan, rows: 1, cols: 4, weight: weight.span,
  into: normalized.mutableSpan)
print("the stream is now \(stream), its RMSNorm \(normalized)")

// What is wrong with a call comes as an error, with nothing written.
do {
  try layerNorm(x.span, rows: 2, cols: 5, into: y.mutableSpan)
} catch {
  print("\(error.status): \(error.message)")
}
