import CLayerNorm
import LayerNorm
import Testing

@Suite struct BackwardTests {
  @Test(arguments: [(1, 16), (3, 17), (5, 64), (18, 100)])
  func float64MatchesTheFormula(rows: Int, cols: Int) {
    var noise = Noise(seed: UInt64(rows * cols))
    let x = noise.array(rows * cols)
    let dy = noise.array(rows * cols)
    let weight = noise.array(cols)
    var dx = [Double](repeating: .nan, count: rows * cols)
    var dweight = [Double](repeating: .nan, count: cols)
    var dbias = dweight
    let status = layernorm_backward_f64(
      Int64(rows), Int64(cols), dy, x, weight, nil, nil, 1e-5, &dx, &dweight, &dbias)
    #expect(status == LAYERNORM_SUCCESS)

    var expectedDWeight = [Double](repeating: 0, count: cols)
    var expectedDBias = expectedDWeight
    for row in 0..<rows {
      let range = row * cols..<(row + 1) * cols
      let count = Double(cols)
      let mean = x[range].reduce(0, +) / count
      let variance = x[range].reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / count
      let rstd = 1 / (variance + 1e-5).squareRoot()
      let normalized = x[range].map { ($0 - mean) * rstd }
      let g = zip(dy[range], weight).map { $0 * $1 }
      let meanOfG = g.reduce(0, +) / count
      let slope = zip(g, normalized).reduce(0) { $0 + $1.0 * $1.1 } / count
      for (col, index) in range.enumerated() {
        let exact = rstd * (g[col] - meanOfG - normalized[col] * slope)
        #expect(abs(dx[index] - exact) < 1e-13)
        expectedDWeight[col] += dy[index] * normalized[col]
        expectedDBias[col] += dy[index]
      }
    }
    for col in 0..<cols {
      #expect(abs(dweight[col] - expectedDWeight[col]) < 1e-13)
      #expect(abs(dbias[col] - expectedDBias[col]) < 1e-13)
    }
  }

  @Test func rmsNormGoesThroughZero() {
    let x: [Float] = [3, 4]
    var y: [Float] = [0, 0]
    var rstd: [Float] = [0]
    #expect(
      layernorm_rms_forward_f32(1, 2, x, nil, 0, &y, &rstd) == LAYERNORM_SUCCESS)
    #expect(abs(rstd[0] - 1 / Float(12.5).squareRoot()) < 1e-7)
    #expect(abs(y[1] / y[0] - 4 / 3) < 1e-6)
  }

  @Test func aResidualIsAddedFirst() {
    var noise = Noise(seed: 3)
    let x = noise.array(200).map { Float($0) }
    let residual = noise.array(200).map { Float($0) }
    var sum = [Float](repeating: 0, count: 200)
    var fused = sum
    var separate = sum
    #expect(
      layernorm_add_forward_f32(2, 100, x, residual, nil, nil, 1e-5, &sum, &fused, nil, nil)
        == LAYERNORM_SUCCESS)
    let added = zip(x, residual).map { $0 + $1 }
    #expect(
      layernorm_forward_f32(2, 100, added, nil, nil, 1e-5, &separate, nil, nil)
        == LAYERNORM_SUCCESS)
    #expect(sum == added)
    #expect(fused == separate)
  }
}
