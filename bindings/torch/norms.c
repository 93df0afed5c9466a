#include "norms.h"
#include "threads.h"

#include <math.h>
#include <string.h>

static float bfloat16_to_float(uint16_t bits) {
  const uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return value;
}

static uint16_t float_to_bfloat16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (value != value) return 0x7fc0;
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16); /* to nearest, ties to even */
}

static void narrow(const float *from, layernorm_dtype dtype, void *to, int64_t count) {
  if (dtype == LAYERNORM_BF16)
    for (int64_t i = 0; i < count; i++) ((uint16_t *)to)[i] = float_to_bfloat16(from[i]);
  else
    for (int64_t i = 0; i < count; i++) ((_Float16 *)to)[i] = (_Float16)from[i];
}

static void widen(const void *from, layernorm_dtype dtype, float *to, int64_t count) {
  if (dtype == LAYERNORM_BF16)
    for (int64_t i = 0; i < count; i++) to[i] = bfloat16_to_float(((const uint16_t *)from)[i]);
  else
    for (int64_t i = 0; i < count; i++) to[i] = (float)((const _Float16 *)from)[i];
}

static bool is_half(layernorm_dtype dtype) {
  return dtype == LAYERNORM_F16 || dtype == LAYERNORM_BF16;
}

/* The dtypes of parameters that PyTorch's kernel takes with x, too. */
static bool goes_with(layernorm_dtype param, layernorm_dtype x) {
  return param == x || (param == LAYERNORM_F32 && is_half(x));
}

static void delete_all(tensor_handle *tensors, int count) {
  for (int i = 0; i < count; i++)
    if (tensors[i]) shim.aoti_torch_delete_tensor_object(tensors[i]);
}

/* Whether x ends with the normalized shape and has elements. */
static bool is_normalizable(const struct operand *x, const struct shape *shape) {
  if (!x->data || !x->dtype || shape->dims < 1 || x->dims > MAX_DIMS || shape->dims > x->dims)
    return false;
  const int64_t outer = x->dims - shape->dims;
  for (int64_t d = 0; d < shape->dims; d++)
    if (x->sizes[outer + d] != shape->sizes[d]) return false;
  for (int64_t d = 0; d < x->dims; d++)
    if (x->sizes[d] == 0) return false;
  return true;
}

bool forward(const struct forward *call, tensor_handle results[MAX_RESULTS]) {
  const struct operand x = describe(call->x), residual = describe(call->residual);
  const struct operand weight = describe(call->weight), bias = describe(call->bias);
  const layernorm_dtype param_dtype = weight.data ? weight.dtype : bias.data ? bias.dtype : x.dtype;
  const struct operand *operands[] = {&x, &residual};
  const int operand_count = residual.data ? 2 : 1;
  struct layout layout;
  if (!is_normalizable(&x, &call->shape) || !goes_with(param_dtype, x.dtype) ||
      !is_param(&weight, call->shape.dims, call->shape.sizes) ||
      !is_param(&bias, call->shape.dims, call->shape.sizes) ||
      (bias.data && bias.dtype != param_dtype) || (call->residual && !residual.data) ||
      (residual.data && (residual.dtype != x.dtype || !same_sizes(&x, &residual))) ||
      !(call->eps >= 0 && isfinite(call->eps)) ||
      !find_layout(operands, operand_count, call->shape.dims, &layout))
    return false;

  layernorm_forward_args args = LAYERNORM_FORWARD_ARGS_INIT;
  args.eps = call->eps;
  args.norm = call->norm;
  args.x_dtype = x.dtype;
  args.param_dtype = param_dtype;
  args.batch = layout.batch, args.rows = layout.rows, args.cols = layout.cols;
  args.x = x.data;
  if (!x.contiguous) args.x_strides = layout.strides[0];
  args.weight = weight.data, args.bias = bias.data;
  args.residual = residual.data;
  if (residual.data && !residual.contiguous) args.residual_strides = layout.strides[1];

  int count = 0;
  results[count++] = new_tensor(x.dims, x.sizes, x.dtype, &args.y);
  if (residual.data) results[count++] = new_tensor(x.dims, x.sizes, x.dtype, &args.sum);

  int64_t stats_sizes[MAX_DIMS];
  for (int64_t d = 0; d < x.dims; d++)
    stats_sizes[d] = d < x.dims - call->shape.dims ? x.sizes[d] : 1;
  const layernorm_dtype stats_dtype = x.dtype == LAYERNORM_F64 ? LAYERNORM_F64 : LAYERNORM_F32;
  const int stats_from = count;
  if (call->norm == LAYERNORM_NORM_LAYER)
    results[count++] = new_tensor(x.dims, stats_sizes, stats_dtype, &args.mean);
  results[count++] = new_tensor(x.dims, stats_sizes, stats_dtype, &args.rstd);

  enter_torch_threads();
  const layernorm_status status = layernorm_forward(&args);
  leave_torch_threads();
  if (status != LAYERNORM_SUCCESS) {
    delete_all(results, count);
    raise_error(layernorm_last_error());
  }
  if (call->stats_as_x && is_half(x.dtype) && param_dtype == x.dtype)
    for (int i = stats_from; i < count; i++) {
      void *narrowed;
      tensor_handle tensor = new_tensor(x.dims, stats_sizes, x.dtype, &narrowed);
      const void *wide = i == count - 1 ? args.rstd : args.mean;
      narrow(wide, x.dtype, narrowed, layout.batch * layout.rows);
      shim.aoti_torch_delete_tensor_object(results[i]);
      results[i] = tensor;
    }
  return true;
}

