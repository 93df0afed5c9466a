import CLayerNorm

// The everyday forward calls: contiguous, of one dtype. What they give is described in layernorm.h.

// Inlined, so that each is compiled for its own norm and dtype: that is half the time of the short way.
@inline(__always)
private func everyday(
  _ norm: layernorm_norm, _ dtype: DType, _ rows: Int64, _ cols: Int64, _ x: UnsafeRawPointer?,
  residual: UnsafeRawPointer?? = nil, _ weight: UnsafeRawPointer?, _ bias: UnsafeRawPointer?,
  _ eps: Double, sum: UnsafeMutableRawPointer? = nil, _ y: UnsafeMutableRawPointer?,
  _ mean: UnsafeMutableRawPointer?, _ rstd: UnsafeMutableRawPointer?
) -> layernorm_status {
  // Made anew for either way: the short way needs none of it in memory.
  func arguments() -> layernorm_forward_args {
    var args = layernorm_forward_args()
    args.eps = eps
    args.norm = norm
    args.x_dtype = dtype.abi
    args.rows = rows
    args.cols = cols
    args.x = x
    args.weight = weight
    args.bias = bias
    args.y = y
    args.mean = mean
    args.rstd = rstd
    args.residual = residual ?? nil
    args.sum = sum
    return args
  }
  if residual != .some(nil), SmallForward.run(arguments()) { return LAYERNORM_SUCCESS }
  return theLongWay(arguments(), needsResidual: residual != nil)
}

@inline(never)
private func theLongWay(
  _ args: layernorm_forward_args, needsResidual: Bool
) -> layernorm_status {
  status { () throws(Failure) in
    guard !needsResidual || args.residual != nil || args.rows == 0 || args.cols == 0 else {
      throw failure(LAYERNORM_ERROR_NULL_POINTER, "residual is NULL")
    }
    try forward(args)
  }
}

@_cdecl("layernorm_forward_f32") @implementation
public func layernorm_forward_f32(
  _ rows: Int64, _ cols: Int64, _ x: UnsafePointer<Float>!, _ weight: UnsafePointer<Float>!,
  _ bias: UnsafePointer<Float>!, _ eps: Float, _ y: UnsafeMutablePointer<Float>!,
  _ mean: UnsafeMutablePointer<Float>!, _ rstd: UnsafeMutablePointer<Float>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_LAYER, .f32, rows, cols, x, weight, bias, Double(eps), y, mean, rstd)
}

@_cdecl("layernorm_add_forward_f32") @implementation
public func layernorm_add_forward_f32(
  _ rows: Int64, _ cols: Int64, _ x: UnsafePointer<Float>!, _ residual: UnsafePointer<Float>!,
  _ weight: UnsafePointer<Float>!, _ bias: UnsafePointer<Float>!, _ eps: Float,
  _ sum: UnsafeMutablePointer<Float>!, _ y: UnsafeMutablePointer<Float>!,
  _ mean: UnsafeMutablePointer<Float>!, _ rstd: UnsafeMutablePointer<Float>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_LAYER, .f32, rows, cols, x, residual: .some(residual), weight, bias, Double(eps),
    sum: sum, y, mean, rstd)
}

@_cdecl("layernorm_rms_forward_f32") @implementation
public func layernorm_rms_forward_f32(
  _ rows: Int64, _ cols: Int64, _ x: UnsafePointer<Float>!, _ weight: UnsafePointer<Float>!,
  _ eps: Float, _ y: UnsafeMutablePointer<Float>!, _ rstd: UnsafeMutablePointer<Float>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_RMS, .f32, rows, cols, x, weight, nil, Double(eps), y, nil, rstd)
}

