/* XLA's threads for the work of one call. */
#ifndef LAYERNORM_JAX_POOL_H
#define LAYERNORM_JAX_POOL_H

#include "xla_ffi.h"

#include <layernorm.h>

/* A layernorm_parallel_for, whose context is the xla_ffi_call_frame of the call. */
void run_on_pool(void *frame, int64_t count, layernorm_task task, void *task_context);

#endif /* LAYERNORM_JAX_POOL_H */
