/* The C harness: runs liblayernorm on exact references, with every buffer against a guard page. */
#ifndef HARNESS_H
#define HARNESS_H

#include <layernorm.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- Dtypes (dtypes.c) ------------------------------------------------------------------------ */

size_t dtype_size(layernorm_dtype dtype);
const char *dtype_name(layernorm_dtype dtype);
layernorm_dtype dtype_named(const char *name); /* exits if there is none */
/* The dtype that x is computed in, and that mean and rstd have. */
layernorm_dtype compute_dtype(layernorm_dtype x_dtype);

double load(layernorm_dtype dtype, const void *data, int64_t index);
void store(layernorm_dtype dtype, void *data, int64_t index, double value); /* nearest even */
void make_nans_the_same(layernorm_dtype dtype, void *data, int64_t count);
/* The unit in the last place of a value of that magnitude, in the dtype. */
long double unit_in_last_place(layernorm_dtype dtype, long double magnitude);

/* ---- Cases (cases.c, synthetic.c) ------------------------------------------------------------- */

typedef enum tensor {
  X,
  WEIGHT,
  BIAS,
  Y,
  MEAN,
  RSTD,
  TENSOR_COUNT
} tensor;

/* One case: a line of the manifest, or a synthetic one. */
typedef struct test_case {
  char op[24];
  char distribution[24];
  layernorm_dtype x_dtype, y_dtype, param_dtype;
  int64_t rows, cols;
  double eps;
  /* Of an input its elements. Of an output the nearest value to each exact element, and then one
   * int8_t for each: the rest, in 1/256 of the last place. NULL: absent, or without a reference. */
  const unsigned char *data[TENSOR_COUNT];
} test_case;

typedef struct case_list {
  test_case *cases;
  int count;
} case_list;

layernorm_dtype dtype_of(const test_case *c, tensor t);
int64_t count_of(const test_case *c, tensor t);
/* The case in words, in a buffer of this call. */
const char *describe(const test_case *c);
/* All lines of the manifest in `directory`. Exits if they cannot be read. */
case_list read_cases(const char *directory);
/* Cases without references, on both sides of the core's own block sizes. */
case_list make_synthetic_cases(void);

/* ---- Guarded memory (guard.c) ----------------------------------------------------------------- */

typedef enum placement {
  ENDS_AT_GUARD,
  BEGINS_AFTER_GUARD
} placement;

enum {
  POISON = 0xA5
};

typedef struct guarded {
  unsigned char *begin, *end; /* between two pages that no one may touch */
  unsigned char *low;         /* what has been placed */
  size_t bytes;
} guarded;

/* `bytes` poisoned bytes, `shift` bytes away from the guard page, with poisoned margins. */
unsigned char *place(guarded *region, size_t bytes, placement where, size_t shift);
bool margins_intact(const guarded *region);
bool all_poison(const unsigned char *data, size_t bytes);
/* From here on a touched guard page ends the process with a sentence that names `what`. */
void report_faults_as(const char *what);

/* ---- Running a case (run.c, layout.c) --------------------------------------------------------- */

typedef enum layout {
  CONTIGUOUS,
  PADDED_ROWS,
  EVERY_SECOND,
  ROWS_REVERSED,
  COLS_REVERSED,
  ALL_REVERSED,
  CHANNELS_FIRST
} layout;

typedef struct span {
  int64_t strides[3];
  int64_t first; /* where element 0, 0, 0 is */
  int64_t count; /* elements from the lowest address to the highest */
} span;

span span_of(layout how, int64_t batch, int64_t rows, int64_t cols);

/* How a case is run. All zero: the everyday call where there is one, each buffer ending at its
 * guard page, with mean and rstd. */
typedef struct run_options {
  const char *what; /* for reports */
  bool general;     /* layernorm_forward() */
  placement where;
  int64_t shift[TENSOR_COUNT]; /* in elements, away from the guard page */
  bool in_place, no_mean, no_rstd;
  layout x_layout, y_layout;
  int64_t batch; /* 0: one entry */
} run_options;

/* What came out, contiguous, each NaN made the same. */
typedef struct outputs {
  unsigned char *data[TENSOR_COUNT]; /* NULL: an input, or not asked for */
} outputs;

bool is_uniform(const test_case *c); /* one dtype throughout: has an everyday call */
outputs run(const test_case *c, const run_options *options);
void free_outputs(outputs *out);

/* ---- Processes (process.c) -------------------------------------------------------------------- */

typedef struct setting {
  const char *name, *value; /* an environment variable; value NULL: unset */
} setting;

extern const char *const isa_names[]; /* ends in NULL */
bool cpu_has(const char *isa);
/* Runs this program again with one argument and its standard output written to `output` unless that
 * is NULL. Returns the exit status, or 128 + the signal that ended it. */
int run_again(const char *argument, setting environment, FILE *output);
int thread_count(void); /* of this process, from /proc */

/* ---- A host's own threads (host_pool.c) ------------------------------------------------------- */

/* Started anew for each call, and given the indices in an order of no use to anyone. */
typedef struct host_pool {
  int threads;
  int64_t calls, indices; /* served so far */
} host_pool;

/* A layernorm_parallel_for; its context is a host_pool that one call at a time may use. */
void host_parallel_for(void *pool, int64_t count, layernorm_task task, void *task_context);

/* ---- Reports (report.c) ----------------------------------------------------------------------- */

/* The exit status of a test that this machine cannot run. */
enum {
  NOT_RUN = 77
};

/* Counts a check; prints a failed one. */
bool check(bool passed, const char *format, ...) __attribute__((format(printf, 2, 3)));
int64_t check_count(void);
int64_t failure_count(void);
/* One line of summary; returns the exit status. */
int summary(const char *name);
void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* ---- The tests -------------------------------------------------------------------------------- */

int test_accuracy(void);
int test_same_bits(void);
int same_bits_worker(void);
int test_arguments(void);
int test_environment(void);
int environment_worker(void);
int test_threads(void);

#endif
