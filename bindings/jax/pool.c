#include "pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Work that any number of threads take parts of. The caller takes parts too, and waits for those alone
 * that another thread has begun: so it comes to an end even where every thread of the pool is waiting in
 * a handler. The pool may come to the job when all is done, so whoever leaves it last frees it. */
typedef struct job {
  layernorm_task task;
  void *context;
  int64_t count;
  atomic_int_least64_t next, finished, holders;
  pthread_mutex_t mutex;
  pthread_cond_t all_finished;
} job;

static void take_parts(job *j) {
  int64_t taken = 0;
  for (int64_t i; (i = atomic_fetch_add(&j->next, 1)) < j->count; taken++) j->task(j->context, i);
  if (taken == 0 || atomic_fetch_add(&j->finished, taken) + taken < j->count) return;
  pthread_mutex_lock(&j->mutex);
  pthread_cond_signal(&j->all_finished);
  pthread_mutex_unlock(&j->mutex);
}

static void leave(job *j) {
  if (atomic_fetch_sub(&j->holders, 1) > 1) return;
  pthread_cond_destroy(&j->all_finished);
  pthread_mutex_destroy(&j->mutex);
  free(j);
}

static void help(void *data) {
  take_parts(data);
  leave(data);
}

/* Whether the pool will call help() once. */
static int schedule(const xla_ffi_call_frame *frame, job *j) {
  xla_ffi_schedule_args args = {sizeof args, NULL, frame->context, help, j};
  xla_ffi_error *error = frame->api->thread_pool_schedule(&args);
  if (!error) return 1;
  xla_ffi_error_destroy_args destroy = {sizeof destroy, NULL, error};
  frame->api->error_destroy(&destroy);
  return 0;
}

void run_on_pool(void *context, int64_t count, layernorm_task task, void *task_context) {
  job *j = malloc(sizeof *j);
  if (!j) {
    for (int64_t i = 0; i < count; i++) task(task_context, i);
    return;
  }
  *j = (job){.task = task, .context = task_context, .count = count, .holders = count};
  pthread_mutex_init(&j->mutex, NULL);
  pthread_cond_init(&j->all_finished, NULL);
  for (int64_t i = 1; i < count; i++)
    if (!schedule(context, j)) leave(j);
  take_parts(j);
  pthread_mutex_lock(&j->mutex);
  while (atomic_load(&j->finished) < count) pthread_cond_wait(&j->all_finished, &j->mutex);
  pthread_mutex_unlock(&j->mutex);
  leave(j);
}
