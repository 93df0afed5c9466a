/* The largest errors against the exact references, as a table, and the bounds that they must keep.
 * errors.c says what the units are. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A row of the table. */
typedef struct group {
  char op[24], dtypes[16], distribution[24];
  bool is_backward;
  int cases;
  double bound[COLUMN_COUNT], worst[COLUMN_COUNT]; /* worst: -1 where nothing was measured */
} group;

typedef struct table {
  group groups[1024];
  int count;
} table;

/* Of dweight, without an rstd that is given: that has been rounded, which costs up to a unit more
 * where there are few rows. For many, gradient_sums.c has the bound of 2 either way. */
static const double dweight_bound = 2;

/* For 16-bit types: half a unit is the last rounding. */
static void set_bounds(group *g, const test_case *c) {
  for (int i = 0; i < COLUMN_COUNT; i++) {
    layernorm_dtype unit = unit_dtype(c, (column)i);
    bool half = unit == LAYERNORM_F16 || unit == LAYERNORM_BF16;
    double f32_rounding = (double)(unit_in_last_place(LAYERNORM_F32, 1) /
                                   unit_in_last_place(half ? unit : LAYERNORM_F32, 1));
    const double bounds[COLUMN_COUNT] = {
        [Y_PLAIN] = half ? 0.51 : 2.5,
        [Y_AFFINE] = half ? 0.51 : 3,
        [MEANS] = 1,
        [RSTDS] = 2,
        [SUMS] = 0,
        [DXS] = half ? 0.51 + f32_rounding : 4,
        [DWEIGHTS] = half ? 0.51 : dweight_bound + 1,
        [DBIASES] = half ? 0.51 : 2,
    };
    g->bound[i] = bounds[i];
    g->worst[i] = -1;
  }
  if (strcmp(g->distribution, "constant") == 0 && c->op->norm != LAYERNORM_NORM_RMS)
    g->bound[Y_PLAIN] = g->bound[Y_AFFINE] = g->bound[DWEIGHTS] = 0;
}

static group *group_of(table *t, const test_case *c) {
  group wanted = {.is_backward = c->op->is_backward};
  snprintf(wanted.op, sizeof wanted.op, "%s", c->op->name);
  snprintf(wanted.distribution, sizeof wanted.distribution, "%s", c->distribution);
  snprintf(wanted.dtypes, sizeof wanted.dtypes, "%s", dtype_name(c->x_dtype));
  if (c->x_dtype != c->y_dtype || c->x_dtype != c->param_dtype)
    snprintf(wanted.dtypes, sizeof wanted.dtypes, "%s, %s, %s", dtype_name(c->x_dtype),
             dtype_name(c->y_dtype), dtype_name(c->param_dtype));
  for (int i = 0; i < t->count; i++) {
    group *g = &t->groups[i];
    if (strcmp(g->op, wanted.op) == 0 && strcmp(g->dtypes, wanted.dtypes) == 0 &&
        strcmp(g->distribution, wanted.distribution) == 0)
      return g;
  }
  if (t->count == sizeof t->groups / sizeof *t->groups) die("the table has too many rows");
  set_bounds(&wanted, c);
  t->groups[t->count] = wanted;
  return &t->groups[t->count++];
}

static void run_and_measure(const test_case *c, const test_case *reference, const char *what,
                            peak peaks[COLUMN_COUNT]) {
  for (int general = !has_everyday_call(c); general <= 1; general++)
    for (int where = ENDS_AT_GUARD; where <= BEGINS_AFTER_GUARD; where++) {
      run_options o = {.what = what, .general = general, .where = (placement)where};
      outputs out = run(c, &o);
      measure(reference, &out, peaks);
      free_outputs(&out);
    }
}

static bool all_finite(const test_case *c, tensor t) {
  for (int64_t i = 0; i < count_of(c, t); i++)
    if (!isfinite(load(dtype_of(c, t), c->data[t], i))) return false;
  return true;
}

/* With mean and rstd to be computed again. */
static void without_statistics(const test_case *c, peak peaks[COLUMN_COUNT]) {
  test_case recomputed = *c;
  recomputed.data[MEAN] = recomputed.data[RSTD] = NULL;
  run_and_measure(&recomputed, c, "mean and rstd computed again", peaks);
}

/* Numbers of the size of the gradients; NULL if they are so large that a sum might be infinite. */
static unsigned char *make_initial(const test_case *c, tensor t) {
  layernorm_dtype dtype = dtype_of(c, t);
  const long double largest = ldexpl(1, dtype == LAYERNORM_F16 ? 10 : 120);
  uint64_t state = (uint64_t)count_of(c, t);
  long double *scales = t == DX ? NULL : scales_of_sums(c, t);
  unsigned char *initial = allocate((size_t)count_of(c, t) * dtype_size(dtype));
  bool small = true;
  for (int64_t i = 0; small && i < count_of(c, t); i++) {
    long double scale = scales == NULL ? scale_of_dx(c, i / c->cols) : scales[i];
    if (c->cols == 1 && !isfinite(scale)) scale = 0; /* rstd is infinite, dx is 0 */
    small = scale < largest;
    store(dtype, initial, i, (double)scale * draw(&state));
  }
  free(scales);
  if (small) return initial;
  free(initial);
  return NULL;
}

