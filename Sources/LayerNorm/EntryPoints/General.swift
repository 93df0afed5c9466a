import CLayerNorm
import CShims

/// Runs a call and turns what it throws into its status.
@inline(__always)
func status(_ call: () throws(Failure) -> Void) -> layernorm_status {
  do {
    try call()
    return LAYERNORM_SUCCESS
  } catch {
    return error.status
  }
}

// Built for size, as the rest of this module is, what comes before a kernel would copy structs by `rep movsb`, which
// takes some 50 cycles each time.
@inline(never)
@_optimize(speed)
func forward(_ args: layernorm_forward_args) throws(Failure) {
  let arguments = try ForwardArguments(args)
  let kernels = try Configuration.kernels()
  guard arguments.norm.allRows > 0 else { return }
  guard arguments.norm.cols > 0 else {
    arguments.mean?.fill(with: .nan)
    arguments.rstd?.fill(with: .nan)
    return
  }
  var plan = try ForwardPlan(arguments, kernels)
  plan.run()
}

@inline(never)
func backward(_ args: layernorm_backward_args) throws(Failure) {
  let arguments = try BackwardArguments(args)
  let kernels = try Configuration.kernels()
  guard arguments.norm.elements > 0 else {
    if !arguments.accumulatesParameters {
      arguments.dweight?.fill(with: 0)
      arguments.dbias?.fill(with: 0)
    }
    return
  }
  var plan = try BackwardPlan(arguments, kernels)
  plan.run()
}

@_cdecl("layernorm_forward") @implementation
public func layernorm_forward(
  _ args: UnsafePointer<layernorm_forward_args>!
) -> layernorm_status {
  if let args, args.pointee.struct_size == sizeOfOlderForwardArgs {
    return forward(older: args)
  }
  return status { () throws(Failure) in
    guard let args else { throw failure(LAYERNORM_ERROR_NULL_POINTER, "args is NULL") }
    try checkStructSize(args.pointee.struct_size, MemoryLayout<layernorm_forward_args>.size)
    if SmallForward.run(args.pointee) { return }
    try forward(args.pointee)
  }
}

@_cdecl("layernorm_backward") @implementation
public func layernorm_backward(
  _ args: UnsafePointer<layernorm_backward_args>!
) -> layernorm_status {
  if let args, args.pointee.struct_size == sizeOfOlderBackwardArgs {
    return backward(older: args)
  }
  return status { () throws(Failure) in
    guard let args else { throw failure(LAYERNORM_ERROR_NULL_POINTER, "args is NULL") }
    try checkStructSize(args.pointee.struct_size, MemoryLayout<layernorm_backward_args>.size)
    if SmallBackward.run(args.pointee) { return }
    try backward(args.pointee)
  }
}

/// Those of 0.1.0, which end before ada_scale.
private var sizeOfOlderForwardArgs: Int {
  MemoryLayout<layernorm_forward_args>.size - 2 * MemoryLayout<Double>.size
}

/// A call with a struct that ends before ada_scale: with the defaults of what it lacks.
@inline(never)
private func forward(older args: UnsafePointer<layernorm_forward_args>) -> layernorm_status {
  var whole = layernorm_forward_args()
  memcpy(&whole, args, sizeOfOlderForwardArgs)
  whole.struct_size = MemoryLayout<layernorm_forward_args>.size
  whole.ada_scale = 1
  whole.ada_slope = 0.1
  return layernorm_forward(&whole)
}

/// Those of 0.1.0, which end before ada_scale.
private var sizeOfOlderBackwardArgs: Int {
  MemoryLayout<layernorm_backward_args>.size - 2 * MemoryLayout<Double>.size
}

/// A call with a struct that ends before ada_scale: with the defaults of what it lacks.
@inline(never)
private func backward(older args: UnsafePointer<layernorm_backward_args>) -> layernorm_status {
  var whole = layernorm_backward_args()
  memcpy(&whole, args, sizeOfOlderBackwardArgs)
  whole.struct_size = MemoryLayout<layernorm_backward_args>.size
  whole.ada_scale = 1
  whole.ada_slope = 0.1
  return layernorm_backward(&whole)
}

func checkStructSize(_ size: Int, _ known: Int) throws(Failure) {
  guard size == known else {
    throw failure(
      LAYERNORM_ERROR_STRUCT_SIZE, "struct_size is ", .number(Int64(size)), ", not ",
      .number(Int64(known)), ", the size in this version of the library")
  }
}
