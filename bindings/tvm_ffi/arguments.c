#include "arguments.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef enum shape {
  SHAPE_X,
  SHAPE_PARAMS,
  SHAPE_STATS,
  NO_SHAPE
} shape;

static const struct {
  const char *name;
  shape shape;
  bool optional;
} KNOWN[PARAMETERS] = {
    [X] = {"x", SHAPE_X, false},
    [RESIDUAL] = {"residual", SHAPE_X, false},
    [DY] = {"dy", SHAPE_X, false},
    [DSUM] = {"dsum", SHAPE_X, true},
    [Y] = {"y", SHAPE_X, false},
    [SUM] = {"sum", SHAPE_X, true},
    [DX] = {"dx", SHAPE_X, true},
    [WEIGHT] = {"weight", SHAPE_PARAMS, true},
    [BIAS] = {"bias", SHAPE_PARAMS, true},
    [DWEIGHT] = {"dweight", SHAPE_PARAMS, true},
    [DBIAS] = {"dbias", SHAPE_PARAMS, true},
    [MEAN] = {"mean", SHAPE_STATS, true},
    [RSTD] = {"rstd", SHAPE_STATS, true},
    [EPS] = {"eps", NO_SHAPE, false},
};

static const char *const DTYPE_NAMES[] = {
    [LAYERNORM_F32] = "float32",
    [LAYERNORM_F64] = "float64",
    [LAYERNORM_F16] = "float16",
    [LAYERNORM_BF16] = "bfloat16",
};

void problem(arguments *a, const char *kind, const char *format, ...) {
  if (a->kind) return;
  va_list values;
  va_start(values, format);
  vsnprintf(a->problem, sizeof a->problem, format, values);
  va_end(values);
  a->kind = kind;
}

/* ---- Types ------------------------------------------------------------------------------------ */

static void read_eps(arguments *a, const tvm_ffi_any *value) {
  if (value->type == TVM_FFI_FLOAT)
    a->eps = value->as_float;
  else if (value->type == TVM_FFI_INT)
    a->eps = (double)value->as_int;
  else
    problem(a, "TypeError", "eps must be a number");
}

static layernorm_dtype dtype(const dl_tensor *t) {
  if (t->dtype.lanes != 1) return LAYERNORM_DTYPE_DEFAULT;
  if (t->dtype.code == DL_BFLOAT && t->dtype.bits == 16) return LAYERNORM_BF16;
  if (t->dtype.code != DL_FLOAT) return LAYERNORM_DTYPE_DEFAULT;
  switch (t->dtype.bits) {
  case 16:
    return LAYERNORM_F16;
  case 32:
    return LAYERNORM_F32;
  case 64:
    return LAYERNORM_F64;
  default:
    return LAYERNORM_DTYPE_DEFAULT;
  }
}

static void read_tensor(arguments *a, parameter p, const tvm_ffi_any *value) {
  const char *name = KNOWN[p].name;
  const dl_tensor *t;
  switch (value->type) {
  case TVM_FFI_NONE:
    if (!KNOWN[p].optional) problem(a, "TypeError", "%s is None; it must be a tensor", name);
    return;
  case TVM_FFI_DL_TENSOR:
    t = value->as_pointer;
    break;
  case TVM_FFI_TENSOR:
    t = &((const tvm_ffi_tensor *)value->as_pointer)->tensor;
    break;
  default:
    problem(a, "TypeError", "%s must be a tensor", name);
    return;
  }
  const int32_t device = t->device.type;
  if (device != DL_CPU && device != DL_CUDA_HOST && device != DL_ROCM_HOST)
    problem(a, "ValueError", "%s is not in the memory of the CPU", name);
  if (dtype(t) == LAYERNORM_DTYPE_DEFAULT)
    problem(a, "TypeError", "%s must be float32, float64, float16 or bfloat16", name);
  a->tensors[p] = t;
}

/* ---- Shapes ----------------------------------------------------------------------------------- */

static int64_t product(arguments *a, const int64_t *shape, int32_t begin, int32_t end) {
  int64_t result = 1;
  for (int32_t d = begin; d < end; d++)
    if (__builtin_mul_overflow(result, shape[d], &result))
      problem(a, "ValueError", "x has too many elements");
  return result;
}

static void check_shape(arguments *a, parameter p, const int64_t *shape, int32_t ndim,
                        const char *expected) {
  const dl_tensor *t = a->tensors[p];
  bool fits = t->ndim == ndim;
  for (int32_t d = 0; fits && d < ndim; d++) fits = t->shape[d] == shape[d];
  if (!fits) problem(a, "ValueError", "%s must have the shape of %s", KNOWN[p].name, expected);
}

/* The dimensions of weight and bias, or of their gradients, are those that are normalized; without any
 * it is the last one. */
