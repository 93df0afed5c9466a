/* A worker measures one library in a process of its own. worker.c talks to the benchmark and takes
 * the time; each library is one file that defines the four functions below. */
#ifndef WORKER_H
#define WORKER_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum operation {
  LN_FWD,
  LN_FWD_STATS,
  LN_BWD,
  RMS_FWD,
  ADD_LN,
  LN_FWD_READ
} operation;
typedef enum element {
  FLOAT32,
  FLOAT16,
  BFLOAT16
} element;

/* One case, with its inputs filled in and its outputs ready to be written. Tensors that the
 * operation does not have are NULL. Every buffer begins at a multiple of 64 bytes. */
typedef struct job {
  operation op;
  element dtype;
  int threads;
  int64_t rows, cols;
  const char *dir;                         /* where the inputs are, and model.onnx */
  void *x, *residual, *dy, *weight, *bias; /* inputs */
  float *mean, *rstd;                      /* inputs of LN_BWD, outputs of LN_FWD_STATS */
  void *y, *sum, *dx, *dweight, *dbias;    /* outputs */
} job;

static inline int64_t element_size(const job *j) { return j->dtype == FLOAT32 ? 4 : 2; }
static inline int64_t matrix_bytes(const job *j) { return j->rows * j->cols * element_size(j); }

/* The library's version. Called first; `argument` is the worker's own command line argument. */
const char *worker_start(const char *argument);

/* Gets ready for calls of worker_run(). Returns NULL, or why the library cannot do this case. */
const char *worker_prepare(const job *j);

/* One call of the operation, which is what is timed. */
void worker_run(void);

/* Frees what worker_prepare() made. */
void worker_finish(void);

/* Ends the process with a message. */
void worker_fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* The sum of the bits of `bytes` bytes, at the speed of reading. */
void read_all(const void *data, int64_t bytes);

/* The part of 0 ..< total, cut at multiples of 64, that thread `index` of `count` takes. */
static inline void part(int64_t total, int index, int count, int64_t *begin, int64_t *end) {
  const int64_t blocks = (total + 63) / 64;
  *begin = blocks * index / count * 64;
  *end = blocks * (index + 1) / count * 64;
  if (*end > total) *end = total;
}

#ifdef __cplusplus
}
#endif

#endif
