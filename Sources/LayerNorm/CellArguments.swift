import CLayerNorm
import CShims

/// Shape and kind of a call of a recurrent cell: what forward and backward arguments have in common.
struct CellKind {
  let cell: layernorm_cell
  let dtype: DType
  let eps: Double
  let isPerGate: Bool
  let rows: Int64
  let hidden: Int64
  let gates: Int64

  var isLSTM: Bool { cell == LAYERNORM_CELL_LSTM }
  var isGRU: Bool { cell == LAYERNORM_CELL_GRU }
  var isRNN: Bool { !isLSTM && !isGRU }

  /// How many norms the gates of a product go through.
  var normsOfProduct: Int64 { isPerGate ? gates : isGRU ? 2 : 1 }
  /// How many norms a row goes through.
  var norms: Int64 { isRNN ? 1 : 2 * normsOfProduct + (isLSTM ? 1 : 0) }

  init(
    flags: UInt64, knownFlags: UInt32, cell: layernorm_cell, dtype: layernorm_dtype, eps: Double,
    rows: Int64, hidden: Int64
  ) throws(Failure) {
    guard flags & ~UInt64(knownFlags) == 0 else {
      throw failure(LAYERNORM_ERROR_FLAGS, "flags has a bit set that is no flag of this call")
    }
    switch cell {
    case LAYERNORM_CELL_RNN_TANH, LAYERNORM_CELL_RNN_RELU: gates = 1
    case LAYERNORM_CELL_LSTM: gates = 4
    case LAYERNORM_CELL_GRU: gates = 3
    default:
      throw failure(
        LAYERNORM_ERROR_CELL, "cell is ", .number(Int64(cell.rawValue)), ", not a layernorm_cell")
    }
    self.cell = cell
    isPerGate = flags & UInt64(LAYERNORM_FLAG_PER_GATE) != 0
    self.dtype = try DType(dtype, default: .f32, "dtype")
    guard self.dtype == self.dtype.compute else {
      throw failure(
        LAYERNORM_ERROR_DTYPE, "dtype is ", .number(Int64(dtype.rawValue)),
        ", but the cells have LAYERNORM_F32 and LAYERNORM_F64 only")
    }
    self.eps = self.dtype == .f64 ? eps : Double(Float(eps))
    guard self.eps >= 0 && self.eps < .infinity else {
      throw failure(
        LAYERNORM_ERROR_EPS,
        eps < 0 ? "eps is negative" : eps.isNaN ? "eps is NaN" : "eps is infinite")
    }
    try checkCount(rows, "rows")
    try checkCount(hidden, "hidden")
    self.rows = rows
    self.hidden = hidden
    let (ofRow, o1) = hidden.multipliedReportingOverflow(by: gates)
    let (elements, o2) = ofRow.multipliedReportingOverflow(by: rows)
    guard !o1 && !o2 && elements <= Int64.max / 8 && rows <= Int64.max / (8 * 9) else {
      throw failure(
        LAYERNORM_ERROR_SIZE, "rows is ", .number(rows),
        ": rows * gates * hidden overflows the address space")
    }
  }

  /// An argument of `count` elements for each row.
  @inline(never)
  func tensor(
    _ name: StaticString, _ pointer: UnsafeRawPointer?, _ count: Int64
  ) throws(Failure) -> Tensor {
    try Tensor(name, pointer, dtype, count: rows * count)
  }

  /// The same, nil for NULL.
  @inline(never)
  func optional(
    _ name: StaticString, _ pointer: UnsafeRawPointer?, _ count: Int64
  ) throws(Failure) -> Tensor? {
    pointer == nil ? nil : try tensor(name, pointer, count)
  }

  /// An argument of `count` elements that all rows share; nil for NULL.
  @inline(never)
  func parameter(
    _ name: StaticString, _ pointer: UnsafeRawPointer?, _ count: Int64
  ) throws(Failure) -> Tensor? {
    pointer == nil ? nil : try Tensor(name, pointer, dtype, count: count)
  }

  /// An argument that only some cells have.
  @inline(never)
  func checkAbsent(
    _ name: StaticString, _ pointer: UnsafeRawPointer?, unless has: Bool
  ) throws(Failure) {
    guard has || pointer == nil else {
      throw failure(LAYERNORM_ERROR_CELL, .text(name), " is given, which this cell does not have")
    }
  }

  @inline(never)
  func checkMask(_ mask: UnsafePointer<UInt8>?, apartFrom output: Tensor?) throws(Failure) {
    guard let mask, let output, !output.isEmpty else { return }
    let bytes = ByteSpan(mask, UInt(rows))
    let written = ByteSpan(output.pointer, UInt(output.cols.count * dtype.size))
    guard bytes.isApart(from: written) else {
      throw failure(LAYERNORM_ERROR_OVERLAP, .text(output.name), " overlaps mask")
    }
  }
}

