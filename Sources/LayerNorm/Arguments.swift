import CLayerNorm
import CShims

/// Shape and kind of a call: what forward and backward arguments have in common.
struct NormArguments {
  let centers: Bool
  let xType: DType
  let paramType: DType
  let eps: Double
  let batch: Int64
  let rows: Int64
  let cols: Int64
  /// Rows of all batches.
  let allRows: Int64
  var elements: Int64 { allRows * cols }
  /// The type that the rows are computed in; mean and rstd are stored in it.
  var compute: DType { xType.compute }

  init(
    flags: UInt64, knownFlags: UInt32, norm: layernorm_norm, xType: layernorm_dtype,
    paramType: layernorm_dtype, eps: Double, batch: Int64, rows: Int64, cols: Int64
  ) throws(Failure) {
    guard flags & ~UInt64(knownFlags) == 0 else {
      throw failure(LAYERNORM_ERROR_FLAGS, "flags has a bit set that is no flag of this call")
    }
    guard
      norm == LAYERNORM_NORM_LAYER || norm == LAYERNORM_NORM_RMS || norm == LAYERNORM_NORM_ADA
    else {
      throw failure(
        LAYERNORM_ERROR_NORM, "norm is ", .number(Int64(norm.rawValue)), ", not a layernorm_norm")
    }
    centers = norm != LAYERNORM_NORM_RMS
    self.xType = try DType(xType, default: .f32, "x_dtype")
    self.paramType = try DType(paramType, default: self.xType, "param_dtype")
    // As the everyday calls have it, so that both give the same bits.
    self.eps = self.xType.compute == .f64 ? eps : Double(Float(eps))
    guard self.eps >= 0 && self.eps < .infinity else {
      throw failure(
        LAYERNORM_ERROR_EPS,
        eps < 0 ? "eps is negative" : eps.isNaN ? "eps is NaN" : "eps is infinite")
    }
    try checkCount(batch, "batch")
    try checkCount(rows, "rows")
    try checkCount(cols, "cols")
    self.batch = batch == 0 ? 1 : batch
    self.rows = rows
    self.cols = cols
    let (allRows, o1) = self.batch.multipliedReportingOverflow(by: rows)
    let (elements, o2) = allRows.multipliedReportingOverflow(by: cols)
    guard !o1 && !o2 && allRows <= Int64.max / 8 && elements <= Int64.max / 8 else {
      throw failure(
        LAYERNORM_ERROR_SIZE, "rows is ", .number(rows), ": ",
        batch > 1 ? "batch * rows * cols" : "rows * cols", " overflows the address space")
    }
    self.allRows = allRows
  }

  /// An argument of the shape [batch][rows][cols].
  func tensor(
    _ name: StaticString, _ pointer: UnsafeRawPointer?, _ dtype: DType,
    _ strides: UnsafePointer<Int64>?
  ) throws(Failure) -> Tensor {
    try Tensor(
      name, pointer, dtype,
      Tensor.Axis(count: batch, stride: strides?[0] ?? rows &* cols),
      Tensor.Axis(count: rows, stride: strides?[1] ?? cols),
      Tensor.Axis(count: cols, stride: strides?[2] ?? 1))
  }

  /// The same, nil for NULL.
  func optionalTensor(
    _ name: StaticString, _ pointer: UnsafeRawPointer?, _ dtype: DType,
    _ strides: UnsafePointer<Int64>?
  ) throws(Failure) -> Tensor? {
    pointer == nil ? nil : try tensor(name, pointer, dtype, strides)
  }

  /// An argument of the shape [cols]; nil for NULL.
  func parameter(
    _ name: StaticString, _ pointer: UnsafeRawPointer?, _ dtype: DType, count: Int64? = nil
  ) throws(Failure) -> Tensor? {
    pointer == nil ? nil : try Tensor(name, pointer, dtype, count: count ?? cols)
  }

  /// An argument of the shape [batch][rows]; nil for NULL.
  func statistics(_ name: StaticString, _ pointer: UnsafeRawPointer?) throws(Failure) -> Tensor? {
    pointer == nil ? nil : try Tensor(name, pointer, compute, count: allRows)
  }

  func checkMean(_ mean: UnsafeRawPointer?) throws(Failure) {
    guard centers || mean == nil else {
      throw failure(LAYERNORM_ERROR_NORM, "mean is given, which LAYERNORM_NORM_RMS does not have")
    }
  }
}

/// C and k of AdaNorm, z = C * (1 - k * x^) * x^, as the computation has them.
struct Ada {
  let scale: Double
  let slope: Double

