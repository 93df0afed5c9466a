/* The calls of the recurrent cells, for layernorm/torch/_recurrent.py. */
#include "threads.h"

EXPORT layernorm_status layernorm_torch_cell_forward(const layernorm_cell_forward_args *args) {
  enter_torch_threads();
  const layernorm_status status = layernorm_cell_forward(args);
  leave_torch_threads();
  return status;
}

EXPORT layernorm_status layernorm_torch_cell_backward(const layernorm_cell_backward_args *args) {
  enter_torch_threads();
  const layernorm_status status = layernorm_cell_backward(args);
  leave_torch_threads();
  return status;
}