/// The arguments of a forward call, in order: nothing that follows from here can fail but memory.
struct CellForwardArguments {
  let kind: CellKind
  private let mean, rstd: Tensor?

  init(_ args: layernorm_cell_forward_args) throws(Failure) {
    kind = try CellKind(
      flags: args.flags, knownFlags: LAYERNORM_FLAG_PER_GATE, cell: args.cell, dtype: args.dtype,
      eps: args.eps, rows: args.rows, hidden: args.hidden)
    let kind = kind
    let hidden = kind.hidden
    let gatesOfRow = kind.gates * hidden
    try kind.checkAbsent("c_prev", args.c_prev, unless: kind.isLSTM)
    try kind.checkAbsent("c_weight", args.c_weight, unless: kind.isLSTM)
    try kind.checkAbsent("c_bias", args.c_bias, unless: kind.isLSTM)
    try kind.checkAbsent("c", args.c, unless: kind.isLSTM)
    try kind.checkAbsent("h_weight", args.h_weight, unless: !kind.isRNN)
    try kind.checkAbsent("h_bias", args.h_bias, unless: !kind.isRNN)
    try kind.checkAbsent("gates", args.gates, unless: !kind.isRNN)

    // Without rows, nothing of the parameters is read.
    let read = kind.rows == 0 ? 0 : gatesOfRow
    let readOfC = kind.rows == 0 ? 0 : hidden
    let hPrev = try kind.optional("h_prev", args.h_prev, hidden)
    let cPrev = try kind.optional("c_prev", args.c_prev, hidden)
    let inputs: InlineArray<8, Tensor?> = [
      try kind.tensor("x_gates", args.x_gates, gatesOfRow),
      kind.isRNN
        ? try kind.optional("h_gates", args.h_gates, gatesOfRow)
        : try kind.tensor("h_gates", args.h_gates, gatesOfRow),
      try kind.parameter("x_weight", args.x_weight, read),
      try kind.parameter("x_bias", args.x_bias, read),
      try kind.parameter("h_weight", args.h_weight, read),
      try kind.parameter("h_bias", args.h_bias, read),
      try kind.parameter("c_weight", args.c_weight, readOfC),
      try kind.parameter("c_bias", args.c_bias, readOfC),
    ]
    let h = try kind.tensor("h", args.h, hidden)
    let c = kind.isLSTM ? try kind.tensor("c", args.c, hidden) : nil
    let gates = try kind.optional("gates", args.gates, gatesOfRow)
    mean = try kind.optional("mean", args.mean, kind.norms)
    rstd = try kind.optional("rstd", args.rstd, kind.norms)

    if let hPrev, !h.coincides(with: hPrev) { try h.check(apartFromOne: hPrev) }
    if let c, let cPrev, !c.coincides(with: cPrev) { try c.check(apartFromOne: cPrev) }
    try h.check(apartFromOne: cPrev)
    try c?.check(apartFromOne: hPrev)
    let outputs: InlineArray<5, Tensor?> = [h, c, gates, mean, rstd]
    for index in outputs.indices {
      guard let output = outputs[index] else { continue }
      if index > 1 {
        try output.check(apartFromOne: hPrev)
        try output.check(apartFromOne: cPrev)
      }
      for input in inputs.indices { try output.check(apartFromOne: inputs[input]) }
      for earlier in 0..<index { try output.check(apartFromOne: outputs[earlier]) }
      try kind.checkMask(args.mask, apartFrom: output)
    }
  }

  /// The statistics of rows without elements.
  func fillStatistics(mask: UnsafePointer<UInt8>?) {
    for row in 0..<kind.rows {
      let value: Float = mask.map { $0[Int(row)] == 0 } ?? false ? 0 : .nan
      mean?.fill(row * kind.norms..<(row + 1) * kind.norms, with: value)
      rstd?.fill(row * kind.norms..<(row + 1) * kind.norms, with: value)
    }
  }
}

