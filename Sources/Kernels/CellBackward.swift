import CShims

/// Backward kernel of the recurrent cells.
///
/// - Parameters:
///   - scratch: four rows of gates.
///   - sums: as `CellSums`, or nil.
@inline(__always)
func cellBackward<C: CellScalar>(
  _: C.Type, _ work: UnsafePointer<ln_cell_work>?, _ begin: Int64, _ end: Int64,
  _ scratch: UnsafeMutableRawPointer?, _ sums: UnsafeMutableRawPointer?
) {
  for row in Int(begin)..<Int(end) {
    CellBackward<C>(work.unsafelyUnwrapped, row, scratch.unsafelyUnwrapped, sums).run()
  }
}

/// One row: from h, and of the LSTM through the norm of c, to the gates; then through the norms of the products.
/// The gradients at the gates are kept in between, unrounded; what an output may take the place of is loaded
/// before.
private struct CellBackward<C: CellScalar> {
  typealias Number = C.Number

  private let work: UnsafePointer<ln_cell_work>
  private let shape: CellShape
  private let row: Int
  /// The gradients of the gates; of the GRU, the last one is that of the product with h at the gate n.
  private let gradients: UnsafeMutablePointer<Number>
  private let sums: CellSums<Number>?

  @inline(__always)
  init(
    _ work: UnsafePointer<ln_cell_work>, _ row: Int, _ scratch: UnsafeMutableRawPointer,
    _ sums: UnsafeMutableRawPointer?
  ) {
    self.work = work
    self.row = row
    shape = CellShape(work)
    gradients = scratch.assumingMemoryBound(to: Number.self)
    let shape = shape
    self.sums = sums.map { CellSums($0, shape) }
  }

  @inline(never) func run() {
    if shape.isLSTM {
      passLSTM()
    } else if shape.isRNN {
      passRNN()
    } else {
      passGRU()
    }
    for product in 0..<shape.products {
      for norm in 0..<shape.norms { passNorm(product, norm) }
    }
  }

  // MARK: To the gates

  /// From h to the output gate and the norm of c, from there to the other gates and the c before.
  @inline(never) private func passLSTM() {
    let span = CellSpan(gates: 0..<1, hidden: shape.hidden)
    let source = CellSource<C>(
      state(UnsafeRawPointer(work.pointee.c)).unsafelyUnwrapped, hidden: shape.hidden)
    let norm = completed(2 &* shape.norms, source, span)
    let weight = input(work.pointee.c_weight, 0)
    let bias = input(work.pointee.c_bias, 0)
    let toC = gradients + 3 &* shape.vectors
    var projected = PairOfSums<Number>()
    span.forEachColumns { _, columns in
      let dh = columns.load(state(work.pointee.dh))
      let o = gate(2, columns)
      let normalized = norm(source.load(0, columns))
      let weight = columns.load(weight, else: 1)
      var slope = Number(0)
      let tanh = normalized.times(weight, plus: columns.load(bias)).tanh(slope: &slope)
      gradient(2, columns).pointee = tanh.times(dh) * logisticSlope(o)
      let dy = o.times(dh) * slope
      toC[columns.index / 8] = dy
      projected.add(dy.times(weight).keepingLast(columns.count), times: normalized)
      sums?.add(dy, times: normalized, .c, 0, columns)
    }
    let projection = CellNorm.Projection(norm, projected, count: span.count)
    span.forEachColumns { _, columns in
      let g = toC[columns.index / 8].times(columns.load(weight, else: 1))
      let dc = projection(g, norm(source.load(0, columns)))
        .plus(columns.load(state(work.pointee.dc)))
      let f = gate(0, columns)
      let i = gate(1, columns)
      let g0 = gate(3, columns)
      let cPrev = columns.load(state(work.pointee.c_prev))
      gradient(0, columns).pointee = dc.times(cPrev) * logisticSlope(f)
      gradient(1, columns).pointee = dc * g0 * logisticSlope(i)
      gradient(3, columns).pointee = dc * i * tanhSlope(g0)
      if let dcPrev = newState(work.pointee.dc_prev) { columns.store(dc * f, to: dcPrev) }
    }
  }

