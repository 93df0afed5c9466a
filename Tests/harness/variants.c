/* The ways to run a case that have to give the same bits. */
#include "harness.h"

#include <stdlib.h>
#include <string.h>

enum {
  CACHE_LINE = 64,
  MEDIUM = 1 << 15 /* elements above which all tensors of a run are in one layout */
};

#define WITHOUT(t) (1u << (t))

static const run_options variants[] = {
    {.what = "after a guard page", .where = BEGINS_AFTER_GUARD},
    {.what = "outputs a line after inputs, modulo pages",
     .where = BEGINS_AFTER_GUARD,
     .shift = {[Y] = 32, [SUM] = 32, [DX] = 32}},
    {.what = "general", .general = true},
    {.what = "general", .general = true, .where = BEGINS_AFTER_GUARD},
    {.what = "everyday"},
    {.what = "without mean", .without = WITHOUT(MEAN)},
    {.what = "without rstd", .without = WITHOUT(RSTD)},
    {.what = "without mean and rstd", .without = WITHOUT(MEAN) | WITHOUT(RSTD)},
    {.what = "without sum", .without = WITHOUT(SUM)},
    {.what = "without dx", .without = WITHOUT(DX)},
    {.what = "without dweight", .without = WITHOUT(DWEIGHT)},
    {.what = "without dbias", .without = WITHOUT(DBIAS)},
    {.what = "dx alone", .without = WITHOUT(DWEIGHT) | WITHOUT(DBIAS)},
    {.what = "dweight alone", .without = WITHOUT(DX) | WITHOUT(DBIAS)},
    {.what = "dbias alone", .without = WITHOUT(DX) | WITHOUT(DWEIGHT)},

    {.what = "y == x", .in_place = {{Y, X}}},
    {.what = "y == x, no sum", .in_place = {{Y, X}}, .without = WITHOUT(SUM)},
    {.what = "y == residual", .in_place = {{Y, RESIDUAL}}},
    {.what = "y == residual, no sum", .in_place = {{Y, RESIDUAL}}, .without = WITHOUT(SUM)},
    {.what = "sum == x", .in_place = {{SUM, X}}},
    {.what = "sum == residual", .in_place = {{SUM, RESIDUAL}}},
    {.what = "sum == x, y == residual", .in_place = {{SUM, X}, {Y, RESIDUAL}}},
    {.what = "sum == residual, y == x", .in_place = {{SUM, RESIDUAL}, {Y, X}}},
    {.what = "y == x with stride 2", .in_place = {{Y, X}}, .layouts[X] = EVERY_SECOND},
    {.what = "sum == x with stride 2", .in_place = {{SUM, X}}, .layouts[X] = EVERY_SECOND},
    {.what = "y == x, channels first", .in_place = {{Y, X}}, .layouts[X] = CHANNELS_FIRST},
    {.what = "sum == residual, channels first",
     .in_place = {{SUM, RESIDUAL}},
     .layouts[RESIDUAL] = CHANNELS_FIRST},
    {.what = "dx == dy", .in_place = {{DX, DY}}},
    {.what = "dx == x", .in_place = {{DX, X}}},
    {.what = "dx == dsum", .in_place = {{DX, DSUM}}},
    {.what = "dx == dy, dx alone",
     .in_place = {{DX, DY}},
     .without = WITHOUT(DWEIGHT) | WITHOUT(DBIAS)},
    {.what = "dx == dy with stride 2", .in_place = {{DX, DY}}, .layouts[DY] = EVERY_SECOND},
    {.what = "dx == x with stride 2", .in_place = {{DX, X}}, .layouts[X] = EVERY_SECOND},
    {.what = "dx == dy, channels first", .in_place = {{DX, DY}}, .layouts[DY] = CHANNELS_FIRST},
    {.what = "dx == x, all channels first",
     .in_place = {{DX, X}},
     .layouts[X] = CHANNELS_FIRST,
     .layouts[DY] = CHANNELS_FIRST},
};

