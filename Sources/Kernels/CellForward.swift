import CShims

/// Forward kernel of the recurrent cells.
@inline(__always)
func cellForward<C: CellScalar>(
  _: C.Type, _ work: UnsafePointer<ln_cell_work>?, _ begin: Int64, _ end: Int64
) {
  let work = work.unsafelyUnwrapped
  let shape = CellShape(work)
  if shape.isRNN {
    activate(C.self, work, Int(begin) &* shape.hidden, Int(end) &* shape.hidden)
  } else {
    CellGroup<C>.withMemory { CellForward(work, $0).run(Int(begin), Int(end)) }
  }
}

/// h = f(h) of the RNN, for the elements begin ..< end.
@inline(never)
private func activate<C: CellScalar>(
  _: C.Type, _ work: UnsafePointer<ln_cell_work>, _ begin: Int, _ end: Int
) {
  let h = work.pointee.h.unsafelyUnwrapped.assumingMemoryBound(to: C.self)
  let isTanh = work.pointee.cell == CellShape.tanh
  var columns = Columns<C>(begin, of: end)
  while columns.index < end {
    let sum = columns.load(h)
    columns.store(
      isTanh ? sum.tanh() : sum.ifNegative(C.Vector(repeating: .zero), else: sum), to: h)
    columns.advance(of: end)
  }
}

/// LSTM and GRU. A group of rows first takes the statistics of its products with x and h; then, row by row,
/// gates and state; then, of the LSTM, the norm of c, and h.
private struct CellForward<C: CellScalar> {
  private let work: UnsafePointer<ln_cell_work>
  private let shape: CellShape
  private let group: CellGroup<C>

  @inline(__always) init(_ work: UnsafePointer<ln_cell_work>, _ group: CellGroup<C>) {
    self.work = work
    self.group = group
    shape = CellShape(work)
  }

  @inline(never) func run(_ begin: Int, _ end: Int) {
    var first = begin
    while first < end {
      let rows = min(cellRowsPerGroup, end &- first)
      for norm in 0..<shape.norms { normalize(norm, first, rows) }
      for index in 0..<rows {
        let row = CellRow(work, shape, group, row: first &+ index, slot: 2 &* index)
        var columns = Columns<C>(0, of: shape.hidden)
        while columns.index < shape.hidden {
          row.advance(columns)
          columns.advance(of: shape.hidden)
        }
      }
      if shape.isLSTM {
        normalizeState(first, rows)
        for index in 0..<rows { finish(first &+ index, index) }
      }
      first &+= rows
    }
  }

  /// Finds the scalars of one norm of both products.
  private func normalize(_ norm: Int, _ first: Int, _ rows: Int) {
    let gates = shape.gates(of: norm)
    let stride = shape.gates &* shape.hidden
    let offset = first &* stride &+ gates.lowerBound &* shape.hidden
    let statistics = first &* shape.normsOfRow &+ norm
    let segments = CellSegments<C>(
      count: 2 &* rows, perRow: 2,
      first: (
        input(work.pointee.x_gates, offset).unsafelyUnwrapped,
        input(work.pointee.h_gates, offset).unsafelyUnwrapped
      ), stride: stride, mean: output(work.pointee.mean, statistics),
      rstd: output(work.pointee.rstd, statistics),
      statisticStrides: (row: shape.normsOfRow, product: shape.norms))
    group.normalize(
      group.scalars + norm, segments, count: gates.count &* shape.hidden, eps: work.pointee.eps)
  }

  /// Finds the scalars of the norm of c.
  private func normalizeState(_ first: Int, _ rows: Int) {
    let statistics = first &* shape.normsOfRow &+ 2 &* shape.norms
    let c = UnsafePointer(output(work.pointee.c, first &* shape.hidden).unsafelyUnwrapped)
    let segments = CellSegments<C>(
      count: rows, perRow: 1, first: (c, c), stride: shape.hidden,
      mean: output(work.pointee.mean, statistics), rstd: output(work.pointee.rstd, statistics),
      statisticStrides: (row: shape.normsOfRow, product: 0))
    group.normalize(group.scalars, segments, count: shape.hidden, eps: work.pointee.eps)
  }

