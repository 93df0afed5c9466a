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

  var ofState: Int64 { rows * hidden }
  var ofGates: Int64 { rows * gates * hidden }
  var ofNorms: Int64 { rows * norms }
  var hasTwoProducts: Bool { !isRNN }

  /// Checks each argument, and that every output is apart from what comes before it. Outputs come last.
  @inline(never)
  func check(
    _ arguments: Span<CellArgument>, firstOutput: Int, mask: UnsafePointer<UInt8>?
  ) throws(Failure) {
    for index in arguments.indices {
      let argument = arguments[index]
      guard argument.pointer == nil || argument.need != .absent else {
        throw failure(
          LAYERNORM_ERROR_CELL, .text(argument.name), " is given, which this cell does not have")
      }
    }
    var tensors = InlineArray<25, Tensor?>(repeating: nil)
    for index in arguments.indices {
      let argument = arguments[index]
      guard argument.pointer != nil || argument.need == .needed else { continue }
      let tensor = try Tensor(argument.name, argument.pointer, dtype, count: argument.count)
      tensors[index] = tensor
      guard index >= firstOutput else { continue }
      for other in 0..<index {
        guard let before = tensors[other] else { continue }
        if other == argument.mayBe && tensor.coincides(with: before) { continue }
        try tensor.check(apartFromOne: before)
      }
      guard let mask, !tensor.isEmpty else { continue }
      let written = ByteSpan(tensor.pointer, UInt(argument.count * dtype.size))
      guard ByteSpan(mask, UInt(rows)).isApart(from: written) else {
        throw failure(LAYERNORM_ERROR_OVERLAP, .text(argument.name), " overlaps mask")
      }
    }
  }
}

/// An array that a call is given.
struct CellArgument {
  enum Need {
    case needed
    case optional
    /// The cell does not have it.
    case absent
  }

  let name: StaticString
  let pointer: UnsafeRawPointer?
  let count: Int64
  let need: Need
  /// Of an output: the index of the input that it may be.
  let mayBe: Int

  @inline(never)
  init(
    _ name: StaticString, _ pointer: UnsafeRawPointer?, _ count: Int64, _ need: Need = .optional,
    if has: Bool = true, mayBe: Int = -1
  ) {
    self.name = name
    self.pointer = pointer
    self.count = count
    self.need = has ? need : .absent
    self.mayBe = mayBe
  }
}

/// Checks the arguments of a forward call: nothing that follows from here can fail but memory.
func checkCellForward(_ args: layernorm_cell_forward_args) throws(Failure) -> CellKind {
  let kind = try CellKind(
    flags: args.flags, knownFlags: LAYERNORM_FLAG_PER_GATE, cell: args.cell, dtype: args.dtype,
    eps: args.eps, rows: args.rows, hidden: args.hidden)
  let (ofGates, ofState) = (kind.ofGates, kind.ofState)
  let (isLSTM, two) = (kind.isLSTM, kind.hasTwoProducts)
  // Without rows, nothing of the parameters is read.
  let parameter = kind.rows == 0 ? 0 : kind.gates * kind.hidden
  let parameterOfC = kind.rows == 0 ? 0 : kind.hidden
  let arguments: InlineArray<15, CellArgument> = [
    CellArgument("h_prev", args.h_prev, ofState),
    CellArgument("c_prev", args.c_prev, ofState, if: isLSTM),
    CellArgument("x_gates", args.x_gates, ofGates, .needed),
    CellArgument("h_gates", args.h_gates, ofGates, two ? .needed : .optional),
    CellArgument("x_weight", args.x_weight, parameter),
    CellArgument("x_bias", args.x_bias, parameter),
    CellArgument("h_weight", args.h_weight, parameter, if: two),
    CellArgument("h_bias", args.h_bias, parameter, if: two),
    CellArgument("c_weight", args.c_weight, parameterOfC, if: isLSTM),
    CellArgument("c_bias", args.c_bias, parameterOfC, if: isLSTM),
    CellArgument("h", args.h, ofState, .needed, mayBe: 0),
    CellArgument("c", args.c, ofState, .needed, if: isLSTM, mayBe: 1),
    CellArgument("gates", args.gates, ofGates, if: two),
    CellArgument("mean", args.mean, kind.ofNorms),
    CellArgument("rstd", args.rstd, kind.ofNorms),
  ]
  try kind.check(arguments.span, firstOutput: 10, mask: args.mask)
  return kind
}

/// Checks the arguments of a backward call.
func checkCellBackward(_ args: layernorm_cell_backward_args) throws(Failure) -> CellKind {
  let kind = try CellKind(
    flags: args.flags, knownFlags: LAYERNORM_FLAG_PER_GATE | LAYERNORM_FLAG_ACCUMULATE_PARAMS,
    cell: args.cell, dtype: args.dtype, eps: args.eps, rows: args.rows, hidden: args.hidden)
  let (ofGates, ofState) = (kind.ofGates, kind.ofState)
  let (isLSTM, two) = (kind.isLSTM, kind.hasTwoProducts)
  let gradient = kind.gates * kind.hidden
  let parameter = kind.rows == 0 ? 0 : gradient
  let parameterOfC = kind.rows == 0 ? 0 : kind.hidden
  let arguments: InlineArray<25, CellArgument> = [
    CellArgument("dh", args.dh, ofState, .needed),
    CellArgument("dc", args.dc, ofState, if: isLSTM),
    CellArgument("x_gates", args.x_gates, ofGates, .needed),
    CellArgument("h_gates", args.h_gates, ofGates, two ? .needed : .optional),
    CellArgument("h_prev", args.h_prev, ofState),
    CellArgument("c_prev", args.c_prev, ofState, if: isLSTM),
    CellArgument("x_weight", args.x_weight, parameter),
    CellArgument("h_weight", args.h_weight, parameter, if: two),
    CellArgument("h_bias", args.h_bias, parameter, if: two),
    CellArgument("c_weight", args.c_weight, parameterOfC, if: isLSTM),
    CellArgument("c_bias", args.c_bias, parameterOfC, if: isLSTM),
    CellArgument("c", args.c, ofState, .needed, if: isLSTM),
    CellArgument("gates", args.gates, ofGates, .needed),
    CellArgument("mean", args.mean, kind.ofNorms, .needed),
    CellArgument("rstd", args.rstd, kind.ofNorms, .needed),
    CellArgument("dx_gates", args.dx_gates, ofGates, .needed),
    CellArgument("dh_gates", args.dh_gates, ofGates, .needed, if: two),
    CellArgument("dh_prev", args.dh_prev, ofState, mayBe: 0),
    CellArgument("dc_prev", args.dc_prev, ofState, if: isLSTM, mayBe: 1),
    CellArgument("dx_weight", args.dx_weight, gradient),
    CellArgument("dx_bias", args.dx_bias, gradient),
    CellArgument("dh_weight", args.dh_weight, gradient, if: two),
    CellArgument("dh_bias", args.dh_bias, gradient, if: two),
    CellArgument("dc_weight", args.dc_weight, kind.hidden, if: isLSTM),
    CellArgument("dc_bias", args.dc_bias, kind.hidden, if: isLSTM),
  ]
  try kind.check(arguments.span, firstOutput: 15, mask: args.mask)
  return kind
}