/// Checks the arguments of a backward call.
func checkCellBackward(_ args: layernorm_cell_backward_args) throws(Failure) -> CellKind {
  let kind = try CellKind(
    flags: args.flags, knownFlags: LAYERNORM_FLAG_PER_GATE | LAYERNORM_FLAG_ACCUMULATE_PARAMS,
    cell: args.cell, dtype: args.dtype, eps: args.eps, rows: args.rows, hidden: args.hidden)
  let hidden = kind.hidden
  let gates = kind.gates * hidden
  try kind.checkAbsent("c_prev", args.c_prev, unless: kind.isLSTM)
  try kind.checkAbsent("c_weight", args.c_weight, unless: kind.isLSTM)
  try kind.checkAbsent("c_bias", args.c_bias, unless: kind.isLSTM)
  try kind.checkAbsent("c", args.c, unless: kind.isLSTM)
  try kind.checkAbsent("dc", args.dc, unless: kind.isLSTM)
  try kind.checkAbsent("dc_prev", args.dc_prev, unless: kind.isLSTM)
  try kind.checkAbsent("dc_weight", args.dc_weight, unless: kind.isLSTM)
  try kind.checkAbsent("dc_bias", args.dc_bias, unless: kind.isLSTM)
  try kind.checkAbsent("h_weight", args.h_weight, unless: !kind.isRNN)
  try kind.checkAbsent("h_bias", args.h_bias, unless: !kind.isRNN)
  try kind.checkAbsent("dh_gates", args.dh_gates, unless: !kind.isRNN)
  try kind.checkAbsent("dh_weight", args.dh_weight, unless: !kind.isRNN)
  try kind.checkAbsent("dh_bias", args.dh_bias, unless: !kind.isRNN)

  let read = kind.rows == 0 ? 0 : gates
  let readOfC = kind.rows == 0 ? 0 : hidden
  let dh = try kind.tensor("dh", args.dh, hidden)
  let dc = try kind.optional("dc", args.dc, hidden)
  let inputs: InlineArray<13, Tensor?> = [
    try kind.tensor("x_gates", args.x_gates, gates),
    kind.isRNN
      ? try kind.optional("h_gates", args.h_gates, gates)
      : try kind.tensor("h_gates", args.h_gates, gates),
    try kind.optional("h_prev", args.h_prev, hidden),
    try kind.optional("c_prev", args.c_prev, hidden),
    try kind.parameter("x_weight", args.x_weight, read),
    try kind.parameter("h_weight", args.h_weight, read),
    try kind.parameter("h_bias", args.h_bias, read),
    try kind.parameter("c_weight", args.c_weight, readOfC),
    try kind.parameter("c_bias", args.c_bias, readOfC),
    kind.isLSTM ? try kind.tensor("c", args.c, hidden) : nil,
    try kind.tensor("gates", args.gates, gates),
    try kind.tensor("mean", args.mean, kind.norms),
    try kind.tensor("rstd", args.rstd, kind.norms),
  ]
  let dhPrev = try kind.optional("dh_prev", args.dh_prev, hidden)
  let dcPrev = try kind.optional("dc_prev", args.dc_prev, hidden)
  let outputs: InlineArray<10, Tensor?> = [
    dhPrev, dcPrev,
    try kind.tensor("dx_gates", args.dx_gates, gates),
    kind.isRNN ? nil : try kind.tensor("dh_gates", args.dh_gates, gates),
    try kind.parameter("dx_weight", args.dx_weight, gates),
    try kind.parameter("dx_bias", args.dx_bias, gates),
    try kind.parameter("dh_weight", args.dh_weight, gates),
    try kind.parameter("dh_bias", args.dh_bias, gates),
    try kind.parameter("dc_weight", args.dc_weight, hidden),
    try kind.parameter("dc_bias", args.dc_bias, hidden),
  ]
  for index in outputs.indices {
    guard let output = outputs[index] else { continue }
    if index != 0 || !output.coincides(with: dh) { try output.check(apartFromOne: dh) }
    if let dc, index != 1 || !output.coincides(with: dc) { try output.check(apartFromOne: dc) }
    for input in inputs.indices { try output.check(apartFromOne: inputs[input]) }
    for earlier in 0..<index { try output.check(apartFromOne: outputs[earlier]) }
    try kind.checkMask(args.mask, apartFrom: output)
  }
  return kind
}

/// The gradients of a call without elements.
func clearGradients(_ args: layernorm_cell_backward_args, _ kind: CellKind) {
  guard args.flags & UInt64(LAYERNORM_FLAG_ACCUMULATE_PARAMS) == 0 else { return }
  let ofGates = kind.gates * kind.hidden
  kind.set(0, of: args.dx_weight, ofGates)
  kind.set(0, of: args.dx_bias, ofGates)
  kind.set(0, of: args.dh_weight, ofGates)
  kind.set(0, of: args.dh_bias, ofGates)
  kind.set(0, of: args.dc_weight, kind.hidden)
  kind.set(0, of: args.dc_bias, kind.hidden)
}

extension Tensor {
  /// Sets some elements of a contiguous tensor of float32 or float64.
  func fill(_ elements: Range<Int64>, with value: Float) {
    for index in elements {
      if dtype == .f64 {
        mutablePointer?.assumingMemoryBound(to: Double.self)[Int(index)] = Double(value)
      } else {
        mutablePointer?.assumingMemoryBound(to: Float.self)[Int(index)] = value
      }
    }
  }
}
