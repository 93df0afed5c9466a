import CLayerNorm
import CShims

@_cdecl("layernorm_cell_forward") @implementation
public func layernorm_cell_forward(
  _ args: UnsafePointer<layernorm_cell_forward_args>!
) -> layernorm_status {
  status { () throws(Failure) in
    guard let args else { throw failure(LAYERNORM_ERROR_NULL_POINTER, "args is NULL") }
    try checkStructSize(args.pointee.struct_size, MemoryLayout<layernorm_cell_forward_args>.size)
    let kind = try checkCellForward(args.pointee)
    let kernels = try Configuration.kernels()
    guard kind.rows > 0 else { return }
    guard kind.hidden > 0 else {
      fillStatistics(args.pointee, kind)
      return
    }
    var plan = try CellForwardPlan(args.pointee, kind, kernels)
    plan.run()
  }
}

@_cdecl("layernorm_cell_backward") @implementation
public func layernorm_cell_backward(
  _ args: UnsafePointer<layernorm_cell_backward_args>!
) -> layernorm_status {
  status { () throws(Failure) in
    guard let args else { throw failure(LAYERNORM_ERROR_NULL_POINTER, "args is NULL") }
    try checkStructSize(args.pointee.struct_size, MemoryLayout<layernorm_cell_backward_args>.size)
    let kind = try checkCellBackward(args.pointee)
    let kernels = try Configuration.kernels()
    guard kind.rows > 0 && kind.hidden > 0 else {
      clearGradients(args.pointee, kind)
      return
    }
    var plan = try CellBackwardPlan(args.pointee, kind, kernels)
    plan.run()
  }
}

/// The statistics of rows without elements.
private func fillStatistics(_ args: layernorm_cell_forward_args, _ kind: CellKind) {
  for index in 0..<Int(kind.ofNorms) {
    let isMasked = args.mask.map { $0[index / Int(kind.norms)] == 0 } ?? false
    if kind.dtype == .f64 {
      args.mean?.assumingMemoryBound(to: Double.self)[index] = isMasked ? 0 : .nan
      args.rstd?.assumingMemoryBound(to: Double.self)[index] = isMasked ? 0 : .nan
    } else {
      args.mean?.assumingMemoryBound(to: Float.self)[index] = isMasked ? 0 : .nan
      args.rstd?.assumingMemoryBound(to: Float.self)[index] = isMasked ? 0 : .nan
    }
  }
}

/// The gradients of parameters in a call without elements.
private func clearGradients(_ args: layernorm_cell_backward_args, _ kind: CellKind) {
  guard args.flags & UInt64(LAYERNORM_FLAG_ACCUMULATE_PARAMS) == 0 else { return }
  let ofGates = kind.gates * kind.hidden
  kind.set(0, of: args.dx_weight, ofGates)
  kind.set(0, of: args.dx_bias, ofGates)
  kind.set(0, of: args.dh_weight, ofGates)
  kind.set(0, of: args.dh_bias, ofGates)
  kind.set(0, of: args.dc_weight, kind.hidden)
  kind.set(0, of: args.dc_bias, kind.hidden)
}
