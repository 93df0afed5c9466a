#include "operands.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
  int xla;
  layernorm_dtype dtype;
  int64_t size;
} DTYPES[] = {
    {XLA_FFI_F32, LAYERNORM_F32, 4},
    {XLA_FFI_F64, LAYERNORM_F64, 8},
    {XLA_FFI_F16, LAYERNORM_F16, 2},
    {XLA_FFI_BF16, LAYERNORM_BF16, 2},
};

enum {
  RANK_OF_X = 3
};

bool answer_metadata(const xla_ffi_call_frame *frame) {
  for (xla_ffi_extension *e = frame->extensions; e; e = e->next) {
    if (e->type != XLA_FFI_EXTENSION_METADATA) continue;
    xla_ffi_metadata *metadata = ((xla_ffi_metadata_extension *)e)->metadata;
    metadata->version.major = 0;
    metadata->version.minor = 1; /* nothing newer is used */
    metadata->traits = 0;
    return true;
  }
  return false;
}

static void problem(call *c, int code, const char *format, ...) {
  if (c->problem[0]) return;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(c->problem, sizeof c->problem, format, arguments);
  va_end(arguments);
  c->problem_code = code;
}

static const xla_ffi_buffer *buffer_at(const xla_ffi_operands *operands, int64_t index) {
  if (index >= operands->size || operands->types[index] != XLA_FFI_OPERAND_BUFFER) return NULL;
  return operands->values[index];
}

void begin_call(call *c, const xla_ffi_call_frame *frame) {
  memset(c, 0, sizeof *c);
  c->frame = frame;
  const xla_ffi_buffer *x = buffer_at(&frame->arguments, 0);
  const xla_ffi_buffer *result = buffer_at(&frame->results, 0);
  if (!x || !result || x->rank < RANK_OF_X || result->rank != x->rank) {
    problem(c, XLA_FFI_INVALID_ARGUMENT,
            "x and the first result must have the same number of dimensions, 3 or more");
    return;
  }
  c->batch_rank = x->rank - RANK_OF_X;
  c->batch_dims = result->dims;
  c->batch = 1;
  for (int64_t d = 0; d < c->batch_rank; d++) c->batch *= c->batch_dims[d];
  const int64_t *dims = x->dims + c->batch_rank;
  c->outer = dims[0], c->cols = dims[1], c->inner = dims[2];
}

static const xla_ffi_scalar *attribute(call *c, const char *name, int dtype) {
  const xla_ffi_attributes *all = &c->frame->attributes;
  for (int64_t i = 0; i < all->size; i++) {
    const xla_ffi_span *span = all->names[i];
    if (span->size != strlen(name) || memcmp(span->data, name, span->size) != 0) continue;
    const xla_ffi_scalar *scalar = all->values[i];
    if (all->types[i] == XLA_FFI_ATTRIBUTE_SCALAR && scalar->dtype == dtype) return scalar;
  }
  problem(c, XLA_FFI_INVALID_ARGUMENT, "attribute %s is missing or has the wrong type", name);
  return NULL;
}

bool flag_attribute(call *c, const char *name) {
  const xla_ffi_scalar *scalar = attribute(c, name, XLA_FFI_PRED);
  return scalar && *(const bool *)scalar->value;
}

double float_attribute(call *c, const char *name) {
  const xla_ffi_scalar *scalar = attribute(c, name, XLA_FFI_F64);
  return scalar ? *(const double *)scalar->value : 0;
}

static int64_t size_of(call *c, const char *name, int xla_dtype, layernorm_dtype *dtype) {
  for (size_t i = 0; i < sizeof DTYPES / sizeof *DTYPES; i++) {
    if (DTYPES[i].xla != xla_dtype) continue;
    if (*dtype == LAYERNORM_DTYPE_DEFAULT) *dtype = DTYPES[i].dtype;
    if (*dtype == DTYPES[i].dtype) return DTYPES[i].size;
    problem(c, XLA_FFI_INVALID_ARGUMENT, "%s has another dtype than what it goes with", name);
    return 0;
  }
  problem(c, XLA_FFI_INVALID_ARGUMENT, "%s is not float32, float64, float16 or bfloat16", name);
  return 0;
}

