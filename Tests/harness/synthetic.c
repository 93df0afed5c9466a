#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* splitmix64 (Steele, Lea and Flood 2014). */
static uint64_t next(uint64_t *state) {
  uint64_t z = *state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/* Of mean 0 and spread 1: a sum of four uniforms is normal enough here. */
static double draw(uint64_t *state) {
  double sum = 0;
  for (int i = 0; i < 4; i++) sum += (double)(next(state) >> 11) * 0x1p-53 - 0.5;
  return sum * sqrt(3);
}

static const struct {
  const char *distribution;
  double mean, spread;
  bool fits_half;
} kinds[] = {
    {"N(0,1)", 0, 1, true},
    {"mean 1e4", 1e4, 1, true},
    {"3e37", 0, 3e37, false}, /* its sums of squares overflow */
    {"1e-39", 0, 1e-39, false},
};

static const struct {
  int64_t rows, cols;
  bool every_kind;
} shapes[] = {
    {3, 4095, true},    {3, 4096, true},   {3, 4097, true},  {2, 8192, true}, {2, 10000, true},
    {333, 1021, false}, {1030, 65, false}, {5, 1023, false}, {7, 33, false},
};

/* An output of more than 16 MB, where stores may bypass the caches. */
static const int64_t large_rows = 4099, large_cols = 1027;

static unsigned char *fill(layernorm_dtype dtype, int64_t count, double mean, double spread,
                           uint64_t *state) {
  unsigned char *data = malloc((size_t)count * dtype_size(dtype));
  if (data == NULL) die("no memory for a synthetic case");
  for (int64_t i = 0; i < count; i++) store(dtype, data, i, mean + spread * draw(state));
  return data;
}

static test_case make(layernorm_dtype dtype, int64_t rows, int64_t cols, int kind) {
  static uint64_t state = 1;
  test_case c = {.op = "layer_forward",
                 .x_dtype = dtype,
                 .y_dtype = dtype,
                 .param_dtype = dtype,
                 .rows = rows,
                 .cols = cols,
                 .eps = 1e-5};
  snprintf(c.distribution, sizeof c.distribution, "%s", kinds[kind].distribution);
  c.data[X] = fill(dtype, rows * cols, kinds[kind].mean, kinds[kind].spread, &state);
  c.data[WEIGHT] = fill(dtype, cols, 1, 0.5, &state);
  c.data[BIAS] = fill(dtype, cols, 0, 0.5, &state);
  return c;
}

case_list make_synthetic_cases(void) {
  enum {
    KINDS = sizeof kinds / sizeof *kinds,
    SHAPES = sizeof shapes / sizeof *shapes
  };
  case_list list = {calloc(4 * KINDS * SHAPES + 1, sizeof *list.cases), 0};
  for (int dtype = LAYERNORM_F32; dtype <= LAYERNORM_BF16; dtype++)
    for (int s = 0; s < SHAPES; s++)
      for (int kind = 0; kind < (shapes[s].every_kind ? KINDS : 1); kind++)
        if (dtype != LAYERNORM_F16 || kinds[kind].fits_half)
          list.cases[list.count++] =
              make((layernorm_dtype)dtype, shapes[s].rows, shapes[s].cols, kind);
  list.cases[list.count++] = make(LAYERNORM_F32, large_rows, large_cols, 0);
  return list;
}
