import LayerNorm
import Testing

/// The calls over unsafe buffers give what those over spans give, and take their outputs in place.
@Suite struct UnsafeBufferTests {
  /// A copy of `values`, for a test to write to.
  private func buffer<T>(_ values: [T]) -> UnsafeMutableBufferPointer<T> {
    let copy = UnsafeMutableBufferPointer<T>.allocate(capacity: values.count)
    _ = copy.initialize(from: values)
    return copy
  }

  @Test func layerNorm() throws {
    let p = Problem<Float>()
    var (y, mean, rstd) = (p.empty, p.emptyColumn, p.emptyColumn)
    let (x, weight, bias) = (buffer(p.x), buffer(p.weight), buffer(p.bias))
    let (mean2, rstd2) = (buffer(mean), buffer(rstd))
    defer { for memory in [x, weight, bias, mean2, rstd2] { memory.deallocate() } }
    try LayerNorm.layerNorm(
      p.x.span, rows: 3, cols: 20, weight: p.weight.span, bias: p.bias.span, into: y.mutableSpan,
      mean: mean.mutableSpan, rstd: rstd.mutableSpan)
    try LayerNorm.layerNorm(
      UnsafeBufferPointer(x), rows: 3, cols: 20, weight: UnsafeBufferPointer(weight),
      bias: UnsafeBufferPointer(bias), into: x, mean: mean2, rstd: rstd2)
    #expect(Array(x) == y && Array(mean2) == mean && Array(rstd2) == rstd)
  }

  @Test func rmsNorm() throws {
    let p = Problem<Double>()
    var (y, rstd) = (p.empty, p.emptyColumn)
    let (x, weight, rstd2) = (buffer(p.x), buffer(p.weight), buffer(rstd))
    defer { for memory in [x, weight, rstd2] { memory.deallocate() } }
    try LayerNorm.rmsNorm(
      p.x.span, rows: 3, cols: 20, weight: p.weight.span, into: y.mutableSpan,
      rstd: rstd.mutableSpan)
    try LayerNorm.rmsNorm(
      UnsafeBufferPointer(x), rows: 3, cols: 20, weight: UnsafeBufferPointer(weight), into: x,
      rstd: rstd2)
    #expect(Array(x) == y && Array(rstd2) == rstd)
  }

  @Test func addition() throws {
    let p = Problem<Float16>()
    var (y, mean, rstd) = (p.empty, p.emptyColumn, p.emptyColumn)
    let (x, stream, y2) = (buffer(p.x), buffer(p.residual), buffer(y))
    let (weight, bias) = (buffer(p.weight), buffer(p.bias))
    let (mean2, rstd2) = (buffer(mean), buffer(rstd))
    defer {
      for memory in [x, stream, y2, weight, bias] { memory.deallocate() }
      for memory in [mean2, rstd2] { memory.deallocate() }
    }
    try addLayerNorm(
      p.x.span, residual: p.residual.span, rows: 3, cols: 20, weight: p.weight.span,
      bias: p.bias.span, into: y.mutableSpan, mean: mean.mutableSpan, rstd: rstd.mutableSpan)
    try addLayerNorm(
      UnsafeBufferPointer(x), residual: UnsafeBufferPointer(stream), rows: 3, cols: 20,
      weight: UnsafeBufferPointer(weight), bias: UnsafeBufferPointer(bias), into: y2, sum: stream,
      mean: mean2, rstd: rstd2)
    #expect(Array(y2) == y && Array(stream) == p.sum)
    #expect(Array(mean2) == mean && Array(rstd2) == rstd)

    _ = stream.update(from: p.residual)
    try addRMSNorm(
      p.x.span, residual: p.residual.span, rows: 3, cols: 20, weight: p.weight.span,
      into: y.mutableSpan, rstd: rstd.mutableSpan)
    try addRMSNorm(
      UnsafeBufferPointer(x), residual: UnsafeBufferPointer(stream), rows: 3, cols: 20,
      weight: UnsafeBufferPointer(weight), into: y2, sum: x, rstd: rstd2)
    #expect(Array(y2) == y && Array(x) == p.sum && Array(rstd2) == rstd)
  }

  @Test func backward() throws {
    let p = Problem<BFloat16>()
    var (dx, dweight, dbias) = (p.empty, p.emptyRow, p.emptyRow)
    let (dy, x, weight) = (buffer(p.dy), buffer(p.x), buffer(p.weight))
    let (dweight2, dbias2) = (buffer(dweight), buffer(dbias))
    let statistics = p.statistics(p.x, centers: true)
    let (mean, rstd) = (
      buffer(statistics.mean.map { Float($0) }), buffer([Float](repeating: 1, count: 3))
    )
    defer {
      for memory in [dy, x, weight, dweight2, dbias2] { memory.deallocate() }
      for memory in [mean, rstd] { memory.deallocate() }
    }
    try layerNormBackward(
      p.dy.span, x: p.x.span, rows: 3, cols: 20, weight: p.weight.span,
      mean: UnsafeBufferPointer(mean).span, rstd: UnsafeBufferPointer(rstd).span,
      dx: dx.mutableSpan, dweight: dweight.mutableSpan, dbias: dbias.mutableSpan)
    try layerNormBackward(
      UnsafeBufferPointer(dy), x: UnsafeBufferPointer(x), rows: 3, cols: 20,
      weight: UnsafeBufferPointer(weight), mean: UnsafeBufferPointer(mean),
      rstd: UnsafeBufferPointer(rstd), dx: dy, dweight: dweight2, dbias: dbias2)
    #expect(Array(dy) == dx && Array(dweight2) == dweight && Array(dbias2) == dbias)

    _ = dy.update(from: p.dy)
    try rmsNormBackward(
      p.dy.span, x: p.x.span, rows: 3, cols: 20, weight: p.weight.span,
      rstd: UnsafeBufferPointer(rstd).span, dx: dx.mutableSpan, dweight: dweight.mutableSpan)
    try rmsNormBackward(
      UnsafeBufferPointer(dy), x: UnsafeBufferPointer(x), rows: 3, cols: 20,
      weight: UnsafeBufferPointer(weight), rstd: UnsafeBufferPointer(rstd), dx: x,
      dweight: dweight2)
    #expect(Array(x) == dx && Array(dweight2) == dweight)
  }

  @Test func anotherOverlapIsRefused() {
    let memory = buffer([Float](repeating: 1, count: 5))
    defer { memory.deallocate() }
    let x = UnsafeBufferPointer(rebasing: memory[0..<4])
    let y = UnsafeMutableBufferPointer(rebasing: memory[1..<5])
    expect(.overlap, "y overlaps x") { () throws(LayerNormError) in
      try LayerNorm.layerNorm(x, rows: 1, cols: 4, into: y)
    }
    #expect(Array(memory) == [1, 1, 1, 1, 1])
  }
}
