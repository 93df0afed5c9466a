/* What the library refuses: the status, the sentence, and that nothing was written. */
#include "refusals.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef layernorm_forward_args arguments;
#define CALL layernorm_forward

static layernorm_forward_args good(void) {
  layernorm_forward_args args = LAYERNORM_FORWARD_ARGS_INIT;
  args.rows = ROWS;
  args.cols = COLS;
  args.x = part(X);
  args.weight = part(WEIGHT);
  args.bias = part(BIAS);
  args.y = part(Y);
  args.mean = part(MEAN);
  args.rstd = part(RSTD);
  return args;
}

static void null_pointers(void) {
  expect_refused(layernorm_forward(NULL), LAYERNORM_ERROR_NULL_POINTER, "args", "NULL",
                 "layernorm_forward(NULL)");
  REFUSED(NULL_POINTER, "x", "NULL", a.x = NULL);
  REFUSED(NULL_POINTER, "y", "NULL", a.y = NULL);
  ACCEPTED(a.weight = NULL);
  ACCEPTED(a.bias = NULL);
  ACCEPTED(a.mean = NULL);
  ACCEPTED(a.rstd = NULL);
  ACCEPTED(a.rows = 0, a.x = NULL, a.y = NULL);
  ACCEPTED(a.cols = 0, a.x = NULL, a.y = NULL);
}

static void sizes(void) {
  const char *any = "batch|rows|cols|x|y|mean|rstd|weight|bias";
  REFUSED(SIZE, "rows", "negative", a.rows = -1);
  REFUSED(SIZE, "cols", "negative", a.cols = -1);
  REFUSED(SIZE, "batch", "negative", a.batch = -1);
  REFUSED(SIZE, "rows", "negative", a.rows = INT64_MIN);
  REFUSED(SIZE, "cols", "negative", a.cols = INT64_MIN);
  REFUSED(SIZE, "rows", "negative", a.rows = -1, a.cols = 0);
  REFUSED(SIZE, "cols", "negative", a.rows = 0, a.cols = -1);
  REFUSED(SIZE, any, "", a.rows = INT64_MAX);
  REFUSED(SIZE, any, "", a.cols = INT64_MAX);
  REFUSED(SIZE, any, "", a.batch = INT64_MAX);
  REFUSED(SIZE, any, "", a.rows = INT64_MAX, a.cols = INT64_MAX, a.batch = INT64_MAX);
  REFUSED(SIZE, any, "", a.rows = (int64_t)1 << 32, a.cols = (int64_t)1 << 32);
  REFUSED(SIZE, any, "", a.rows = (int64_t)1 << 31, a.cols = (int64_t)1 << 30);
  REFUSED(SIZE, any, "", a.x_dtype = LAYERNORM_F64, a.rows = (int64_t)1 << 60, a.cols = 1);
  REFUSED(SIZE, any, "", a.batch = (int64_t)1 << 21, a.rows = (int64_t)1 << 21,
          a.cols = (int64_t)1 << 21);
  REFUSED(SIZE, any, "", a.batch = (int64_t)1 << 62, a.rows = (int64_t)1 << 62, a.cols = 0);
  REFUSED(SIZE, any, "", a.rows = INT64_MAX, a.cols = 0);
  /* The addresses are in order, but nobody has the memory for buffers of such rows. */
  REFUSED(OUT_OF_MEMORY, "cols", "memory", a.rows = 1, a.cols = (int64_t)1 << 59,
          a.x_strides = strides(0, 0, 0), a.y = part(PARTS - 1), a.weight = NULL, a.bias = NULL);
  ACCEPTED(a.rows = 0, a.cols = INT64_MAX);
  ACCEPTED(a.rows = 0, a.cols = 0);
}

