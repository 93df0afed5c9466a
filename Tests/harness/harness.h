/* The C harness: runs liblayernorm on exact references, with every buffer against a guard page. */
#ifndef HARNESS_H
#define HARNESS_H

#include <layernorm.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

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

/* ---- Manifests (manifest.c) ------------------------------------------------------------------- */

/* The lines of a file of fields between tabs, without the first, which names the columns. */
typedef struct manifest {
  char **fields; /* [lines][columns] */
  int lines;
} manifest;

/* Exits if the file cannot be read or its columns are others. */
manifest read_manifest(const char *directory, const char *name, const char *const *columns,
                       int count);
int64_t whole_number(const char *field); /* exits if it is none */
/* The bytes at an offset of <directory>/<data>.<part>.bin. Exits if they are not there. */
const unsigned char *data_at(const char *directory, const char *data, const char *part,
                             const char *offset, size_t bytes);

/* ---- Cases (cases.c, synthetic.c) ------------------------------------------------------------- */

/* Inputs before outputs; mean and rstd are inputs of a backward pass and outputs of a forward one. */
typedef enum tensor {
  X,
  RESIDUAL,
  X_BIAS,
  DY,
  DSUM,
  WEIGHT,
  BIAS,
  MEAN,
  RSTD,
  SUM,
  Y,
  DX,
  DWEIGHT,
  DBIAS,
  TENSOR_COUNT
} tensor;

extern const char *const tensor_names[TENSOR_COUNT];

typedef enum extent {
  OF_ELEMENTS, /* [batch][rows][cols] */
  OF_COLS,
  OF_ROWS
} extent;

extent extent_of(tensor t);

typedef struct operation {
  const char *name;
  layernorm_norm norm;
  bool adds, is_backward;
  double ada_scale, ada_slope; /* of LAYERNORM_NORM_ADA; both 0: as the arguments begin with them */
} operation;

extern const operation operations[]; /* ends in one without a name */
const operation *operation_named(const char *name);

/* One case: a line of the manifest, or a synthetic one. */
typedef struct test_case {
  const operation *op;
  char distribution[24];
  layernorm_dtype x_dtype, y_dtype, param_dtype; /* y_dtype: of dy, dsum and dx, too */
  uint64_t flags;
  int64_t rows, cols;
  double eps;
  /* Of an input its elements. Of an output the nearest value to each exact element, and then one
   * int8_t for each: the rest, in 1/256 of the last place. NULL: absent, or without a reference. */
  const unsigned char *data[TENSOR_COUNT];
  /* What is in an output that the call adds to; NULL: it is assigned. */
  const unsigned char *initial[TENSOR_COUNT];
} test_case;

typedef struct case_list {
  test_case *cases;
  int count;
} case_list;

layernorm_dtype dtype_of(const test_case *c, tensor t);
bool is_output(const test_case *c, tensor t); /* one that the operation has */
int64_t count_of(const test_case *c, tensor t);
/* The case in words, in a buffer of this call. */
const char *describe(const test_case *c);
/* All lines of the manifest in `directory`. Exits if they cannot be read. */
case_list read_cases(const char *directory);
/* Cases without references, on both sides of the core's own block sizes. */
case_list make_synthetic_cases(void);
/* Cases whose rows are those of a small channels-first tensor: batch 2, H*W on both sides of a
 * vector, as many channels. */
case_list make_channel_cases(void);
/* Such a case, with weight and bias, in odd columns also with dsum; what it holds stays for ever. */
test_case make_synthetic_case(const char *op, layernorm_dtype dtype, int64_t rows, int64_t cols,
                              double mean, double spread);
/* A number of mean 0 and spread 1, from splitmix64 (Steele, Lea and Flood 2014). */
double draw(uint64_t *state);
unsigned char *allocate(size_t bytes); /* exits if there is no memory */

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

/* ---- Calling the library (calls.c) ------------------------------------------------------------ */

/* The pointers and strides of one call; strides NULL: contiguous. */
typedef struct call_arguments {
  void *at[TENSOR_COUNT];
  const int64_t *strides[TENSOR_COUNT];
  int64_t batch; /* which divides the rows of the case */
} call_arguments;

bool has_everyday_call(const test_case *c);
layernorm_status call_everyday(const test_case *c, const call_arguments *a);
layernorm_status call_general(const test_case *c, const call_arguments *a);

/* The instruction set in use, which has to be the one that LAYERNORM_ISA names; NULL, with a line
 * that says so, if this CPU lacks that. */
const char *isa_of_test(const char *test);

/* ---- Running a case (run.c, layout.c) --------------------------------------------------------- */

