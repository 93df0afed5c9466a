/* The norms on tensors. */
#ifndef LAYERNORM_TORCH_NORMS_H
#define LAYERNORM_TORCH_NORMS_H

#include "layout.h"

enum {
  MAX_RESULTS = 4
};

struct shape {
  int64_t dims; /* -1: more than MAX_DIMS */
  int64_t sizes[MAX_DIMS];
};

struct forward {
  layernorm_norm norm;
  tensor_handle x, residual, weight, bias; /* all but x may be NULL */
  struct shape shape;
  double eps;
  bool stats_as_x; /* mean and rstd have the dtype of x where the parameters have it too, as in
                      aten::native_layer_norm; else float64 if x is, else float32 */
};

/* Makes y, sum if there is a residual, mean if the norm has one, and rstd, in this order. False, with
 * nothing made, if this is not a case for liblayernorm. Raises where liblayernorm reports an error. */
bool forward(const struct forward *call, tensor_handle results[MAX_RESULTS]);

struct backward {
  layernorm_norm norm;
  tensor_handle dy, x, rstd;
  tensor_handle mean, dsum, weight; /* may be NULL */
  struct shape shape;
  bool wanted[3]; /* dx, dweight, dbias */
};

/* Makes those of dx, dweight and dbias that are wanted; the others become NULL. Else as forward(). */
bool backward(const struct backward *call, tensor_handle results[3]);

#endif