static void values(void) {
  REFUSED(EPS, "eps", "negative", a.eps = -1e-5);
  REFUSED(EPS, "eps", "negative", a.eps = -INFINITY);
  REFUSED(EPS, "eps", "NaN", a.eps = NAN);
  REFUSED(EPS, "eps", "infinite", a.eps = INFINITY);
  REFUSED(EPS, "eps", "NaN", a.eps = NAN, a.rows = 0);
  ACCEPTED(a.eps = 0);
  ACCEPTED(a.eps = 1e30);
  REFUSED(DTYPE, "x_dtype", "", a.x_dtype = (layernorm_dtype)5);
  REFUSED(DTYPE, "y_dtype", "", a.y_dtype = (layernorm_dtype)5);
  REFUSED(DTYPE, "param_dtype", "", a.param_dtype = (layernorm_dtype)5);
  REFUSED(DTYPE, "x_dtype", "", a.x_dtype = (layernorm_dtype)-1);
  REFUSED(DTYPE, "y_dtype", "", a.y_dtype = (layernorm_dtype)INT32_MIN);
  REFUSED(DTYPE, "param_dtype", "", a.param_dtype = (layernorm_dtype)INT32_MAX);
  REFUSED(NORM, "norm", "", a.norm = (layernorm_norm)99);
  REFUSED(NORM, "norm", "", a.norm = (layernorm_norm)-1);
  REFUSED(FLAGS, "flags", "", a.flags = (uint64_t)1 << 63);
  REFUSED(FLAGS, "flags", "", a.flags = UINT64_MAX);
  REFUSED(FLAGS, "flags", "", a.flags = LAYERNORM_FLAG_ACCUMULATE_DX);
  REFUSED(FLAGS, "flags", "", a.flags = LAYERNORM_FLAG_ACCUMULATE_PARAMS);
  ACCEPTED(a.flags = LAYERNORM_FLAG_WEIGHT_OFFSET);
  REFUSED(FLAGS, "flags", "", a.flags = LAYERNORM_FLAG_DETACH_MEAN);
  REFUSED(FLAGS, "flags", "", a.flags = LAYERNORM_FLAG_DETACH_RSTD);
  REFUSED(NORM, "mean", "RMS", a.norm = LAYERNORM_NORM_RMS);
  ACCEPTED(a.norm = LAYERNORM_NORM_RMS, a.mean = NULL);
}

static void ada(void) {
#define ADA a.norm = LAYERNORM_NORM_ADA, a.weight = NULL, a.bias = NULL
  ACCEPTED(ADA);
  ACCEPTED(ADA, a.ada_slope = 0);
  ACCEPTED(ADA, a.ada_scale = -2);
  ACCEPTED(a.ada_scale = NAN); /* another norm does not look at it */
  ACCEPTED(ADA, a.x_dtype = LAYERNORM_F64, a.ada_scale = 1e-300);
  REFUSED(NORM, "weight", "ADA", ADA, a.weight = part(WEIGHT));
  REFUSED(NORM, "bias", "ADA", ADA, a.bias = part(BIAS));
  REFUSED(NORM, "flags", "WEIGHT_OFFSET", ADA, a.flags = LAYERNORM_FLAG_WEIGHT_OFFSET);
  REFUSED(NORM, "ada_scale", "0", ADA, a.ada_scale = 0);
  REFUSED(NORM, "ada_scale", "0", ADA, a.ada_scale = 1e-300);
  REFUSED(NORM, "ada_scale", "finite", ADA, a.ada_scale = 1e300);
  REFUSED(NORM, "ada_scale", "finite", ADA, a.ada_scale = INFINITY);
  REFUSED(NORM, "ada_slope", "finite", ADA, a.ada_slope = NAN);
}

/* A struct that ends before ada_scale, as callers of 0.1.0 have it: with the defaults of what it lacks,
 * and nothing read behind it. */
