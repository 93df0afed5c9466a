/* What the library refuses where a residual is added, and in RMSNorm. */
#include "refusals.h"

#include <math.h>
#include <string.h>

typedef layernorm_forward_args arguments;
#define CALL layernorm_forward

static layernorm_forward_args good(void) {
  layernorm_forward_args args = LAYERNORM_FORWARD_ARGS_INIT;
  args.rows = ROWS;
  args.cols = COLS;
  args.x = part(X);
  args.residual = part(RESIDUAL);
  args.x_bias = part(X_BIAS);
  args.weight = part(WEIGHT);
  args.bias = part(BIAS);
  args.sum = part(SUM);
  args.y = part(Y);
  args.mean = part(MEAN);
  args.rstd = part(RSTD);
  return args;
}

static void optional_ones(void) {
  REFUSED(NULL_POINTER, "x", "NULL", a.x = NULL);
  REFUSED(NULL_POINTER, "y", "NULL", a.y = NULL);
  ACCEPTED(a.sum = NULL);
  ACCEPTED(a.residual = NULL);
  ACCEPTED(a.x_bias = NULL);
  ACCEPTED(a.residual = NULL, a.x_bias = NULL, a.sum = NULL);
  ACCEPTED(a.norm = LAYERNORM_NORM_RMS, a.mean = NULL);
  ACCEPTED(a.rows = 0, a.x = NULL, a.y = NULL, a.residual = NULL, a.sum = NULL);
  REFUSED(NORM, "mean", "RMS", a.norm = LAYERNORM_NORM_RMS);
}

static void strides_of_them(void) {
  const char *name = "sum_strides";
  REFUSED(STRIDE, name, "", a.sum_strides = strides(0, COLS, 0));
  REFUSED(STRIDE, name, "", a.sum_strides = strides(0, 0, 1));
  REFUSED(STRIDE, name, "", a.sum_strides = strides(0, COLS - 1, 1));
  REFUSED(STRIDE, name, "", a.sum_strides = strides(0, -2, 1));
  REFUSED(STRIDE, name, "", a.sum_strides = strides(0, 1, 2));
  REFUSED(STRIDE, name, "", a.batch = 2, a.sum_strides = strides(0, COLS, 1));
  ACCEPTED(a.sum_strides = strides(0, 1, ROWS));
  ACCEPTED(a.sum_strides = strides(0, -COLS, 1), a.sum = moved(SUM, 128));
  ACCEPTED(a.residual_strides = strides(0, 0, 0));
  ACCEPTED(a.residual_strides = strides(0, 1, 1));
  REFUSED(SIZE, "residual|residual_strides", "strides",
          a.residual_strides = strides(0, INT64_MAX, 1));
  REFUSED(SIZE, "residual|residual_strides", "strides",
          a.residual_strides = strides(0, 4, INT64_MIN));
  REFUSED(SIZE, "sum|sum_strides", "strides", a.sum_strides = strides(0, INT64_MIN, 1));
  REFUSED(SIZE, "sum|sum_strides", "strides", a.sum_strides = strides(0, INT64_MAX / 2, 1));
}

