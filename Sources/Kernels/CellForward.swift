import CShims

/// Forward kernel of the recurrent cells.
///
/// - Parameter scratch: of the LSTM, a row of c and one of the output gate.
@inline(__always)
func cellForward<C: CellScalar>(
  _: C.Type, _ work: UnsafePointer<ln_cell_work>?, _ begin: Int64, _ end: Int64,
  _ scratch: UnsafeMutableRawPointer?
) {
  // Of four gates of both products; then the gates of some columns.
  withUnsafeTemporaryAllocation(of: CellNorm<C.Wide>.self, capacity: 8) { norms in
    withUnsafeTemporaryAllocation(of: C.Wide.self, capacity: 4) { gates in
      let cell = CellForward<C>(
        work.unsafelyUnwrapped, norms.baseAddress.unsafelyUnwrapped,
        gates.baseAddress.unsafelyUnwrapped, scratch)
      for row in Int(begin)..<Int(end) { cell.run(row) }
    }
  }
}

/// A row first takes the statistics of its products with x and h; then, some columns after the others, gates and
/// state; then, of the LSTM, the norm of c, and h.
private struct CellForward<C: CellScalar> {
  typealias Number = C.Wide

  private let work: UnsafePointer<ln_cell_work>
  private let shape: CellShape
  private let norms: UnsafeMutablePointer<CellNorm<Number>>
  private let gates: UnsafeMutablePointer<Number>
  private let c, outputGate: UnsafeMutablePointer<Number>?

  @inline(__always)
  init(
    _ work: UnsafePointer<ln_cell_work>, _ norms: UnsafeMutablePointer<CellNorm<Number>>,
    _ gates: UnsafeMutablePointer<Number>, _ scratch: UnsafeMutableRawPointer?
  ) {
    self.work = work
    self.norms = norms
    self.gates = gates
    shape = CellShape(work)
    c = scratch?.assumingMemoryBound(to: Number.self)
    let vectors = shape.vectors
    outputGate = c.map { $0 + vectors }
  }

  @inline(never) func run(_ row: Int) {
    for product in 0..<shape.products {
      let source = source(product, row)
      for norm in 0..<shape.norms {
        let span = CellSpan(gates: shape.gates(of: norm), hidden: shape.hidden)
        let index = product &* shape.norms &+ norm
        norms[index] = CellNorm(of: source, span, eps: work.pointee.eps)
        write(norms[index], index, of: row)
      }
    }
    for vector in 0..<shape.vectors {
      let columns = Columns(vector, of: shape.hidden)
      if shape.isRNN { activate(row, columns) } else { advance(row, columns) }
    }
    if shape.isLSTM { finish(row) }
  }

  @inline(__always) private func source(_ product: Int, _ row: Int) -> CellRow<C> {
    let offset = shape.gates &* shape.hidden &* row
    let x = input(work.pointee.x_gates, offset)
    let h = input(work.pointee.h_gates, offset)
    return CellRow(
      (product == 0 ? x : h).unsafelyUnwrapped, plus: shape.isRNN ? h : nil, hidden: shape.hidden)
  }

  private func write(_ norm: CellNorm<Number>, _ index: Int, of row: Int) {
    let index = row &* shape.normsOfRow &+ index
    if let mean = output(work.pointee.mean, index) {
      C.storeDouble(norm.unscaledMean, to: mean)
    }
    if let rstd = output(work.pointee.rstd, index) {
      C.storeDouble(norm.unscaledRstd, to: rstd)
    }
  }

  /// Some columns of one gate of a product, normalized.
  @inline(__always)
  private func normalized(
    _ product: Int, _ gate: Int, _ row: Int, _ columns: Columns
  ) -> Number {
    let offset = gate &* shape.hidden
    let weight = input(product == 0 ? work.pointee.x_weight : work.pointee.h_weight, offset)
    let bias = input(product == 0 ? work.pointee.x_bias : work.pointee.h_bias, offset)
    let norm = norms[product &* shape.norms &+ shape.norm(of: gate)]
    return Number(exactly: columns.load(bias)).adding(
      norm(source(product, row).load(gate, columns)),
      times: Number(exactly: columns.load(weight, else: 1)))
  }

  @inline(never) private func activate(_ row: Int, _ columns: Columns) {
    let sum = normalized(0, 0, row, columns)
    let isNegative = ln_less8(sum.doubles, SIMD8(repeating: 0))
    columns.store(
      work.pointee.cell == CellShape.tanh
        ? sum.tanh() : sum.replacing(with: Number(0), where: isNegative),
      to: state(work.pointee.h, row))
  }

  /// Some columns of all gates and of the state.
  @inline(never) private func advance(_ row: Int, _ columns: Columns) {
    let last = shape.gates &- 1
    let saved = output(work.pointee.gates, row &* shape.gates &* shape.hidden)
    for gate in 0..<shape.gates {
      let ofX = normalized(0, gate, row, columns)
      let ofH = normalized(1, gate, row, columns)
      let value: Number
      if gate == last {
        value = (shape.isLSTM ? ofX + ofH : ofX.adding(ofH, times: gates[1])).tanh()
      } else {
        value = (ofX + ofH).logistic()
      }
      gates[gate] = value
      if let saved { columns.store(value, to: saved + gate &* shape.hidden) }
    }
    let offset = row &* shape.hidden
    if let c, let outputGate {
      let cPrev = Number(exactly: columns.load(input(work.pointee.c_prev, offset)))
      let new = (gates[1] * gates[3]).adding(gates[0], times: cPrev)
      c[columns.index / 8] = new
      outputGate[columns.index / 8] = gates[2]
      columns.store(new, to: state(work.pointee.c, row))
    } else {
      let hPrev = Number(exactly: columns.load(input(work.pointee.h_prev, offset)))
      let new = ((Number(1) - gates[0]) * hPrev).adding(gates[0], times: gates[2])
      columns.store(new, to: state(work.pointee.h, row))
    }
  }

  /// h = s(o) * tanh(LN(c)).
  @inline(never) private func finish(_ row: Int) {
    guard let c, let outputGate else { return }
    let span = CellSpan(gates: 0..<1, hidden: shape.hidden)
    let norm = CellNorm(of: UnroundedRow(vectors: c), span, eps: work.pointee.eps)
    write(norm, 2 &* shape.norms, of: row)
    let weight = input(work.pointee.c_weight, 0)
    let bias = input(work.pointee.c_bias, 0)
    let h = state(work.pointee.h, row)
    for vector in 0..<shape.vectors {
      let columns = Columns(vector, of: shape.hidden)
      let normalized = Number(exactly: columns.load(bias)).adding(
        norm(c[vector]), times: Number(exactly: columns.load(weight, else: 1)))
      columns.store(outputGate[vector] * normalized.tanh(), to: h)
    }
  }

  @inline(__always)
  private func state(_ raw: UnsafeMutableRawPointer?, _ row: Int) -> UnsafeMutablePointer<C> {
    raw.unsafelyUnwrapped.assumingMemoryBound(to: C.self) + row &* shape.hidden
  }
  /// Nothing of a tensor that is absent.
  @inline(__always)
  private func output(_ raw: UnsafeMutableRawPointer?, _ offset: Int) -> UnsafeMutablePointer<C>? {
    raw.map { $0.assumingMemoryBound(to: C.self) + offset }
  }
  @inline(__always)
  private func input(_ raw: UnsafeRawPointer?, _ offset: Int) -> UnsafePointer<C>? {
    raw.map { $0.assumingMemoryBound(to: C.self) + offset }
  }
}
