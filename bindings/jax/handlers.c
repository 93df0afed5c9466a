/* The handlers that XLA calls: a jax.ffi.ffi_call to one of them becomes a call of layernorm_forward()
 * or layernorm_backward() for the whole batch where that can be, or for each entry that vmap made. */
#include "operands.h"
#include "pool.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT xla_ffi_error *layernorm_jax_forward(const xla_ffi_call_frame *frame);
EXPORT xla_ffi_error *layernorm_jax_backward(const xla_ffi_call_frame *frame);

static layernorm_dtype dtype_of_stats(layernorm_dtype x) {
  return x == LAYERNORM_F64 ? LAYERNORM_F64 : LAYERNORM_F32;
}

static uint64_t flags_of(call *c) {
  return flag_attribute(c, "weight_offset") ? LAYERNORM_FLAG_WEIGHT_OFFSET : 0;
}

static layernorm_norm norm_of(call *c) {
  return flag_attribute(c, "rms") ? LAYERNORM_NORM_RMS : LAYERNORM_NORM_LAYER;
}

/* Attributes: eps (float64); rms, weight_offset, residual, weight, bias (bool).
 * Arguments: x, residual?, weight?, bias?.
 * Results: y, sum if there is a residual; and then none, or mean unless it is RMSNorm, and rstd. */
xla_ffi_error *layernorm_jax_forward(const xla_ffi_call_frame *frame) {
  if (answer_metadata(frame)) return NULL;
  call c;
  begin_call(&c, frame);
  layernorm_forward_args args = LAYERNORM_FORWARD_ARGS_INIT;
  args.eps = float_attribute(&c, "eps");
  args.flags = flags_of(&c);
  args.norm = norm_of(&c);

  const operand x = next_argument(&c, "x", SHAPE_X, &args.x_dtype);
  const operand residual = optional_argument(&c, "residual", SHAPE_X, &args.x_dtype);
  const operand weight = optional_argument(&c, "weight", SHAPE_PARAMS, &args.param_dtype);
  const operand bias = optional_argument(&c, "bias", SHAPE_PARAMS, &args.param_dtype);
  layernorm_dtype stats_dtype = dtype_of_stats(args.x_dtype);
  operand sum = {0}, mean = {0}, rstd = {0};
  const operand y = next_result(&c, "y", SHAPE_X, &args.y_dtype);
  if (residual.batch_dims) sum = next_result(&c, "sum", SHAPE_X, &args.x_dtype);
  if (c.results_read < frame->results.size) {
    if (args.norm == LAYERNORM_NORM_LAYER)
      mean = next_result(&c, "mean", SHAPE_STATS, &stats_dtype);
    rstd = next_result(&c, "rstd", SHAPE_STATS, &stats_dtype);
  }
  end_of_operands(&c);
  if (c.problem[0]) return end_call(&c);

  const bool merged =
      is_shared(&c, &weight) && is_shared(&c, &bias) && is_whole(&c, &x) && is_whole(&c, &residual);
  const int64_t *strides;
  matrix_sizes(&c, merged ? c.batch : 1, &args.batch, &args.rows, &strides);
  args.cols = c.cols;
  args.x_strides = args.residual_strides = args.y_strides = args.sum_strides = strides;
  layernorm_set_thread_parallel_for(run_on_pool, (void *)frame);
  for (int64_t i = 0; i < (merged ? 1 : c.batch) && !c.problem[0]; i++) {
    args.x = entry(&c, &x, i);
    args.residual = entry(&c, &residual, i);
    args.weight = entry(&c, &weight, i);
    args.bias = entry(&c, &bias, i);
    args.y = entry(&c, &y, i);
    args.sum = entry(&c, &sum, i);
    args.mean = entry(&c, &mean, i);
    args.rstd = entry(&c, &rstd, i);
    note_status(&c, layernorm_forward(&args));
  }
  layernorm_set_thread_parallel_for(NULL, NULL);
  return end_call(&c);
}

/* Attributes: rms, weight_offset, dsum, weight, bias (bool).
 * Arguments: x, dy, dsum?, weight?, mean unless it is RMSNorm, rstd.
 * Results: dx, dweight if there is a weight, dbias if there is a bias. */
xla_ffi_error *layernorm_jax_backward(const xla_ffi_call_frame *frame) {
  if (answer_metadata(frame)) return NULL;
  call c;
  begin_call(&c, frame);
  layernorm_backward_args args = LAYERNORM_BACKWARD_ARGS_INIT;
  args.flags = flags_of(&c);
  args.norm = norm_of(&c);

  const operand x = next_argument(&c, "x", SHAPE_X, &args.x_dtype);
  const operand dy = next_argument(&c, "dy", SHAPE_X, &args.dy_dtype);
  const operand dsum = optional_argument(&c, "dsum", SHAPE_X, &args.dy_dtype);
  const operand weight = optional_argument(&c, "weight", SHAPE_PARAMS, &args.param_dtype);
  layernorm_dtype stats_dtype = dtype_of_stats(args.x_dtype);
  operand mean = {0}, dweight = {0}, dbias = {0};
  if (args.norm == LAYERNORM_NORM_LAYER)
    mean = next_argument(&c, "mean", SHAPE_STATS, &stats_dtype);
  const operand rstd = next_argument(&c, "rstd", SHAPE_STATS, &stats_dtype);
  const operand dx = next_result(&c, "dx", SHAPE_X, &args.dy_dtype);
  if (weight.batch_dims) dweight = next_result(&c, "dweight", SHAPE_PARAMS, &args.param_dtype);
  if (flag_attribute(&c, "bias")) dbias = next_result(&c, "dbias", SHAPE_PARAMS, &args.param_dtype);
  end_of_operands(&c);
  if (c.problem[0]) return end_call(&c);

  /* The sums over rows are those of one entry. */
  const bool merged = is_shared(&c, &weight) && is_shared(&c, &dweight) && is_shared(&c, &dbias) &&
                      is_whole(&c, &x) && is_whole(&c, &dy) && is_whole(&c, &dsum) &&
                      is_whole(&c, &mean) && is_whole(&c, &rstd);
  const int64_t *strides;
  matrix_sizes(&c, merged ? c.batch : 1, &args.batch, &args.rows, &strides);
  args.cols = c.cols;
  args.x_strides = args.dy_strides = args.dsum_strides = args.dx_strides = strides;
  layernorm_set_thread_parallel_for(run_on_pool, (void *)frame);
  for (int64_t i = 0; i < (merged ? 1 : c.batch) && !c.problem[0]; i++) {
    args.x = entry(&c, &x, i);
    args.dy = entry(&c, &dy, i);
    args.dsum = entry(&c, &dsum, i);
    args.weight = entry(&c, &weight, i);
    args.mean = entry(&c, &mean, i);
    args.rstd = entry(&c, &rstd, i);
    args.dx = entry(&c, &dx, i);
    args.dweight = entry(&c, &dweight, i);
    args.dbias = entry(&c, &dbias, i);
    note_status(&c, layernorm_backward(&args));
  }
  layernorm_set_thread_parallel_for(NULL, NULL);
  return end_call(&c);
}