static void older_structs(void) {
  guarded region = {NULL, NULL, NULL, 0};
  float x[COLS] = {1, 2, 3, 5}, y[COLS], dx[COLS], older_y[COLS], older_dx[COLS];
  layernorm_forward_args forward = LAYERNORM_FORWARD_ARGS_INIT;
  forward.norm = LAYERNORM_NORM_ADA;
  forward.rows = 1, forward.cols = COLS;
  forward.x = x, forward.y = y;
  check(layernorm_forward(&forward) == LAYERNORM_SUCCESS, "AdaNorm is refused");
  forward.struct_size = offsetof(layernorm_forward_args, ada_scale);
  forward.y = older_y;
  void *older = place(&region, forward.struct_size, ENDS_AT_GUARD, 0);
  memcpy(older, &forward, forward.struct_size);
  check(layernorm_forward(older) == LAYERNORM_SUCCESS, "an older struct is refused");
  layernorm_backward_args backward = LAYERNORM_BACKWARD_ARGS_INIT;
  backward.norm = LAYERNORM_NORM_ADA;
  backward.rows = 1, backward.cols = COLS;
  backward.x = x, backward.dy = x, backward.dx = dx;
  check(layernorm_backward(&backward) == LAYERNORM_SUCCESS, "AdaNorm is refused");
  backward.struct_size = offsetof(layernorm_backward_args, ada_scale);
  backward.dx = older_dx;
  older = place(&region, backward.struct_size, ENDS_AT_GUARD, 0);
  memcpy(older, &backward, backward.struct_size);
  check(layernorm_backward(older) == LAYERNORM_SUCCESS, "an older struct is refused");
  check(memcmp(y, older_y, sizeof y) == 0 && memcmp(dx, older_dx, sizeof dx) == 0,
        "an older struct has other defaults");
}

static void struct_sizes(void) {
  REFUSED(STRUCT_SIZE, "struct_size", "", a.struct_size = 0);
  REFUSED(STRUCT_SIZE, "struct_size", "", a.struct_size = sizeof(size_t));
  REFUSED(STRUCT_SIZE, "struct_size", "", a.struct_size -= 1);
  REFUSED(STRUCT_SIZE, "struct_size", "", a.struct_size -= 8);
  REFUSED(STRUCT_SIZE, "struct_size", "", a.struct_size += 8);
  REFUSED(STRUCT_SIZE, "struct_size", "", a.struct_size = SIZE_MAX);
  /* A struct that ends after its first field: no other may be read. */
  guarded region = {NULL, NULL, NULL, 0};
  size_t only = sizeof(size_t);
  void *args = place(&region, sizeof only, ENDS_AT_GUARD, 0);
  memcpy(args, &only, sizeof only);
  expect_refused(layernorm_forward(args), LAYERNORM_ERROR_STRUCT_SIZE, "struct_size", "",
                 "a struct of struct_size alone");
}

static void stride_collisions(void) {
  const char *name = "y_strides";
  REFUSED(STRIDE, name, "", a.y_strides = strides(0, COLS, 0));
  REFUSED(STRIDE, name, "", a.y_strides = strides(0, 0, 1));
  REFUSED(STRIDE, name, "", a.y_strides = strides(0, 0, 0));
  REFUSED(STRIDE, name, "", a.batch = 2, a.y_strides = strides(0, COLS, 1));
  REFUSED(STRIDE, name, "", a.y_strides = strides(0, 1, 1));
  REFUSED(STRIDE, name, "", a.y_strides = strides(0, COLS - 1, 1));
  REFUSED(STRIDE, name, "", a.y_strides = strides(0, -2, 1));
  REFUSED(STRIDE, name, "", a.y_strides = strides(0, 1, 2));
  REFUSED(STRIDE, name, "", a.y_strides = strides(0, 3, -2), a.y = moved(Y, 24));
  REFUSED(STRIDE, name, "", a.batch = 2, a.y_strides = strides(COLS, COLS, 1));
  REFUSED(STRIDE, name, "", a.batch = 2, a.y_strides = strides((ROWS - 1) * COLS, COLS, 1));
  /* A stride along an axis of one element says nothing. */
  ACCEPTED(a.y_strides = strides(0, COLS, 1));
  ACCEPTED(a.rows = 1, a.y_strides = strides(0, 0, 1));
  ACCEPTED(a.cols = 1, a.y_strides = strides(0, 1, 0));
  ACCEPTED(a.rows = 1, a.cols = 1, a.y_strides = strides(INT64_MIN, INT64_MIN, INT64_MIN));
  ACCEPTED(a.y_strides = strides(0, 1, ROWS));
  ACCEPTED(a.y_strides = strides(0, -COLS, 1), a.y = moved(Y, 128));
  /* x may say the same element over and over. */
  ACCEPTED(a.x_strides = strides(0, 0, 0));
  ACCEPTED(a.batch = 2, a.x_strides = strides(0, 1, 1));
}