static void overlaps(void) {
  ACCEPTED(a.sum = part(X));
  ACCEPTED(a.sum = part(RESIDUAL));
  ACCEPTED(a.y = part(X));
  ACCEPTED(a.y = part(RESIDUAL));
  ACCEPTED(a.y = part(X), a.sum = part(RESIDUAL));
  ACCEPTED(a.y = part(RESIDUAL), a.sum = part(X));
  ACCEPTED(a.residual = part(X), a.sum = part(X));
  ACCEPTED(a.residual = part(X), a.x_bias = part(WEIGHT));
  REFUSED(OVERLAP, "sum|y", "", a.sum = part(Y));
  REFUSED(OVERLAP, "sum|y", "", a.sum = moved(Y, BYTES - 4));
  REFUSED(OVERLAP, "sum|y", "", a.sum = part(X), a.y = part(X));
  REFUSED(OVERLAP, "sum|y", "", a.sum = moved(Y, 4), a.sum_strides = strides(0, 2 * COLS, 1));
  ACCEPTED(a.sum = moved(Y, BYTES));
  REFUSED(OVERLAP, "y", "residual", a.y = moved(RESIDUAL, 4));
  REFUSED(OVERLAP, "y", "residual", a.y = moved(RESIDUAL, BYTES - 4));
  REFUSED(OVERLAP, "y", "residual", a.residual = moved(Y, BYTES - 4));
  REFUSED(OVERLAP, "y", "residual", a.y = part(RESIDUAL), a.y_dtype = LAYERNORM_F16);
  REFUSED(OVERLAP, "y", "residual", a.y = part(RESIDUAL), a.residual_strides = strides(0, 0, 1));
  REFUSED(OVERLAP, "sum", "residual", a.sum = moved(RESIDUAL, 8));
  REFUSED(OVERLAP, "sum", "residual", a.sum = part(RESIDUAL), a.sum_strides = strides(0, 1, ROWS));
  REFUSED(OVERLAP, "sum", "residual", a.sum = part(RESIDUAL),
          a.residual_strides = strides(0, 0, 1));
  REFUSED(OVERLAP, "sum", "x", a.sum = moved(X, -4));
  REFUSED(OVERLAP, "sum", "x", a.sum = part(X), a.x_strides = strides(0, COLS + 1, 1));
  REFUSED(OVERLAP, "sum", "x_bias", a.sum = part(X_BIAS));
  REFUSED(OVERLAP, "sum", "weight", a.sum = part(WEIGHT));
  REFUSED(OVERLAP, "sum", "bias", a.bias = moved(SUM, BYTES - 4));
  REFUSED(OVERLAP, "y", "x_bias", a.x_bias = moved(Y, 4));
  REFUSED(OVERLAP, "mean", "residual", a.mean = moved(RESIDUAL, 4));
  REFUSED(OVERLAP, "mean", "x_bias", a.mean = part(X_BIAS));
  REFUSED(OVERLAP, "sum|mean", "", a.mean = part(SUM));
  REFUSED(OVERLAP, "rstd", "residual", a.rstd = moved(RESIDUAL, BYTES - 4));
  REFUSED(OVERLAP, "sum|rstd", "", a.rstd = moved(SUM, BYTES - 4));
}

static void alignments(void) {
  REFUSED(ALIGNMENT, "residual", "", a.residual = moved(RESIDUAL, 1));
  REFUSED(ALIGNMENT, "x_bias", "", a.x_bias = moved(X_BIAS, 2));
  REFUSED(ALIGNMENT, "sum", "", a.sum = moved(SUM, 3));
  REFUSED(ALIGNMENT, "sum", "", a.x_dtype = LAYERNORM_F64, a.sum = moved(SUM, 4));
  /* The dtype of x is that of what is added to it, whatever y is. */
  REFUSED(ALIGNMENT, "residual", "", a.x_dtype = LAYERNORM_F64, a.y_dtype = LAYERNORM_F32,
          a.residual = moved(RESIDUAL, 4));
  ACCEPTED(a.x_dtype = LAYERNORM_F16, a.residual = moved(RESIDUAL, 2), a.sum = moved(SUM, 2),
           a.x_bias = moved(X_BIAS, 2));
}

