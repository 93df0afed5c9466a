/* The largest errors against the exact references, as a table, and the bounds that they must keep.
 *
 * The error of an element of y is |y - exact| in units in the last place of max(|exact y|, root
 * mean square of the exact row), of the dtype of y or of the computation, whichever is coarser.
 * That of mean is in units of max(|exact mean|, spread of the row), since a mean near zero is the
 * difference of large numbers; that of rstd in units of itself: both in their own dtype.
 */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  MEAN_BOUND = 1,
  RSTD_BOUND = 2
};

typedef enum column {
  PLAIN,  /* y without weight and bias */
  AFFINE, /* y with one of them or both */
  MEANS,
  RSTDS,
  COLUMN_COUNT
} column;

/* A row of the table. */
typedef struct group {
  char op[24], dtypes[16], distribution[24];
  int cases;
  double bound[COLUMN_COUNT], worst[COLUMN_COUNT]; /* worst: -1 where nothing was measured */
} group;

typedef struct table {
  group groups[512];
  int count;
} table;

/* The dtype whose units count: a wide y holds no more than what was computed. */
static layernorm_dtype unit_dtype(const test_case *c) {
  layernorm_dtype compute = compute_dtype(c->x_dtype);
  return unit_in_last_place(c->y_dtype, 1) > unit_in_last_place(compute, 1) ? c->y_dtype : compute;
}

static void set_bounds(group *g, layernorm_dtype unit) {
  bool half = unit == LAYERNORM_F16 || unit == LAYERNORM_BF16;
  bool constant = strcmp(g->distribution, "constant") == 0;
  g->bound[PLAIN] = constant ? 0 : half ? 0.51 : 2.5;
  g->bound[AFFINE] = constant ? 0 : half ? 0.51 : 3;
  g->bound[MEANS] = MEAN_BOUND;
  g->bound[RSTDS] = RSTD_BOUND;
}

static group *group_of(table *t, const test_case *c) {
  group wanted = {.cases = 0};
  snprintf(wanted.op, sizeof wanted.op, "%s", c->op);
  snprintf(wanted.distribution, sizeof wanted.distribution, "%s", c->distribution);
  snprintf(wanted.dtypes, sizeof wanted.dtypes, "%s", dtype_name(c->x_dtype));
  if (c->x_dtype != c->y_dtype || c->x_dtype != c->param_dtype)
    snprintf(wanted.dtypes, sizeof wanted.dtypes, "%s to %s", dtype_name(c->x_dtype),
             dtype_name(c->y_dtype));
  for (int i = 0; i < t->count; i++) {
    group *g = &t->groups[i];
    if (strcmp(g->op, wanted.op) == 0 && strcmp(g->dtypes, wanted.dtypes) == 0 &&
        strcmp(g->distribution, wanted.distribution) == 0)
      return g;
  }
  if (t->count == sizeof t->groups / sizeof *t->groups) die("the table has too many rows");
  set_bounds(&wanted, unit_dtype(c));
  for (int i = 0; i < COLUMN_COUNT; i++) wanted.worst[i] = -1;
  t->groups[t->count] = wanted;
  return &t->groups[t->count++];
}

/* |value - exact| in units; the exact value is `nearest` and 1/256 of its last place `residue`
 * times. An infinity or NaN has to be met: then 0, or else infinity. */
static double error_of(double value, layernorm_dtype dtype, double nearest, int8_t residue,
                       long double unit) {
  if (isnan(nearest) || isinf(nearest))
    return isnan(nearest) ? (isnan(value) ? 0 : INFINITY) : (value == nearest ? 0 : INFINITY);
  if (isnan(value) || isinf(value)) return INFINITY;
  long double rest = unit_in_last_place(dtype, fabsl(nearest)) * residue / 256;
  return (double)(fabsl((long double)value - nearest - rest) / unit);
}

/* The largest error of one column of a case, and where it is. */
typedef struct peak {
  double error; /* -1: nothing was measured */
  int64_t index;
  double got, nearest;
} peak;

/* The outputs of one tensor, and what they should be. */
typedef struct compared {
  layernorm_dtype dtype;
  const unsigned char *got, *nearest;
  const int8_t *residues;
} compared;

static compared compare(const test_case *c, const outputs *out, tensor t) {
  layernorm_dtype dtype = dtype_of(c, t);
  size_t bytes = (size_t)count_of(c, t) * dtype_size(dtype);
  return (compared){dtype, out->data[t], c->data[t], (const int8_t *)c->data[t] + bytes};
}

