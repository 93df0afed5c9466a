import CShims

/// Backward kernel of the recurrent cells, up to the norms of the products; of the LSTM, up to the norm of c.
@inline(__always)
func cellBackward<C: CellScalar>(
  _: C.Type, _ work: UnsafePointer<ln_cell_work>?, _ begin: Int64, _ end: Int64
) {
  CellGroup<C>.withMemory {
    CellBackward(work.unsafelyUnwrapped, $0).run(Int(begin), Int(end))
  }
}

/// Backward kernel of the LSTM, from the gradient at c on.
@inline(__always)
func cellBackwardFromC<C: CellScalar>(
  _: C.Type, _ work: UnsafePointer<ln_cell_work>?, _ begin: Int64, _ end: Int64
) {
  let work = work.unsafelyUnwrapped
  for row in Int(begin)..<Int(end) {
    CellGradient<C>(work, CellShape(work), row: row).forEachColumns { $0.passC($1) }
  }
}

private struct CellBackward<C: CellScalar> {
  private let work: UnsafePointer<ln_cell_work>
  private let shape: CellShape
  private let group: CellGroup<C>

  @inline(__always) init(_ work: UnsafePointer<ln_cell_work>, _ group: CellGroup<C>) {
    self.work = work
    self.group = group
    shape = CellShape(work)
  }

  /// What a norm gave that an activation or a product was made of is not among the outputs of forward: it is
  /// normalized again, the LSTM's c, and of the GRU the last gate of the product with h.
  @inline(never) func run(_ begin: Int, _ end: Int) {
    let ofRow = shape.isLSTM ? shape.hidden : shape.gates &* shape.hidden
    let source = shape.isLSTM ? UnsafeRawPointer(work.pointee.c) : work.pointee.h_gates
    var first = begin
    while first < end {
      let rows = min(rowsPerGroup, end &- first)
      if !shape.isRNN {
        let offset = first &* ofRow &+ (shape.isLSTM ? 0 : 2 &* shape.hidden)
        let row = source.unsafelyUnwrapped.assumingMemoryBound(to: C.self) + offset
        let segments = CellSegments<C>(
          count: rows, perRow: 1, first: (row, row), stride: ofRow, mean: nil, rstd: nil,
          statisticStrides: (row: 0, product: 0))
        group.normalize(group.scalars, segments, count: shape.hidden, eps: work.pointee.eps)
      }
      for index in 0..<rows {
        let row = CellGradient<C>(work, shape, row: first &+ index)
        if shape.isLSTM {
          row.forEachColumns { $0.passH($1, group.scalars, index) }
        } else if shape.isRNN {
          let isTanh = work.pointee.cell == CellShape.tanh
          row.forEachColumns { $0.passActivation($1, isTanh: isTanh) }
        } else {
          row.forEachColumns { $0.passGRU($1, group.scalars, index) }
        }
      }
      first &+= rows
    }
  }
}

/// The gradients of one row, some columns at a time. What an output may take the place of is loaded before.
private struct CellGradient<C: CellScalar> {
  typealias Vector = C.Vector

  private let hidden: Int
  /// The gates after their activation; of the RNN, h.
  private let gates: UnsafePointer<C>
  private let h, c, hPrev, cPrev, dh: UnsafePointer<C>?
  private let weight, bias: UnsafePointer<C>?
  private let dx: UnsafeMutablePointer<C>
  private let dhGates, dhPrev, dcPrev: UnsafeMutablePointer<C>?

  @inline(__always)
  init(_ work: UnsafePointer<ln_cell_work>, _ shape: CellShape, row: Int) {
    let work = work.pointee
    let state = row &* shape.hidden
    let ofGates = shape.gates &* state
    func input(_ raw: UnsafeRawPointer?, _ offset: Int) -> UnsafePointer<C>? {
      raw.map { $0.assumingMemoryBound(to: C.self) + offset }
    }
    func output(_ raw: UnsafeMutableRawPointer?, _ offset: Int) -> UnsafeMutablePointer<C>? {
      raw.map { $0.assumingMemoryBound(to: C.self) + offset }
    }
    hidden = shape.hidden
    gates = input(work.gates, ofGates).unsafelyUnwrapped
    c = input(work.c, state)
    hPrev = input(work.h_prev, state)
    cPrev = input(work.c_prev, state)
    dh = input(work.dh, state)
    // What the row is normalized with again.
    let last = shape.isLSTM ? 0 : 2 &* hidden
    h = input(work.h_gates, ofGates &+ last)
    weight = input(shape.isLSTM ? work.c_weight : work.h_weight, last)
    bias = input(shape.isLSTM ? work.c_bias : work.h_bias, last)
    dx = output(work.dx_gates, ofGates).unsafelyUnwrapped
    dhGates = output(work.dh_gates, ofGates)
    dhPrev = output(work.dh_prev, state)
    dcPrev = output(work.dc_prev, state)
  }

