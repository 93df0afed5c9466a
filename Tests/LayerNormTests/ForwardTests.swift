import CLayerNorm
import LayerNorm
import Testing

/// Layer norm by its formula, in float64.
func reference(_ x: [Double], _ weight: [Double], _ bias: [Double], eps: Double) -> [Double] {
  let count = Double(x.count)
  let mean = x.reduce(0, +) / count
  let variance = x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / count
  let rstd = 1 / (variance + eps).squareRoot()
  return zip(x, zip(weight, bias)).map { ($0 - mean) * rstd * $1.0 + $1.1 }
}

/// Numbers in -1 ..< 1 from a fixed sequence.
struct Noise {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> Double {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Double(Int64(bitPattern: state) >> 11) * 0x1p-52
  }

  mutating func array(_ count: Int) -> [Double] { (0..<count).map { _ in next() } }
}

@Suite struct ForwardTests {
  @Test(arguments: [1, 2, 15, 16, 17, 63, 64, 65, 768, 1021, 1100])
  func float32MatchesTheFormula(cols: Int) {
    var noise = Noise(seed: UInt64(cols))
    let x = noise.array(3 * cols).map { Float($0 + 3) }
    let weight = noise.array(cols).map { Float($0) }
    let bias = noise.array(cols).map { Float($0) }
    var y = [Float](repeating: .nan, count: 3 * cols)
    let status = layernorm_forward_f32(3, Int64(cols), x, weight, bias, 1e-5, &y, nil, nil)
    #expect(status == LAYERNORM_SUCCESS)
    for row in 0..<3 {
      let range = row * cols..<(row + 1) * cols
      let expected = reference(
        x[range].map(Double.init), weight.map(Double.init), bias.map(Double.init),
        eps: Double(Float(1e-5)))
      for (actual, exact) in zip(y[range], expected) { #expect(abs(Double(actual) - exact) < 1e-6) }
    }
  }

  @Test(arguments: [1, 5, 8, 9, 31, 32, 33, 700])
  func float64MatchesTheFormula(cols: Int) {
    var noise = Noise(seed: UInt64(cols))
    let x = noise.array(cols)
    let weight = noise.array(cols)
    let bias = noise.array(cols)
    var y = [Double](repeating: .nan, count: cols)
    #expect(
      layernorm_forward_f64(1, Int64(cols), x, weight, bias, 1e-5, &y, nil, nil)
        == LAYERNORM_SUCCESS)
    let expected = reference(x, weight, bias, eps: 1e-5)
    for (actual, exact) in zip(y, expected) { #expect(abs(actual - exact) < 1e-14) }
  }

  @Test func float16MatchesTheFormula() {
    var noise = Noise(seed: 16)
    let x = noise.array(100).map { Float16($0) }
    var y = [UInt16](repeating: 0, count: 100)
    #expect(
      layernorm_forward_f16(1, 100, x.map(\.bitPattern), nil, nil, 1e-5, &y, nil, nil)
        == LAYERNORM_SUCCESS)
    let expected = reference(
      x.map(Double.init), [Double](repeating: 1, count: 100), [Double](repeating: 0, count: 100),
      eps: Double(Float(1e-5)))
    for (bits, exact) in zip(y, expected) {
      let actual = Float16(bitPattern: bits)
      #expect(abs(Double(actual) - exact) <= Double(actual.ulp) * 0.51)
    }
  }

  @Test func anInterleavedDestinationIsWrittenInPlaceOfNothingElse() {
    let x: [Float] = [1, 2, 3, 4, 5, 6]
    var buffer = [Float](repeating: 7, count: 12)
    var contiguous = [Float](repeating: 0, count: 6)
    #expect(
      layernorm_forward_f32(2, 3, x, nil, nil, 0, &contiguous, nil, nil) == LAYERNORM_SUCCESS)
    let strides: [Int64] = [0, 6, 2]
    let status = x.withUnsafeBytes { x in
      buffer.withUnsafeMutableBytes { y in
        strides.withUnsafeBufferPointer { strides in
          var args = layernorm_forward_args()
          args.struct_size = MemoryLayout<layernorm_forward_args>.size
          args.rows = 2
          args.cols = 3
          args.x = x.baseAddress
          args.y = y.baseAddress
          args.y_strides = strides.baseAddress
          return layernorm_forward(&args)
        }
      }
    }
    #expect(status == LAYERNORM_SUCCESS)
    for index in 0..<6 {
      #expect(buffer[2 * index] == contiguous[index])
      #expect(buffer[2 * index + 1] == 7)
    }
  }

  @Test func badInputHasAStatusAndASentence() {
    let x: [Float] = [1, 2]
    var y: [Float] = [7, 7]
    let status = layernorm_forward_f32(1, 2, x, nil, nil, -1, &y, nil, nil)
    #expect(status == LAYERNORM_ERROR_EPS)
    #expect(String(cString: layernorm_last_error()) == "eps is negative")
    #expect(String(cString: layernorm_status_string(status)) == "LAYERNORM_ERROR_EPS")
    #expect(y == [7, 7])
  }

  @Test func theSameBitsWithAnyNumberOfThreads() {
    var noise = Noise(seed: 5)
    let x = noise.array(300 * 700).map { Float($0) }
    var one = [Float](repeating: 0, count: x.count)
    var three = one
    #expect(layernorm_set_num_threads(1) == LAYERNORM_SUCCESS)
    #expect(layernorm_forward_f32(300, 700, x, nil, nil, 1e-5, &one, nil, nil) == LAYERNORM_SUCCESS)
    #expect(layernorm_set_num_threads(3) == LAYERNORM_SUCCESS)
    #expect(
      layernorm_forward_f32(300, 700, x, nil, nil, 1e-5, &three, nil, nil) == LAYERNORM_SUCCESS)
    #expect(layernorm_set_num_threads(0) == LAYERNORM_SUCCESS)
    #expect(one.map(\.bitPattern) == three.map(\.bitPattern))
  }
}