static void stride_overflows(void) {
  REFUSED(SIZE, "x|x_strides", "strides", a.x_strides = strides(0, INT64_MAX, 1));
  REFUSED(SIZE, "x|x_strides", "strides", a.x_strides = strides(0, INT64_MIN, 1));
  REFUSED(SIZE, "x|x_strides", "strides", a.x_strides = strides(0, 4, INT64_MIN));
  REFUSED(SIZE, "x|x_strides", "strides", a.x_strides = strides(0, INT64_MAX / 2, 1));
  REFUSED(SIZE, "y|y_strides", "strides", a.y_strides = strides(0, INT64_MAX, 1));
  REFUSED(SIZE, "y|y_strides", "strides", a.y_strides = strides(0, INT64_MIN, 1));
  REFUSED(SIZE, "y|y_strides", "strides", a.y_strides = strides(0, 4, INT64_MIN));
  REFUSED(SIZE, "y|y_strides", "strides", a.y_strides = strides(0, INT64_MAX / 2, 1));
  REFUSED(SIZE, "y|y_strides", "strides", a.batch = 2, a.y_strides = strides(INT64_MIN, 4, 1));
}

static void overlaps(void) {
  ACCEPTED(a.y = part(X));
  REFUSED(OVERLAP, "y", "x", a.y = moved(X, 4));
  REFUSED(OVERLAP, "y", "x", a.y = moved(X, BYTES - 4));
  REFUSED(OVERLAP, "y", "x", a.x = moved(Y, 4));
  REFUSED(OVERLAP, "y", "x", a.x = moved(Y, BYTES - 4));
  ACCEPTED(a.y = moved(X, BYTES));
  ACCEPTED(a.x = moved(Y, BYTES));
  REFUSED(OVERLAP, "y", "x", a.y = part(X), a.y_dtype = LAYERNORM_F16);
  REFUSED(OVERLAP, "y", "x", a.y = part(X), a.y_dtype = LAYERNORM_F64);
  REFUSED(OVERLAP, "y", "x", a.x_dtype = LAYERNORM_F16, a.y = part(X), a.y_dtype = LAYERNORM_BF16);
  REFUSED(OVERLAP, "y", "x", a.y = part(X), a.y_strides = strides(0, COLS + 1, 1));
  REFUSED(OVERLAP, "y", "x", a.y = part(X), a.x_strides = strides(0, 0, 1));
  REFUSED(OVERLAP, "y", "x", a.y = part(X), a.y_strides = strides(0, 1, ROWS));
  ACCEPTED(a.y = part(X), a.x_strides = strides(0, 1, ROWS), a.y_strides = strides(0, 1, ROWS));
  ACCEPTED(a.y = part(X), a.y_strides = strides(ROWS * COLS, COLS, 1));
  /* Reversed: the lowest address of y is the last of its elements. */
  REFUSED(OVERLAP, "y", "x", a.y = moved(X, BYTES + 4), a.y_strides = strides(0, -COLS, -1));
  ACCEPTED(a.y = moved(X, 2 * BYTES - 4), a.y_strides = strides(0, -COLS, -1));
  REFUSED(OVERLAP, "y", "weight", a.y = part(WEIGHT));
  REFUSED(OVERLAP, "y", "weight", a.weight = moved(Y, BYTES - 4));
  REFUSED(OVERLAP, "y", "bias", a.y = part(BIAS));
  REFUSED(OVERLAP, "y", "bias", a.bias = moved(Y, 4));
  REFUSED(OVERLAP, "y|mean", "", a.mean = part(Y));
  REFUSED(OVERLAP, "y|mean", "", a.mean = moved(Y, BYTES - 4));
  REFUSED(OVERLAP, "y|rstd", "", a.rstd = moved(Y, -4));
  REFUSED(OVERLAP, "mean", "x", a.mean = part(X));
  REFUSED(OVERLAP, "mean", "weight", a.mean = moved(WEIGHT, 4));
  REFUSED(OVERLAP, "mean", "bias", a.mean = moved(BIAS, 4));
  REFUSED(OVERLAP, "rstd", "x", a.rstd = moved(X, BYTES - 4));
  REFUSED(OVERLAP, "rstd", "weight", a.rstd = part(WEIGHT));
  REFUSED(OVERLAP, "rstd", "bias", a.rstd = part(BIAS));
  REFUSED(OVERLAP, "mean|rstd", "", a.rstd = part(MEAN));
  REFUSED(OVERLAP, "mean|rstd", "", a.rstd = moved(MEAN, 8));
  ACCEPTED(a.rstd = moved(MEAN, ROWS * sizeof(float)));
  /* mean of float64, because x is, reaches twice as far. */
  REFUSED(OVERLAP, "mean|rstd", "", a.x_dtype = LAYERNORM_F64, a.rstd = moved(MEAN, 16));
  /* Inputs may be one and the same. */
  ACCEPTED(a.bias = part(WEIGHT));
  ACCEPTED(a.weight = part(X));
}