static operand next_operand(call *c, const xla_ffi_operands *operands, int64_t index,
                            const char *name, shape shape, layernorm_dtype *dtype) {
  const operand absent = {0};
  if (c->problem[0]) return absent;
  const xla_ffi_buffer *buffer = buffer_at(operands, index);
  if (!buffer) {
    problem(c, XLA_FFI_INVALID_ARGUMENT, "%s is missing", name);
    return absent;
  }
  int64_t entry_size = size_of(c, name, buffer->dtype, dtype);
  const int64_t sizes[][RANK_OF_X] = {
      [SHAPE_X] = {c->outer, c->cols, c->inner},
      [SHAPE_STATS] = {c->outer, c->inner},
      [SHAPE_PARAMS] = {c->cols},
  };
  static const int64_t ranks[] = {[SHAPE_X] = RANK_OF_X, [SHAPE_STATS] = 2, [SHAPE_PARAMS] = 1};
  const bool is_result = operands == &c->frame->results;
  bool fits = buffer->rank == c->batch_rank + ranks[shape];
  for (int64_t d = 0; fits && d < c->batch_rank; d++)
    fits = buffer->dims[d] == c->batch_dims[d] || (!is_result && buffer->dims[d] == 1);
  for (int64_t d = 0; fits && d < ranks[shape]; d++) {
    fits = buffer->dims[c->batch_rank + d] == sizes[shape][d];
    entry_size *= sizes[shape][d];
  }
  if (!fits)
    problem(c, XLA_FFI_INVALID_ARGUMENT, "%s has a shape that does not fit the others", name);
  return (operand){buffer->data, buffer->dims, entry_size};
}

operand next_argument(call *c, const char *name, shape shape, layernorm_dtype *dtype) {
  return next_operand(c, &c->frame->arguments, c->arguments_read++, name, shape, dtype);
}

operand optional_argument(call *c, const char *name, shape shape, layernorm_dtype *dtype) {
  return flag_attribute(c, name) ? next_argument(c, name, shape, dtype) : (operand){0};
}

operand next_result(call *c, const char *name, shape shape, layernorm_dtype *dtype) {
  return next_operand(c, &c->frame->results, c->results_read++, name, shape, dtype);
}

void end_of_operands(call *c) {
  if (c->arguments_read != c->frame->arguments.size || c->results_read != c->frame->results.size)
    problem(c, XLA_FFI_INVALID_ARGUMENT, "there are more arguments or results than are known");
}

static int64_t entries_of(const call *c, const operand *o) {
  int64_t entries = 1;
  for (int64_t d = 0; d < c->batch_rank; d++) entries *= o->batch_dims[d];
  return entries;
}

bool is_shared(const call *c, const operand *o) { return !o->batch_dims || entries_of(c, o) == 1; }

bool is_whole(const call *c, const operand *o) {
  return !o->batch_dims || entries_of(c, o) == c->batch;
}

void *entry(const call *c, const operand *o, int64_t index) {
  if (!o->batch_dims) return NULL;
  int64_t own = 0, step = 1;
  for (int64_t d = c->batch_rank - 1; d >= 0; d--) {
    if (o->batch_dims[d] != 1) own += index % c->batch_dims[d] * step;
    step *= o->batch_dims[d];
    index /= c->batch_dims[d];
  }
  return o->data + own * o->entry_size;
}

void matrix_sizes(call *c, int64_t entries, int64_t *batch, int64_t *rows,
                  const int64_t **strides) {
  const int64_t outer = entries * c->outer;
  if (c->inner == 1 || outer == 0) {
    *batch = 1, *rows = outer, *strides = NULL;
    return;
  }
  *batch = outer, *rows = c->inner;
  c->strides[0] = c->cols * c->inner, c->strides[1] = 1, c->strides[2] = c->inner;
  *strides = c->strides;
}

void note_status(call *c, layernorm_status status) {
  if (status == LAYERNORM_SUCCESS) return;
  const int code = status == LAYERNORM_ERROR_OUT_OF_MEMORY ? XLA_FFI_RESOURCE_EXHAUSTED
                   : status == LAYERNORM_ERROR_ISA || status == LAYERNORM_ERROR_NUM_THREADS
                       ? XLA_FFI_FAILED_PRECONDITION
                       : XLA_FFI_INVALID_ARGUMENT;
  problem(c, code, "%s", layernorm_last_error());
}

xla_ffi_error *end_call(const call *c) {
  if (!c->problem[0]) return NULL;
  const xla_ffi_api *api = c->frame->api;
  xla_ffi_error_create_args args = {sizeof args, NULL, c->problem, c->problem_code};
  return api->error_create(&args);
}