/* With the gradients added to numbers of their own size. */
static void accumulating(const test_case *c, peak peaks[COLUMN_COUNT]) {
  test_case adding = *c;
  unsigned char *initial[TENSOR_COUNT] = {NULL};
  bool possible = true;
  for (int t = DX; t <= DBIAS; t++) {
    if (!is_output(c, (tensor)t)) continue;
    adding.initial[t] = initial[t] = make_initial(c, (tensor)t);
    possible = possible && initial[t] != NULL;
  }
  if (possible) run_and_measure(&adding, &adding, "accumulating", peaks);
  for (int t = DX; t <= DBIAS; t++) free(initial[t]);
}

static void run_case(table *t, const test_case *c) {
  static const char *const names[COLUMN_COUNT] = {"y",   "y",  "mean",    "rstd",
                                                  "sum", "dx", "dweight", "dbias"};
  peak peaks[COLUMN_COUNT];
  group *g = group_of(t, c);
  g->cases++;
  for (int i = 0; i < COLUMN_COUNT; i++) peaks[i] = (peak){.error = -1};
  if (!c->op->is_backward) {
    run_and_measure(c, c, NULL, peaks);
  } else {
    without_statistics(c, peaks);
    check(peaks[DWEIGHTS].error <= dweight_bound, "%s, without them: dweight %.3f units off",
          describe(c), peaks[DWEIGHTS].error);
    /* An rstd that does not fit its dtype cannot be given. */
    if (all_finite(c, RSTD) || !all_finite(c, X) || (c->cols == 1 && c->data[MEAN] != NULL)) {
      run_and_measure(c, c, NULL, peaks);
      accumulating(c, peaks);
    }
  }
  for (int i = 0; i < COLUMN_COUNT; i++) {
    const peak *p = &peaks[i];
    g->worst[i] = fmax(g->worst[i], p->error);
    check(p->error <= g->bound[i], "%s: %s[%lld] = %a for %a, %.3f units off, at most %.2f",
          describe(c), names[i], (long long)p->index, p->got, p->nearest, p->error, g->bound[i]);
  }
}

static void print_cell(double value) {
  if (value < 0)
    printf(" %7s |", "");
  else
    printf(" %7.3f |", value);
}

/* The groups of one direction: a column of errors beside each bound that differs. */
static void print_table(const table *t, bool is_backward) {
  static const column of[2][5] = {{Y_PLAIN, Y_AFFINE, MEANS, RSTDS, SUMS},
                                  {DXS, DWEIGHTS, DBIASES}};
  const int count = is_backward ? 3 : 5;
  printf("| %-17s | %-14s | %-12s | cases |", "op", "dtypes", "distribution");
  printf(is_backward ? " dx      | bound   | dweight | bound   | dbias   | bound   |\n"
                     : " y       | bound   | y, w, b | bound   | mean    | bound   | rstd    | "
                       "bound   | sum     | bound   |\n");
  for (int i = 0; i < 4 + 2 * count; i++) fputs("|---", stdout);
  puts("|");
  for (int i = 0; i < t->count; i++) {
    const group *g = &t->groups[i];
    if (g->is_backward != is_backward) continue;
    printf("| %-17s | %-14s | %-12s | %5d |", g->op, g->dtypes, g->distribution, g->cases);
    for (int k = 0; k < count; k++) {
      double worst = g->worst[of[is_backward][k]];
      print_cell(worst);
      print_cell(worst < 0 ? -1 : g->bound[of[is_backward][k]]);
    }
    putchar('\n');
  }
}

/* A NaN of a parameter makes its column NaN, whatever its bits are, and no other: 16-bit rows are rounded as
 * integers, which a NaN whose bits are all set would be carried out of. */
static void keeping_nans(const char *op, layernorm_dtype dtype, layernorm_dtype params,
                         int64_t rows) {
  enum {
    COLS = 83
  };
  static const struct {
    int64_t col;
    uint32_t bits; /* of float32, or the upper half */
  } nans[] = {{0, 0xFFFFFFFF}, {17, 0x7FFFFFFF}, {40, 0x7FC00000}, {82, 0xFFFFFFFF}};
  test_case c = make_synthetic_case(op, dtype, rows, COLS, 0, 1);
  unsigned char *weight = allocate(COLS * sizeof(float));
  unsigned char *bias = allocate(COLS * sizeof(float));
  for (int64_t i = 0; i < COLS; i++) store(params, weight, i, 1), store(params, bias, i, 0.5);
  for (size_t i = 0; i < sizeof nans / sizeof *nans; i++) {
    const uint16_t half = (uint16_t)(nans[i].bits >> 16);
    unsigned char *into = c.op->norm == LAYERNORM_NORM_LAYER && i % 2 ? bias : weight;
    if (params == LAYERNORM_F32)
      memcpy(into + nans[i].col * 4, &nans[i].bits, 4);
    else
      memcpy(into + nans[i].col * 2, &half, 2);
  }
  const test_case kept = c;
  c.param_dtype = params;
  c.data[WEIGHT] = weight;
  if (c.data[BIAS] != NULL) c.data[BIAS] = bias;
  outputs out = run(&c, &(run_options){.what = "NaN parameters", .general = dtype != params});
  for (int64_t i = 0; i < rows * COLS; i++) {
    bool is_nan = false;
    for (size_t k = 0; k < sizeof nans / sizeof *nans; k++)
      is_nan = is_nan || nans[k].col == i % COLS;
    check((bool)isnan(load(dtype, out.data[Y], i)) == is_nan, "%s: y[%d, %d] is %s", describe(&c),
          (int)(i / COLS), (int)(i % COLS), is_nan ? "a number, of a NaN" : "NaN");
  }
  free_outputs(&out);
  free(weight);
  free(bias);
  for (int t = X; t < TENSOR_COUNT; t++) free((void *)kept.data[t]);
}