/* Layouts that each tensor is given alone, and then all of them together. */
static const layout layouts[] = {PADDED_ROWS,   EVERY_SECOND, ROWS_REVERSED,
                                 COLS_REVERSED, ALL_REVERSED, CHANNELS_FIRST};
static const char *const layout_names[] = {
    [PADDED_ROWS] = "padded rows",     [EVERY_SECOND] = "stride 2",
    [ROWS_REVERSED] = "reversed rows", [COLS_REVERSED] = "reversed cols",
    [ALL_REVERSED] = "all reversed",   [CHANNELS_FIRST] = "channels first",
};

static size_t row_bytes(const test_case *c, tensor t) {
  return dtype_size(dtype_of(c, t)) * (size_t)(extent_of(t) == OF_ELEMENTS ? c->cols : 1);
}

/* Compares what is there in both, of rows first_row ... of `all`; sums over rows if these are all. */
static void expect_same(const test_case *c, const outputs *all, int64_t first_row,
                        const outputs *part, int64_t rows, const run_options *o) {
  for (int t = X; t < TENSOR_COUNT; t++) {
    if (part->data[t] == NULL || all->data[t] == NULL) continue;
    bool of_cols = extent_of((tensor)t) == OF_COLS;
    if (of_cols && rows != c->rows) continue;
    size_t stride = row_bytes(c, (tensor)t);
    size_t bytes = of_cols ? stride * (size_t)c->cols : stride * (size_t)rows;
    check(memcmp(all->data[t] + (size_t)first_row * stride, part->data[t], bytes) == 0,
          "%s: other bits of %s [%s, batch %d, shifts %d %d]", describe(c), tensor_names[t],
          o->what, (int)o->batch, (int)o->shift[X], (int)o->shift[Y]);
  }
}

static void run_and_compare(const test_case *c, const outputs *plain, const run_options *o) {
  if (!can_run(c, o)) return;
  outputs out = run(c, o);
  expect_same(c, plain, 0, &out, c->rows, o);
  free_outputs(&out);
}

static void in_layouts(const test_case *c, const outputs *plain, int64_t batch, bool each_alone) {
  for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
    run_options all = {.what = layout_names[layouts[i]], .batch = batch};
    for (int t = X; t < TENSOR_COUNT; t++) {
      if (extent_of((tensor)t) != OF_ELEMENTS) continue;
      if (c->data[t] == NULL && !is_output(c, (tensor)t)) continue;
      all.layouts[t] = layouts[i];
      run_options one = {.what = layout_names[layouts[i]], .batch = batch};
      one.layouts[t] = layouts[i];
      if (each_alone) run_and_compare(c, plain, &one);
    }
    run_and_compare(c, plain, &all);
  }
}

static void at_every_alignment(const test_case *c, const outputs *plain) {
  int64_t places = CACHE_LINE / (int64_t)dtype_size(c->x_dtype);
  int64_t y_places = CACHE_LINE / (int64_t)dtype_size(c->y_dtype);
  if (y_places > places) places = y_places;
  int64_t step = c->rows * c->cols > MEDIUM ? 5 : 1;
  for (int64_t i = 1; i < places; i += step) {
    run_options o = {.what = "at another alignment"};
    /* Each passes through all of its places, in an order of its own; the plain run is at 0. */
    for (int t = X; t < TENSOR_COUNT; t++) o.shift[t] = (2 * t + 1) * i % places;
    run_and_compare(c, plain, &o);
  }
}

static test_case one_row(const test_case *c, int64_t row) {
  test_case single = *c;
  single.rows = 1;
  for (int t = X; t < TENSOR_COUNT; t++) {
    if (extent_of((tensor)t) == OF_COLS) continue;
    size_t offset = (size_t)row * row_bytes(c, (tensor)t);
    if (single.data[t] != NULL) single.data[t] += offset;
    if (single.initial[t] != NULL) single.initial[t] += offset;
  }
  return single;
}

