import CShims

/// Fills the table with the kernels of the instruction set that this module is built for, but for rare ones.
func fillKernelTable(_ table: UnsafeMutablePointer<ln_kernel_table>) {
  table.pointee.forward_f32 = { forward(Float.self, params: Float.self, $0, $1, $2) }
  table.pointee.forward_f64 = { forward(Double.self, params: Double.self, $0, $1, $2) }
  table.pointee.backward_f32 = { backward(Float.self, $0, $1, $2, $3, $4) }
  table.pointee.backward_f64 = { backward(Double.self, $0, $1, $2, $3, $4) }
  // Without instructions for 16-bit types, rows of them are converted first: the same bits in less code.
  #if !LAYERNORM_COMPACT
    table.pointee.forward_f16 = { forward(Half.self, params: Half.self, $0, $1, $2) }
    table.pointee.forward_bf16 = { forward(BFloat16.self, params: BFloat16.self, $0, $1, $2) }
    table.pointee.forward_f16_params_f32 = { forward(Half.self, params: Float.self, $0, $1, $2) }
    table.pointee.forward_bf16_params_f32 = {
      forward(BFloat16.self, params: Float.self, $0, $1, $2)
    }
    if BFloat16.splits { table.pointee.split_f32 = { split(Float.self, $0, $1, $2) } }
    table.pointee.backward_f16 = { backward(Half.self, $0, $1, $2, $3, $4) }
    table.pointee.backward_bf16 = { backward(BFloat16.self, $0, $1, $2, $3, $4) }
  #endif
  table.pointee.join_f32 = { join(Float.self, $0, $1, $2, $3, $4, $5, $6) }
  table.pointee.join_f64 = { join(Double.self, $0, $1, $2, $3, $4, $5, $6) }
  table.pointee.add_f32 = { add(Float.self, $0, $1, $2, $3, $4) }
  table.pointee.ada_f32 = { multiplyByAdaFactor(Float.self, $0, $1, $2, $3, $4) }
  table.pointee.cell_f32 = ln_cell_kernels(
    forward: { cellForward(Float.self, $0, $1, $2, $3) },
    backward: { cellBackward(Float.self, $0, $1, $2, $3, $4) },
    join: { cellJoin(Float.self, $0, $1, $2, $3, $4, $5) })
  table.pointee.convert_f32 = ln_convert_kernels(
    from_f32: { convert(Float.self, to: Float.self, through: Float.self, $0, $1, $2, $3) },
    from_f64: { convert(Double.self, to: Float.self, through: Float.self, $0, $1, $2, $3) },
    from_f16: { convert(Half.self, to: Float.self, through: Float.self, $0, $1, $2, $3) },
    from_bf16: { convert(BFloat16.self, to: Float.self, through: Float.self, $0, $1, $2, $3) },
    to_f32: { convert(Float.self, to: Float.self, through: Float.self, $0, $1, $2, $3) },
    to_f64: { convert(Float.self, to: Double.self, through: Float.self, $0, $1, $2, $3) },
    to_f16: { convert(Float.self, to: Half.self, through: Float.self, $0, $1, $2, $3) },
    to_bf16: { convert(Float.self, to: BFloat16.self, through: Float.self, $0, $1, $2, $3) })
}

/// Fills it with those whose speed matters so little that a CPU can have them from an instruction set below its own.
func fillRareKernels(_ table: UnsafeMutablePointer<ln_kernel_table>) {
  table.pointee.add_f64 = { add(Double.self, $0, $1, $2, $3, $4) }
  table.pointee.scaled_forward = {
    $0.unsafelyUnwrapped.load(as: ScaledForward.self).run()
  }
  table.pointee.scaled_backward_f32 = {
    $0.unsafelyUnwrapped.load(as: ScaledBackward<Float>.self).run(givenRstd: $1)
  }
  table.pointee.scaled_backward_f64 = {
    $0.unsafelyUnwrapped.load(as: ScaledBackward<Double>.self).run(givenRstd: $1)
  }
  table.pointee.ada_f64 = { multiplyByAdaFactor(Double.self, $0, $1, $2, $3, $4) }
  table.pointee.cell_f64 = ln_cell_kernels(
    forward: { cellForward(Double.self, $0, $1, $2, $3) },
    backward: { cellBackward(Double.self, $0, $1, $2, $3, $4) },
    join: { cellJoin(Double.self, $0, $1, $2, $3, $4, $5) })
  table.pointee.convert_f64 = ln_convert_kernels(
    from_f32: { convert(Float.self, to: Double.self, through: Double.self, $0, $1, $2, $3) },
    from_f64: { convert(Double.self, to: Double.self, through: Double.self, $0, $1, $2, $3) },
    from_f16: { convert(Half.self, to: Double.self, through: Double.self, $0, $1, $2, $3) },
    from_bf16: {
      convert(BFloat16.self, to: Double.self, through: Double.self, $0, $1, $2, $3)
    },
    to_f32: { convert(Double.self, to: Float.self, through: Double.self, $0, $1, $2, $3) },
    to_f64: { convert(Double.self, to: Double.self, through: Double.self, $0, $1, $2, $3) },
    to_f16: { convert(Double.self, to: Half.self, through: Double.self, $0, $1, $2, $3) },
    to_bf16: { convert(Double.self, to: BFloat16.self, through: Double.self, $0, $1, $2, $3) })
}
