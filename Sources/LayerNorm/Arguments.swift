import CLayerNorm

/// The arguments of a forward call, in order: nothing that follows from here can fail but memory.
struct ForwardArguments {
  let x: Tensor
  let y: Tensor
  let weight: Tensor?
  let bias: Tensor?
  let mean: Tensor?
  let rstd: Tensor?
  let eps: Double

  var rows: Int64 { x.batch.count * x.rows.count }
  var cols: Int64 { x.cols.count }
  /// The type that the rows are computed in.
  var compute: DType { x.dtype.compute }
  var paramDType: DType { weight?.dtype ?? bias?.dtype ?? x.dtype }

  init(_ args: layernorm_forward_args) throws(Failure) {
    guard args.flags == 0 else {
      throw failure(LAYERNORM_ERROR_FLAGS, "flags has a bit set that is no flag")
    }
    guard args.norm == LAYERNORM_NORM_LAYER else {
      throw failure(
        LAYERNORM_ERROR_NORM, "norm is ", .number(Int64(args.norm.rawValue)),
        ", not a layernorm_norm")
    }
    let xType = try DType(args.x_dtype, default: .f32, "x_dtype")
    let yType = try DType(args.y_dtype, default: xType, "y_dtype")
    let paramType = try DType(args.param_dtype, default: xType, "param_dtype")
    // As the everyday calls have it, so that both give the same bits.
    eps = xType.compute == .f64 ? args.eps : Double(Float(args.eps))
    guard eps >= 0 && eps < .infinity else {
      throw failure(
        LAYERNORM_ERROR_EPS,
        eps < 0 ? "eps is negative" : eps == .infinity ? "eps is infinite" : "eps is NaN")
    }

    let batch = args.batch == 0 ? 1 : args.batch
    try checkCount(args.batch, "batch")
    try checkCount(args.rows, "rows")
    try checkCount(args.cols, "cols")
    let (rows, o1) = batch.multipliedReportingOverflow(by: args.rows)
    let (elements, o2) = rows.multipliedReportingOverflow(by: args.cols)
    guard !o1 && !o2 && rows <= Int64.max / 8 && elements <= Int64.max / 8 else {
      throw failure(
        LAYERNORM_ERROR_SIZE, "rows is ", .number(args.rows), ": ",
        args.batch > 1 ? "batch * rows * cols" : "rows * cols", " overflows the address space")
    }

    x = try tensor("x", args.x, xType, args.x_strides, batch, args.rows, args.cols)
    y = try tensor(
      "y", UnsafeRawPointer(args.y), yType, args.y_strides, batch, args.rows, args.cols)
    weight = try array("weight", args.weight, paramType, count: elements == 0 ? 0 : args.cols)
    bias = try array("bias", args.bias, paramType, count: elements == 0 ? 0 : args.cols)
    mean = try array("mean", UnsafeRawPointer(args.mean), xType.compute, count: rows)
    rstd = try array("rstd", UnsafeRawPointer(args.rstd), xType.compute, count: rows)
    guard elements > 0 else {
      try checkOverlap(mean, rstd)
      return
    }

    guard args.y_strides == nil || y.isInjective else {
      throw failure(
        LAYERNORM_ERROR_STRIDE, "y_strides may let two elements of y share an address")
    }
    if !y.coincides(with: x) { try checkOverlap(y, x) }
    try checkOverlap(y, weight)
    try checkOverlap(y, bias)
    let others: InlineArray<4, Tensor?> = [x, y, weight, bias]
    for index in others.indices {
      try checkOverlap(mean, others[index])
      try checkOverlap(rstd, others[index])
    }
    try checkOverlap(mean, rstd)
  }
}

private func checkCount(_ count: Int64, _ name: StaticString) throws(Failure) {
  guard count >= 0 else {
    throw failure(
      LAYERNORM_ERROR_SIZE, .text(name), " is ", .number(count), ": it must not be negative")
  }
}

private func tensor(
  _ name: StaticString, _ pointer: UnsafeRawPointer?, _ dtype: DType,
  _ strides: UnsafePointer<Int64>?, _ batch: Int64, _ rows: Int64, _ cols: Int64
) throws(Failure) -> Tensor {
  try Tensor(
    name, pointer, dtype,
    Tensor.Axis(count: batch, stride: strides?[0] ?? rows &* cols),
    Tensor.Axis(count: rows, stride: strides?[1] ?? cols),
    Tensor.Axis(count: cols, stride: strides?[2] ?? 1))
}

private func array(
  _ name: StaticString, _ pointer: UnsafeRawPointer?, _ dtype: DType, count: Int64
) throws(Failure) -> Tensor? {
  guard pointer != nil else { return nil }
  return try Tensor(name, pointer, dtype, count: count)
}

private func checkOverlap(_ output: Tensor?, _ other: Tensor?) throws(Failure) {
  guard let output, let other, !output.isDisjoint(from: other) else { return }
  throw failure(LAYERNORM_ERROR_OVERLAP, .text(output.name), " overlaps ", .text(other.name))
}
