/* The operators of this adapter, as its parts share them. */
#ifndef LAYERNORM_NORM_OP_H
#define LAYERNORM_NORM_OP_H

#include "layernorm.h"
#include "ort.h"

/* What an input or output of an operator is. */
typedef enum role {
  X,
  RESIDUAL,
  WEIGHT, /* all up to here are required inputs */
  BIAS,
  X_BIAS,
  Y, /* a required output */
  MEAN,
  RSTD,
  SUM,
  ROLES
} role;

enum {
  MAX_INPUTS = 5,
  MAX_OUTPUTS = 4
};

/* One of the four operators. */
typedef struct norm_kind {
  const char *name;
  layernorm_norm norm;
  int adds; /* a residual; then over the last dimension, whatever `axis` says */
  float eps;
  size_t inputs, outputs;
  role input[MAX_INPUTS], output[MAX_OUTPUTS];
} norm_kind;

/* One of the four for one pair of dtypes. */
typedef struct norm_op {
  OrtCustomOp base; /* first: ONNX Runtime hands back its address */
  const OrtApi *api;
  const norm_kind *kind;
  ort_element x_type; /* of x, residual, x_bias and sum */
  ort_element y_type; /* of y, weight and bias */
} norm_op;

/* An OrtStatus with a sentence like printf's. */
OrtStatus *failure(const OrtApi *api, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* kernel.c: CreateKernelV2, KernelComputeV2 and KernelDestroy. */
OrtStatus *create_kernel(const OrtCustomOp *base, const OrtApi *api, const OrtKernelInfo *info,
                         void **out);
OrtStatus *compute(void *kernel, OrtKernelContext *context);
void destroy_kernel(void *kernel);

/* shapes.c: InferOutputShapeFn. */
OrtStatus *infer_shapes(const OrtCustomOp *base, OrtShapeInferContext *context);

#endif
