/* The gradients of the recurrent cells without references: in float64 against central differences of
 * the forward step, and in float32, at the sizes of real networks, against float64. */
#include "cells.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The loss whose gradients are taken: the sum of dh * h and dc * c. */
static double loss_of(const cell_case *c, const unsigned char *dh, const unsigned char *dc) {
  const cell_options o = {.what = "differences"};
  cell_outputs out = run_cell(c, &o);
  long double sum = 0;
  for (int64_t i = 0; i < c->rows * c->hidden; i++) {
    sum += (long double)load(c->dtype, dh, i) * load(c->dtype, out.data[CELL_H], i);
    if (out.data[CELL_C] != NULL)
      sum += (long double)load(c->dtype, dc, i) * load(c->dtype, out.data[CELL_C], i);
  }
  free_cell_outputs(&out);
  return (double)sum;
}

/* The derivative of the loss by element i of an input, from four points: off by about 1e-10, which is
 * what the rounding of the loss leaves. */
static double difference(cell_case *c, cell_tensor input, int64_t i, const unsigned char *dh,
                         const unsigned char *dc) {
  const double step = 1e-4;
  unsigned char *moved = allocate(cell_bytes(c, input));
  const unsigned char *kept = c->data[input];
  memcpy(moved, kept, cell_bytes(c, input));
  c->data[input] = moved;
  double at[4];
  for (int k = 0; k < 4; k++) {
    const double steps[4] = {-2, -1, 1, 2};
    store(c->dtype, moved, i, load(c->dtype, kept, i) + steps[k] * step);
    at[k] = loss_of(c, dh, dc);
  }
  c->data[input] = kept;
  free(moved);
  return (8 * (at[2] - at[1]) - (at[3] - at[0])) / (12 * step);
}

/* The gradient of each input; the RNN's of h_gates is that of x_gates. */
static const struct {
  cell_tensor input, gradient;
} pairs[] = {
    {CELL_X_GATES, CELL_DX_GATES},   {CELL_H_GATES, CELL_DH_GATES},
    {CELL_H_PREV, CELL_DH_PREV},     {CELL_C_PREV, CELL_DC_PREV},
    {CELL_X_WEIGHT, CELL_DX_WEIGHT}, {CELL_X_BIAS, CELL_DX_BIAS},
    {CELL_H_WEIGHT, CELL_DH_WEIGHT}, {CELL_H_BIAS, CELL_DH_BIAS},
    {CELL_C_WEIGHT, CELL_DC_WEIGHT}, {CELL_C_BIAS, CELL_DC_BIAS},
};

static double against_differences(cell_case c, const unsigned char *mask) {
  const cell_case drawn = make_cell(LAYERNORM_CELL_LSTM, c.dtype, 0, c.rows, c.hidden);
  const unsigned char *dh = drawn.data[CELL_X_GATES], *dc = drawn.data[CELL_H_GATES];
  c.data[CELL_MASK] = mask;
  const cell_options o = {.what = "gradients"};
  cell_outputs saved = run_cell(&c, &o);
  const cell_case backward = backward_of(&c, &saved, dh, dc);
  cell_outputs gradients = run_cell(&backward, &o);
  double worst = 0;
  for (size_t p = 0; p < sizeof pairs / sizeof *pairs; p++) {
    const unsigned char *got = gradients.data[pairs[p].gradient];
    if (c.data[pairs[p].input] == NULL) continue;
    if (got == NULL) got = gradients.data[CELL_DX_GATES];
    const int64_t count = (int64_t)(cell_bytes(&c, pairs[p].input) / dtype_size(c.dtype));
    for (int64_t i = 0; i < count; i++) {
      const double expected = difference(&c, pairs[p].input, i, dh, dc);
      const double error = fabs(load(c.dtype, got, i) - expected);
      check(error <= 1e-8, "%s: %s[%lld] is %.12g, central differences give %.12g",
            describe_cell(&backward), cell_tensor_names[pairs[p].gradient], (long long)i,
            load(c.dtype, got, i), expected);
      worst = error <= worst ? worst : error; /* a NaN stays */
    }
  }
  free_cell_outputs(&saved);
  free_cell_outputs(&gradients);
  return worst;
}

static unsigned char *widened(const unsigned char *data, size_t bytes) {
  const int64_t count = (int64_t)(bytes / sizeof(float));
  unsigned char *wide = allocate((size_t)count * sizeof(double));
  for (int64_t i = 0; i < count; i++) store(LAYERNORM_F64, wide, i, load(LAYERNORM_F32, data, i));
  return wide;
}

/* The same step in float64, of the very numbers; the RNN's sum is added up in float32 first. */
static cell_case widened_case(const cell_case *narrow) {
  cell_case wide = *narrow;
  wide.dtype = LAYERNORM_F64;
  wide.eps = (double)(float)narrow->eps;
  for (int t = 0; t < CELL_H; t++)
    if (narrow->data[t] != NULL)
      wide.data[t] = widened(narrow->data[t], cell_bytes(narrow, (cell_tensor)t));
  if (gates_of(narrow->cell) > 1) return wide;
  for (int64_t i = 0; i < narrow->rows * narrow->hidden; i++) {
    const float x = (float)load(LAYERNORM_F32, narrow->data[CELL_X_GATES], i);
    const float h = (float)load(LAYERNORM_F32, narrow->data[CELL_H_GATES], i);
    store(LAYERNORM_F64, (unsigned char *)wide.data[CELL_X_GATES], i, x + h);
  }
  wide.data[CELL_H_GATES] = NULL;
  return wide;
}

