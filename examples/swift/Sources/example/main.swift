import LayerNorm

// Layer norm of two rows of four, and their means.
let x: [Float] = [1, 2, 3, 4, 10, 20, 30, 50]
let weight: [Float] = [1, 1, 1, 2]
var y = [Float](repeating: 0, count: 8)
var mean: [Float] = [0, 0]
try layerNorm(
  x.span, rows: 2, cols: 4, weight: weight.span, into: y.mutableSpan, mean: mean.mutableSpan)
print("y:", y)
print("mean:", mean)

// In place.
try rmsNorm(inPlace: y.mutableSpan, rows: 2, cols: 4)

// One step of a residual stream in bfloat16: stream += delta, and out is the RMSNorm of the sum.
let delta: [BFloat16] = [0.5, -1, 2, 0.25]
var stream: [BFloat16] = [1, 2, 3, 4]
var out = stream
try addRMSNorm(
  delta.span, updating: stream.mutableSpan, rows: 1, cols: 4, eps: 1e-6, into: out.mutableSpan)
print("stream:", stream, "norm:", out)

// The gradients, for dy = x.
var dx = [Float](repeating: 0, count: 8)
var dweight: [Float] = [0, 0, 0, 0]
try layerNormBackward(
  x.span, x: x.span, rows: 2, cols: 4, weight: weight.span, dx: dx.mutableSpan,
  dweight: dweight.mutableSpan)
print("dweight:", dweight)

// What is wrong with a call comes as an error, with nothing written.
do {
  try layerNorm(x.span, rows: 2, cols: 5, into: y.mutableSpan)
} catch {
  print("\(error.status): \(error.message)")
}