  @inline(__always) func forEachColumns(_ body: (Self, Columns<C>) -> Void) {
    var columns = Columns<C>(0, of: hidden)
    while columns.index < hidden {
      body(self, columns)
      columns.advance(of: hidden)
    }
  }

  /// LSTM: from h to the output gate, and to the norm of c.
  @inline(__always)
  func passH(_ columns: Columns<C>, _ scalars: UnsafePointer<NormScalars<C>>, _ slot: Int) {
    let dh = load(self.dh, columns)
    let o = gate(2, columns)
    var slope: Vector? = Vector(repeating: .zero)
    let tanh = normalized(c, columns, scalars, slot).tanh(slope: &slope)
    store(dh * tanh * logisticSlope(o), to: 2, columns)
    write(dh * o * slope.unsafelyUnwrapped, to: dx + 3 &* hidden, columns)
  }

  /// LSTM: from c to the other gates, and to the c before.
  @inline(__always) func passC(_ columns: Columns<C>) {
    let dc = load(UnsafePointer(dx + 3 &* hidden), columns)
    let f = gate(0, columns)
    let i = gate(1, columns)
    let g = gate(3, columns)
    store(dc * load(cPrev, columns) * logisticSlope(f), to: 0, columns)
    store(dc * g * logisticSlope(i), to: 1, columns)
    store(dc * i * tanhSlope(g), to: 3, columns)
    if let dcPrev { write(dc * f, to: dcPrev, columns) }
  }

  /// GRU: from h to the gates, and to the h before.
  @inline(__always)
  func passGRU(_ columns: Columns<C>, _ scalars: UnsafePointer<NormScalars<C>>, _ slot: Int) {
    let dh = load(self.dh, columns)
    let z = gate(0, columns)
    let r = gate(1, columns)
    let n = gate(2, columns)
    let dn = dh * z * tanhSlope(n)
    store(dh * (n - load(hPrev, columns)) * logisticSlope(z), to: 0, columns)
    store(dn * normalized(h, columns, scalars, slot) * logisticSlope(r), to: 1, columns)
    write(dn, to: dx + 2 &* hidden, columns)
    if let dhGates { write(dn * r, to: dhGates + 2 &* hidden, columns) }
    if let dhPrev { write(dh * (Vector(repeating: C(1)) - z), to: dhPrev, columns) }
  }

  /// RNN: from h to its norm. At 0, the slope of max(0, .) is 0.
  @inline(__always) func passActivation(_ columns: Columns<C>, isTanh: Bool) {
    let dh = load(self.dh, columns)
    let h = gate(0, columns)
    let zero = Vector(repeating: .zero)
    write(isTanh ? dh * tanhSlope(h) : (zero - h).ifNegative(dh, else: zero), to: dx, columns)
  }

  /// Not inlined, since there are many of them, and more time goes into the norms.
  @inline(never)
  private func load(
    _ row: UnsafePointer<C>?, _ columns: Columns<C>, else absent: Double = 0
  ) -> Vector {
    columns.load(row, else: absent)
  }
  @inline(never)
  private func write(_ vector: Vector, to row: UnsafeMutablePointer<C>, _ columns: Columns<C>) {
    columns.store(vector, to: row)
  }

  @inline(__always) private func gate(_ index: Int, _ columns: Columns<C>) -> Vector {
    load(gates + index &* hidden, columns)
  }

  @inline(__always)
  private func normalized(
    _ row: UnsafePointer<C>?, _ columns: Columns<C>, _ scalars: UnsafePointer<NormScalars<C>>,
    _ slot: Int
  ) -> Vector {
    CellNorm(scalars, row: slot)(
      load(row, columns), weight: load(weight, columns, else: 1), bias: load(bias, columns))
  }

  /// The gradient at a gate, which is that at the norm of each product.
  @inline(__always)
  private func store(_ gradient: Vector, to gate: Int, _ columns: Columns<C>) {
    write(gradient, to: dx + gate &* hidden, columns)
    if let dhGates { write(gradient, to: dhGates + gate &* hidden, columns) }
  }

  @inline(__always) private func logisticSlope(_ value: Vector) -> Vector {
    value * (Vector(repeating: C(1)) - value)
  }

  @inline(__always) private func tanhSlope(_ value: Vector) -> Vector {
    let zero = Vector(repeating: .zero)
    return Vector(repeating: C(1)).adding(zero - value, times: value)
  }
}