/* Whether `stats` is what forward() makes for `rows` rows. */
static bool is_stats(const struct operand *stats, layernorm_dtype x_dtype, int64_t rows) {
  if (!stats->contiguous) return false;
  int64_t count = 1;
  for (int64_t d = 0; d < stats->dims; d++) count *= stats->sizes[d];
  return count == rows &&
         (stats->dtype == (x_dtype == LAYERNORM_F64 ? LAYERNORM_F64 : LAYERNORM_F32) ||
          (is_half(x_dtype) && stats->dtype == x_dtype));
}

/* The data of `stats`, in float32 if it is a half type: then *owner becomes the tensor that has it. */
static const void *wide_stats(const struct operand *stats, int64_t rows, tensor_handle *owner) {
  if (!stats->data || !is_half(stats->dtype)) return stats->data;
  void *wide;
  *owner = new_tensor(1, &rows, LAYERNORM_F32, &wide);
  widen(stats->data, stats->dtype, wide, rows);
  return wide;
}

bool backward(const struct backward *call, tensor_handle results[3]) {
  const struct operand dy = describe(call->dy), x = describe(call->x), dsum = describe(call->dsum);
  const struct operand mean = describe(call->mean), rstd = describe(call->rstd);
  const struct operand weight = describe(call->weight);
  const layernorm_dtype param_dtype = weight.data ? weight.dtype : x.dtype;
  const struct operand *operands[] = {&dy, &x, &dsum};
  const int operand_count = dsum.data ? 3 : 2;
  struct layout layout;
  if (!is_normalizable(&x, &call->shape) || !goes_with(param_dtype, x.dtype) ||
      !is_param(&weight, call->shape.dims, call->shape.sizes) || !dy.data || dy.dtype != x.dtype ||
      !same_sizes(&x, &dy) || (dsum.data && (dsum.dtype != x.dtype || !same_sizes(&x, &dsum))) ||
      !find_layout(operands, operand_count, call->shape.dims, &layout))
    return false;
  const int64_t rows = layout.batch * layout.rows;
  const bool has_mean = call->norm == LAYERNORM_NORM_LAYER;
  if (!rstd.data || !is_stats(&rstd, x.dtype, rows) || (mean.data != NULL) != has_mean ||
      (has_mean && !is_stats(&mean, x.dtype, rows)))
    return false;

  layernorm_backward_args args = LAYERNORM_BACKWARD_ARGS_INIT;
  args.norm = call->norm;
  args.x_dtype = x.dtype, args.dy_dtype = dy.dtype, args.param_dtype = param_dtype;
  args.batch = layout.batch, args.rows = layout.rows, args.cols = layout.cols;
  args.dy = dy.data, args.x = x.data, args.dsum = dsum.data;
  if (!dy.contiguous) args.dy_strides = layout.strides[0];
  if (!x.contiguous) args.x_strides = layout.strides[1];
  if (dsum.data && !dsum.contiguous) args.dsum_strides = layout.strides[2];
  args.weight = weight.data;
  tensor_handle widened[2] = {NULL, NULL};
  args.mean = wide_stats(&mean, rows, &widened[0]);
  args.rstd = wide_stats(&rstd, rows, &widened[1]);

  const struct shape *shape = &call->shape;
  memset(results, 0, 3 * sizeof *results);
  if (call->wanted[0]) results[0] = new_tensor(x.dims, x.sizes, x.dtype, &args.dx);
  if (call->wanted[1])
    results[1] = new_tensor(shape->dims, shape->sizes, param_dtype, &args.dweight);
  if (call->wanted[2]) results[2] = new_tensor(shape->dims, shape->sizes, param_dtype, &args.dbias);

  enter_torch_threads();
  const layernorm_status status = layernorm_backward(&args);
  leave_torch_threads();
  delete_all(widened, 2);
  if (status != LAYERNORM_SUCCESS) {
    delete_all(results, 3);
    raise_error(layernorm_last_error());
  }
  return true;
}
