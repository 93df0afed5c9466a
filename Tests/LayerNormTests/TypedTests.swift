import LayerNorm
import Testing

/// An element type as the tests use it.
protocol Sample: LayerNormElement, Equatable, SendableMetatype where Statistic: Sample {
  init(_ value: Double)
  var exact: Double { get }
  /// What an element may be off, relative to the larger of itself and 1.
  static var tolerance: Double { get }
}

extension Float: Sample {
  var exact: Double { Double(self) }
  static var tolerance: Double { 0x1p-21 }
}

extension Double: Sample {
  var exact: Double { self }
  static var tolerance: Double { 0x1p-44 }
}

extension Float16: Sample {
  var exact: Double { Double(self) }
  static var tolerance: Double { 0x1p-10 }
}

extension BFloat16: Sample {
  init(_ value: Double) { self.init(Float(value)) }
  var exact: Double { Double(Float(self)) }
  static var tolerance: Double { 0x1p-7 }
}

func near<T: Sample>(_ values: [T], _ expected: [Double]) -> Bool {
  values.count == expected.count
    && zip(values, expected).allSatisfy { abs($0.exact - $1) <= T.tolerance * max(abs($1), 1) }
}

/// The arguments of a call of 3 rows and 20 columns, and its results by the formulas, in float64.
struct Problem<T: Sample> {
  let rows = 3
  let cols = 20
  let eps = 0.25
  let x, residual, dy, weight, bias: [T]

  init() {
    var noise = Noise(seed: 7)
    func array(_ count: Int) -> [T] { noise.array(count).map { T(2 * $0) } }
    x = array(60)
    residual = array(60)
    dy = array(60)
    weight = array(20)
    bias = array(20)
  }

  var empty: [T] { [T](repeating: T(.nan), count: rows * cols) }
  var emptyRow: [T] { [T](repeating: T(.nan), count: cols) }
  var emptyColumn: [T.Statistic] { [T.Statistic](repeating: T.Statistic(.nan), count: rows) }

  /// x + residual, rounded to T.
  var sum: [T] { zip(x, residual).map { T($0.exact + $1.exact) } }

  func mean(_ x: [T], row: Int) -> Double {
    x[row * cols..<(row + 1) * cols].reduce(0) { $0 + $1.exact } / Double(cols)
  }

  func rstd(_ x: [T], row: Int, center: Double) -> Double {
    let squares = x[row * cols..<(row + 1) * cols].reduce(0) {
      $0 + ($1.exact - center) * ($1.exact - center)
    }
    return 1 / (squares / Double(cols) + eps).squareRoot()
  }

  func statistics(_ x: [T], centers: Bool) -> (mean: [Double], rstd: [Double]) {
    let mean = (0..<rows).map { centers ? self.mean(x, row: $0) : 0 }
    return (mean, (0..<rows).map { rstd(x, row: $0, center: mean[$0]) })
  }

  /// x^ of each element.
  func normalized(_ x: [T], centers: Bool) -> [Double] {
    let (mean, rstd) = statistics(x, centers: centers)
    return x.indices.map { (x[$0].exact - mean[$0 / cols]) * rstd[$0 / cols] }
  }

  func y(_ x: [T], centers: Bool) -> [Double] {
    normalized(x, centers: centers).enumerated().map { index, value in
      value * weight[index % cols].exact + (centers ? bias[index % cols].exact : 0)
    }
  }

  func gradients(centers: Bool) -> (dx: [Double], dweight: [Double], dbias: [Double]) {
    let normalized = normalized(x, centers: centers)
    let rstd = statistics(x, centers: centers).rstd
    var dx = [Double](repeating: 0, count: rows * cols)
    var dweight = [Double](repeating: 0, count: cols)
    var dbias = dweight
    for row in 0..<rows {
      let range = row * cols..<(row + 1) * cols
      let g = range.map { dy[$0].exact * weight[$0 % cols].exact }
      let shift = centers ? g.reduce(0, +) / Double(cols) : 0
      let slope = zip(g, normalized[range]).reduce(0) { $0 + $1.0 * $1.1 } / Double(cols)
      for (col, index) in range.enumerated() {
        dx[index] = rstd[row] * (g[col] - shift - normalized[index] * slope)
        dweight[col] += dy[index].exact * normalized[index]
        dbias[col] += dy[index].exact
      }
    }
    return (dx, dweight, dbias)
  }
}

@Suite struct TypedTests {
  static let types: [any Sample.Type] = [Float.self, Double.self, Float16.self, BFloat16.self]

