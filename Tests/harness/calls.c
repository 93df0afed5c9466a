#include "harness.h"

#include <stdlib.h>
#include <string.h>

bool has_everyday_call(const test_case *c) {
  bool params = c->op->is_backward || c->data[WEIGHT] != NULL || c->data[BIAS] != NULL;
  if (c->x_dtype != c->y_dtype || (params && c->x_dtype != c->param_dtype)) return false;
  if (c->op->adds && c->data[RESIDUAL] == NULL) return false;
  if (c->op->norm == LAYERNORM_NORM_RMS && c->data[BIAS] != NULL) return false;
  for (int t = DX; t < TENSOR_COUNT; t++)
    if (c->initial[t] != NULL) return false;
  if (c->op->norm == LAYERNORM_NORM_ADA) return false;
  return c->flags == 0 && c->data[X_BIAS] == NULL && c->data[DSUM] == NULL;
}

/* CALL(suffix, eps) for the dtype of the case. */
#define BY_DTYPE(CALL)                                                                             \
  switch (c->x_dtype) {                                                                            \
  case LAYERNORM_F32:                                                                              \
    return CALL(f32, (float)c->eps);                                                               \
  case LAYERNORM_F64:                                                                              \
    return CALL(f64, c->eps);                                                                      \
  case LAYERNORM_F16:                                                                              \
    return CALL(f16, (float)c->eps);                                                               \
  default:                                                                                         \
    return CALL(bf16, (float)c->eps);                                                              \
  }

#define FORWARD(suffix, eps)                                                                       \
  layernorm_forward_##suffix(c->rows, c->cols, at[X], at[WEIGHT], at[BIAS], eps, at[Y], at[MEAN],  \
                             at[RSTD])
#define RMS_FORWARD(suffix, eps)                                                                   \
  layernorm_rms_forward_##suffix(c->rows, c->cols, at[X], at[WEIGHT], eps, at[Y], at[RSTD])
#define ADD_FORWARD(suffix, eps)                                                                   \
  layernorm_add_forward_##suffix(c->rows, c->cols, at[X], at[RESIDUAL], at[WEIGHT], at[BIAS], eps, \
                                 at[SUM], at[Y], at[MEAN], at[RSTD])
#define RMS_ADD_FORWARD(suffix, eps)                                                               \
  layernorm_rms_add_forward_##suffix(c->rows, c->cols, at[X], at[RESIDUAL], at[WEIGHT], eps,       \
                                     at[SUM], at[Y], at[RSTD])
#define BACKWARD(suffix, eps)                                                                      \
  layernorm_backward_##suffix(c->rows, c->cols, at[DY], at[X], at[WEIGHT], at[MEAN], at[RSTD],     \
                              eps, at[DX], at[DWEIGHT], at[DBIAS])
#define RMS_BACKWARD(suffix, eps)                                                                  \
  layernorm_rms_backward_##suffix(c->rows, c->cols, at[DY], at[X], at[WEIGHT], at[RSTD], eps,      \
                                  at[DX], at[DWEIGHT])

layernorm_status call_everyday(const test_case *c, const call_arguments *a) {
  void *const *at = a->at;
  if (c->op->norm == LAYERNORM_NORM_LAYER) {
    if (c->op->is_backward) BY_DTYPE(BACKWARD);
    if (c->op->adds) BY_DTYPE(ADD_FORWARD);
    BY_DTYPE(FORWARD);
  }
  if (c->op->is_backward) BY_DTYPE(RMS_BACKWARD);
  if (c->op->adds) BY_DTYPE(RMS_ADD_FORWARD);
  BY_DTYPE(RMS_FORWARD);
}

/* The fields that both structs have. */
#define SET_COMMON(args)                                                                           \
  do {                                                                                             \
    args.eps = compute_dtype(c->x_dtype) == LAYERNORM_F64 ? c->eps : (double)(float)c->eps;        \
    args.flags = c->flags;                                                                         \
    args.norm = c->op->norm;                                                                       \
    if (c->op->ada_scale != 0) {                                                                   \
      args.ada_scale = c->op->ada_scale;                                                           \
      args.ada_slope = c->op->ada_slope;                                                           \
    }                                                                                              \
    args.x_dtype = c->x_dtype;                                                                     \
    args.param_dtype = c->param_dtype;                                                             \
    args.batch = a->batch;                                                                         \
    args.rows = a->batch > 1 ? c->rows / a->batch : c->rows;                                       \
    args.cols = c->cols;                                                                           \
    args.x = a->at[X];                                                                             \
    args.x_strides = a->strides[X];                                                                \
    args.weight = a->at[WEIGHT];                                                                   \
    args.mean = a->at[MEAN];                                                                       \
    args.rstd = a->at[RSTD];                                                                       \
  } while (0)

static layernorm_status call_forward(const test_case *c, const call_arguments *a) {
  layernorm_forward_args args = LAYERNORM_FORWARD_ARGS_INIT;
  SET_COMMON(args);
  args.y_dtype = c->y_dtype;
  args.bias = a->at[BIAS];
  args.y = a->at[Y];
  args.y_strides = a->strides[Y];
  args.residual = a->at[RESIDUAL];
  args.residual_strides = a->strides[RESIDUAL];
  args.x_bias = a->at[X_BIAS];
  args.sum = a->at[SUM];
  args.sum_strides = a->strides[SUM];
  return layernorm_forward(&args);
}

static layernorm_status call_backward(const test_case *c, const call_arguments *a) {
  layernorm_backward_args args = LAYERNORM_BACKWARD_ARGS_INIT;
  SET_COMMON(args);
  if (c->initial[DX] != NULL) args.flags |= LAYERNORM_FLAG_ACCUMULATE_DX;
  if (c->initial[DWEIGHT] != NULL) args.flags |= LAYERNORM_FLAG_ACCUMULATE_PARAMS;
  args.dy_dtype = c->y_dtype;
  args.dy = a->at[DY];
  args.dy_strides = a->strides[DY];
  args.dsum = a->at[DSUM];
  args.dsum_strides = a->strides[DSUM];
  args.dx = a->at[DX];
  args.dx_strides = a->strides[DX];
  args.dweight = a->at[DWEIGHT];
  args.dbias = a->at[DBIAS];
  return layernorm_backward(&args);
}

layernorm_status call_general(const test_case *c, const call_arguments *a) {
  return c->op->is_backward ? call_backward(c, a) : call_forward(c, a);
}

const char *isa_of_test(const char *test) {
  const char *forced = getenv("LAYERNORM_ISA");
  if (forced != NULL && !cpu_has(forced)) {
    printf("%s: NOT RUN under %s, which this CPU does not have\n", test, forced);
    return NULL;
  }
  const char *isa = layernorm_isa();
  check(isa != NULL && (forced == NULL || strcmp(isa, forced) == 0), "%s runs, not %s",
        isa ? isa : layernorm_last_error(), forced ? forced : "any");
  return isa ? isa : "no instruction set";
}
