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

private func forward(_ args: layernorm_forward_args) throws(Failure) {
  let arguments = try ForwardArguments(args)
  let kernels = try Configuration.kernels()
  guard arguments.rows > 0 else { return }
  guard arguments.cols > 0 else {
    arguments.mean?.fill(with: .nan)
    arguments.rstd?.fill(with: .nan)
    return
  }
  var plan = try ForwardPlan(arguments, kernels)
  plan.run()
}

/// The everyday calls: contiguous, of one dtype.
@inline(__always)
private func forward(
  _ dtype: DType, _ rows: Int64, _ cols: Int64, _ x: UnsafeRawPointer?,
  _ weight: UnsafeRawPointer?, _ bias: UnsafeRawPointer?, _ eps: Double,
  _ y: UnsafeMutableRawPointer?, _ mean: UnsafeMutableRawPointer?, _ rstd: UnsafeMutableRawPointer?
) -> layernorm_status {
  status { () throws(Failure) in
    var args = layernorm_forward_args()
    args.eps = eps
    args.x_dtype = dtype.abi
    args.rows = rows
    args.cols = cols
    args.x = x
    args.weight = weight
    args.bias = bias
    args.y = y
    args.mean = mean
    args.rstd = rstd
    try forward(args)
  }
}

@_cdecl("layernorm_forward_f32") @implementation
public func layernorm_forward_f32(
  _ rows: Int64, _ cols: Int64, _ x: UnsafePointer<Float>!, _ weight: UnsafePointer<Float>!,
  _ bias: UnsafePointer<Float>!, _ eps: Float, _ y: UnsafeMutablePointer<Float>!,
  _ mean: UnsafeMutablePointer<Float>!, _ rstd: UnsafeMutablePointer<Float>!
) -> layernorm_status {
  forward(.f32, rows, cols, x, weight, bias, Double(eps), y, mean, rstd)
}

@_cdecl("layernorm_forward_f64") @implementation
public func layernorm_forward_f64(
  _ rows: Int64, _ cols: Int64, _ x: UnsafePointer<Double>!, _ weight: UnsafePointer<Double>!,
  _ bias: UnsafePointer<Double>!, _ eps: Double, _ y: UnsafeMutablePointer<Double>!,
  _ mean: UnsafeMutablePointer<Double>!, _ rstd: UnsafeMutablePointer<Double>!
) -> layernorm_status {
  forward(.f64, rows, cols, x, weight, bias, eps, y, mean, rstd)
}

@_cdecl("layernorm_forward_f16") @implementation
public func layernorm_forward_f16(
  _ rows: Int64, _ cols: Int64, _ x: UnsafePointer<UInt16>!, _ weight: UnsafePointer<UInt16>!,
  _ bias: UnsafePointer<UInt16>!, _ eps: Float, _ y: UnsafeMutablePointer<UInt16>!,
  _ mean: UnsafeMutablePointer<Float>!, _ rstd: UnsafeMutablePointer<Float>!
) -> layernorm_status {
  forward(.f16, rows, cols, x, weight, bias, Double(eps), y, mean, rstd)
}

@_cdecl("layernorm_forward_bf16") @implementation
public func layernorm_forward_bf16(
  _ rows: Int64, _ cols: Int64, _ x: UnsafePointer<UInt16>!, _ weight: UnsafePointer<UInt16>!,
  _ bias: UnsafePointer<UInt16>!, _ eps: Float, _ y: UnsafeMutablePointer<UInt16>!,
  _ mean: UnsafeMutablePointer<Float>!, _ rstd: UnsafeMutablePointer<Float>!
) -> layernorm_status {
  forward(.bf16, rows, cols, x, weight, bias, Double(eps), y, mean, rstd)
}

@_cdecl("layernorm_forward") @implementation
public func layernorm_forward(
  _ args: UnsafePointer<layernorm_forward_args>!
) -> layernorm_status {
  status { () throws(Failure) in
    guard let args else { throw failure(LAYERNORM_ERROR_NULL_POINTER, "args is NULL") }
    let known = MemoryLayout<layernorm_forward_args>.size
    guard args.pointee.struct_size == known else {
      throw failure(
        LAYERNORM_ERROR_STRUCT_SIZE, "struct_size is ",
        .number(Int64(truncatingIfNeeded: args.pointee.struct_size)), ", not ",
        .number(Int64(known)), ", the size in this version of the library")
    }
    try forward(args.pointee)
  }
}