/* The largest error of float32, in units of max(|float64|, root mean square of the row). */
static double distance_of(const cell_case *c, cell_tensor t, const unsigned char *narrow,
                          const unsigned char *wide) {
  const int64_t width = (int64_t)(cell_row_bytes(c, t) / sizeof(float));
  const int64_t rows = is_of_params(t) ? 1 : c->rows;
  double largest = 0;
  for (int64_t row = 0; row < rows; row++) {
    long double squares = 0;
    for (int64_t i = row * width; i < (row + 1) * width; i++)
      squares += powl(load(LAYERNORM_F64, wide, i), 2);
    for (int64_t i = row * width; i < (row + 1) * width; i++) {
      const double exact = load(LAYERNORM_F64, wide, i), got = load(LAYERNORM_F32, narrow, i);
      const long double scale = fmaxl(fabsl(exact), sqrtl(squares / width));
      const double error = (double)(fabsl(got - exact) / unit_in_last_place(LAYERNORM_F32, scale));
      largest = error <= largest ? largest : error; /* a NaN stays */
    }
  }
  return largest;
}

/* What steps in float32 give beside those in float64. Both go backward from the gates and the c that
 * the one in float32 has left. */
static void against_float64(layernorm_cell cell, uint64_t flags, int64_t rows, int64_t hidden) {
  const cell_options o = {.what = "at the sizes of networks"};
  const cell_case narrow = make_cell(cell, LAYERNORM_F32, flags, rows, hidden);
  const cell_case wide = widened_case(&narrow);
  cell_outputs forward[2] = {run_cell(&narrow, &o), run_cell(&wide, &o)};
  const cell_case drawn = make_cell(LAYERNORM_CELL_LSTM, LAYERNORM_F32, 0, rows, hidden);
  const cell_case back =
      backward_of(&narrow, &forward[0], drawn.data[CELL_X_GATES], drawn.data[CELL_H_GATES]);
  cell_case wide_back = backward_of(&wide, &forward[1], NULL, NULL);
  static const cell_tensor given[] = {CELL_DH, CELL_DC, CELL_GATES, CELL_C};
  for (int i = 0; i < 4; i++)
    if (back.data[given[i]] != NULL)
      wide_back.data[given[i]] = widened(back.data[given[i]], cell_bytes(&back, given[i]));
  cell_outputs backward[2] = {run_cell(&back, &o), run_cell(&wide_back, &o)};
  double worst[2] = {0, 0};
  for (int i = 0; i < CELL_TENSOR_COUNT; i++) {
    const cell_tensor t = (cell_tensor)i;
    const bool of_backward = t >= CELL_DX_GATES;
    const cell_outputs *both = of_backward ? backward : forward;
    if (both[0].data[t] == NULL || t == CELL_MEAN || t == CELL_RSTD) continue;
    const double error = distance_of(&narrow, t, both[0].data[t], both[1].data[t]);
    worst[of_backward] = fmax(worst[of_backward], error);
    check(error <= 1, "%s: %s is %.2f units off float64, at most 1",
          describe_cell(of_backward ? &back : &narrow), cell_tensor_names[t], error);
  }
  printf("%-8s | %4d x %4d | %8s | %7.2f | %8.2f\n", cell_name(cell), (int)rows, (int)hidden,
         flags ? "per gate" : "", worst[0], worst[1]);
  for (int i = 0; i < 2; i++) {
    free_cell_outputs(&forward[i]);
    free_cell_outputs(&backward[i]);
  }
  for (int t = 0; t < CELL_H; t++) free((void *)wide.data[t]);
  for (int i = 0; i < 4; i++)
    if (back.data[given[i]] != NULL) free((void *)wide_back.data[given[i]]);
}

int test_cell_gradients(void) {
  if (isa_of_test("cell_gradients") == NULL) return NOT_RUN;
  static const unsigned char mask[] = {1, 0, 255};
  double worst = 0;
  for (int cell = LAYERNORM_CELL_RNN_TANH; cell <= LAYERNORM_CELL_GRU; cell++)
    for (int k = 0; k < 8; k++) {
      const uint64_t flags = k & 1 ? LAYERNORM_FLAG_PER_GATE : 0;
      const int64_t hidden = k & 4 ? 18 : 5;
      worst = fmax(worst, against_differences(make_cell((layernorm_cell)cell, LAYERNORM_F64, flags,
                                                        sizeof mask, hidden),
                                              k & 2 ? mask : NULL));
    }
  printf("central differences in float64: at most %.1e off\n\n", worst);
  puts("float32 beside float64: the largest error in units\n"
       "cell     | rows x size | norms    | forward | backward");
  static const struct {
    int64_t rows, hidden;
  } shapes[] = {{1, 100}, {32, 256}, {7, 333}, {1, 1024}, {16, 512}};
  for (int cell = LAYERNORM_CELL_RNN_TANH; cell <= LAYERNORM_CELL_GRU; cell++)
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
      against_float64((layernorm_cell)cell, s % 2 ? LAYERNORM_FLAG_PER_GATE : 0, shapes[s].rows,
                      shapes[s].hidden);
  return summary("cell_gradients");
}
