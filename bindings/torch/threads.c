#include "threads.h"

struct work {
  layernorm_task task;
  void *context;
};

static void run_range(int64_t begin, int64_t end, void *context) {
  const struct work *work = context;
  for (int64_t i = begin; i < end; i++) work->task(work->context, i);
}

static void torch_parallel_for(void *context, int64_t count, layernorm_task task,
                               void *task_context) {
  (void)context;
  struct work work = {task, task_context};
  shim.torch_parallel_for(0, count, 1, run_range, &work);
}

void enter_torch_threads(void) { layernorm_set_thread_parallel_for(torch_parallel_for, NULL); }

void leave_torch_threads(void) { layernorm_set_thread_parallel_for(NULL, NULL); }
