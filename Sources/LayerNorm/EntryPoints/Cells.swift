import CLayerNorm
import CShims

@_cdecl("layernorm_cell_forward") @implementation
public func layernorm_cell_forward(
  _ args: UnsafePointer<layernorm_cell_forward_args>!
) -> layernorm_status {
  status { () throws(Failure) in
    guard let args else { throw failure(LAYERNORM_ERROR_NULL_POINTER, "args is NULL") }
    try checkStructSize(args.pointee.struct_size, MemoryLayout<layernorm_cell_forward_args>.size)
    let arguments = try CellForwardArguments(args.pointee)
    let kernels = try Configuration.kernels()
    guard arguments.kind.rows > 0 else { return }
    guard arguments.kind.hidden > 0 else {
      arguments.fillStatistics(mask: args.pointee.mask)
      return
    }
    var plan = try CellForwardPlan(args.pointee, arguments.kind, kernels)
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
