/* What the library refuses in backward passes. */
#include "refusals.h"

#include <math.h>
#include <string.h>

typedef layernorm_backward_args arguments;
#define CALL layernorm_backward

static layernorm_backward_args good(void) {
  layernorm_backward_args args = LAYERNORM_BACKWARD_ARGS_INIT;
  args.rows = ROWS;
  args.cols = COLS;
  args.dy = part(DY);
  args.x = part(X);
  args.weight = part(WEIGHT);
  args.mean = part(MEAN);
  args.rstd = part(RSTD);
  args.dsum = part(DSUM);
  args.dx = part(DX);
  args.dweight = part(DWEIGHT);
  args.dbias = part(DBIAS);
  return args;
}

static void pointers(void) {
  expect_refused(layernorm_backward(NULL), LAYERNORM_ERROR_NULL_POINTER, "args", "NULL",
                 "layernorm_backward(NULL)");
  REFUSED(NULL_POINTER, "dy", "NULL", a.dy = NULL);
  REFUSED(NULL_POINTER, "x", "NULL", a.x = NULL);
  REFUSED(NULL_POINTER, "mean", "rstd", a.mean = NULL);
  REFUSED(NULL_POINTER, "rstd", "mean", a.rstd = NULL);
  ACCEPTED(a.mean = NULL, a.rstd = NULL);
  ACCEPTED(a.weight = NULL);
  ACCEPTED(a.dsum = NULL);
  ACCEPTED(a.dx = NULL);
  ACCEPTED(a.dweight = NULL);
  ACCEPTED(a.dbias = NULL);
  ACCEPTED(a.dx = NULL, a.dweight = NULL, a.dbias = NULL);
  ACCEPTED(a.rows = 0, a.dy = NULL, a.x = NULL, a.dx = NULL, a.dsum = NULL);
  ACCEPTED(a.cols = 0, a.dy = NULL, a.x = NULL, a.dx = NULL, a.dsum = NULL);
}

static void sizes(void) {
  const char *any = "batch|rows|cols|dy|x|weight|mean|rstd|dsum|dx|dweight|dbias";
  REFUSED(SIZE, "rows", "negative", a.rows = -1);
  REFUSED(SIZE, "cols", "negative", a.cols = INT64_MIN);
  REFUSED(SIZE, "batch", "negative", a.batch = -1);
  REFUSED(SIZE, "cols", "negative", a.rows = 0, a.cols = -1);
  REFUSED(SIZE, any, "", a.rows = INT64_MAX);
  REFUSED(SIZE, any, "", a.cols = INT64_MAX);
  REFUSED(SIZE, any, "", a.batch = INT64_MAX);
  REFUSED(SIZE, any, "", a.rows = (int64_t)1 << 31, a.cols = (int64_t)1 << 30);
  REFUSED(SIZE, any, "", a.batch = (int64_t)1 << 62, a.rows = (int64_t)1 << 62, a.cols = 0);
}

