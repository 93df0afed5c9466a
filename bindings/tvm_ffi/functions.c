/* The functions that tvm-ffi finds by the names of its packed calls, __tvm_ffi_<name>. */
#include "arguments.h"

static int finish(arguments *a, layernorm_status status) {
  if (!a->kind && status != LAYERNORM_SUCCESS)
    problem(a,
            status == LAYERNORM_ERROR_OUT_OF_MEMORY ? "MemoryError"
            : status == LAYERNORM_ERROR_ISA         ? "RuntimeError"
                                                    : "ValueError",
            "%s", layernorm_last_error());
  if (!a->kind) return 0;
  if (TVMFFIErrorSetRaisedFromCStr) TVMFFIErrorSetRaisedFromCStr(a->kind, a->problem);
  return -1;
}

/* The dtype of the first of the parameters that is not None. */
static layernorm_dtype first_dtype(const arguments *a, const parameter *p, int count) {
  layernorm_dtype found = LAYERNORM_DTYPE_DEFAULT;
  for (int i = 0; i < count && found == LAYERNORM_DTYPE_DEFAULT; i++) found = dtype_of(a, p[i]);
  return found;
}

static layernorm_dtype check_params(arguments *a) {
  static const parameter params[] = {WEIGHT, BIAS, DWEIGHT, DBIAS};
  const layernorm_dtype dtype = first_dtype(a, params, 4);
  for (int i = 0; i < 4; i++) require_dtype(a, params[i], dtype);
  return dtype;
}

static void check_stats(arguments *a, layernorm_dtype x) {
  const layernorm_dtype stats = x == LAYERNORM_F64 ? LAYERNORM_F64 : LAYERNORM_F32;
  require_dtype(a, MEAN, stats);
  require_dtype(a, RSTD, stats);
}

static int forward(const signature *s, const tvm_ffi_any *values, int32_t count) {
  arguments a;
  read_arguments(&a, s, values, count);
  if (a.kind) return finish(&a, LAYERNORM_SUCCESS);
  layernorm_forward_args args = LAYERNORM_FORWARD_ARGS_INIT;
  args.norm = s->norm;
  args.eps = a.eps;
  args.batch = a.batch, args.rows = a.rows, args.cols = a.cols;
  args.x_dtype = dtype_of(&a, X);
  args.y_dtype = dtype_of(&a, Y);
  args.param_dtype = check_params(&a);
  require_dtype(&a, RESIDUAL, args.x_dtype);
  require_dtype(&a, SUM, args.x_dtype);
  check_stats(&a, args.x_dtype);
  if (a.kind) return finish(&a, LAYERNORM_SUCCESS);
  args.x = data_of(&a, X), args.x_strides = strides_of(&a, X);
  args.residual = data_of(&a, RESIDUAL), args.residual_strides = strides_of(&a, RESIDUAL);
  args.y = data_of(&a, Y), args.y_strides = strides_of(&a, Y);
  args.sum = data_of(&a, SUM), args.sum_strides = strides_of(&a, SUM);
  args.weight = data_of(&a, WEIGHT);
  args.bias = data_of(&a, BIAS);
  args.mean = data_of(&a, MEAN);
  args.rstd = data_of(&a, RSTD);
  return finish(&a, layernorm_forward(&args));
}

static int backward(const signature *s, const tvm_ffi_any *values, int32_t count) {
  arguments a;
  read_arguments(&a, s, values, count);
  if (a.kind) return finish(&a, LAYERNORM_SUCCESS);
  layernorm_backward_args args = LAYERNORM_BACKWARD_ARGS_INIT;
  args.norm = s->norm;
  args.eps = a.eps;
  args.batch = a.batch, args.rows = a.rows, args.cols = a.cols;
  args.x_dtype = dtype_of(&a, X);
  args.dy_dtype = dtype_of(&a, DY);
  args.param_dtype = check_params(&a);
  require_dtype(&a, DSUM, args.dy_dtype);
  require_dtype(&a, DX, args.dy_dtype);
  check_stats(&a, args.x_dtype);
  if (a.kind) return finish(&a, LAYERNORM_SUCCESS);
  args.dy = data_of(&a, DY), args.dy_strides = strides_of(&a, DY);
  args.x = data_of(&a, X), args.x_strides = strides_of(&a, X);
  args.dsum = data_of(&a, DSUM), args.dsum_strides = strides_of(&a, DSUM);
  args.dx = data_of(&a, DX), args.dx_strides = strides_of(&a, DX);
  args.weight = data_of(&a, WEIGHT);
  args.mean = data_of(&a, MEAN);
  args.rstd = data_of(&a, RSTD);
  args.dweight = data_of(&a, DWEIGHT);
  args.dbias = data_of(&a, DBIAS);
  return finish(&a, layernorm_backward(&args));
}

/* A function that takes these parameters. */
#define COUNT(...) (sizeof((parameter[]){__VA_ARGS__}) / sizeof(parameter))
#define FUNCTION(name, direction, norm, required, ...)                                             \
  __attribute__((visibility("default"))) int __tvm_ffi_##name(                                     \
      void *self, const tvm_ffi_any *values, int32_t count, tvm_ffi_any *result);                  \
  int __tvm_ffi_##name(void *self, const tvm_ffi_any *values, int32_t count,                       \
                       tvm_ffi_any *result) {                                                      \
    static const signature s = {norm, COUNT(__VA_ARGS__), required, {__VA_ARGS__}};                \
    (void)self, (void)result; /* which is None already */                                          \
    return direction(&s, values, count);                                                           \
  }

FUNCTION(layer_norm, forward, LAYERNORM_NORM_LAYER, 5, X, WEIGHT, BIAS, EPS, Y, MEAN, RSTD)
FUNCTION(rms_norm, forward, LAYERNORM_NORM_RMS, 4, X, WEIGHT, EPS, Y, RSTD)
FUNCTION(add_layer_norm, forward, LAYERNORM_NORM_LAYER, 6, X, RESIDUAL, WEIGHT, BIAS, EPS, Y, SUM,
         MEAN, RSTD)
FUNCTION(add_rms_norm, forward, LAYERNORM_NORM_RMS, 5, X, RESIDUAL, WEIGHT, EPS, Y, SUM, RSTD)
FUNCTION(layer_norm_backward, backward, LAYERNORM_NORM_LAYER, 7, DY, X, WEIGHT, MEAN, RSTD, EPS, DX,
         DWEIGHT, DBIAS)
FUNCTION(rms_norm_backward, backward, LAYERNORM_NORM_RMS, 6, DY, X, WEIGHT, RSTD, EPS, DX, DWEIGHT)
FUNCTION(add_layer_norm_backward, backward, LAYERNORM_NORM_LAYER, 8, DY, DSUM, X, WEIGHT, MEAN,
         RSTD, EPS, DX, DWEIGHT, DBIAS)
FUNCTION(add_rms_norm_backward, backward, LAYERNORM_NORM_RMS, 7, DY, DSUM, X, WEIGHT, RSTD, EPS, DX,
         DWEIGHT)