  /// h = s(o) * tanh(LN(c)). Until here, h holds s(o).
  private func finish(_ row: Int, _ slot: Int) {
    let h = output(work.pointee.h, row &* shape.hidden).unsafelyUnwrapped
    let c = UnsafePointer(output(work.pointee.c, row &* shape.hidden).unsafelyUnwrapped)
    let weight = input(work.pointee.c_weight, 0)
    let bias = input(work.pointee.c_bias, 0)
    let norm = CellNorm(group.scalars, row: slot)
    var columns = Columns<C>(0, of: shape.hidden)
    while columns.index < shape.hidden {
      let normalized = norm(
        columns.load(c), weight: columns.load(weight, else: 1), bias: columns.load(bias, else: 0))
      columns.store(columns.load(h) * normalized.tanh(), to: h)
      columns.advance(of: shape.hidden)
    }
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

/// Gates and state of one row.
private struct CellRow<C: CellScalar> {
  private let shape: CellShape
  private let group: CellGroup<C>
  private let slot: Int
  private let x, h: Product
  private let hPrev, cPrev: UnsafePointer<C>?
  private let newH: UnsafeMutablePointer<C>
  private let newC, gates: UnsafeMutablePointer<C>?

  /// The product with x, or with h, of a row, and its norm.
  private struct Product {
    let gates: UnsafePointer<C>
    let weight, bias: UnsafePointer<C>?

    @inline(__always)
    init(
      _ gates: UnsafeRawPointer?, _ weight: UnsafeRawPointer?, _ bias: UnsafeRawPointer?,
      _ offset: Int
    ) {
      self.gates = gates.unsafelyUnwrapped.assumingMemoryBound(to: C.self) + offset
      self.weight = weight?.assumingMemoryBound(to: C.self)
      self.bias = bias?.assumingMemoryBound(to: C.self)
    }

    /// Columns of the gate that begins at `offset`.
    #if LAYERNORM_COMPACT
      @inline(never)
    #else
      @inline(__always)
    #endif
    func normalized(
      _ columns: Columns<C>, _ offset: Int, _ scalars: UnsafePointer<NormScalars<C>>, _ slot: Int
    ) -> C.Vector {
      CellNorm(scalars, row: slot)(
        columns.load(gates + offset), weight: columns.load(weight, else: 1, from: offset),
        bias: columns.load(bias, else: 0, from: offset))
    }
  }

  @inline(__always)
  init(
    _ work: UnsafePointer<ln_cell_work>, _ shape: CellShape, _ group: CellGroup<C>, row: Int,
    slot: Int
  ) {
    self.shape = shape
    self.group = group
    self.slot = slot
    let offset = row &* shape.hidden
    func state(_ raw: UnsafeRawPointer?) -> UnsafePointer<C>? {
      raw.map { $0.assumingMemoryBound(to: C.self) + offset }
    }
    let work = work.pointee
    x = Product(work.x_gates, work.x_weight, work.x_bias, shape.gates &* offset)
    h = Product(work.h_gates, work.h_weight, work.h_bias, shape.gates &* offset)
    hPrev = state(work.h_prev)
    cPrev = state(work.c_prev)
    newH = work.h.unsafelyUnwrapped.assumingMemoryBound(to: C.self) + offset
    newC = work.c.map { $0.assumingMemoryBound(to: C.self) + offset }
    gates = work.gates.map { $0.assumingMemoryBound(to: C.self) + shape.gates &* offset }
  }

  /// Some columns of all gates and of the state. Until the LSTM's c is normalized, h holds s(o).
  @inline(never) func advance(_ columns: Columns<C>) {
    let last = shape.gates &- 1
    for gate in 0..<shape.gates {
      let offset = gate &* shape.hidden
      let scalars = group.scalars + shape.norm(of: gate)
      let ofX = x.normalized(columns, offset, scalars, slot)
      let ofH = h.normalized(columns, offset, scalars, slot &+ 1)
      let sum =
        gate == last && !shape.isLSTM ? ofX.adding(ofH, times: group.gates[1]) : ofX + ofH
      let value = gate == last ? sum.tanh() : sum.logistic()
      group.gates[gate] = value
      if let gates { columns.store(value, to: gates + offset) }
    }
    if let newC {
      let c = (group.gates[1] * group.gates[3])
        .adding(group.gates[0], times: columns.load(cPrev, else: 0))
      columns.store(c, to: newC)
      columns.store(group.gates[2], to: newH)
      return
    }
    let z = group.gates[0]
    let new = ((C.Vector(repeating: C(1)) - z) * columns.load(hPrev, else: 0))
      .adding(z, times: group.gates[2])
    columns.store(new, to: newH)
  }
}
