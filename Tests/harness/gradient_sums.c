/* dweight and dbias of many rows, against sums in long double.
 *
 * The statistics of a row, x^ and the sums over the rows are computed in long double with its 64 bits,
 * from the very bits of the input. Each of at most 65536 additions is off by at most half a last place
 * of a sum that stays below 2^13; all of them together by less than 2^-35. The sums have a root mean
 * square of 64 or more, where the last place of a float32 is 2^-17: less than 2^-17 units are owed to
 * the reference. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
  int64_t rows, cols;
} shapes[] = {{4096, 64}, {4096, 768}, {65536, 16}, {65536, 64}};

static const struct {
  const char *name;
  double mean, spread;
} kinds[] = {
    {"N(0,1)", 0, 1},
    {"mean 1e3", 1e3, 1},
    {"mean 0.4", 0.4, 1},      /* some rows are taken around it */
    {"below eps", 1e-3, 1e-5}, /* what rounding took from the mean counts */
};
enum {
  KINDS = sizeof kinds / sizeof *kinds
};

/* What is exact, of one case. */
typedef struct sums {
  long double *dweight, *dbias;
} sums;

/* Puts the nearest statistics into the case beside. */
static sums exact_sums(test_case *c, unsigned char *mean, unsigned char *rstd) {
  const bool centers = c->op->norm == LAYERNORM_NORM_LAYER;
  const double eps = (double)(float)c->eps;
  sums s = {calloc((size_t)c->cols, sizeof *s.dweight), calloc((size_t)c->cols, sizeof *s.dbias)};
  long double *x = calloc((size_t)c->cols, sizeof *x);
  if (s.dweight == NULL || s.dbias == NULL || x == NULL) die("no memory for sums");
  for (int64_t row = 0; row < c->rows; row++) {
    long double total = 0, squares = 0;
    for (int64_t i = 0; i < c->cols; i++)
      total += x[i] = load(c->x_dtype, c->data[X], row * c->cols + i);
    long double center = centers ? total / c->cols : 0;
    for (int64_t i = 0; i < c->cols; i++) squares += (x[i] - center) * (x[i] - center);
    long double inverse = 1 / sqrtl(squares / c->cols + eps);
    for (int64_t i = 0; i < c->cols; i++) {
      long double dy = load(c->y_dtype, c->data[DY], row * c->cols + i);
      s.dweight[i] += dy * ((x[i] - center) * inverse);
      s.dbias[i] += dy;
    }
    store(LAYERNORM_F32, mean, row, (double)center);
    store(LAYERNORM_F32, rstd, row, (double)inverse);
  }
  free(x);
  c->data[MEAN] = centers ? mean : NULL;
  c->data[RSTD] = rstd;
  return s;
}

static double worst_error(const test_case *c, const unsigned char *got, const long double *exact) {
  long double squares = 0;
  for (int64_t i = 0; i < c->cols; i++) squares += exact[i] * exact[i];
  const long double scale = sqrtl(squares / c->cols);
  long double worst = 0;
  for (int64_t i = 0; i < c->cols; i++) {
    long double unit = unit_in_last_place(c->param_dtype, fmaxl(fabsl(exact[i]), scale));
    long double error = fabsl(load(c->param_dtype, got, i) - exact[i]) / unit;
    worst = error <= worst ? worst : error; /* a NaN stays */
  }
  return (double)worst;
}

static void run_case(test_case *c, const char *kind) {
  unsigned char *mean = allocate((size_t)c->rows * sizeof(float));
  unsigned char *rstd = allocate((size_t)c->rows * sizeof(float));
  sums exact = exact_sums(c, mean, rstd);
  const double bound = c->param_dtype == LAYERNORM_F32 ? 2 : 0.51;
  for (int recomputed = 0; recomputed <= 1; recomputed++) {
    test_case given = *c;
    if (recomputed) given.data[MEAN] = given.data[RSTD] = NULL;
    run_options o = {.general = true};
    outputs out = run(&given, &o);
    double dweight = worst_error(c, out.data[DWEIGHT], exact.dweight);
    double dbias = worst_error(c, out.data[DBIAS], exact.dbias);
    printf("| %-14s | %-4s | %5d x %3d | %-8s | %-14s | %7.3f | %7.3f | %5.2f |\n", c->op->name,
           dtype_name(c->x_dtype), (int)c->rows, (int)c->cols, kind,
           recomputed ? "computed again" : "given", dweight, dbias, bound);
    check(dweight <= bound && dbias <= bound, "%s, %s: dweight %.3f and dbias %.3f units off",
          describe(&given), kind, dweight, dbias);
    free_outputs(&out);
  }
  free(exact.dweight);
  free(exact.dbias);
  free(mean);
  free(rstd);
}

static void run_drawn_case(const char *op, layernorm_dtype dtype, int64_t rows, int64_t cols,
                           int kind) {
  test_case c = make_synthetic_case(op, dtype, rows, cols, kinds[kind].mean, kinds[kind].spread);
  test_case kept = c;
  run_case(&c, kinds[kind].name);
  for (int t = X; t < TENSOR_COUNT; t++) free((void *)kept.data[t]);
}

int test_gradient_sums(void) {
  if (isa_of_test("gradient_sums") == NULL) return NOT_RUN;
  static const char *const ops[] = {"layer_backward", "rms_backward"};
  static const layernorm_dtype dtypes[] = {LAYERNORM_F32, LAYERNORM_F16, LAYERNORM_BF16};
  puts("| op             | x    | rows x cols | x        | mean, rstd     | dweight | dbias   | "
       "bound |\n|---|---|---|---|---|---|---|---|");
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
    for (int op = 0; op < 2; op++)
      for (int dtype = 0; dtype < 3; dtype++) {
        const int kind = ((int)s + op) % 2; /* each norm has each of the first two */
        run_drawn_case(ops[op], dtypes[dtype], shapes[s].rows, shapes[s].cols, kind);
      }
  for (int kind = 2; kind < KINDS; kind++)
    for (int dtype = 0; dtype < 3; dtype++)
      run_drawn_case(ops[0], dtypes[dtype], shapes[0].rows, shapes[0].cols, kind);
  return summary("gradient_sums");
}
