/* A packed call, read argument by argument and checked on the way. */
#ifndef LAYERNORM_TVM_FFI_ARGUMENTS_H
#define LAYERNORM_TVM_FFI_ARGUMENTS_H

#include "tvm_ffi.h"

#include <layernorm.h>
#include <stdbool.h>

/* Every parameter that there is: those of the shape of x, those of the normalized dimensions, those of
 * the others. */
typedef enum parameter {
  X,
  RESIDUAL,
  DY,
  DSUM,
  Y,
  SUM,
  DX,
  WEIGHT,
  BIAS,
  DWEIGHT,
  DBIAS,
  MEAN,
  RSTD,
  EPS,
  PARAMETERS
} parameter;

typedef struct signature {
  layernorm_norm norm;
  int32_t count;
  int32_t required; /* those after them may be left out, which is None */
  parameter parameters[10];
} signature;

typedef struct arguments {
  const dl_tensor *tensors[PARAMETERS]; /* NULL for None */
  double eps;
  int32_t leading;            /* how many of the dimensions of x are not normalized */
  int64_t batch, rows, cols;  /* as in layernorm_forward_args */
  int64_t strides[WEIGHT][3]; /* of the tensors of x's shape */
  const char *kind;           /* of the error; NULL if all is well */
  char problem[200];
} arguments;

/* Reads what was passed and checks types, devices, shapes and strides. */
void read_arguments(arguments *a, const signature *s, const tvm_ffi_any *values, int32_t count);

/* NULL, or LAYERNORM_DTYPE_DEFAULT, for None. */
void *data_of(const arguments *a, parameter p);
layernorm_dtype dtype_of(const arguments *a, parameter p);

/* As layernorm_forward_args has them. */
const int64_t *strides_of(const arguments *a, parameter p);

/* Refuses a tensor of another dtype; None will do. */
void require_dtype(arguments *a, parameter p, layernorm_dtype wanted);

/* Notes a problem, the first of which is kept. `kind` is the Python exception. */
__attribute__((format(printf, 3, 4))) void problem(arguments *a, const char *kind,
                                                   const char *format, ...);

#endif /* LAYERNORM_TVM_FFI_ARGUMENTS_H */
