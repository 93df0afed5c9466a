import LayerNorm
import Testing

/// Whether a call throws this error.
func expect(
  _ status: LayerNormError.Status, _ message: String,
  sourceLocation: SourceLocation = #_sourceLocation, of call: () throws(LayerNormError) -> Void
) {
  let error = #expect(throws: LayerNormError.self, sourceLocation: sourceLocation) { try call() }
  #expect(error?.status == status, sourceLocation: sourceLocation)
  #expect(error?.message == message, sourceLocation: sourceLocation)
}

@Suite struct ErrorTests {
  @Test func aSpanOfTheWrongSizeIsNamed() {
    let matrix = [Float](repeating: 1, count: 6)
    let row = [Float](repeating: 1, count: 3)
    var y = [Float](repeating: 7, count: 6)
    var few: [Float] = [7]
    expect(.size, "x has 1 elements, not rows * cols = 6") { () throws(LayerNormError) in
      try layerNorm(few.span, rows: 2, cols: 3, into: y.mutableSpan)
    }
    expect(.size, "y has 1 elements, not rows * cols = 6") { () throws(LayerNormError) in
      try layerNorm(matrix.span, rows: 2, cols: 3, into: few.mutableSpan)
    }
    expect(.size, "weight has 1 elements, not cols = 3") { () throws(LayerNormError) in
      try rmsNorm(matrix.span, rows: 2, cols: 3, weight: few.span, into: y.mutableSpan)
    }
    expect(.size, "bias has 1 elements, not cols = 3") { () throws(LayerNormError) in
      try layerNorm(matrix.span, rows: 2, cols: 3, bias: few.span, into: y.mutableSpan)
    }
    expect(.size, "mean has 1 elements, not rows = 2") { () throws(LayerNormError) in
      try layerNorm(matrix.span, rows: 2, cols: 3, into: y.mutableSpan, mean: few.mutableSpan)
    }
    expect(.size, "rstd has 1 elements, not rows = 2") { () throws(LayerNormError) in
      try rmsNorm(matrix.span, rows: 2, cols: 3, into: y.mutableSpan, rstd: few.mutableSpan)
    }
    expect(.size, "residual has 1 elements, not rows * cols = 6") { () throws(LayerNormError) in
      try addRMSNorm(matrix.span, residual: few.span, rows: 2, cols: 3, into: y.mutableSpan)
    }
    expect(.size, "sum has 1 elements, not rows * cols = 6") { () throws(LayerNormError) in
      try addLayerNorm(
        matrix.span, residual: matrix.span, rows: 2, cols: 3, into: y.mutableSpan,
        sum: few.mutableSpan)
    }
    expect(.size, "dy has 1 elements, not rows * cols = 6") { () throws(LayerNormError) in
      try layerNormBackward(few.span, x: matrix.span, rows: 2, cols: 3, dx: y.mutableSpan)
    }
    expect(.size, "x has 1 elements, not rows * cols = 6") { () throws(LayerNormError) in
      try rmsNormBackward(matrix.span, x: few.span, rows: 2, cols: 3, dx: y.mutableSpan)
    }
    expect(.size, "dx has 1 elements, not rows * cols = 6") { () throws(LayerNormError) in
      try rmsNormBackward(matrix.span, x: matrix.span, rows: 2, cols: 3, dx: few.mutableSpan)
    }
    expect(.size, "dweight has 1 elements, not cols = 3") { () throws(LayerNormError) in
      try layerNormBackward(
        matrix.span, x: matrix.span, rows: 2, cols: 3, weight: row.span, dweight: few.mutableSpan)
    }
    expect(.size, "dbias has 1 elements, not cols = 3") { () throws(LayerNormError) in
      try layerNormBackward(
        matrix.span, x: matrix.span, rows: 2, cols: 3, dbias: few.mutableSpan)
    }
    #expect(y == [7, 7, 7, 7, 7, 7] && few == [7])
  }