static void check_shapes(arguments *a) {
  const dl_tensor *x = a->tensors[X];
  int32_t normalized = 1;
  for (parameter p = DBIAS; p >= WEIGHT; p--)
    if (a->tensors[p]) normalized = a->tensors[p]->ndim;
  if (normalized < 1 || normalized > x->ndim) {
    problem(a, "ValueError", "x must have the dimensions that are normalized, one or more");
    return;
  }
  a->leading = x->ndim - normalized;
  for (parameter p = X; p < EPS; p++) {
    if (!a->tensors[p]) continue;
    switch (KNOWN[p].shape) {
    case SHAPE_X:
      check_shape(a, p, x->shape, x->ndim, "x");
      break;
    case SHAPE_STATS:
      check_shape(a, p, x->shape, a->leading, "x without its normalized dimensions");
      break;
    default:
      check_shape(a, p, x->shape + a->leading, normalized, "the last dimensions of x");
      break;
    }
  }
}

/* ---- Strides ---------------------------------------------------------------------------------- */

/* Whether the dimensions can be stepped through with one stride. */
static bool one_stride(const dl_tensor *t, int32_t begin, int32_t end, int64_t *stride) {
  int64_t contiguous = 1, next = 0;
  for (int32_t d = t->ndim - 1; d >= end; d--) contiguous *= t->shape[d];
  *stride = contiguous;
  bool found = false;
  for (int32_t d = end - 1; d >= begin; d--) {
    const int64_t size = t->shape[d], own = t->strides ? t->strides[d] : contiguous;
    contiguous *= size;
    if (size == 1) continue;
    if (found && own != next) return false;
    if (!found) *stride = own;
    found = true;
    next = own * size;
  }
  return true;
}

/* Whether every tensor of x's shape is a batch of matrices, where the first `split` dimensions are the
 * batch. */
static bool are_matrices(arguments *a, int32_t split) {
  for (parameter p = X; p < WEIGHT; p++) {
    const dl_tensor *t = a->tensors[p];
    if (t && !(one_stride(t, 0, split, &a->strides[p][0]) &&
               one_stride(t, split, a->leading, &a->strides[p][1]) &&
               one_stride(t, a->leading, t->ndim, &a->strides[p][2])))
      return false;
  }
  return true;
}

static void find_matrices(arguments *a) {
  const dl_tensor *x = a->tensors[X];
  a->batch = 1;
  a->rows = product(a, x->shape, 0, a->leading);
  a->cols = product(a, x->shape, a->leading, x->ndim);
  if (a->kind || a->rows == 0 || a->cols == 0) return;
  for (parameter p = WEIGHT; p < EPS; p++) {
    const dl_tensor *t = a->tensors[p];
    int64_t stride;
    if (t && !(one_stride(t, 0, t->ndim, &stride) && stride == 1))
      problem(a, "ValueError", "%s must be contiguous", KNOWN[p].name);
  }
  for (int32_t split = 0; split <= a->leading; split++) {
    if (!are_matrices(a, split)) continue;
    a->batch = product(a, x->shape, 0, split);
    a->rows = product(a, x->shape, split, a->leading);
    return;
  }
  problem(a, "ValueError",
          "x and the tensors of its shape must have normalized dimensions with one stride, and "
          "others with two at most: make them contiguous");
}

/* ---- All of it -------------------------------------------------------------------------------- */

static bool knows_host(void) {
  tvm_ffi_version version;
  if (!TVMFFIGetVersion) return false;
  TVMFFIGetVersion(&version);
  return version.major == 0 && version.minor >= 1;
}

void read_arguments(arguments *a, const signature *s, const tvm_ffi_any *values, int32_t count) {
  memset(a, 0, sizeof *a);
  if (!knows_host()) problem(a, "RuntimeError", "this tvm-ffi is not of a version from 0.1 to 1.0");
  if (count < s->required || count > s->count)
    problem(a, "TypeError", "%d arguments were passed; there must be %d to %d", count, s->required,
            s->count);
  for (int32_t i = 0; i < count && !a->kind; i++) {
    if (s->parameters[i] == EPS)
      read_eps(a, &values[i]);
    else
      read_tensor(a, s->parameters[i], &values[i]);
  }
  if (!a->kind) check_shapes(a);
  if (!a->kind) find_matrices(a);
}

void *data_of(const arguments *a, parameter p) {
  const dl_tensor *t = a->tensors[p];
  return t ? (char *)t->data + t->byte_offset : NULL;
}

const int64_t *strides_of(const arguments *a, parameter p) {
  return a->rows == 0 || a->cols == 0 ? NULL : a->strides[p];
}

layernorm_dtype dtype_of(const arguments *a, parameter p) {
  return a->tensors[p] ? dtype(a->tensors[p]) : LAYERNORM_DTYPE_DEFAULT;
}

void require_dtype(arguments *a, parameter p, layernorm_dtype wanted) {
  if (a->tensors[p] && dtype(a->tensors[p]) != wanted)
    problem(a, "TypeError", "%s is %s; beside the others it must be %s", KNOWN[p].name,
            DTYPE_NAMES[dtype_of(a, p)], DTYPE_NAMES[wanted]);
}