  @Test(arguments: types) func layerNormMatchesTheFormula(type: any Sample.Type) throws {
    func test<T: Sample>(_: T.Type) throws {
      let p = Problem<T>()
      var (y, mean, rstd) = (p.empty, p.emptyColumn, p.emptyColumn)
      try layerNorm(
        p.x.span, rows: 3, cols: 20, weight: p.weight.span, bias: p.bias.span, eps: p.eps,
        into: y.mutableSpan, mean: mean.mutableSpan, rstd: rstd.mutableSpan)
      let exact = p.statistics(p.x, centers: true)
      #expect(near(y, p.y(p.x, centers: true)))
      #expect(near(mean, exact.mean) && near(rstd, exact.rstd))

      var sum = p.empty
      try addLayerNorm(
        p.x.span, residual: p.residual.span, rows: 3, cols: 20, weight: p.weight.span,
        bias: p.bias.span, eps: p.eps, into: y.mutableSpan, sum: sum.mutableSpan,
        mean: mean.mutableSpan, rstd: rstd.mutableSpan)
      let exactOfSum = p.statistics(p.sum, centers: true)
      #expect(sum == p.sum)
      #expect(near(y, p.y(p.sum, centers: true)))
      #expect(near(mean, exactOfSum.mean) && near(rstd, exactOfSum.rstd))
    }
    try test(type)
  }

  @Test(arguments: types) func rmsNormMatchesTheFormula(type: any Sample.Type) throws {
    func test<T: Sample>(_: T.Type) throws {
      let p = Problem<T>()
      var (y, rstd, sum) = (p.empty, p.emptyColumn, p.empty)
      try rmsNorm(
        p.x.span, rows: 3, cols: 20, weight: p.weight.span, eps: p.eps, into: y.mutableSpan,
        rstd: rstd.mutableSpan)
      #expect(near(y, p.y(p.x, centers: false)))
      #expect(near(rstd, p.statistics(p.x, centers: false).rstd))

      try addRMSNorm(
        p.x.span, residual: p.residual.span, rows: 3, cols: 20, weight: p.weight.span, eps: p.eps,
        into: y.mutableSpan, sum: sum.mutableSpan, rstd: rstd.mutableSpan)
      #expect(sum == p.sum)
      #expect(near(y, p.y(p.sum, centers: false)))
      #expect(near(rstd, p.statistics(p.sum, centers: false).rstd))
    }
    try test(type)
  }

  @Test(arguments: types) func gradientsMatchTheFormula(type: any Sample.Type) throws {
    func test<T: Sample>(_: T.Type) throws {
      let p = Problem<T>()
      let exact = p.statistics(p.x, centers: true)
      let mean = exact.mean.map { T.Statistic($0) }
      let rstd = exact.rstd.map { T.Statistic($0) }
      var (dx, dweight, dbias) = (p.empty, p.emptyRow, p.emptyRow)
      // Some outputs, with given statistics, then the others, with statistics computed again.
      try layerNormBackward(
        p.dy.span, x: p.x.span, rows: 3, cols: 20, weight: p.weight.span, mean: mean.span,
        rstd: rstd.span, dx: dx.mutableSpan)
      try layerNormBackward(
        p.dy.span, x: p.x.span, rows: 3, cols: 20, weight: p.weight.span, eps: p.eps,
        dweight: dweight.mutableSpan, dbias: dbias.mutableSpan)
      let expected = p.gradients(centers: true)
      #expect(near(dx, expected.dx) && near(dweight, expected.dweight))
      #expect(near(dbias, expected.dbias))

      let rms = p.gradients(centers: false)
      let rmsRstd = p.statistics(p.x, centers: false).rstd.map { T.Statistic($0) }
      try rmsNormBackward(
        p.dy.span, x: p.x.span, rows: 3, cols: 20, weight: p.weight.span, rstd: rmsRstd.span,
        dx: dx.mutableSpan, dweight: dweight.mutableSpan)
      #expect(near(dx, rms.dx) && near(dweight, rms.dweight))
    }
    try test(type)
  }

  @Test(arguments: types) func outputsTakeThePlaceOfInputs(type: any Sample.Type) throws {
    func test<T: Sample>(_: T.Type) throws {
      let p = Problem<T>()
      var (y, inPlace, stream) = (p.empty, p.x, p.residual)
      try layerNorm(p.x.span, rows: 3, cols: 20, bias: p.bias.span, into: y.mutableSpan)
      try layerNorm(inPlace: inPlace.mutableSpan, rows: 3, cols: 20, bias: p.bias.span)
      #expect(inPlace == y)

      inPlace = p.x
      try rmsNorm(p.x.span, rows: 3, cols: 20, into: y.mutableSpan)
      try rmsNorm(inPlace: inPlace.mutableSpan, rows: 3, cols: 20)
      #expect(inPlace == y)

      var updated = p.empty
      try addLayerNorm(
        p.x.span, residual: p.residual.span, rows: 3, cols: 20, into: y.mutableSpan)
      try addLayerNorm(
        p.x.span, updating: stream.mutableSpan, rows: 3, cols: 20, into: updated.mutableSpan)
      #expect(stream == p.sum && updated == y)

      stream = p.residual
      try addRMSNorm(p.x.span, residual: p.residual.span, rows: 3, cols: 20, into: y.mutableSpan)
      try addRMSNorm(
        p.x.span, updating: stream.mutableSpan, rows: 3, cols: 20, into: updated.mutableSpan)
      #expect(stream == p.sum && updated == y)
    }
    try test(type)
  }
}