static void each_row_alone(const test_case *c, const outputs *plain) {
  int64_t step = c->rows > 333 ? c->rows / 100 : 1;
  for (int64_t row = 0; row < c->rows && c->rows > 1; row += step) {
    test_case single = one_row(c, row);
    run_options o = {.what = "a row alone"};
    outputs out = run(&single, &o);
    expect_same(c, plain, row, &out, 1, &o);
    free_outputs(&out);
  }
}

/* The first row many times over; then the same with each input in memory only once. */
static void a_broadcast_row(const test_case *c) {
  enum {
    TIMES = 5
  };
  if (c->rows == 0 || c->initial[DX] != NULL) return;
  test_case repeated = *c;
  repeated.rows = TIMES;
  unsigned char *data[TENSOR_COUNT] = {NULL};
  for (int t = X; t < TENSOR_COUNT; t++) {
    if (extent_of((tensor)t) == OF_COLS || c->data[t] == NULL || is_output(c, (tensor)t)) continue;
    size_t bytes = row_bytes(c, (tensor)t);
    repeated.data[t] = data[t] = allocate(TIMES * bytes);
    for (int i = 0; i < TIMES; i++) memcpy(data[t] + (size_t)i * bytes, c->data[t], bytes);
  }
  run_options o = {.general = true};
  outputs plain = run(&repeated, &o);
  run_options all = {.what = "every input broadcast"};
  for (int t = X; t < TENSOR_COUNT; t++) {
    if (data[t] == NULL || extent_of((tensor)t) != OF_ELEMENTS) continue;
    run_options one = {.what = "an input broadcast"};
    one.layouts[t] = ONE_ROW;
    run_and_compare(&repeated, &plain, &one);
    all.layouts[t] = ONE_ROW;
  }
  run_and_compare(&repeated, &plain, &all);
  free_outputs(&plain);
  for (int t = X; t < TENSOR_COUNT; t++) free(data[t]);
}

static double add_in(layernorm_dtype compute, double a, double b) {
  return compute == LAYERNORM_F64 ? a + b : (double)((float)a + (float)b);
}

/* The sum computed here, and then normalized by a call without addition. */
static void in_two_steps(const test_case *c, const outputs *plain) {
  if (!c->op->adds) return;
  layernorm_dtype compute = compute_dtype(c->x_dtype);
  test_case second = *c;
  static const char *const alone[] = {[LAYERNORM_NORM_LAYER] = "layer_forward",
                                      [LAYERNORM_NORM_RMS] = "rms_forward",
                                      [LAYERNORM_NORM_ADA] = "ada_forward"};
  second.op = operation_named(alone[c->op->norm]);
  second.data[RESIDUAL] = second.data[X_BIAS] = second.data[SUM] = NULL;
  unsigned char *sum = allocate((size_t)count_of(c, SUM) * dtype_size(c->x_dtype));
  for (int64_t i = 0; i < count_of(c, SUM); i++) {
    double value = load(c->x_dtype, c->data[X], i);
    if (c->data[X_BIAS] != NULL)
      value = add_in(compute, value, load(c->x_dtype, c->data[X_BIAS], i % c->cols));
    if (c->data[RESIDUAL] != NULL)
      value = add_in(compute, value, load(c->x_dtype, c->data[RESIDUAL], i));
    store(c->x_dtype, sum, i, value);
  }
  make_nans_the_same(c->x_dtype, sum, count_of(c, SUM));
  second.data[X] = sum;
  run_options o = {.what = "in two steps"};
  outputs out = run(&second, &o);
  out.data[SUM] = sum;
  expect_same(c, plain, 0, &out, c->rows, &o);
  free_outputs(&out);
}

