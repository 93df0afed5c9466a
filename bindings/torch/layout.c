#include "layout.h"

#include <string.h>

static layernorm_dtype dtype_of(int32_t torch_dtype) {
  if (torch_dtype == shim.float32) return LAYERNORM_F32;
  if (torch_dtype == shim.bfloat16) return LAYERNORM_BF16;
  if (torch_dtype == shim.float16) return LAYERNORM_F16;
  if (torch_dtype == shim.float64) return LAYERNORM_F64;
  return LAYERNORM_DTYPE_DEFAULT;
}

static int32_t torch_dtype_of(layernorm_dtype dtype) {
  switch (dtype) {
  case LAYERNORM_F64:
    return shim.float64;
  case LAYERNORM_F16:
    return shim.float16;
  case LAYERNORM_BF16:
    return shim.bfloat16;
  default:
    return shim.float32;
  }
}

struct operand describe(tensor_handle tensor) {
  struct operand operand = {0};
  bool defined = false;
  if (!tensor || shim.aoti_torch_is_defined(tensor, &defined) || !defined) return operand;
  int32_t dtype;
  int64_t *sizes, *strides;
  if (shim.aoti_torch_get_dim(tensor, &operand.dims) || shim.aoti_torch_get_sizes(tensor, &sizes) ||
      shim.aoti_torch_get_strides(tensor, &strides) || shim.aoti_torch_get_dtype(tensor, &dtype) ||
      shim.aoti_torch_is_contiguous(tensor, &operand.contiguous) ||
      shim.torch_get_const_data_ptr(tensor, &operand.data))
    raise_error("PyTorch does not describe a tensor");
  operand.sizes = sizes;
  operand.strides = strides;
  operand.dtype = dtype_of(dtype);
  return operand;
}

bool same_sizes(const struct operand *a, const struct operand *b) {
  return a->dims == b->dims && !memcmp(a->sizes, b->sizes, (size_t)a->dims * sizeof *a->sizes);
}

bool is_param(const struct operand *param, int64_t dims, const int64_t *sizes) {
  return !param->data || (param->contiguous && param->dims == dims &&
                          !memcmp(param->sizes, sizes, (size_t)dims * sizeof *sizes));
}

/* Dimensions first ..< last of all operands, merged into at most `most`, of which group g gets a size
 * and each operand a stride. Returns how many there are, or -1. */
static int merge(const struct operand *const *operands, int count, int64_t first, int64_t last,
                 int most, int64_t *sizes, int64_t strides[][2]) {
  int groups = 0;
  for (int64_t d = first; d < last; d++) {
    const int64_t size = operands[0]->sizes[d];
    if (size == 1) continue;
    bool follows = groups > 0;
    for (int i = 0; i < count && follows; i++)
      follows = strides[i][groups - 1] == size * operands[i]->strides[d];
    if (!follows && groups == most) return -1;
    if (!follows) sizes[groups++] = 1;
    sizes[groups - 1] *= size;
    for (int i = 0; i < count; i++) strides[i][groups - 1] = operands[i]->strides[d];
  }
  return groups;
}

bool find_layout(const struct operand *const *operands, int count, int64_t normalized,
                 struct layout *layout) {
  const int64_t dims = operands[0]->dims, outer = dims - normalized;
  int64_t sizes[2], strides[MAX_OPERANDS][2];
  *layout = (struct layout){.batch = 1, .rows = 1, .cols = 1};

  int groups = merge(operands, count, outer, dims, 1, sizes, strides);
  if (groups < 0) return false;
  if (groups) layout->cols = sizes[0];
  for (int i = 0; i < count; i++) layout->strides[i][2] = groups ? strides[i][0] : 1;

  groups = merge(operands, count, 0, outer, 2, sizes, strides);
  if (groups < 0) return false;
  if (groups) layout->rows = sizes[groups - 1];
  if (groups == 2) layout->batch = sizes[0];
  for (int i = 0; i < count; i++) {
    layout->strides[i][0] = groups == 2 ? strides[i][0] : 0;
    layout->strides[i][1] = groups ? strides[i][groups - 1] : 0;
  }
  return true;
}

tensor_handle new_tensor(int64_t dims, const int64_t *sizes, layernorm_dtype dtype, void **data) {
  int64_t strides[MAX_DIMS], stride = 1;
  for (int64_t d = dims; d-- > 0; stride *= sizes[d]) strides[d] = stride;
  tensor_handle tensor;
  if (shim.aoti_torch_empty_strided(dims, sizes, strides, torch_dtype_of(dtype), shim.cpu, -1,
                                    &tensor) ||
      shim.torch_get_mutable_data_ptr(tensor, data))
    raise_error("PyTorch cannot make a tensor for a result");
  return tensor;
}