/* The same of x in the first row of a sum: that stays NaN, and y of the row is. */
static void keeping_nan_of_sum(layernorm_dtype dtype, uint16_t nan, int64_t col) {
  test_case c = make_synthetic_case("layer_add_forward", dtype, 3, 83, 0, 1);
  memcpy((unsigned char *)c.data[X] + col * 2, &nan, 2);
  outputs out = run(&c, &(run_options){.what = "NaN in a sum"});
  for (int64_t i = 0; i < c.rows * c.cols; i++) {
    check((bool)isnan(load(dtype, out.data[SUM], i)) == (i == col), "%s: sum[%d]", describe(&c),
          (int)i);
    check((bool)isnan(load(dtype, out.data[Y], i)) == (i < c.cols), "%s: y[%d]", describe(&c),
          (int)i);
  }
  free_outputs(&out);
  for (int t = X; t < TENSOR_COUNT; t++) free((void *)c.data[t]);
}

/* And of a weight in float32 of 16-bit gradients, or of dy: all of dx of the rows with it. */
static void keeping_nan_of_dx(layernorm_dtype dtype, bool of_dy) {
  enum {
    ROWS = 9,
    COLS = 83
  };
  static const uint32_t nan = 0xFFFFFFFF;
  test_case c = make_synthetic_case("layer_backward", dtype, ROWS, COLS, 0, 1);
  unsigned char *weight = allocate(COLS * sizeof(float));
  for (int64_t i = 0; i < COLS; i++) store(LAYERNORM_F32, weight, i, 1);
  if (of_dy)
    memcpy((unsigned char *)c.data[DY] + 2 * COLS * 2, &nan, 2); /* row 2 */
  else
    memcpy(weight + 5 * sizeof(float), &nan, 4);
  const test_case kept = c;
  c.param_dtype = LAYERNORM_F32;
  c.data[WEIGHT] = weight;
  c.data[DSUM] = NULL;
  outputs out = run(&c, &(run_options){.what = "NaN in a gradient", .general = true});
  for (int64_t i = 0; i < ROWS * COLS; i++)
    check((bool)isnan(load(dtype, out.data[DX], i)) == (!of_dy || i / COLS == 2), "%s: dx[%d, %d]",
          describe(&c), (int)(i / COLS), (int)(i % COLS));
  free_outputs(&out);
  free(weight);
  for (int t = X; t < TENSOR_COUNT; t++) free((void *)kept.data[t]);
}

int test_accuracy(void) {
  static table t;
  const char *isa = isa_of_test("accuracy");
  if (isa == NULL) return NOT_RUN;
  case_list list = read_cases(REFERENCES);
  for (int i = 0; i < list.count; i++) run_case(&t, &list.cases[i]);
  print_table(&t, false);
  print_table(&t, true);
  for (int64_t rows = 1; rows <= 40; rows += 39) {
    keeping_nans("layer_forward", LAYERNORM_F32, LAYERNORM_F32, rows);
    for (int dtype = LAYERNORM_F16; dtype <= LAYERNORM_BF16; dtype++) {
      static const char *const ops[] = {"layer_forward", "rms_forward", "layer_add_forward"};
      for (size_t op = 0; op < sizeof ops / sizeof *ops; op++) {
        keeping_nans(ops[op], (layernorm_dtype)dtype, (layernorm_dtype)dtype, rows);
        keeping_nans(ops[op], (layernorm_dtype)dtype, LAYERNORM_F32, rows);
      }
    }
  }
  for (int dtype = LAYERNORM_F16; dtype <= LAYERNORM_BF16; dtype++) {
    keeping_nan_of_sum((layernorm_dtype)dtype, 0xFFFF, 3);
    keeping_nan_of_sum((layernorm_dtype)dtype, 0x7FFF, 81);
    keeping_nan_of_dx((layernorm_dtype)dtype, false);
    keeping_nan_of_dx((layernorm_dtype)dtype, true);
  }
  printf("accuracy: %d cases under %s, errors in units in the last place\n", list.count, isa);
  return summary("accuracy");
}