/* What is absent of weight and bias may be filled in, where there are enough rows. */
static void without_parameters(const test_case *c) {
  static const tensor absent[][2] = {{WEIGHT, WEIGHT}, {BIAS, BIAS}, {WEIGHT, BIAS}};
  if (c->op->is_backward) return;
  for (int i = 0; i < 3; i++) {
    test_case less = *c;
    less.data[absent[i][0]] = less.data[absent[i][1]] = NULL;
    run_options o = {.what = "without parameters", .general = true};
    outputs plain = run(&less, &o);
    each_row_alone(&less, &plain);
    free_outputs(&plain);
  }
}

/* Among them those in which stores that bypass the caches may differ. */
static void in_few_ways(const test_case *c, const outputs *plain) {
  static const run_options few[] = {
      {.what = "after a guard page", .where = BEGINS_AFTER_GUARD},
      {.what = "outputs a line after inputs, modulo pages",
       .where = BEGINS_AFTER_GUARD,
       .shift = {[Y] = 32, [SUM] = 32, [DX] = 32}},
      {.what = "at another alignment", .shift = {[X] = 1, [DY] = 5, [Y] = 3, [SUM] = 7, [DX] = 9}},
      {.what = "y == x", .in_place = {{Y, X}}},
      {.what = "y == residual", .in_place = {{Y, RESIDUAL}}},
      {.what = "sum == x", .in_place = {{SUM, X}}},
      {.what = "sum == residual", .in_place = {{SUM, RESIDUAL}}},
      {.what = "dx == dy", .in_place = {{DX, DY}}},
      {.what = "without sum", .without = WITHOUT(SUM)},
      {.what = "y == residual, no sum", .in_place = {{Y, RESIDUAL}}, .without = WITHOUT(SUM)},
      {.what = "dx alone", .without = WITHOUT(DWEIGHT) | WITHOUT(DBIAS)},
      {.what = "dweight alone", .without = WITHOUT(DX) | WITHOUT(DBIAS)},
      {.what = "y with padded rows", .layouts[Y] = PADDED_ROWS},
      {.what = "sum with padded rows", .layouts[SUM] = PADDED_ROWS},
      {.what = "dx with padded rows", .layouts[DX] = PADDED_ROWS},
      {.what = "x with channels first", .layouts[X] = CHANNELS_FIRST},
  };
  for (size_t i = 0; i < sizeof few / sizeof *few; i++) run_and_compare(c, plain, &few[i]);
  if (c->rows % 4 == 0) {
    run_options o = {.what = "a batch", .general = true, .batch = 4};
    run_and_compare(c, plain, &o);
  }
  in_two_steps(c, plain);
  without_parameters(c);
}

void compare_variants(const test_case *c, const outputs *plain) {
  /* A backward pass comes three times, of which one is run in every way. */
  const bool thorough = !c->op->is_backward || (c->data[RSTD] != NULL && c->initial[DX] == NULL);
  const bool small = c->rows * c->cols <= MEDIUM;
  const bool large = c->rows * c->cols > LARGE;
  /* For any size, the baseline's kernels do the same, but where sums are stored past the caches. */
  const bool as_small = strcmp(layernorm_isa(), "x86-64") == 0 && c->data[RESIDUAL] == NULL;
  if (large && (!thorough || as_small)) return;
  if (large || (!thorough && !small)) {
    in_few_ways(c, plain);
    return;
  }
  for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
    run_and_compare(c, plain, &variants[i]);
  in_layouts(c, plain, 1, thorough && small);
  const int64_t divisors[] = {2, 3, c->rows};
  for (int d = 0; d < 3; d++) {
    if (divisors[d] < 2 || c->rows < divisors[d] || c->rows % divisors[d] != 0) continue;
    run_options o = {.what = "a batch", .general = true, .batch = divisors[d]};
    run_and_compare(c, plain, &o);
    in_layouts(c, plain, divisors[d], false);
  }
  if (thorough) at_every_alignment(c, plain);
  each_row_alone(c, plain);
  a_broadcast_row(c);
  in_two_steps(c, plain);
}
