/* PyTorch's threads. */
#ifndef LAYERNORM_TORCH_THREADS_H
#define LAYERNORM_TORCH_THREADS_H

#include "layernorm.h"
#include "shim.h"

/* The calls of this thread go to PyTorch's threads until leave_torch_threads(), and those of others in
 * the process where they would go anyway. */
void enter_torch_threads(void);
void leave_torch_threads(void);

#endif
