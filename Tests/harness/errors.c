/* What an error is counted in: units in the last place, in the dtype of the output or in that of the
 * computation, whichever is coarser, of
 *
 *   y              max(|exact y|, root mean square of the exact row); of AdaNorm at least
 *                  |x^ * dy/dx^| = |C * x^ * (1 - 2 k * x^)|: where y is 0 beside that, near x^ = 1/k, the
 *                  last place of x^ is what counts
 *   mean           max(|exact mean|, spread of the row), since a mean near zero is the difference of
 *                  large numbers
 *   rstd           itself
 *   sum            nothing: the bits are given by the definition
 *   dx             max(|exact dx|, root mean square of the exact row of dx); in rows of fewer than
 *                  16 columns max(|exact dx|, root mean square of rstd * g in the row, g = dy * weight),
 *                  since the projection leaves almost nothing there (of 2 columns only eps)
 *   dweight, dbias max(|exact|, root mean square of the exact vector); with fewer than 16 rows, whose
 *                  terms may cancel, dweight at least the root of the sum of (dy * x^)^2 over the
 *                  rows: the rounding of rstd alone costs each term half a unit
 *
 * Means are those of what is finite. Where the call adds to what is there, exact is the larger of the
 * gradient and the result, since they may cancel.
 *
 * Where the result is exact by rule, any error at all is infinite: a constant row gives y = bias,
 * and a single column has dx = 0, unless the mean is detached, and dweight = 0.
 */
#include "harness.h"

#include <math.h>
#include <stdlib.h>

enum {
  FEW = 16 /* columns or rows */
};

static layernorm_dtype coarser(layernorm_dtype a, layernorm_dtype b) {
  return unit_in_last_place(a, 1) > unit_in_last_place(b, 1) ? a : b;
}

layernorm_dtype unit_dtype(const test_case *c, column which) {
  layernorm_dtype compute = compute_dtype(c->x_dtype);
  switch (which) {
  case MEANS:
  case RSTDS:
    return compute;
  case SUMS:
    return c->x_dtype;
  case DWEIGHTS:
  case DBIASES:
    return coarser(c->param_dtype, compute);
  default:
    return coarser(c->y_dtype, compute);
  }
}

double error_of(double value, layernorm_dtype dtype, double nearest, int8_t residue, double initial,
                long double unit) {
  if (isnan(nearest) || isinf(nearest))
    return isnan(nearest) ? (isnan(value) ? 0 : INFINITY) : (value == nearest ? 0 : INFINITY);
  if (isnan(value) || isinf(value)) return INFINITY;
  long double rest = unit_in_last_place(dtype, fabsl(nearest)) * residue / 256;
  long double error = fabsl((long double)value - initial - nearest - rest);
  return error == 0 ? 0 : (double)(error / unit);
}

/* The outputs of one tensor, and what they should be. */
typedef struct compared {
  layernorm_dtype dtype, unit_dtype;
  const unsigned char *got, *nearest, *initial;
  const int8_t *residues;
} compared;

static compared compare(const test_case *c, const outputs *out, tensor t, column which) {
  layernorm_dtype dtype = dtype_of(c, t);
  size_t bytes = (size_t)count_of(c, t) * dtype_size(dtype);
  return (compared){dtype,      unit_dtype(c, which), out->data[t],
                    c->data[t], c->initial[t],        (const int8_t *)c->data[t] + bytes};
}

/* Measures element i against max(|exact|, scale). */
static void measure_one(peak *p, const compared *t, int64_t i, long double scale, bool exactly) {
  double got = load(t->dtype, t->got, i), nearest = load(t->dtype, t->nearest, i);
  double initial = t->initial ? load(t->dtype, t->initial, i) : 0;
  long double exact = fmaxl(fabsl(nearest), fabsl((long double)nearest + initial));
  long double unit = exactly ? 0 : unit_in_last_place(t->unit_dtype, fmaxl(exact, scale));
  double error = error_of(got, t->dtype, nearest, t->residues[i], initial, unit);
  if (error > p->error) *p = (peak){error, i, got, nearest};
}

/* Root mean square of n elements around `center`. */
static long double spread(layernorm_dtype dtype, const unsigned char *data, int64_t first,
                          int64_t n, long double center) {
  long double sum = 0;
  for (int64_t i = first; i < first + n; i++) {
    long double d = load(dtype, data, i) - center;
    if (isfinite(d)) sum += d * d;
  }
  return sqrtl(sum / n);
}

/* C and k of AdaNorm, as the computation has them. */
static void load_ada(const test_case *c, long double *scale, long double *slope) {
  const layernorm_forward_args defaults = LAYERNORM_FORWARD_ARGS_INIT;
  const bool other = c->op->ada_scale != 0, wide = compute_dtype(c->x_dtype) == LAYERNORM_F64;
  const double both[] = {other ? c->op->ada_scale : defaults.ada_scale,
                         other ? c->op->ada_slope : defaults.ada_slope};
  *scale = wide ? both[0] : (double)(float)both[0];
  *slope = wide ? both[1] : (double)(float)both[1];
}

/* x^ of layer norm from the statistics of a case; `x` is what is normalized. */
static long double normalized(const test_case *c, const unsigned char *x, int64_t row,
                              int64_t col) {
  long double mean = load(dtype_of(c, MEAN), c->data[MEAN], row);
  return (load(c->x_dtype, x, row * c->cols + col) - mean) *
         load(dtype_of(c, RSTD), c->data[RSTD], row);
}