  /// nil for another norm.
  @inline(never) fileprivate init?(
    _ norm: layernorm_norm, flags: UInt64, scale: Double, slope: Double, compute: DType,
    weight: UnsafeRawPointer?, bias: UnsafeRawPointer? = nil, dweight: UnsafeRawPointer? = nil,
    dbias: UnsafeRawPointer? = nil
  ) throws(Failure) {
    guard norm == LAYERNORM_NORM_ADA else { return nil }
    guard flags & UInt64(LAYERNORM_FLAG_WEIGHT_OFFSET) == 0 else {
      throw failure(
        LAYERNORM_ERROR_NORM,
        "flags has LAYERNORM_FLAG_WEIGHT_OFFSET, but LAYERNORM_NORM_ADA has no weight")
    }
    guard weight == nil && bias == nil && dweight == nil && dbias == nil else {
      throw failure(
        LAYERNORM_ERROR_NORM,
        weight != nil ? "weight" : bias != nil ? "bias" : dweight != nil ? "dweight" : "dbias",
        " is given, which LAYERNORM_NORM_ADA does not have")
    }
    self.scale = compute == .f64 ? scale : Double(Float(scale))
    self.slope = compute == .f64 ? slope : Double(Float(slope))
    guard self.scale != 0 && self.scale.isFinite && self.slope.isFinite else {
      throw failure(
        LAYERNORM_ERROR_NORM,
        self.scale == 0 ? "ada_scale is 0" : self.scale.isFinite ? "ada_slope" : "ada_scale",
        self.scale == 0 ? "" : " is not finite", " in the dtype of the computation")
    }
  }
}

/// The arguments of a forward call, in order: nothing that follows from here can fail but memory.
struct ForwardArguments {
  let norm: NormArguments
  let ada: Ada?
  let addsToWeight: Bool
  let x: Tensor
  let residual: Tensor?
  let xBias: Tensor?
  let sum: Tensor?
  let y: Tensor
  let weight: Tensor?
  let bias: Tensor?
  let mean: Tensor?
  let rstd: Tensor?

  var addsToX: Bool { residual != nil || xBias != nil || sum != nil }

  @_optimize(speed)
  init(_ args: layernorm_forward_args) throws(Failure) {
    norm = try NormArguments(
      flags: args.flags, knownFlags: LAYERNORM_FLAG_WEIGHT_OFFSET, norm: args.norm,
      xType: args.x_dtype, paramType: args.param_dtype, eps: args.eps, batch: args.batch,
      rows: args.rows, cols: args.cols)
    addsToWeight = args.flags & UInt64(LAYERNORM_FLAG_WEIGHT_OFFSET) != 0
    let yType = try DType(args.y_dtype, default: norm.xType, "y_dtype")
    try norm.checkMean(args.mean)
    ada = try Ada(
      args.norm, flags: args.flags, scale: args.ada_scale, slope: args.ada_slope,
      compute: norm.compute, weight: args.weight, bias: args.bias)

    // Without rows, nothing of the parameters is read.
    let read = norm.elements == 0 ? 0 : norm.cols
    x = try norm.tensor("x", args.x, norm.xType, args.x_strides)
    residual = try norm.optionalTensor(
      "residual", args.residual, norm.xType, args.residual_strides)
    xBias = try norm.parameter("x_bias", args.x_bias, norm.xType, count: read)
    sum = try norm.optionalTensor("sum", args.sum, norm.xType, args.sum_strides)
    y = try norm.tensor("y", args.y, yType, args.y_strides)
    weight = try norm.parameter("weight", args.weight, norm.paramType, count: read)
    bias = try norm.parameter("bias", args.bias, norm.paramType, count: read)
    mean = try norm.statistics("mean", args.mean)
    rstd = try norm.statistics("rstd", args.rstd)

    try y.checkInjective("y_strides may let two elements of y share an address")
    try sum?.checkInjective("sum_strides may let two elements of sum share an address")
    try y.check(mayBe: x, residual)
    try y.check(apartFrom: xBias, weight, bias)
    if let sum {
      try sum.check(mayBe: x, residual)
      try sum.check(apartFrom: xBias, weight, bias, y)
    }
    try mean?.check(apartFrom: x, residual, xBias, weight, bias, y, sum)
    try rstd?.check(apartFrom: x, residual, xBias, weight, bias, y, sum, mean)
  }
}

/// The arguments of a backward call, in order.
struct BackwardArguments {
  let norm: NormArguments
  let ada: Ada?
  let addsToWeight: Bool
  let accumulatesDX: Bool
  let accumulatesParameters: Bool
  let detachesMean: Bool
  let detachesRstd: Bool
  let dy: Tensor
  let x: Tensor
  let weight: Tensor?
  let mean: Tensor?
  let rstd: Tensor?
  let dsum: Tensor?
  let dx: Tensor?
  let dweight: Tensor?
  let dbias: Tensor?
  var hasParameterGradients: Bool { dweight != nil || dbias != nil }