static void alignments(void) {
  REFUSED(ALIGNMENT, "x", "", a.x = moved(X, 1));
  REFUSED(ALIGNMENT, "weight", "", a.weight = moved(WEIGHT, 2));
  REFUSED(ALIGNMENT, "bias", "", a.bias = moved(BIAS, 3));
  REFUSED(ALIGNMENT, "y", "", a.y = moved(Y, 1));
  REFUSED(ALIGNMENT, "mean", "", a.mean = moved(MEAN, 2));
  REFUSED(ALIGNMENT, "rstd", "", a.rstd = moved(RSTD, 3));
  REFUSED(ALIGNMENT, "x", "", a.x_dtype = LAYERNORM_F64, a.x = moved(X, 4));
  REFUSED(ALIGNMENT, "mean", "", a.x_dtype = LAYERNORM_F64, a.mean = moved(MEAN, 4));
  REFUSED(ALIGNMENT, "x", "", a.x_dtype = LAYERNORM_F16, a.x = moved(X, 1));
  REFUSED(ALIGNMENT, "y", "", a.y_dtype = LAYERNORM_BF16, a.y = moved(Y, 1));
  REFUSED(ALIGNMENT, "weight", "", a.param_dtype = LAYERNORM_F64, a.weight = moved(WEIGHT, 4));
  REFUSED(ALIGNMENT, "mean", "", a.x_dtype = LAYERNORM_F16, a.mean = moved(MEAN, 2));
  ACCEPTED(a.x_dtype = LAYERNORM_F16, a.x = moved(X, 2), a.y = moved(Y, 2), a.weight = NULL);
  ACCEPTED(a.x = moved(X, 4), a.y = moved(Y, 4), a.mean = moved(MEAN, 4));
}

