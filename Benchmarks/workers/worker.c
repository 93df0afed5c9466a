#include "worker.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Each turn begins with calls that are not counted, for this many nanoseconds: another process had
 * the caches before. */
enum {
  WARM_UP = 1000000
};

void worker_fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

void read_all(const void *data, int64_t bytes) {
  typedef uint64_t block __attribute__((vector_size(64)));
  const block *from = data;
  block sums[4] = {{0}};
  int64_t i = 0;
  for (; i + 256 <= bytes; i += 256, from += 4)
    for (int k = 0; k < 4; k++) sums[k] ^= from[k];
  for (const char *rest = (const char *)from; i < bytes; i++, rest++) sums[0][0] ^= (uint64_t)*rest;
  const block all = sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
  uint64_t bits = 0;
  for (int k = 0; k < 8; k++) bits ^= all[k];
  __asm__ volatile("" : : "r"(bits)); /* so that the compiler does not leave the reading out */
}

/* ---- Tensors ---------------------------------------------------------------------------------- */

typedef struct tensor {
  const char *name;
  size_t field;
  enum {
    MATRIX,
    PARAMETER,
    STATISTIC
  } shape;
  unsigned inputs, outputs; /* a bit for each op */
} tensor;

#define ON(op) (1u << (op))
#define FORWARD (ON(LN_FWD) | ON(LN_FWD_STATS) | ON(ADD_LN) | ON(LN_FWD_READ))
static const tensor tensors[] = {
    {"x", offsetof(job, x), MATRIX, ~0u, 0},
    {"residual", offsetof(job, residual), MATRIX, ON(ADD_LN), 0},
    {"dy", offsetof(job, dy), MATRIX, ON(LN_BWD), 0},
    {"weight", offsetof(job, weight), PARAMETER, ~0u, 0},
    {"bias", offsetof(job, bias), PARAMETER, FORWARD | ON(LN_BWD), 0},
    {"mean", offsetof(job, mean), STATISTIC, ON(LN_BWD), ON(LN_FWD_STATS)},
    {"rstd", offsetof(job, rstd), STATISTIC, ON(LN_BWD), ON(LN_FWD_STATS)},
    {"y", offsetof(job, y), MATRIX, 0, FORWARD | ON(RMS_FWD)},
    {"sum", offsetof(job, sum), MATRIX, 0, ON(ADD_LN)},
    {"dx", offsetof(job, dx), MATRIX, 0, ON(LN_BWD)},
    {"dweight", offsetof(job, dweight), PARAMETER, 0, ON(LN_BWD)},
    {"dbias", offsetof(job, dbias), PARAMETER, 0, ON(LN_BWD)},
};
enum {
  TENSORS = sizeof tensors / sizeof *tensors
};

static size_t tensor_bytes(const tensor *t, const job *j) {
  if (t->shape == STATISTIC) return (size_t)j->rows * sizeof(float);
  return (size_t)((t->shape == MATRIX ? j->rows : 1) * j->cols * element_size(j));
}

static void **tensor_data(const tensor *t, job *j) { return (void **)((char *)j + t->field); }

static void transfer(const char *dir, const char *name, const char *mode, void *data,
                     size_t bytes) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  FILE *file = fopen(path, mode);
  if (!file) worker_fail("%s: %s", path, strerror(errno));
  const size_t done = *mode == 'r' ? fread(data, 1, bytes, file) : fwrite(data, 1, bytes, file);
  if (done != bytes || fclose(file)) worker_fail("%s: cannot be read or written whole", path);
}

static void make_tensors(job *j) {
  for (int i = 0; i < TENSORS; i++) {
    const tensor *t = &tensors[i];
    if (!((t->inputs | t->outputs) & ON(j->op))) continue;
    const size_t bytes = tensor_bytes(t, j);
    void *data = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!data) worker_fail("out of memory");
    if (t->inputs & ON(j->op))
      transfer(j->dir, t->name, "r", data, bytes);
    else
      memset(data, 0xff, bytes); /* NaN, and every page touched */
    *tensor_data(t, j) = data;
  }
}

static void save_outputs(job *j, const char *dir) {
  for (int i = 0; i < TENSORS; i++)
    if (tensors[i].outputs & ON(j->op))
      transfer(dir, tensors[i].name, "w", *tensor_data(&tensors[i], j),
               tensor_bytes(&tensors[i], j));
}

static void free_tensors(job *j) {
  for (int i = 0; i < TENSORS; i++) {
    free(*tensor_data(&tensors[i], j));
    *tensor_data(&tensors[i], j) = NULL;
  }
}

/* ---- Commands --------------------------------------------------------------------------------- */

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Nanoseconds a call, over `calls` calls. */
static double time_calls(long calls) {
  const double warm = now();
  do worker_run();
  while (now() - warm < WARM_UP);
  const double start = now();
  for (long i = 0; i < calls; i++) worker_run();
  return (now() - start) / (double)calls;
}

static int find(const char *name, const char *const *names) {
  for (int i = 0; names[i]; i++)
    if (!strcmp(name, names[i])) return i;
  worker_fail("unknown: %s", name);
}

int main(int argc, char **argv) {
  static const char *const ops[] = {"ln_fwd", "ln_fwd_stats", "ln_bwd",    "rms_fwd",
                                    "add_ln", "ln_fwd_read",  (char *)NULL};
  static const char *const dtypes[] = {"f32", "f16", "bf16", (char *)NULL};
  static job current;
  static char line[8192], op_name[32], dtype_name[32], in[4096], out[4096];

  /* What a library prints must not come between the answers. */
  FILE *answers = fdopen(dup(1), "w");
  if (!answers || dup2(2, 1) < 0) worker_fail("no standard output");
  fprintf(answers, "ok %s\n", worker_start(argc > 1 ? argv[1] : ""));
  fflush(answers);
  while (fgets(line, sizeof line, stdin)) {
    long calls;
    long long rows, cols;
    if (sscanf(line, "time %ld", &calls) == 1) {
      fprintf(answers, "ok %.17g\n", time_calls(calls));
    } else if (sscanf(line, "prepare %31s %31s %d %lld %lld %4095s %4095s", op_name, dtype_name,
                      &current.threads, &rows, &cols, in, out) == 7) {
      current.op = (operation)find(op_name, ops);
      current.dtype = (element)find(dtype_name, dtypes);
      current.rows = rows, current.cols = cols, current.dir = in;
      make_tensors(&current);
      const char *why_not = worker_prepare(&current);
      if (why_not) {
        free_tensors(&current);
        fprintf(answers, "no %s\n", why_not);
      } else {
        worker_run();
        save_outputs(&current, out);
        fprintf(answers, "ok\n");
      }
    } else if (!strcmp(line, "finish\n")) {
      worker_finish();
      free_tensors(&current);
      fprintf(answers, "ok\n");
    } else {
      worker_fail("unknown command: %s", line);
    }
    fflush(answers);
  }
  return 0;
}