long double scale_of_dx(const test_case *c, int64_t row) {
  if (c->cols >= FEW) return spread(dtype_of(c, DX), c->data[DX], row * c->cols, c->cols, 0);
  long double sum = 0;
  for (int64_t i = 0; i < c->cols; i++) {
    long double g = load(dtype_of(c, DY), c->data[DY], row * c->cols + i);
    if (c->data[WEIGHT] != NULL)
      g *= load(c->param_dtype, c->data[WEIGHT], i) +
           ((c->flags & LAYERNORM_FLAG_WEIGHT_OFFSET) != 0 ? 1.0L : 0);
    if (c->op->norm == LAYERNORM_NORM_ADA) {
      long double scale, slope;
      load_ada(c, &scale, &slope);
      g *= scale * (1 - slope * normalized(c, c->data[X], row, i));
    }
    sum += g * g;
  }
  return load(dtype_of(c, RSTD), c->data[RSTD], row) * sqrtl(sum / c->cols);
}

long double *scales_of_sums(const test_case *c, tensor t) {
  long double *scales = (long double *)allocate((size_t)c->cols * sizeof *scales);
  const long double of_all = spread(dtype_of(c, t), c->data[t], 0, c->cols, 0);
  for (int64_t col = 0; col < c->cols; col++) {
    long double sum = 0;
    for (int64_t row = 0; row < c->rows && c->rows < FEW && t == DWEIGHT; row++) {
      long double mean = c->data[MEAN] ? load(dtype_of(c, MEAN), c->data[MEAN], row) : 0;
      long double x = load(c->x_dtype, c->data[X], row * c->cols + col);
      long double term = (x - mean) * load(dtype_of(c, RSTD), c->data[RSTD], row) *
                         load(dtype_of(c, DY), c->data[DY], row * c->cols + col);
      if (isfinite(term)) sum += term * term;
    }
    scales[col] = fmaxl(sqrtl(sum), of_all);
  }
  return scales;
}

static bool is_constant(layernorm_dtype dtype, const unsigned char *row, int64_t cols) {
  for (int64_t i = 0; i < cols; i++)
    if (load(dtype, row, i) != load(dtype, row, 0)) return false;
  return isfinite(load(dtype, row, 0));
}

static void measure_forward(const test_case *c, const outputs *out, peak peaks[COLUMN_COUNT]) {
  const bool centers = c->op->norm != LAYERNORM_NORM_RMS;
  const bool is_ada = c->op->norm == LAYERNORM_NORM_ADA;
  const column y_column = c->data[WEIGHT] || c->data[BIAS] || is_ada ? Y_AFFINE : Y_PLAIN;
  const compared y = compare(c, out, Y, y_column), rstd = compare(c, out, RSTD, RSTDS);
  const unsigned char *summed = c->data[c->op->adds ? SUM : X];
  long double ada_scale = 0, ada_slope = 0;
  if (is_ada) load_ada(c, &ada_scale, &ada_slope);
  for (int64_t row = 0; row < c->rows; row++) {
    int64_t first = row * c->cols;
    const unsigned char *x = summed + (size_t)first * dtype_size(c->x_dtype);
    bool exactly = centers && is_constant(c->x_dtype, x, c->cols);
    long double scale = spread(y.dtype, y.nearest, first, c->cols, 0);
    for (int64_t i = 0; i < c->cols; i++) {
      long double least = 0; /* fmaxl() passes a NaN over */
      if (is_ada) {
        long double x_hat = normalized(c, summed, row, i);
        least = fabsl(ada_scale * x_hat * (1 - 2 * ada_slope * x_hat));
      }
      measure_one(&peaks[y_column], &y, first + i, fmaxl(scale, least), exactly);
    }
    measure_one(&peaks[RSTDS], &rstd, row, 0, false);
    if (centers) {
      compared mean = compare(c, out, MEAN, MEANS);
      long double center = load(mean.dtype, mean.nearest, row);
      measure_one(&peaks[MEANS], &mean, row, spread(c->x_dtype, x, 0, c->cols, center), false);
    }
  }
  if (!c->op->adds) return;
  compared sum = compare(c, out, SUM, SUMS);
  for (int64_t i = 0; i < c->rows * c->cols; i++) measure_one(&peaks[SUMS], &sum, i, 0, true);
}

static void measure_backward(const test_case *c, const outputs *out, peak peaks[COLUMN_COUNT]) {
  const bool vanishes = c->op->norm != LAYERNORM_NORM_RMS && c->cols == 1;
  const compared dx = compare(c, out, DX, DXS);
  for (int64_t row = 0; row < c->rows; row++) {
    long double scale = scale_of_dx(c, row);
    bool exactly = vanishes && (c->flags & LAYERNORM_FLAG_DETACH_MEAN) == 0 &&
                   c->data[DSUM] == NULL && dx.initial == NULL;
    for (int64_t i = row * c->cols; i < (row + 1) * c->cols; i++)
      measure_one(&peaks[DXS], &dx, i, scale, exactly);
  }
  for (int t = DWEIGHT; t <= DBIAS; t++) {
    if (out->data[t] == NULL) continue;
    column which = t == DWEIGHT ? DWEIGHTS : DBIASES;
    compared sums = compare(c, out, (tensor)t, which);
    bool exactly = (vanishes && t == DWEIGHT) || c->rows == 0;
    long double *scales = scales_of_sums(c, (tensor)t);
    for (int64_t i = 0; i < c->cols; i++) measure_one(&peaks[which], &sums, i, scales[i], exactly);
    free(scales);
  }
}

void measure(const test_case *c, const outputs *out, peak peaks[COLUMN_COUNT]) {
  (c->op->is_backward ? measure_backward : measure_forward)(c, out, peaks);
}