/* Measures element i. Where only the exact value will do, any error is infinite. */
static void measure(peak *p, const compared *t, int64_t i, long double unit, bool exactly) {
  double got = load(t->dtype, t->got, i), nearest = load(t->dtype, t->nearest, i);
  double error = error_of(got, t->dtype, nearest, t->residues[i], unit);
  if (exactly && error > 0) error = INFINITY;
  if (error > p->error) *p = (peak){error, i, got, nearest};
}

static bool is_constant(const test_case *c, int64_t row) {
  double first = load(c->x_dtype, c->data[X], row * c->cols);
  for (int64_t i = 0; i < c->cols; i++)
    if (load(c->x_dtype, c->data[X], row * c->cols + i) != first) return false;
  return isfinite(first);
}

/* Root mean square of n elements around `center`. */
static long double spread(layernorm_dtype dtype, const unsigned char *data, int64_t first,
                          int64_t n, long double center) {
  long double sum = 0;
  for (int64_t i = first; i < first + n; i++) {
    long double d = load(dtype, data, i) - center;
    sum += d * d;
  }
  return sqrtl(sum / n);
}

/* The largest errors of one run of a case. */
static void measure_all(const test_case *c, const outputs *out, peak peaks[COLUMN_COUNT]) {
  compared y = compare(c, out, Y), mean = compare(c, out, MEAN), rstd = compare(c, out, RSTD);
  column y_column = c->data[WEIGHT] || c->data[BIAS] ? AFFINE : PLAIN;
  for (int64_t row = 0; row < c->rows; row++) {
    int64_t first = row * c->cols;
    long double rms = spread(y.dtype, y.nearest, first, c->cols, 0);
    bool constant = is_constant(c, row); /* exactly bias, whatever the unit */
    for (int64_t i = 0; i < c->cols; i++) {
      long double exact = fabs(load(y.dtype, y.nearest, first + i));
      long double unit = unit_in_last_place(unit_dtype(c), exact > rms ? exact : rms);
      measure(&peaks[y_column], &y, first + i, unit, constant);
    }
    long double center = load(mean.dtype, mean.nearest, row);
    long double width = spread(c->x_dtype, c->data[X], first, c->cols, center);
    long double size = fabsl(center) > width ? fabsl(center) : width;
    measure(&peaks[MEANS], &mean, row, unit_in_last_place(mean.dtype, size), false);
    long double exact_rstd = load(rstd.dtype, rstd.nearest, row);
    measure(&peaks[RSTDS], &rstd, row, unit_in_last_place(rstd.dtype, exact_rstd), false);
  }
}

static void run_case(table *t, const test_case *c) {
  static const char *const names[COLUMN_COUNT] = {"y", "y", "mean", "rstd"};
  peak peaks[COLUMN_COUNT] = {{.error = -1}, {.error = -1}, {.error = -1}, {.error = -1}};
  for (int general = !is_uniform(c); general <= 1; general++)
    for (int where = ENDS_AT_GUARD; where <= BEGINS_AFTER_GUARD; where++) {
      run_options o = {.general = general, .where = (placement)where};
      outputs out = run(c, &o);
      measure_all(c, &out, peaks);
      free_outputs(&out);
    }
  group *g = group_of(t, c);
  g->cases++;
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

static void print_table(const table *t) {
  printf("| op            | dtype        | distribution | cases | y       | bound   | y, w, b | "
         "bound   | mean    | rstd    |\n"
         "|---|---|---|---|---|---|---|---|---|---|\n");
  for (int i = 0; i < t->count; i++) {
    const group *g = &t->groups[i];
    printf("| %-13s | %-12s | %-12s | %5d |", g->op, g->dtypes, g->distribution, g->cases);
    for (int kind = PLAIN; kind <= AFFINE; kind++) {
      print_cell(g->worst[kind]);
      print_cell(g->bound[kind]);
    }
    print_cell(g->worst[MEANS]);
    print_cell(g->worst[RSTDS]);
    putchar('\n');
  }
}

int test_accuracy(void) {
  static table t;
  const char *forced = getenv("LAYERNORM_ISA");
  if (forced != NULL && !cpu_has(forced)) {
    printf("accuracy: NOT RUN under %s, which this CPU does not have\n", forced);
    return NOT_RUN;
  }
  const char *isa = layernorm_isa();
  check(isa != NULL && (forced == NULL || strcmp(isa, forced) == 0), "%s runs, not %s",
        isa ? isa : layernorm_last_error(), forced ? forced : "any");
  case_list list = read_cases(REFERENCES);
  for (int i = 0; i < list.count; i++) run_case(&t, &list.cases[i]);
  print_table(&t);
  printf("accuracy: %d cases under %s; errors in units in the last place, of mean at most %d, of "
         "rstd at most %d\n",
         list.count, isa ? isa : "no instruction set", MEAN_BOUND, RSTD_BOUND);
  return summary("accuracy");
}