typedef enum layout {
  CONTIGUOUS,
  PADDED_ROWS,
  EVERY_SECOND,
  ROWS_REVERSED,
  COLS_REVERSED,
  ALL_REVERSED,
  CHANNELS_FIRST,
  ONE_ROW /* all rows in the place of one, for an input whose rows are all the same */
} layout;

typedef struct span {
  int64_t strides[3];
  int64_t first; /* where element 0, 0, 0 is */
  int64_t count; /* elements from the lowest address to the highest */
} span;

span span_of(layout how, int64_t batch, int64_t rows, int64_t cols);

/* An output in the place of an input. */
typedef struct in_place {
  tensor output, input; /* the same: none */
} in_place;

/* How a case is run. All zero: the everyday call where there is one, each buffer ending at its
 * guard page, with every output. */
typedef struct run_options {
  const char *what; /* for reports */
  bool general;     /* not the everyday call */
  placement where;
  int64_t shift[TENSOR_COUNT]; /* in elements, away from the guard page */
  in_place in_place[2];
  unsigned without; /* 1 << tensor for each output that is not asked for */
  layout layouts[TENSOR_COUNT];
  int64_t batch; /* 0: one entry */
} run_options;

/* What came out, contiguous, each NaN made the same. */
typedef struct outputs {
  unsigned char *data[TENSOR_COUNT]; /* NULL: an input, or not asked for */
} outputs;

/* Whether the case has the tensors that the options speak of. */
bool can_run(const test_case *c, const run_options *options);
outputs run(const test_case *c, const run_options *options);
void free_outputs(outputs *out);

/* ---- Errors against the references (errors.c) ------------------------------------------------ */

/* What is bounded and shown apart. */
typedef enum column {
  Y_PLAIN,  /* y without weight and bias */
  Y_AFFINE, /* y with one of them or both */
  MEANS,
  RSTDS,
  SUMS,
  DXS,
  DWEIGHTS,
  DBIASES,
  COLUMN_COUNT
} column;

/* The largest error of a column, and where it is. */
typedef struct peak {
  double error; /* -1: nothing was measured */
  int64_t index;
  double got, nearest;
} peak;

/* Raises the peaks by the errors of what one run of a case gave, in the units that errors.c states. */
void measure(const test_case *c, const outputs *out, peak peaks[COLUMN_COUNT]);
/* The dtype whose units count in a column: wide storage holds no more than what was computed. */
layernorm_dtype unit_dtype(const test_case *c, column which);
/* What the errors of dx in a row, and those of dweight or dbias in each column, are at least measured
 * against. */
long double scale_of_dx(const test_case *c, int64_t row);
long double *scales_of_sums(const test_case *c, tensor t); /* to be freed */
/* |value - expected| in units, expected being the exact value of the nearest of `dtype` and 1/256 of
 * its last place `residue` times, plus `initial`. An infinity or NaN has to be met: then 0, or else
 * infinity. */
double error_of(double value, layernorm_dtype dtype, double nearest, int8_t residue, double initial,
                long double unit);

/* ---- Ways to run a case (variants.c) ---------------------------------------------------------- */

enum {
  LARGE = 1 << 20 /* elements above which a case is run in few ways */
};

/* Runs a case in every way that has to give the bits of its plain run. */
void compare_variants(const test_case *c, const outputs *plain);

/* ---- Processes (process.c) -------------------------------------------------------------------- */

typedef struct setting {
  const char *name, *value; /* an environment variable; value NULL: unset */
} setting;

extern const char *const isa_names[]; /* ends in NULL */
bool cpu_has(const char *isa);
/* Runs this program again with one argument and its standard output written to `output` unless that
 * is NULL. */
pid_t start_again(const char *argument, setting environment, FILE *output);
int wait_for(pid_t child); /* its exit status, or 128 + the signal that ended it */
int run_again(const char *argument, setting environment, FILE *output);
int thread_count(void); /* of this process, from /proc */

/* ---- Equal bits under every instruction set (isas.c) ------------------------------------------ */

/* FNV-1a of the bytes, going on from a hash. */
#define FNV_BASIS UINT64_C(0xCBF29CE484222325)
uint64_t fnv(uint64_t hash, const unsigned char *bytes, size_t count);
/* Runs this program again with `worker` under each instruction set, and compares the digests that they
 * print, a line of 16 hexadecimal digits for each of `count` cases. */
void compare_isas(const char *worker, int count, const char *(*describe_case)(int));
void check_isa_of_worker(void); /* that it is the one that LAYERNORM_ISA names */

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
int test_gradient_sums(void);
int test_environment(void);
int environment_worker(void);
int test_threads(void);
int test_cells(void);
int test_cell_bits(void);
int cell_bits_worker(void);
int test_cell_arguments(void);
int test_cell_gradients(void);

#endif
