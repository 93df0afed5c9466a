/* Tensors as liblayernorm takes them: [batch][rows][cols]. */
#ifndef LAYERNORM_TORCH_LAYOUT_H
#define LAYERNORM_TORCH_LAYOUT_H

#include "layernorm.h"
#include "shim.h"

enum {
  MAX_DIMS = 16,
  MAX_OPERANDS = 3
};

/* An input. */
struct operand {
  const void *data; /* NULL: there is no such input */
  int64_t dims;
  const int64_t *sizes, *strides; /* borrowed from the tensor */
  layernorm_dtype dtype;          /* LAYERNORM_DTYPE_DEFAULT: none that liblayernorm takes */
  bool contiguous;
};

struct operand describe(tensor_handle tensor);

bool same_sizes(const struct operand *a, const struct operand *b);

/* Whether `param` is NULL data or contiguous, with exactly `dims` dimensions of `sizes`. */
bool is_param(const struct operand *param, int64_t dims, const int64_t *sizes);

struct layout {
  int64_t batch, rows, cols;
  int64_t strides[MAX_OPERANDS][3]; /* {batch, row, col} of each operand */
};

/* The operands, which have the same sizes, as [batch][rows][cols], where the last `normalized` dimensions
 * become cols. False if the strides of one do not allow it. */
bool find_layout(const struct operand *const *operands, int count, int64_t normalized,
                 struct layout *layout);

/* A new contiguous tensor, and where its data is. */
tensor_handle new_tensor(int64_t dims, const int64_t *sizes, layernorm_dtype dtype, void **data);

#endif
