/* The copy limit: nothing but the bytes that an operation has to move. The worker's argument says
 * with what: "memcpy" or "stream". */
#include <omp.h>
#include <string.h>

#include "worker.h"

#if defined __x86_64__
#include <immintrin.h>
#endif

static const job *current;
static int threads;
static void (*copy)(char *to, const char *from, int64_t bytes);

static void plain_copy(char *to, const char *from, int64_t bytes) {
  memcpy(to, from, (size_t)bytes);
}

/* `to` is a multiple of 64; the end that is not is copied plainly. */
static void streaming_copy(char *to, const char *from, int64_t bytes) {
  int64_t i = 0;
#if defined __AVX512F__
  for (; i + 64 <= bytes; i += 64)
    _mm512_stream_si512((void *)(to + i), _mm512_loadu_si512(from + i));
#elif defined __x86_64__
  for (; i + 16 <= bytes; i += 16)
    _mm_stream_si128((void *)(to + i), _mm_loadu_si128((const void *)(from + i)));
#endif
  memcpy(to + i, from + i, (size_t)(bytes - i));
#if defined __x86_64__
  _mm_sfence();
#endif
}

const char *worker_start(const char *argument) {
  copy = strcmp(argument, "stream") ? plain_copy : streaming_copy;
  return argument;
}

static void move(int64_t begin, int64_t end) {
  enum {
    BLOCK = 16384
  };
  const job *j = current;
  char *to = j->op == LN_BWD ? j->dx : j->y;
  const char *from = j->x;
  if (j->op == LN_BWD) { /* reads two matrices and writes one: a part of each in turn */
    for (int64_t i = begin; i < end; i += BLOCK) {
      const int64_t bytes = end - i < BLOCK ? end - i : BLOCK;
      read_all((const char *)j->dy + i, bytes);
      copy(to + i, from + i, bytes);
    }
    return;
  }
  copy(to + begin, from + begin, end - begin);
  if (j->op == ADD_LN) copy((char *)j->sum + begin, (const char *)j->residual + begin, end - begin);
}

void worker_run(void) {
  const int64_t bytes = matrix_bytes(current);
  if (threads == 1) {
    move(0, bytes);
    if (current->op == LN_FWD_READ) read_all(current->y, bytes);
    return;
  }
#pragma omp parallel num_threads(threads)
  {
    int64_t begin, end;
    part(bytes, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
    move(begin, end);
    if (current->op == LN_FWD_READ) read_all((const char *)current->y + begin, end - begin);
  }
}

static double best_time(int count) {
  double best = 1e9;
  threads = count;
  for (int i = 0; i < 20; i++) {
    const double start = omp_get_wtime();
    worker_run();
    const double time = omp_get_wtime() - start;
    if (time < best) best = time;
  }
  return best;
}

/* With as many of the job's threads as are faster: waking them costs more than a small copy. */
const char *worker_prepare(const job *j) {
#if !defined __x86_64__
  if (copy == streaming_copy) return "no streaming stores for this processor";
#endif
  current = j;
  threads = 1;
  if (j->threads > 1) {
    const double one = best_time(1), all = best_time(j->threads);
    threads = all < one ? j->threads : 1;
  }
  return NULL;
}

void worker_finish(void) {}