@_cdecl("layernorm_rms_add_forward_f32") @implementation
public func layernorm_rms_add_forward_f32(
  _ rows: Int64, _ cols: Int64, _ x: UnsafePointer<Float>!, _ residual: UnsafePointer<Float>!,
  _ weight: UnsafePointer<Float>!, _ eps: Float, _ sum: UnsafeMutablePointer<Float>!,
  _ y: UnsafeMutablePointer<Float>!, _ rstd: UnsafeMutablePointer<Float>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_RMS, .f32, rows, cols, x, residual: .some(residual), weight, nil, Double(eps),
    sum: sum, y, nil, rstd)
}

@_cdecl("layernorm_forward_f64") @implementation
public func layernorm_forward_f64(
  _ rows: Int64, _ cols: Int64, _ x: UnsafePointer<Double>!, _ weight: UnsafePointer<Double>!,
  _ bias: UnsafePointer<Double>!, _ eps: Double, _ y: UnsafeMutablePointer<Double>!,
  _ mean: UnsafeMutablePointer<Double>!, _ rstd: UnsafeMutablePointer<Double>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_LAYER, .f64, rows, cols, x, weight, bias, eps, y, mean, rstd)
}

@_cdecl("layernorm_add_forward_f64") @implementation
public func layernorm_add_forward_f64(
  _ rows: Int64, _ cols: Int64, _ x: UnsafePointer<Double>!, _ residual: UnsafePointer<Double>!,
  _ weight: UnsafePointer<Double>!, _ bias: UnsafePointer<Double>!, _ eps: Double,
  _ sum: UnsafeMutablePointer<Double>!, _ y: UnsafeMutablePointer<Double>!,
  _ mean: UnsafeMutablePointer<Double>!, _ rstd: UnsafeMutablePointer<Double>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_LAYER, .f64, rows, cols, x, residual: .some(residual), weight, bias, eps,
    sum: sum,
    y, mean, rstd)
}

@_cdecl("layernorm_rms_forward_f64") @implementation
public func layernorm_rms_forward_f64(
  _ rows: Int64, _ cols: Int64, _ x: UnsafePointer<Double>!, _ weight: UnsafePointer<Double>!,
  _ eps: Double, _ y: UnsafeMutablePointer<Double>!, _ rstd: UnsafeMutablePointer<Double>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_RMS, .f64, rows, cols, x, weight, nil, eps, y, nil, rstd)
}

@_cdecl("layernorm_rms_add_forward_f64") @implementation
public func layernorm_rms_add_forward_f64(
  _ rows: Int64, _ cols: Int64, _ x: UnsafePointer<Double>!, _ residual: UnsafePointer<Double>!,
  _ weight: UnsafePointer<Double>!, _ eps: Double, _ sum: UnsafeMutablePointer<Double>!,
  _ y: UnsafeMutablePointer<Double>!, _ rstd: UnsafeMutablePointer<Double>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_RMS, .f64, rows, cols, x, residual: .some(residual), weight, nil, eps, sum: sum,
    y,
    nil, rstd)
}

@_cdecl("layernorm_forward_f16") @implementation
public func layernorm_forward_f16(
  _ rows: Int64, _ cols: Int64, _ x: UnsafePointer<UInt16>!, _ weight: UnsafePointer<UInt16>!,
  _ bias: UnsafePointer<UInt16>!, _ eps: Float, _ y: UnsafeMutablePointer<UInt16>!,
  _ mean: UnsafeMutablePointer<Float>!, _ rstd: UnsafeMutablePointer<Float>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_LAYER, .f16, rows, cols, x, weight, bias, Double(eps), y, mean, rstd)
}

@_cdecl("layernorm_add_forward_f16") @implementation
public func layernorm_add_forward_f16(
  _ rows: Int64, _ cols: Int64, _ x: UnsafePointer<UInt16>!, _ residual: UnsafePointer<UInt16>!,
  _ weight: UnsafePointer<UInt16>!, _ bias: UnsafePointer<UInt16>!, _ eps: Float,
  _ sum: UnsafeMutablePointer<UInt16>!, _ y: UnsafeMutablePointer<UInt16>!,
  _ mean: UnsafeMutablePointer<Float>!, _ rstd: UnsafeMutablePointer<Float>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_LAYER, .f16, rows, cols, x, residual: .some(residual), weight, bias, Double(eps),
    sum: sum, y, mean, rstd)
}