  init(_ args: layernorm_backward_args) throws(Failure) {
    norm = try NormArguments(
      flags: args.flags,
      knownFlags: LAYERNORM_FLAG_WEIGHT_OFFSET | LAYERNORM_FLAG_ACCUMULATE_DX
        | LAYERNORM_FLAG_ACCUMULATE_PARAMS | LAYERNORM_FLAG_DETACH_MEAN
        | LAYERNORM_FLAG_DETACH_RSTD,
      norm: args.norm, xType: args.x_dtype, paramType: args.param_dtype, eps: args.eps,
      batch: args.batch, rows: args.rows, cols: args.cols)
    addsToWeight = args.flags & UInt64(LAYERNORM_FLAG_WEIGHT_OFFSET) != 0
    accumulatesDX = args.flags & UInt64(LAYERNORM_FLAG_ACCUMULATE_DX) != 0
    accumulatesParameters = args.flags & UInt64(LAYERNORM_FLAG_ACCUMULATE_PARAMS) != 0
    detachesMean = args.flags & UInt64(LAYERNORM_FLAG_DETACH_MEAN) != 0
    detachesRstd = args.flags & UInt64(LAYERNORM_FLAG_DETACH_RSTD) != 0
    let dyType = try DType(args.dy_dtype, default: norm.xType, "dy_dtype")
    try norm.checkMean(args.mean)
    guard norm.centers || !detachesMean else {
      throw failure(
        LAYERNORM_ERROR_NORM,
        "flags has LAYERNORM_FLAG_DETACH_MEAN, but LAYERNORM_NORM_RMS has no mean")
    }
    ada = try Ada(
      args.norm, flags: args.flags, scale: args.ada_scale, slope: args.ada_slope,
      compute: norm.compute, weight: args.weight, dweight: args.dweight, dbias: args.dbias)
    if norm.centers && (args.mean == nil) != (args.rstd == nil) {
      throw failure(
        LAYERNORM_ERROR_NULL_POINTER,
        args.mean == nil ? "mean is NULL, but rstd is not" : "rstd is NULL, but mean is not")
    }

    dy = try norm.tensor("dy", args.dy, dyType, args.dy_strides)
    x = try norm.tensor("x", args.x, norm.xType, args.x_strides)
    weight = try norm.parameter(
      "weight", args.weight, norm.paramType, count: norm.elements == 0 ? 0 : norm.cols)
    mean = try norm.statistics("mean", args.mean)
    rstd = try norm.statistics("rstd", args.rstd)
    dsum = try norm.optionalTensor("dsum", args.dsum, dyType, args.dsum_strides)
    dx = try norm.optionalTensor("dx", UnsafeRawPointer(args.dx), dyType, args.dx_strides)
    dweight = try norm.parameter("dweight", args.dweight, norm.paramType)
    dbias = try norm.parameter("dbias", args.dbias, norm.paramType)

    if let dx {
      try dx.checkInjective("dx_strides may let two elements of dx share an address")
      try dx.check(mayBe: dy, x, dsum)
      try dx.check(apartFrom: weight, mean, rstd)
    }
    try dweight?.check(apartFrom: dy, x, weight, mean, rstd, dsum, dx)
    try dbias?.check(apartFrom: dy, x, weight, mean, rstd, dsum, dx, dweight)
  }
}

func checkCount(_ count: Int64, _ name: StaticString) throws(Failure) {
  guard count >= 0 else {
    throw failure(
      LAYERNORM_ERROR_SIZE, .text(name), " is ", .number(count), ": it must not be negative")
  }
}

extension Tensor {
  fileprivate func checkInjective(_ otherwise: StaticString) throws(Failure) {
    guard isEmpty || isInjective else { throw failure(LAYERNORM_ERROR_STRIDE, .text(otherwise)) }
  }

  /// This output is one of the inputs, element for element, or apart from them.
  @inline(never)
  @_optimize(speed)
  fileprivate func check(
    mayBe a: Tensor?, _ b: Tensor? = nil, _ c: Tensor? = nil
  ) throws(Failure) {
    if let a, !coincides(with: a) { try check(apartFromOne: a) }
    if let b, !coincides(with: b) { try check(apartFromOne: b) }
    if let c, !coincides(with: c) { try check(apartFromOne: c) }
  }

  @inline(never)
  @_optimize(speed)
  fileprivate func check(
    apartFrom a: Tensor?, _ b: Tensor? = nil, _ c: Tensor? = nil, _ d: Tensor? = nil,
    _ e: Tensor? = nil, _ f: Tensor? = nil, _ g: Tensor? = nil, _ h: Tensor? = nil
  ) throws(Failure) {
    try check(apartFromOne: a)
    try check(apartFromOne: b)
    try check(apartFromOne: c)
    try check(apartFromOne: d)
    try check(apartFromOne: e)
    try check(apartFromOne: f)
    try check(apartFromOne: g)
    try check(apartFromOne: h)
  }

  @_optimize(speed) @inline(never) func check(apartFromOne other: Tensor?) throws(Failure) {
    guard let other, !isEmpty, !other.isEmpty, !isDisjoint(from: other) else { return }
    throw failure(LAYERNORM_ERROR_OVERLAP, .text(name), " overlaps ", .text(other.name))
  }
}