  /// From h to the gates, and to the h before.
  @inline(never) private func passGRU() {
    let last = shape.norms &- 1
    let source = source(1)
    let norm = completed(
      shape.norms &+ last, source, CellSpan(gates: shape.gates(of: last), hidden: shape.hidden))
    let weight = input(work.pointee.h_weight, 2 &* shape.hidden)
    let bias = input(work.pointee.h_bias, 2 &* shape.hidden)
    CellSpan(gates: 0..<1, hidden: shape.hidden).forEachColumns { _, columns in
      let dh = columns.load(state(work.pointee.dh))
      let z = gate(0, columns)
      let r = gate(1, columns)
      let n = gate(2, columns)
      let dn = z.times(dh) * tanhSlope(n)
      let normalized = norm(source.load(2, columns)).times(
        columns.load(weight, else: 1), plus: columns.load(bias))
      let minusHPrev = ln_negate8(columns.load(state(work.pointee.h_prev)))
      gradient(0, columns).pointee = n.plus(minusHPrev).times(dh) * logisticSlope(z)
      gradient(1, columns).pointee = dn * normalized * logisticSlope(r)
      gradient(2, columns).pointee = dn
      gradient(3, columns).pointee = dn * r
      if let dhPrev = newState(work.pointee.dh_prev) {
        columns.store((Number(1) - z).times(dh), to: dhPrev)
      }
    }
  }

  /// From h to its norm. At 0, the slope of max(0, .) is 0.
  @inline(never) private func passRNN() {
    let isTanh = work.pointee.cell == CellShape.tanh
    CellSpan(gates: 0..<1, hidden: shape.hidden).forEachColumns { _, columns in
      let dh = Number(exactly: columns.load(state(work.pointee.dh)))
      let h = gate(0, columns)
      let isPositive = ln_less8(SIMD8(repeating: 0), h.doubles)
      gradient(0, columns).pointee =
        isTanh ? dh * tanhSlope(h) : Number(0).replacing(with: dh, where: isPositive)
    }
  }

  // MARK: Through the norms of the products

  @inline(never) private func passNorm(_ product: Int, _ index: Int) {
    let span = CellSpan(gates: shape.gates(of: index), hidden: shape.hidden)
    let source = source(product)
    let norm = completed(product &* shape.norms &+ index, source, span)
    let ofH = product == 1
    let weight = input(ofH ? work.pointee.h_weight : work.pointee.x_weight, 0)
    let kind: CellSums<Number>.Kind = ofH ? .h : .x
    let swapped = ofH && !shape.isLSTM ? 2 : -1
    @inline(__always) func da(_ gate: Int, _ columns: Columns) -> Number {
      gradient(gate == swapped ? 3 : gate, columns).pointee
    }
    @inline(__always) func weights(_ gate: Int, _ columns: Columns) -> SIMD8<Double> {
      columns.load(weight.map { $0 + gate &* shape.hidden }, else: 1)
    }
    var projected = PairOfSums<Number>()
    span.forEachColumns { gate, columns in
      let normalized = norm(source.load(gate, columns))
      let da = da(gate, columns)
      projected.add(
        da.times(weights(gate, columns)).keepingLast(columns.count), times: normalized)
      sums?.add(da, times: normalized, kind, gate, columns)
    }
    let projection = CellNorm.Projection(norm, projected, count: span.count)
    let dx = output(ofH ? work.pointee.dh_gates : work.pointee.dx_gates).unsafelyUnwrapped
    span.forEachColumns { gate, columns in
      let gradient = projection(
        da(gate, columns).times(weights(gate, columns)), norm(source.load(gate, columns)))
      columns.store(gradient, to: dx + gate &* shape.hidden)
    }
  }

  /// The norm of a row from its mean and rstd, which are given rounded.
  @inline(__always)
  private func completed(
    _ index: Int, _ source: CellSource<C>, _ span: CellSpan
  ) -> CellNorm<C> {
    let index = row &* shape.normsOfRow &+ index
    return CellNorm(
      of: source, span,
      completing: C.loadDouble(input(work.pointee.mean, index).unsafelyUnwrapped),
      C.loadDouble(input(work.pointee.rstd, index).unsafelyUnwrapped), eps: work.pointee.eps)
  }

  // MARK: Memory

  @inline(__always) private func source(_ product: Int) -> CellSource<C> {
    let offset = shape.gates &* shape.hidden &* row
    let x = input(work.pointee.x_gates, offset)
    let h = input(work.pointee.h_gates, offset)
    return CellSource(
      (product == 0 ? x : h).unsafelyUnwrapped, plus: shape.isRNN ? h : nil, hidden: shape.hidden)
  }