/* The same checks stand before the everyday calls. */
#define EVERYDAY(function, T, Statistic)                                                           \
  do {                                                                                             \
    T *x = part(X), *w = part(WEIGHT), *b = part(BIAS), *y = part(Y);                              \
    Statistic *m = part(MEAN), *s = part(RSTD);                                                    \
    const char *any = "rows|cols|x|y|mean|rstd|weight|bias";                                       \
    expect_accepted(function(3, 4, x, w, b, 1, y, m, s), #function);                               \
    CALL_REFUSED(NULL_POINTER, "x", "NULL", function(3, 4, NULL, w, b, 1, y, m, s));           \
    CALL_REFUSED(NULL_POINTER, "y", "NULL", function(3, 4, x, w, b, 1, NULL, m, s));           \
    CALL_REFUSED(SIZE, "rows", "negative", function(-1, 4, x, w, b, 1, y, m, s));              \
    CALL_REFUSED(SIZE, "cols", "negative", function(3, -1, x, w, b, 1, y, m, s));              \
    CALL_REFUSED(SIZE, any, "", function(INT64_MAX, 4, x, w, b, 1, y, m, s));                  \
    CALL_REFUSED(SIZE, any, "", function(3, INT64_MAX, x, w, b, 1, y, m, s));                  \
    CALL_REFUSED(EPS, "eps", "negative", function(3, 4, x, w, b, -1, y, m, s));                \
    CALL_REFUSED(EPS, "eps", "NaN", function(3, 4, x, w, b, NAN, y, m, s));                    \
    CALL_REFUSED(EPS, "eps", "infinite", function(3, 4, x, w, b, INFINITY, y, m, s));          \
    CALL_REFUSED(OVERLAP, "y", "x", function(3, 4, x, w, b, 1, x + 1, m, s));                  \
    CALL_REFUSED(OVERLAP, "y", "bias", function(3, 4, x, w, b, 1, b - 1, m, s));               \
    CALL_REFUSED(OVERLAP, "mean|rstd", "", function(3, 4, x, w, b, 1, y, m, m));               \
    CALL_REFUSED(ALIGNMENT, "x", "", function(3, 4, moved(X, 1), w, b, 1, y, m, s));           \
    CALL_REFUSED(ALIGNMENT, "rstd", "", function(3, 4, x, w, b, 1, y, m, moved(RSTD, 2)));     \
  } while (0)

static void everyday_calls(void) {
  EVERYDAY(layernorm_forward_f32, float, float);
  EVERYDAY(layernorm_forward_f64, double, double);
  EVERYDAY(layernorm_forward_f16, uint16_t, float);
  EVERYDAY(layernorm_forward_bf16, uint16_t, float);
}

static void empty_sizes(void) {
  layernorm_forward_args args = good();
  args.rows = 0;
  check(layernorm_forward(&args) == LAYERNORM_SUCCESS, "rows = 0 is refused");
  check(block_unchanged(), "rows = 0 writes");
  args.rows = ROWS;
  args.cols = 0;
  args.batch = 2;
  unsigned char old[2 * ROWS * sizeof(float)];
  const tensor written[] = {MEAN, RSTD};
  for (int i = 0; i < 2; i++) {
    void *statistics = part(written[i]);
    memcpy(old, statistics, sizeof old);
    args.mean = written[i] == MEAN ? statistics : NULL;
    args.rstd = written[i] == RSTD ? statistics : NULL;
    check(layernorm_forward(&args) == LAYERNORM_SUCCESS, "cols = 0 is refused");
    for (int row = 0; row < 2 * ROWS; row++)
      check(isnan(load(LAYERNORM_F32, statistics, row)), "cols = 0: mean or rstd not NaN");
    memcpy(statistics, old, sizeof old);
    check(block_unchanged(), "cols = 0 writes more than mean and rstd");
  }
}

static void names_of_statuses(void) {
  static const char *const names[] = {"SUCCESS",           "ERROR_NULL_POINTER",  "ERROR_SIZE",
                                      "ERROR_EPS",         "ERROR_DTYPE",         "ERROR_NORM",
                                      "ERROR_FLAGS",       "ERROR_STRUCT_SIZE",   "ERROR_STRIDE",
                                      "ERROR_OVERLAP",     "ERROR_ALIGNMENT",     "ERROR_ISA",
                                      "ERROR_NUM_THREADS", "ERROR_OUT_OF_MEMORY", "ERROR_CELL"};
  for (int i = 0; i < (int)(sizeof names / sizeof *names); i++) {
    const char *name = layernorm_status_string((layernorm_status)i);
    check(strncmp(name, "LAYERNORM_", 10) == 0 && strcmp(name + 10, names[i]) == 0,
          "status %d is called %s, not LAYERNORM_%s", i, name, names[i]);
  }
  static const int unknown[] = {15, -1, 1000, INT32_MIN, INT32_MAX};
  for (int i = 0; i < 5; i++) {
    const char *name = layernorm_status_string((layernorm_status)unknown[i]);
    check(name != NULL && name[0] != 0, "status %d has no name", unknown[i]);
  }
}

void refused_forward(void) {
  null_pointers();
  sizes();
  values();
  ada();
  older_structs();
  struct_sizes();
  stride_collisions();
  stride_overflows();
  overlaps();
  alignments();
  everyday_calls();
  empty_sizes();
}

int test_arguments(void) {
  check(layernorm_last_error()[0] == 0, "an error before the first call");
  check(layernorm_version() == LAYERNORM_VERSION, "version %d", (int)layernorm_version());
  refused_forward();
  refused_add();
  refused_backward();
  names_of_statuses();
  return summary("arguments");
}
