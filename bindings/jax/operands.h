/* A call from XLA, read operand by operand and checked on the way. */
#ifndef LAYERNORM_JAX_OPERANDS_H
#define LAYERNORM_JAX_OPERANDS_H

#include "xla_ffi.h"

#include <layernorm.h>
#include <stdbool.h>

/* Every operand has the dimensions that vmap put in front, each of the full size or 1, and then those
 * of its shape. */
typedef enum shape {
  SHAPE_X,     /* [outer][cols][inner]; cols is normalized */
  SHAPE_STATS, /* [outer][inner] */
  SHAPE_PARAMS /* [cols] */
} shape;

/* An argument or a result; all zeros where it is absent. */
typedef struct operand {
  char *data;
  const int64_t *batch_dims;
  int64_t entry_size; /* bytes of one entry of the batch */
} operand;

typedef struct call {
  const xla_ffi_call_frame *frame;
  int64_t arguments_read, results_read;
  int64_t batch_rank, batch; /* vmap's dimensions: how many, and their product */
  const int64_t *batch_dims;
  int64_t outer, cols, inner;
  int64_t strides[3];
  char problem[200]; /* the first one; empty if all is well */
  int problem_code;
} call;

/* Answers XLA's question which version of the interface the handler is for, if the frame is that. */
bool answer_metadata(const xla_ffi_call_frame *frame);

/* Begins with the sizes: those of the first argument, x, and of the first result, which has its shape. */
void begin_call(call *c, const xla_ffi_call_frame *frame);

/* An attribute; false, or 0, where there is a problem. */
bool flag_attribute(call *c, const char *name);
double float_attribute(call *c, const char *name);

/* The next argument or result. *dtype is what it must have, or LAYERNORM_DTYPE_DEFAULT and is set. An
 * optional argument is there if the flag of its name is. */
operand next_argument(call *c, const char *name, shape shape, layernorm_dtype *dtype);
operand optional_argument(call *c, const char *name, shape shape, layernorm_dtype *dtype);
operand next_result(call *c, const char *name, shape shape, layernorm_dtype *dtype);

/* Refuses what is left over. */
void end_of_operands(call *c);

/* Whether every entry of the batch has the same data, or each its own. An absent operand is both. */
bool is_shared(const call *c, const operand *o);
bool is_whole(const call *c, const operand *o);

/* The data for one entry of the batch, or NULL where the operand is absent. */
void *entry(const call *c, const operand *o, int64_t index);

/* The sizes of layernorm_forward_args for `entries` of the batch taken together. */
void matrix_sizes(call *c, int64_t entries, int64_t *batch, int64_t *rows, const int64_t **strides);

/* Notes what layernorm_last_error() says. */
void note_status(call *c, layernorm_status status);

/* What the handler returns: NULL, or the problem for XLA to raise. */
xla_ffi_error *end_call(const call *c);

#endif /* LAYERNORM_JAX_OPERANDS_H */