static void values(void) {
  REFUSED(EPS, "eps", "negative", a.mean = NULL, a.rstd = NULL, a.eps = -1e-5);
  REFUSED(EPS, "eps", "NaN", a.mean = NULL, a.rstd = NULL, a.eps = NAN);
  REFUSED(EPS, "eps", "infinite", a.mean = NULL, a.rstd = NULL, a.eps = INFINITY);
  REFUSED(DTYPE, "x_dtype", "", a.x_dtype = (layernorm_dtype)5);
  REFUSED(DTYPE, "dy_dtype", "", a.dy_dtype = (layernorm_dtype)-1);
  REFUSED(DTYPE, "param_dtype", "", a.param_dtype = (layernorm_dtype)99);
  REFUSED(NORM, "norm", "", a.norm = (layernorm_norm)3);
  REFUSED(NORM, "mean", "RMS", a.norm = LAYERNORM_NORM_RMS);
  ACCEPTED(a.norm = LAYERNORM_NORM_RMS, a.mean = NULL);
  ACCEPTED(a.norm = LAYERNORM_NORM_RMS, a.mean = NULL, a.rstd = NULL);
  REFUSED(FLAGS, "flags", "", a.flags = 32);
  REFUSED(FLAGS, "flags", "", a.flags = (uint64_t)1 << 32);
  REFUSED(FLAGS, "flags", "", a.flags = UINT64_MAX);
  ACCEPTED(a.flags = LAYERNORM_FLAG_WEIGHT_OFFSET | LAYERNORM_FLAG_ACCUMULATE_DX |
                     LAYERNORM_FLAG_ACCUMULATE_PARAMS);
  const uint64_t detach = LAYERNORM_FLAG_DETACH_MEAN | LAYERNORM_FLAG_DETACH_RSTD;
  ACCEPTED(a.flags = detach);
  ACCEPTED(a.flags = LAYERNORM_FLAG_DETACH_RSTD, a.norm = LAYERNORM_NORM_RMS, a.mean = NULL);
  REFUSED(NORM, "flags", "DETACH_MEAN", a.flags = detach, a.norm = LAYERNORM_NORM_RMS,
          a.mean = NULL);
#define ADA a.norm = LAYERNORM_NORM_ADA, a.weight = NULL, a.dweight = NULL, a.dbias = NULL
  ACCEPTED(ADA);
  ACCEPTED(ADA, a.flags = detach | LAYERNORM_FLAG_ACCUMULATE_DX);
  ACCEPTED(ADA, a.ada_slope = 0);
  REFUSED(NORM, "weight", "ADA", ADA, a.weight = part(WEIGHT));
  REFUSED(NORM, "dweight", "ADA", ADA, a.dweight = part(DWEIGHT));
  REFUSED(NORM, "dbias", "ADA", ADA, a.dbias = part(DBIAS));
  REFUSED(NORM, "flags", "WEIGHT_OFFSET", ADA, a.flags = LAYERNORM_FLAG_WEIGHT_OFFSET);
  REFUSED(NORM, "ada_scale", "finite", ADA, a.ada_scale = NAN);
  REFUSED(NORM, "ada_slope", "finite", ADA, a.ada_slope = -INFINITY);
  REFUSED(STRUCT_SIZE, "struct_size", "", a.struct_size = 0);
  REFUSED(STRUCT_SIZE, "struct_size", "", a.struct_size -= 8);
  REFUSED(STRUCT_SIZE, "struct_size", "", a.struct_size += 8);
  guarded region = {NULL, NULL, NULL, 0};
  size_t only = sizeof(size_t);
  void *args = place(&region, sizeof only, ENDS_AT_GUARD, 0);
  memcpy(args, &only, sizeof only);
  expect_refused(layernorm_backward(args), LAYERNORM_ERROR_STRUCT_SIZE, "struct_size", "",
                 "a struct of struct_size alone");
}

static void strides_of_them(void) {
  const char *name = "dx_strides";
  REFUSED(STRIDE, name, "", a.dx_strides = strides(0, COLS, 0));
  REFUSED(STRIDE, name, "", a.dx_strides = strides(0, 0, 1));
  REFUSED(STRIDE, name, "", a.dx_strides = strides(0, COLS - 1, 1));
  REFUSED(STRIDE, name, "", a.dx_strides = strides(0, 1, 2));
  REFUSED(STRIDE, name, "", a.batch = 2, a.dx_strides = strides(0, COLS, 1));
  ACCEPTED(a.dx_strides = strides(0, 1, ROWS));
  ACCEPTED(a.dx_strides = strides(0, -COLS, 1), a.dx = moved(DX, 128));
  ACCEPTED(a.dx = NULL, a.dx_strides = strides(0, 0, 0));
  ACCEPTED(a.dy_strides = strides(0, 0, 0));
  ACCEPTED(a.x_strides = strides(0, 1, 1));
  ACCEPTED(a.dsum_strides = strides(0, 0, 1));
  REFUSED(SIZE, "dy|dy_strides", "strides", a.dy_strides = strides(0, INT64_MAX, 1));
  REFUSED(SIZE, "x|x_strides", "strides", a.x_strides = strides(0, INT64_MIN, 1));
  REFUSED(SIZE, "dsum|dsum_strides", "strides", a.dsum_strides = strides(0, 4, INT64_MIN));
  REFUSED(SIZE, "dx|dx_strides", "strides", a.dx_strides = strides(0, INT64_MAX / 2, 1));
}