  /// A gate after its activation; of the RNN, h.
  @inline(__always) private func gate(_ index: Int, _ columns: Columns) -> Number {
    let offset = (row &* shape.gates &+ index) &* shape.hidden
    return Number(exactly: columns.load(input(work.pointee.gates, offset).unsafelyUnwrapped))
  }

  @inline(__always)
  private func gradient(_ gate: Int, _ columns: Columns) -> UnsafeMutablePointer<Number> {
    gradients + (gate &* shape.vectors &+ columns.index / 8)
  }

  @inline(__always) private func state(_ raw: UnsafeRawPointer?) -> UnsafePointer<C>? {
    input(raw, row &* shape.hidden)
  }
  @inline(__always)
  private func newState(_ raw: UnsafeMutableRawPointer?) -> UnsafeMutablePointer<C>? {
    raw.map { $0.assumingMemoryBound(to: C.self) + row &* shape.hidden }
  }
  @inline(__always)
  private func input(_ raw: UnsafeRawPointer?, _ offset: Int) -> UnsafePointer<C>? {
    raw.map { $0.assumingMemoryBound(to: C.self) + offset }
  }
  @inline(__always)
  private func output(_ raw: UnsafeMutableRawPointer?) -> UnsafeMutablePointer<C>? {
    raw.map { $0.assumingMemoryBound(to: C.self) + row &* shape.gates &* shape.hidden }
  }

  @inline(__always) private func logisticSlope(_ value: Number) -> Number {
    value * (Number(1) - value)
  }

  @inline(__always) private func tanhSlope(_ value: Number) -> Number {
    Number(1).adding(Number(0) - value, times: value)
  }
}

/// The sums over rows that become the gradients of the parameters: a vector for each of the columns, gate by gate,
/// of x_weight, x_bias, h_weight, h_bias, c_weight and c_bias.
struct CellSums<Number: CellNumber> {
  enum Kind: Int {
    case x = 0
    case h = 2
    case c = 4
  }

  private let memory: UnsafeMutablePointer<Number>
  private let gates, vectors: Int

  @inline(__always) init(_ memory: UnsafeMutableRawPointer, _ shape: CellShape) {
    self.memory = memory.assumingMemoryBound(to: Number.self)
    gates = shape.gates
    vectors = shape.vectors
  }

  /// Adds to the sums of a weight and of the bias after it.
  @inline(__always)
  func add(_ dy: Number, times normalized: Number, _ kind: Kind, _ gate: Int, _ columns: Columns) {
    let gate = kind.rawValue &* gates &+ gate
    let ofWeight = memory + (gate &* vectors &+ columns.index / 8)
    let ofBias = ofWeight + ((kind == .c ? 1 : gates) &* vectors)
    ofWeight.pointee = ofWeight.pointee.adding(dy, times: normalized)
    ofBias.pointee = ofBias.pointee + dy
  }
}

/// Adds up the sums of all blocks, and writes them, rounded once, to the gradient of a parameter of `hidden` columns.
@inline(__always)
func cellJoin<C: CellScalar>(
  _: C.Type, _ hidden: Int64, _ blocks: Int64, _ blockBytes: Int64,
  _ sums: UnsafeMutableRawPointer?, _ gradient: UnsafeMutableRawPointer?, _ accumulates: Int32
) {
  let gradient = gradient.unsafelyUnwrapped.assumingMemoryBound(to: C.self)
  func total(_ vector: Int, _ block: Int) -> UnsafeMutablePointer<C.Number> {
    (sums.unsafelyUnwrapped + block &* Int(blockBytes)).assumingMemoryBound(to: C.Number.self)
      + vector
  }
  CellSpan(gates: 0..<1, hidden: Int(hidden)).forEachColumns { _, columns in
    let vector = columns.index / 8
    // Pairs of blocks, then pairs of pairs, and so on.
    var distance = 1
    while distance < Int(blocks) {
      var block = 0
      while block &+ distance < Int(blocks) {
        total(vector, block).pointee =
          total(vector, block).pointee + total(vector, block &+ distance).pointee
        block &+= 2 &* distance
      }
      distance &*= 2
    }
    var sum = total(vector, 0).pointee
    if accumulates != 0 { sum = sum.plus(columns.load(UnsafePointer(gradient))) }
    columns.store(sum, to: gradient)
  }
}
