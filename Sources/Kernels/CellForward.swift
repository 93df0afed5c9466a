import CShims

/// Forward kernel of the recurrent cells.
///
/// - Parameter scratch: four gates of one row.
@inline(__always)
func cellForward<C: CellScalar>(
  _: C.Type, _ work: UnsafePointer<ln_cell_work>?, _ begin: Int64, _ end: Int64,
  _ scratch: UnsafeMutableRawPointer?
) {
  // Of four gates of both products.
  withUnsafeTemporaryAllocation(of: CellNorm<C.Number>.self, capacity: 8) { norms in
    let cell = CellForward<C>(
      work.unsafelyUnwrapped, norms.baseAddress.unsafelyUnwrapped, scratch.unsafelyUnwrapped)
    for row in Int(begin)..<Int(end) { cell.run(row) }
  }
}

/// A row first takes the statistics of its products with x and h; then gate after gate, which are kept unrounded;
/// then the state, and of the LSTM the norm of c, and h.
private struct CellForward<C: CellScalar> {
  typealias Number = C.Number

  private let work: UnsafePointer<ln_cell_work>
  private let shape: CellShape
  private let norms: UnsafeMutablePointer<CellNorm<Number>>
  private let gates: UnsafeMutablePointer<Number>

  @inline(__always)
  init(
    _ work: UnsafePointer<ln_cell_work>, _ norms: UnsafeMutablePointer<CellNorm<Number>>,
    _ scratch: UnsafeMutableRawPointer
  ) {
    self.work = work
    self.norms = norms
    shape = CellShape(work)
    gates = scratch.assumingMemoryBound(to: Number.self)
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
    if shape.isRNN {
      activate(row)
    } else {
      for gate in 0..<shape.gates { pass(gate, row) }
      if shape.isLSTM { passLSTM(row) } else { passGRU(row) }
    }
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

  /// One gate of a product.
  @inline(__always)
  private func normalized(
    _ product: Int, _ gate: Int, _ row: Int
  ) -> NormalizedGate<C, CellRow<C>> {
    let offset = gate &* shape.hidden
    return NormalizedGate(
      norm: norms[product &* shape.norms &+ shape.norm(of: gate)], source: source(product, row),
      gate: gate,
      weight: input(product == 0 ? work.pointee.x_weight : work.pointee.h_weight, offset),
      bias: input(product == 0 ? work.pointee.x_bias : work.pointee.h_bias, offset))
  }

  @inline(never) private func activate(_ row: Int) {
    let normalized = normalized(0, 0, row)
    let isTanh = work.pointee.cell == CellShape.tanh
    let h = state(work.pointee.h, row)
    for vector in 0..<shape.vectors {
      let columns = Columns(vector, of: shape.hidden)
      let sum = normalized(columns)
      let isNegative = ln_less8(sum.doubles, SIMD8(repeating: 0))
      columns.store(isTanh ? sum.tanh() : sum.replacing(with: Number(0), where: isNegative), to: h)
    }
  }

  @inline(never) private func pass(_ gate: Int, _ row: Int) {
    let isLast = gate == shape.gates &- 1
    let resets = isLast && !shape.isLSTM
    let ofX = normalized(0, gate, row)
    let ofH = normalized(1, gate, row)
    let saved = output(work.pointee.gates, (row &* shape.gates &+ gate) &* shape.hidden)
    for vector in 0..<shape.vectors {
      let columns = Columns(vector, of: shape.hidden)
      let h = ofH(columns)
      let sum = ofX(columns) + (resets ? gates[shape.vectors &+ vector] * h : h)
      let value = isLast ? sum.tanh() : sum.logistic()
      gates[gate &* shape.vectors &+ vector] = value
      if let saved { columns.store(value, to: saved) }
    }
  }

  /// h = (1 - s(z)) * h_prev + s(z) * n
  @inline(never) private func passGRU(_ row: Int) {
    let hPrev = input(work.pointee.h_prev, row &* shape.hidden)
    let h = state(work.pointee.h, row)
    for vector in 0..<shape.vectors {
      let columns = Columns(vector, of: shape.hidden)
      let z = gates[vector]
      let kept = (Number(1) - z).times(columns.load(hPrev))
      columns.store(kept.adding(z, times: gates[2 &* shape.vectors &+ vector]), to: h)
    }
  }

  /// c = s(f) * c_prev + s(i) * tanh(g), in the place of s(f); h = s(o) * tanh(LN(c)).
  @inline(never) private func passLSTM(_ row: Int) {
    let vectors = shape.vectors
    let cPrev = input(work.pointee.c_prev, row &* shape.hidden)
    let c = state(work.pointee.c, row)
    for vector in 0..<vectors {
      let columns = Columns(vector, of: shape.hidden)
      let new = gates[vector].times(columns.load(cPrev))
        .adding(gates[vectors &+ vector], times: gates[3 &* vectors &+ vector])
      gates[vector] = new
      columns.store(new, to: c)
    }
    let span = CellSpan(gates: 0..<1, hidden: shape.hidden)
    let source = UnroundedRow(vectors: UnsafePointer(gates))
    let norm = CellNorm(of: source, span, eps: work.pointee.eps)
    write(norm, 2 &* shape.norms, of: row)
    let normalized = NormalizedGate<C, UnroundedRow<Number>>(
      norm: norm, source: source, gate: 0, weight: input(work.pointee.c_weight, 0),
      bias: input(work.pointee.c_bias, 0))
    let h = state(work.pointee.h, row)
    for vector in 0..<vectors {
      let columns = Columns(vector, of: shape.hidden)
      columns.store(gates[2 &* vectors &+ vector] * normalized(columns).tanh(), to: h)
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

/// x^ * weight + bias of one gate.
private struct NormalizedGate<C: CellScalar, Source: CellSource> where Source.Number == C.Number {
  let norm: CellNorm<C.Number>
  let source: Source
  let gate: Int
  let weight, bias: UnsafePointer<C>?

  @inline(__always) func callAsFunction(_ columns: Columns) -> C.Number {
    norm(source.load(gate, columns)).times(
      columns.load(weight, else: 1), plus: columns.load(bias))
  }
}