#define RMS(function, T, Statistic)                                                                \
  do {                                                                                             \
    T *x = part(X), *w = part(WEIGHT), *y = part(Y);                                               \
    Statistic *s = part(RSTD);                                                                     \
    expect_accepted(function(3, 4, x, w, 1, y, s), #function);                                     \
    expect_accepted(function(3, 4, x, NULL, 1, x, NULL), #function);                               \
    CALL_REFUSED(NULL_POINTER, "x", "NULL", function(3, 4, NULL, w, 1, y, s));                     \
    CALL_REFUSED(NULL_POINTER, "y", "NULL", function(3, 4, x, w, 1, NULL, s));                     \
    CALL_REFUSED(SIZE, "rows", "negative", function(-1, 4, x, w, 1, y, s));                        \
    CALL_REFUSED(SIZE, "rows|cols|x|y", "", function(3, INT64_MAX, x, w, 1, y, s));                \
    CALL_REFUSED(EPS, "eps", "NaN", function(3, 4, x, w, NAN, y, s));                              \
    CALL_REFUSED(OVERLAP, "y", "x", function(3, 4, x, w, 1, x + 1, s));                            \
    CALL_REFUSED(OVERLAP, "y", "weight", function(3, 4, x, w, 1, w, s));                           \
    CALL_REFUSED(ALIGNMENT, "x", "", function(3, 4, moved(X, 1), w, 1, y, s));                     \
    CALL_REFUSED(ALIGNMENT, "rstd", "", function(3, 4, x, w, 1, y, moved(RSTD, 2)));               \
  } while (0)

#define ADD(function, T, Statistic)                                                                \
  do {                                                                                             \
    T *x = part(X), *r = part(RESIDUAL), *w = part(WEIGHT), *b = part(BIAS);                       \
    T *h = part(SUM), *y = part(Y);                                                                \
    Statistic *m = part(MEAN), *s = part(RSTD);                                                    \
    expect_accepted(function(3, 4, x, r, w, b, 1, h, y, m, s), #function);                         \
    expect_accepted(function(3, 4, x, r, NULL, NULL, 1, NULL, y, NULL, NULL), #function);          \
    expect_accepted(function(3, 4, x, r, w, b, 1, r, x, m, s), #function);                         \
    CALL_REFUSED(NULL_POINTER, "x", "NULL", function(3, 4, NULL, r, w, b, 1, h, y, m, s));         \
    CALL_REFUSED(NULL_POINTER, "residual", "NULL", function(3, 4, x, NULL, w, b, 1, h, y, m, s));  \
    CALL_REFUSED(NULL_POINTER, "y", "NULL", function(3, 4, x, r, w, b, 1, h, NULL, m, s));         \
    CALL_REFUSED(SIZE, "cols", "negative", function(3, -4, x, r, w, b, 1, h, y, m, s));            \
    CALL_REFUSED(EPS, "eps", "negative", function(3, 4, x, r, w, b, -1, h, y, m, s));              \
    CALL_REFUSED(OVERLAP, "sum|y", "", function(3, 4, x, r, w, b, 1, y, y, m, s));                 \
    CALL_REFUSED(OVERLAP, "y", "residual", function(3, 4, x, r, w, b, 1, h, r + 1, m, s));         \
    CALL_REFUSED(OVERLAP, "sum", "bias", function(3, 4, x, r, w, b, 1, b, y, m, s));               \
    CALL_REFUSED(ALIGNMENT, "sum", "",                                                             \
                 function(3, 4, x, r, w, b, 1, moved(SUM, 1), y, m, s));                           \
  } while (0)

#define RMS_ADD(function, T, Statistic)                                                            \
  do {                                                                                             \
    T *x = part(X), *r = part(RESIDUAL), *w = part(WEIGHT), *h = part(SUM), *y = part(Y);          \
    Statistic *s = part(RSTD);                                                                     \
    expect_accepted(function(3, 4, x, r, w, 1, h, y, s), #function);                               \
    expect_accepted(function(3, 4, x, r, NULL, 1, NULL, x, NULL), #function);                      \
    CALL_REFUSED(NULL_POINTER, "residual", "NULL", function(3, 4, x, NULL, w, 1, h, y, s));        \
    CALL_REFUSED(NULL_POINTER, "y", "NULL", function(3, 4, x, r, w, 1, h, NULL, s));               \
    CALL_REFUSED(SIZE, "rows", "negative", function(-3, 4, x, r, w, 1, h, y, s));                  \
    CALL_REFUSED(EPS, "eps", "infinite", function(3, 4, x, r, w, INFINITY, h, y, s));              \
    CALL_REFUSED(OVERLAP, "sum", "x", function(3, 4, x, r, w, 1, x + 1, y, s));                    \
    CALL_REFUSED(ALIGNMENT, "residual", "",                                                        \
                 function(3, 4, x, moved(RESIDUAL, 1), w, 1, h, y, s));                            \
  } while (0)

void refused_add(void) {
  optional_ones();
  strides_of_them();
  overlaps();
  alignments();
  RMS(layernorm_rms_forward_f32, float, float);
  RMS(layernorm_rms_forward_f64, double, double);
  RMS(layernorm_rms_forward_f16, uint16_t, float);
  RMS(layernorm_rms_forward_bf16, uint16_t, float);
  ADD(layernorm_add_forward_f32, float, float);
  ADD(layernorm_add_forward_f64, double, double);
  ADD(layernorm_add_forward_f16, uint16_t, float);
  ADD(layernorm_add_forward_bf16, uint16_t, float);
  RMS_ADD(layernorm_rms_add_forward_f32, float, float);
  RMS_ADD(layernorm_rms_add_forward_f64, double, double);
  RMS_ADD(layernorm_rms_add_forward_f16, uint16_t, float);
  RMS_ADD(layernorm_rms_add_forward_bf16, uint16_t, float);
}
