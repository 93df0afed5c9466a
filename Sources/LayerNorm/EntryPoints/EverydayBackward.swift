import CLayerNorm

// The everyday backward calls: contiguous, of one dtype. What they give is described in layernorm.h.

// Inlined, so that each is compiled for its own norm and dtype.
@inline(__always)
private func everyday(
  _ norm: layernorm_norm, _ dtype: DType, _ rows: Int64, _ cols: Int64, _ dy: UnsafeRawPointer?,
  _ x: UnsafeRawPointer?, _ weight: UnsafeRawPointer?, _ mean: UnsafeRawPointer?,
  _ rstd: UnsafeRawPointer?, _ eps: Double, _ dx: UnsafeMutableRawPointer?,
  _ dweight: UnsafeMutableRawPointer?, _ dbias: UnsafeMutableRawPointer?
) -> layernorm_status {
  // Made anew for either way: the short way needs none of it in memory.
  func arguments() -> layernorm_backward_args {
    var args = layernorm_backward_args()
    args.eps = eps
    args.norm = norm
    args.x_dtype = dtype.abi
    args.rows = rows
    args.cols = cols
    args.dy = dy
    args.x = x
    args.weight = weight
    args.mean = mean
    args.rstd = rstd
    args.dx = dx
    args.dweight = dweight
    args.dbias = dbias
    return args
  }
  if dtype.size == 2 {
    // Weight and gradients are converted anyway: one code for all.
    var args = arguments()
    args.struct_size = MemoryLayout<layernorm_backward_args>.size
    return layernorm_backward(&args)
  }
  if SmallBackward.run(arguments()) { return LAYERNORM_SUCCESS }
  return theLongWay(arguments())
}

@inline(never)
private func theLongWay(_ args: layernorm_backward_args) -> layernorm_status {
  status { () throws(Failure) in try backward(args) }
}

@_cdecl("layernorm_backward_f32") @implementation
public func layernorm_backward_f32(
  _ rows: Int64, _ cols: Int64, _ dy: UnsafePointer<Float>!, _ x: UnsafePointer<Float>!,
  _ weight: UnsafePointer<Float>!, _ mean: UnsafePointer<Float>!, _ rstd: UnsafePointer<Float>!,
  _ eps: Float, _ dx: UnsafeMutablePointer<Float>!, _ dweight: UnsafeMutablePointer<Float>!,
  _ dbias: UnsafeMutablePointer<Float>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_LAYER, .f32, rows, cols, dy, x, weight, mean, rstd, Double(eps), dx, dweight,
    dbias)
}

@_cdecl("layernorm_rms_backward_f32") @implementation
public func layernorm_rms_backward_f32(
  _ rows: Int64, _ cols: Int64, _ dy: UnsafePointer<Float>!, _ x: UnsafePointer<Float>!,
  _ weight: UnsafePointer<Float>!, _ rstd: UnsafePointer<Float>!, _ eps: Float,
  _ dx: UnsafeMutablePointer<Float>!, _ dweight: UnsafeMutablePointer<Float>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_RMS, .f32, rows, cols, dy, x, weight, nil, rstd, Double(eps), dx, dweight, nil)
}

@_cdecl("layernorm_backward_f64") @implementation
public func layernorm_backward_f64(
  _ rows: Int64, _ cols: Int64, _ dy: UnsafePointer<Double>!, _ x: UnsafePointer<Double>!,
  _ weight: UnsafePointer<Double>!, _ mean: UnsafePointer<Double>!, _ rstd: UnsafePointer<Double>!,
  _ eps: Double, _ dx: UnsafeMutablePointer<Double>!, _ dweight: UnsafeMutablePointer<Double>!,
  _ dbias: UnsafeMutablePointer<Double>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_LAYER, .f64, rows, cols, dy, x, weight, mean, rstd, eps, dx, dweight, dbias)
}

@_cdecl("layernorm_rms_backward_f64") @implementation
public func layernorm_rms_backward_f64(
  _ rows: Int64, _ cols: Int64, _ dy: UnsafePointer<Double>!, _ x: UnsafePointer<Double>!,
  _ weight: UnsafePointer<Double>!, _ rstd: UnsafePointer<Double>!, _ eps: Double,
  _ dx: UnsafeMutablePointer<Double>!, _ dweight: UnsafeMutablePointer<Double>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_RMS, .f64, rows, cols, dy, x, weight, nil, rstd, eps, dx, dweight, nil)
}

@_cdecl("layernorm_backward_f16") @implementation
public func layernorm_backward_f16(
  _ rows: Int64, _ cols: Int64, _ dy: UnsafePointer<UInt16>!, _ x: UnsafePointer<UInt16>!,
  _ weight: UnsafePointer<UInt16>!, _ mean: UnsafePointer<Float>!, _ rstd: UnsafePointer<Float>!,
  _ eps: Float, _ dx: UnsafeMutablePointer<UInt16>!, _ dweight: UnsafeMutablePointer<UInt16>!,
  _ dbias: UnsafeMutablePointer<UInt16>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_LAYER, .f16, rows, cols, dy, x, weight, mean, rstd, Double(eps), dx, dweight,
    dbias)
}

@_cdecl("layernorm_rms_backward_f16") @implementation
public func layernorm_rms_backward_f16(
  _ rows: Int64, _ cols: Int64, _ dy: UnsafePointer<UInt16>!, _ x: UnsafePointer<UInt16>!,
  _ weight: UnsafePointer<UInt16>!, _ rstd: UnsafePointer<Float>!, _ eps: Float,
  _ dx: UnsafeMutablePointer<UInt16>!, _ dweight: UnsafeMutablePointer<UInt16>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_RMS, .f16, rows, cols, dy, x, weight, nil, rstd, Double(eps), dx, dweight, nil)
}

@_cdecl("layernorm_backward_bf16") @implementation
public func layernorm_backward_bf16(
  _ rows: Int64, _ cols: Int64, _ dy: UnsafePointer<UInt16>!, _ x: UnsafePointer<UInt16>!,
  _ weight: UnsafePointer<UInt16>!, _ mean: UnsafePointer<Float>!, _ rstd: UnsafePointer<Float>!,
  _ eps: Float, _ dx: UnsafeMutablePointer<UInt16>!, _ dweight: UnsafeMutablePointer<UInt16>!,
  _ dbias: UnsafeMutablePointer<UInt16>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_LAYER, .bf16, rows, cols, dy, x, weight, mean, rstd, Double(eps), dx, dweight,
    dbias)
}

@_cdecl("layernorm_rms_backward_bf16") @implementation
public func layernorm_rms_backward_bf16(
  _ rows: Int64, _ cols: Int64, _ dy: UnsafePointer<UInt16>!, _ x: UnsafePointer<UInt16>!,
  _ weight: UnsafePointer<UInt16>!, _ rstd: UnsafePointer<Float>!, _ eps: Float,
  _ dx: UnsafeMutablePointer<UInt16>!, _ dweight: UnsafeMutablePointer<UInt16>!
) -> layernorm_status {
  everyday(
    LAYERNORM_NORM_RMS, .bf16, rows, cols, dy, x, weight, nil, rstd, Double(eps), dx, dweight, nil)
}
