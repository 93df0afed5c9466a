import CShims

/// Forward kernel of the recurrent cells.
///
/// - Parameter scratch: five gates of one row.
@inline(__always)
func cellForward<C: CellScalar>(
  _: C.Type, _ work: UnsafePointer<ln_cell_work>?, _ begin: Int64, _ end: Int64,
  _ scratch: UnsafeMutableRawPointer?
) {
  // Of four gates of both products.
  withUnsafeTemporaryAllocation(of: CellNorm<C>.self, capacity: 8) { norms in
    let cell = CellForward<C>(
      work.unsafelyUnwrapped, norms.baseAddress.unsafelyUnwrapped, scratch.unsafelyUnwrapped)
    for row in Int(begin)..<Int(end) { cell.run(row) }
  }
}

/// A row first takes the statistics of its products with x and h; then gate after gate, which are kept unrounded,
/// and of the LSTM c after them; then the state.
private struct CellForward<C: CellScalar> {
  typealias Number = C.Number

  private let work: UnsafePointer<ln_cell_work>
  private let shape: CellShape
  private let norms: UnsafeMutablePointer<CellNorm<C>>
  private let gates: UnsafeMutablePointer<Number>

  @inline(__always)
  init(
    _ work: UnsafePointer<ln_cell_work>, _ norms: UnsafeMutablePointer<CellNorm<C>>,
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
    let last = shape.gates &- 1
    for gate in 0..<last { add(gate, row) }
    applyLogistic(last &* shape.vectors)
    add(last, row)
    if !shape.isRNN || work.pointee.cell == CellShape.tanh { applyTanh(last) }
    if shape.isLSTM {
      finishLSTM(row)
    } else if shape.isRNN {
      finishRNN(row)
    } else {
      finishGRU(row)
    }
    if let saved = output(work.pointee.gates, row &* shape.gates &* shape.hidden) {
      span(shape.gates).forEachColumns { gate, columns in
        columns.store(
          gates[gate &* shape.vectors &+ columns.index / 8], to: saved + gate &* shape.hidden)
      }
    }
  }

  @inline(__always) private func source(_ product: Int, _ row: Int) -> CellSource<C> {
    let offset = shape.gates &* shape.hidden &* row
    let x = input(work.pointee.x_gates, offset)
    let h = input(work.pointee.h_gates, offset)
    return CellSource(
      (product == 0 ? x : h).unsafelyUnwrapped, plus: shape.isRNN ? h : nil, hidden: shape.hidden)
  }

  private func write(_ norm: CellNorm<C>, _ index: Int, of row: Int) {
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
  ) -> NormalizedGate<C> {
    let offset = gate &* shape.hidden
    return NormalizedGate(
      norm: norms[product &* shape.norms &+ shape.norm(of: gate)], source: source(product, row),
      gate: gate,
      weight: input(product == 0 ? work.pointee.x_weight : work.pointee.h_weight, offset),
      bias: input(product == 0 ? work.pointee.x_bias : work.pointee.h_bias, offset))
  }

  /// A gate before its activation. In loops of their own, more of it and of the activations is under way at once.
  @inline(never) private func add(_ gate: Int, _ row: Int) {
    let sums = gates + gate &* shape.vectors
    let ofX = normalized(0, gate, row)
    let ofH = normalized(shape.products &- 1, gate, row)
    let resets = gate == 2 && !shape.isLSTM
    for vector in 0..<shape.vectors {
      let columns = Columns(vector, of: shape.hidden)
      let x = ofX(columns)
      if shape.isRNN {
        sums[vector] = x
      } else {
        let h = ofH(columns)
        sums[vector] = x + (resets ? gates[shape.vectors &+ vector] * h : h)
      }
    }
  }

  @inline(never) private func applyLogistic(_ count: Int) {
    for vector in 0..<count { gates[vector] = gates[vector].logistic() }
  }

  @inline(never) private func applyTanh(_ gate: Int) {
    let sums = gates + gate &* shape.vectors
    for vector in 0..<shape.vectors { sums[vector] = sums[vector].tanh() }
  }

  /// h, of which the RNN has tanh in the place of its gate, or the sum.
  @inline(never) private func finishRNN(_ row: Int) {
    let isTanh = work.pointee.cell == CellShape.tanh
    let h = state(work.pointee.h, row)
    columns {
      let gate = gates[$0.index / 8]
      let isNegative = ln_less8(gate.doubles, SIMD8(repeating: 0))
      $0.store(isTanh ? gate : gate.replacing(with: Number(0), where: isNegative), to: h)
    }
  }

  /// h = (1 - s(z)) * h_prev + s(z) * n
  @inline(never) private func finishGRU(_ row: Int) {
    let hPrev = input(work.pointee.h_prev, row &* shape.hidden)
    let h = state(work.pointee.h, row)
    let n = gates + 2 &* shape.vectors
    columns {
      let z = gates[$0.index / 8]
      $0.store((Number(1) - z).times($0.load(hPrev)).adding(z, times: n[$0.index / 8]), to: h)
    }
  }

  /// c = s(f) * c_prev + s(i) * tanh(g); h = s(o) * tanh(LN(c)).
  @inline(never) private func finishLSTM(_ row: Int) {
    let vectors = shape.vectors
    let cPrev = input(work.pointee.c_prev, row &* shape.hidden)
    let newC = state(work.pointee.c, row)
    let c = gates + 4 &* vectors
    columns {
      let vector = $0.index / 8
      let new = gates[vector].times($0.load(cPrev))
        .adding(gates[vectors &+ vector], times: gates[3 &* vectors &+ vector])
      c[vector] = new
      $0.store(new, to: newC)
    }
    let source = CellSource<C>(unrounded: UnsafePointer(c))
    let norm = CellNorm(of: source, span(1), eps: work.pointee.eps)
    write(norm, 2 &* shape.norms, of: row)
    let normalized = NormalizedGate(
      norm: norm, source: source, gate: 0, weight: input(work.pointee.c_weight, 0),
      bias: input(work.pointee.c_bias, 0))
    columns { c[$0.index / 8] = normalized($0) }
    applyTanh(4)
    let h = state(work.pointee.h, row)
    columns {
      let vector = $0.index / 8
      $0.store(gates[2 &* vectors &+ vector] * c[vector], to: h)
    }
  }

  @inline(__always) private func span(_ gates: Int) -> CellSpan {
    CellSpan(gates: 0..<gates, hidden: shape.hidden)
  }

  @inline(__always) private func columns(_ body: (Columns) -> Void) {
    span(1).forEachColumns { body($1) }
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
private struct NormalizedGate<C: CellScalar> {
  let norm: CellNorm<C>
  let source: CellSource<C>
  let gate: Int
  let weight, bias: UnsafePointer<C>?

  @inline(__always) func callAsFunction(_ columns: Columns) -> C.Number {
    norm(source.load(gate, columns)).times(
      columns.load(weight, else: 1), plus: columns.load(bias))
  }
}