static void overlaps(void) {
  ACCEPTED(a.dx = part(DY));
  ACCEPTED(a.dx = part(X));
  ACCEPTED(a.dx = part(DSUM));
  ACCEPTED(a.dsum = part(DY), a.x = part(DY), a.dx = part(DY));
  REFUSED(OVERLAP, "dx", "dy", a.dx = moved(DY, 4));
  REFUSED(OVERLAP, "dx", "dy", a.dy = moved(DX, BYTES - 4));
  REFUSED(OVERLAP, "dx", "dy", a.dx = part(DY), a.dy_strides = strides(0, 0, 1));
  REFUSED(OVERLAP, "dx", "dy", a.dx = part(DY), a.dx_strides = strides(0, COLS + 1, 1));
  REFUSED(OVERLAP, "dx", "x", a.dx = moved(X, -4));
  REFUSED(OVERLAP, "dx", "x", a.dx = moved(X, BYTES - 4));
  REFUSED(OVERLAP, "dx", "x", a.dx = part(X), a.dy_dtype = LAYERNORM_F16);
  REFUSED(OVERLAP, "dx", "x", a.dx = part(X), a.x_strides = strides(0, 1, ROWS));
  REFUSED(OVERLAP, "dx", "dsum", a.dx = moved(DSUM, 8));
  REFUSED(OVERLAP, "dx", "weight", a.dx = part(WEIGHT));
  REFUSED(OVERLAP, "dx", "mean", a.mean = moved(DX, 4));
  REFUSED(OVERLAP, "dx", "rstd", a.rstd = moved(DX, BYTES - 4));
  ACCEPTED(a.dx = moved(DY, BYTES));
  REFUSED(OVERLAP, "dx|dweight", "", a.dweight = part(DX));
  REFUSED(OVERLAP, "dx|dbias", "", a.dbias = moved(DX, BYTES - 4));
  REFUSED(OVERLAP, "dweight|dbias", "", a.dbias = part(DWEIGHT));
  REFUSED(OVERLAP, "dweight|dbias", "", a.dbias = moved(DWEIGHT, 12));
  ACCEPTED(a.dbias = moved(DWEIGHT, COLS * sizeof(float)));
  REFUSED(OVERLAP, "dweight", "weight", a.dweight = part(WEIGHT));
  REFUSED(OVERLAP, "dweight", "dy", a.dweight = moved(DY, 4));
  REFUSED(OVERLAP, "dweight", "x", a.dweight = moved(X, BYTES - 4));
  REFUSED(OVERLAP, "dweight", "mean", a.dweight = moved(MEAN, 8));
  REFUSED(OVERLAP, "dweight", "rstd", a.dweight = part(RSTD));
  REFUSED(OVERLAP, "dweight", "dsum", a.dweight = part(DSUM));
  REFUSED(OVERLAP, "dbias", "weight", a.dbias = part(WEIGHT));
  REFUSED(OVERLAP, "dbias", "dy", a.dbias = part(DY));
  REFUSED(OVERLAP, "dbias", "x", a.dbias = part(X));
  REFUSED(OVERLAP, "dbias", "mean", a.dbias = part(MEAN));
  REFUSED(OVERLAP, "dbias", "rstd", a.dbias = moved(RSTD, 8));
  REFUSED(OVERLAP, "dbias", "dsum", a.dbias = moved(DSUM, BYTES - 4));
  /* Inputs may be one and the same. */
  ACCEPTED(a.dy = part(X), a.weight = part(X), a.rstd = part(MEAN));
}

static void alignments(void) {
  REFUSED(ALIGNMENT, "dy", "", a.dy = moved(DY, 1));
  REFUSED(ALIGNMENT, "x", "", a.x = moved(X, 2));
  REFUSED(ALIGNMENT, "weight", "", a.weight = moved(WEIGHT, 3));
  REFUSED(ALIGNMENT, "mean", "", a.mean = moved(MEAN, 2));
  REFUSED(ALIGNMENT, "rstd", "", a.x_dtype = LAYERNORM_F64, a.rstd = moved(RSTD, 4));
  REFUSED(ALIGNMENT, "dsum", "", a.dsum = moved(DSUM, 1));
  REFUSED(ALIGNMENT, "dx", "", a.dx = moved(DX, 2));
  REFUSED(ALIGNMENT, "dx", "", a.dy_dtype = LAYERNORM_F64, a.dx = moved(DX, 4));
  REFUSED(ALIGNMENT, "dweight", "", a.dweight = moved(DWEIGHT, 2));
  REFUSED(ALIGNMENT, "dbias", "", a.param_dtype = LAYERNORM_F64, a.dbias = moved(DBIAS, 4));
  ACCEPTED(a.dy_dtype = LAYERNORM_F16, a.dy = moved(DY, 2), a.dsum = moved(DSUM, 2),
           a.dx = moved(DX, 2));
}

