#include "harness.h"

#include <pthread.h>
#include <stdlib.h>

/* What one thread does: its share of the shuffled indices. */
typedef struct share {
  const int64_t *order;
  int64_t begin, end;
  layernorm_task task;
  void *task_context;
} share;

static void *work(void *argument) {
  const share *s = argument;
  for (int64_t i = s->end - 1; i >= s->begin; i--) s->task(s->task_context, s->order[i]);
  return NULL;
}

static int64_t *shuffled(int64_t count) {
  int64_t *order = malloc((size_t)(count > 0 ? count : 1) * sizeof *order);
  uint64_t state = 88172645463325252u; /* xorshift64 (Marsaglia 2003) */
  for (int64_t i = 0; i < count; i++) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    int64_t other = (int64_t)(state % (uint64_t)(i + 1));
    order[i] = order[other];
    order[other] = i;
  }
  return order;
}

void host_parallel_for(void *context, int64_t count, layernorm_task task, void *task_context) {
  enum {
    THREADS_AT_MOST = 16
  };
  host_pool *pool = context;
  check(count >= 1 && count <= layernorm_get_num_threads(),
        "the host was given %lld parts for %d threads", (long long)count,
        (int)layernorm_get_num_threads());
  pool->calls++;
  pool->indices += count;
  int64_t *order = shuffled(count);
  share shares[THREADS_AT_MOST];
  pthread_t threads[THREADS_AT_MOST];
  for (int i = 0; i < pool->threads; i++) {
    shares[i] = (share){order, count * i / pool->threads, count * (i + 1) / pool->threads, task,
                        task_context};
    if (pthread_create(&threads[i], NULL, work, &shares[i]) != 0) die("cannot start a thread");
  }
  for (int i = 0; i < pool->threads; i++) pthread_join(threads[i], NULL);
  free(order);
}