@_cdecl("layernorm_rms_forward_f16") @implementation
public func layernorm_rms_forward_f16(
  _ rows: Int64, _ cols: Int64, _ x: UnsafePointer<UInt16>!, _ weight: UnsafePointer<UInt16>!,
  _ eps: Float, _ y: UnsafeMutablePointer<UInt16>!, _ rstd: UnsafeMutablePointer<Float>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_RMS, .f16, rows, cols, x, weight, nil, Double(eps), y, nil, rstd)
}

@_cdecl("layernorm_rms_add_forward_f16") @implementation
public func layernorm_rms_add_forward_f16(
  _ rows: Int64, _ cols: Int64, _ x: UnsafePointer<UInt16>!, _ residual: UnsafePointer<UInt16>!,
  _ weight: UnsafePointer<UInt16>!, _ eps: Float, _ sum: UnsafeMutablePointer<UInt16>!,
  _ y: UnsafeMutablePointer<UInt16>!, _ rstd: UnsafeMutablePointer<Float>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_RMS, .f16, rows, cols, x, residual: .some(residual), weight, nil, Double(eps),
    sum: sum, y, nil, rstd)
}

@_cdecl("layernorm_forward_bf16") @implementation
public func layernorm_forward_bf16(
  _ rows: Int64, _ cols: Int64, _ x: UnsafePointer<UInt16>!, _ weight: UnsafePointer<UInt16>!,
  _ bias: UnsafePointer<UInt16>!, _ eps: Float, _ y: UnsafeMutablePointer<UInt16>!,
  _ mean: UnsafeMutablePointer<Float>!, _ rstd: UnsafeMutablePointer<Float>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_LAYER, .bf16, rows, cols, x, weight, bias, Double(eps), y, mean, rstd)
}

@_cdecl("layernorm_add_forward_bf16") @implementation
public func layernorm_add_forward_bf16(
  _ rows: Int64, _ cols: Int64, _ x: UnsafePointer<UInt16>!, _ residual: UnsafePointer<UInt16>!,
  _ weight: UnsafePointer<UInt16>!, _ bias: UnsafePointer<UInt16>!, _ eps: Float,
  _ sum: UnsafeMutablePointer<UInt16>!, _ y: UnsafeMutablePointer<UInt16>!,
  _ mean: UnsafeMutablePointer<Float>!, _ rstd: UnsafeMutablePointer<Float>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_LAYER, .bf16, rows, cols, x, residual: .some(residual), weight, bias,
    Double(eps),
    sum: sum, y, mean, rstd)
}

@_cdecl("layernorm_rms_forward_bf16") @implementation
public func layernorm_rms_forward_bf16(
  _ rows: Int64, _ cols: Int64, _ x: UnsafePointer<UInt16>!, _ weight: UnsafePointer<UInt16>!,
  _ eps: Float, _ y: UnsafeMutablePointer<UInt16>!, _ rstd: UnsafeMutablePointer<Float>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_RMS, .bf16, rows, cols, x, weight, nil, Double(eps), y, nil, rstd)
}

@_cdecl("layernorm_rms_add_forward_bf16") @implementation
public func layernorm_rms_add_forward_bf16(
  _ rows: Int64, _ cols: Int64, _ x: UnsafePointer<UInt16>!, _ residual: UnsafePointer<UInt16>!,
  _ weight: UnsafePointer<UInt16>!, _ eps: Float, _ sum: UnsafeMutablePointer<UInt16>!,
  _ y: UnsafeMutablePointer<UInt16>!, _ rstd: UnsafeMutablePointer<Float>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_RMS, .bf16, rows, cols, x, residual: .some(residual), weight, nil, Double(eps),
    sum: sum, y, nil, rstd)
}