#define LAYER(function, T, Statistic)                                                              \
  do {                                                                                             \
    T *dy = part(DY), *x = part(X), *w = part(WEIGHT);                                             \
    T *dx = part(DX), *dw = part(DWEIGHT), *db = part(DBIAS);                                      \
    Statistic *m = part(MEAN), *s = part(RSTD);                                                    \
    expect_accepted(function(3, 4, dy, x, w, m, s, 1, dx, dw, db), #function);                     \
    expect_accepted(function(3, 4, dy, x, NULL, NULL, NULL, 1, dy, NULL, NULL), #function);        \
    CALL_REFUSED(NULL_POINTER, "dy", "NULL", function(3, 4, NULL, x, w, m, s, 1, dx, dw, db));     \
    CALL_REFUSED(NULL_POINTER, "x", "NULL", function(3, 4, dy, NULL, w, m, s, 1, dx, dw, db));     \
    CALL_REFUSED(NULL_POINTER, "mean", "", function(3, 4, dy, x, w, NULL, s, 1, dx, dw, db));      \
    CALL_REFUSED(NULL_POINTER, "rstd", "", function(3, 4, dy, x, w, m, NULL, 1, dx, dw, db));      \
    CALL_REFUSED(SIZE, "rows", "negative", function(-1, 4, dy, x, w, m, s, 1, dx, dw, db));        \
    CALL_REFUSED(EPS, "eps", "NaN", function(3, 4, dy, x, w, NULL, NULL, NAN, dx, dw, db));        \
    CALL_REFUSED(OVERLAP, "dx", "x", function(3, 4, dy, x, w, m, s, 1, x + 1, dw, db));            \
    CALL_REFUSED(OVERLAP, "dweight|dbias", "", function(3, 4, dy, x, w, m, s, 1, dx, dw, dw));     \
    CALL_REFUSED(ALIGNMENT, "dx", "",                                                              \
                 function(3, 4, dy, x, w, m, s, 1, moved(DX, 1), dw, db));                         \
  } while (0)

#define RMS(function, T, Statistic)                                                                \
  do {                                                                                             \
    T *dy = part(DY), *x = part(X), *w = part(WEIGHT), *dx = part(DX), *dw = part(DWEIGHT);        \
    Statistic *s = part(RSTD);                                                                     \
    expect_accepted(function(3, 4, dy, x, w, s, 1, dx, dw), #function);                            \
    expect_accepted(function(3, 4, dy, x, NULL, NULL, 1, x, NULL), #function);                     \
    CALL_REFUSED(NULL_POINTER, "dy", "NULL", function(3, 4, NULL, x, w, s, 1, dx, dw));            \
    CALL_REFUSED(NULL_POINTER, "x", "NULL", function(3, 4, dy, NULL, w, s, 1, dx, dw));            \
    CALL_REFUSED(SIZE, "cols", "negative", function(3, -1, dy, x, w, s, 1, dx, dw));               \
    CALL_REFUSED(EPS, "eps", "negative", function(3, 4, dy, x, w, NULL, -1, dx, dw));              \
    CALL_REFUSED(OVERLAP, "dx", "dy", function(3, 4, dy, x, w, s, 1, dy + 1, dw));                 \
    CALL_REFUSED(OVERLAP, "dweight", "weight", function(3, 4, dy, x, w, s, 1, dx, w));             \
    CALL_REFUSED(ALIGNMENT, "dweight", "",                                                         \
                 function(3, 4, dy, x, w, s, 1, dx, moved(DWEIGHT, 1)));                           \
  } while (0)

/* No rows: zeros, or nothing to add; no columns: nothing. */
static void empty_sizes(void) {
  layernorm_backward_args args = good();
  args.rows = 0;
  args.flags = LAYERNORM_FLAG_ACCUMULATE_PARAMS;
  check(layernorm_backward(&args) == LAYERNORM_SUCCESS, "rows = 0 is refused");
  check(block_unchanged(), "rows = 0 writes where it adds");
  unsigned char old[COLS * sizeof(float)];
  for (int t = DWEIGHT; t <= DBIAS; t++) {
    args = good();
    args.rows = 0;
    args.dweight = t == DWEIGHT ? part(DWEIGHT) : NULL;
    args.dbias = t == DBIAS ? part(DBIAS) : NULL;
    memcpy(old, part((tensor)t), sizeof old);
    check(layernorm_backward(&args) == LAYERNORM_SUCCESS, "rows = 0 is refused");
    for (int col = 0; col < COLS; col++)
      check(load(LAYERNORM_F32, part((tensor)t), col) == 0, "rows = 0: a gradient is not 0");
    memcpy(part((tensor)t), old, sizeof old);
    check(block_unchanged(), "rows = 0 writes more than dweight and dbias");
  }
  args = good();
  args.cols = 0;
  check(layernorm_backward(&args) == LAYERNORM_SUCCESS, "cols = 0 is refused");
  check(block_unchanged(), "cols = 0 writes");
}

void refused_backward(void) {
  pointers();
  sizes();
  values();
  strides_of_them();
  overlaps();
  alignments();
  LAYER(layernorm_backward_f32, float, float);
  LAYER(layernorm_backward_f64, double, double);
  LAYER(layernorm_backward_f16, uint16_t, float);
  LAYER(layernorm_backward_bf16, uint16_t, float);
  RMS(layernorm_rms_backward_f32, float, float);
  RMS(layernorm_rms_backward_f64, double, double);
  RMS(layernorm_rms_backward_f16, uint16_t, float);
  RMS(layernorm_rms_backward_bf16, uint16_t, float);
  empty_sizes();
}