  @Test(arguments: [
    (-1, 2, "rows is -1: it must not be negative"),
    (1, -2, "cols is -2: it must not be negative"),
    (Int.max, Int.max, "rows is \(Int.max): rows * cols overflows the address space"),
  ])
  func sizesThatNoMemoryHasAreRefused(rows: Int, cols: Int, message: String) {
    let x: [Float] = [1, 2]
    var y: [Float] = [7, 7]
    expect(.size, message) { () throws(LayerNormError) in
      try layerNorm(x.span, rows: rows, cols: cols, into: y.mutableSpan)
    }
    #expect(y == [7, 7])
  }

  @Test func theLibrarysSentencesComeThrough() {
    let x: [Double] = [1, 2]
    var y: [Double] = [7, 7]
    do {
      try layerNorm(x.span, rows: 1, cols: 2, eps: -1, into: y.mutableSpan)
      Issue.record("a negative eps was taken")
    } catch {
      // Without a cast: the functions throw nothing else.
      #expect(error.status == .eps)
      #expect(error.message == "eps is negative")
      #expect("\(error)" == "eps is negative")
    }
    #expect(y == [7, 7])
  }

  @Test func everyStatusOfTheLibraryIsThere() {
    func name(_ raw: UInt32) -> String {
      String(cString: layernorm_status_string(layernorm_status(rawValue: raw)))
    }
    var raw: UInt32 = 1
    while let status = LayerNormError.Status(rawValue: raw) {
      let words = "\(status)".map { $0.isUppercase ? "_\($0)" : $0.uppercased() }.joined()
      #expect(name(raw) == "LAYERNORM_ERROR_\(words)")
      raw += 1
    }
    #expect(name(raw) == "not a layernorm_status")
  }

  @Test func noRowsAndNoColumns() throws {
    let none: [Float] = []
    var (y, mean): ([Float], [Float]) = ([], [0, 0])
    try layerNorm(none.span, rows: 0, cols: 4, into: y.mutableSpan)
    try layerNorm(none.span, rows: 2, cols: 0, into: y.mutableSpan, mean: mean.mutableSpan)
    #expect(mean[0].isNaN && mean[1].isNaN)
    var dweight: [Float] = [7, 7]
    try rmsNormBackward(
      none.span, x: none.span, rows: 0, cols: 2, dweight: dweight.mutableSpan)
    #expect(dweight == [0, 0])
  }
}

@Suite struct BFloat16Tests {
  /// A value, and the bits that it is rounded to.
  static let roundings: [(Float, UInt16)] = [
    (0, 0), (-0.0, 0x8000), (1, 0x3F80), (-2.5, 0xC020), (3.140625, 0x4049),
    (1 + 0x1p-8, 0x3F80), (1 + 0x3p-8, 0x3F82), (1 + 0x1.002p-8, 0x3F81),  // ties, and above one
    (0x1p-133, 1), (0x1p-135, 0), (.infinity, 0x7F80), (.greatestFiniteMagnitude, 0x7F80),
  ]

  @Test(arguments: roundings) func aFloatIsRoundedToTheNearest(value: Float, bits: UInt16) {
    #expect(BFloat16(value).bitPattern == bits)
  }

  @Test func aNaNStaysOne() {
    #expect(Float(BFloat16(Float.nan)).isNaN)
    #expect(Float(BFloat16(Float(bitPattern: 0x7F80_0001))).isNaN)
    #expect(BFloat16(Float.nan) != BFloat16(Float.nan))
  }

  @Test func valuesGoToFloatExactly() {
    for bits in UInt16.min...UInt16.max where !Float(BFloat16(bitPattern: bits)).isNaN {
      #expect(BFloat16(Float(BFloat16(bitPattern: bits))).bitPattern == bits)
    }
    #expect(BFloat16(-0.0) == 0)
    #expect("\([1, 2.5] as [BFloat16])" == "[1.0, 2.5]")
  }
}
