#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

unsigned char *allocate(size_t bytes) {
  unsigned char *data = malloc(bytes + 1);
  if (data == NULL) die("no memory for %zu bytes", bytes);
  return data;
}

static uint64_t next(uint64_t *state) {
  uint64_t z = *state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/* A sum of four uniforms is normal enough here. */
double draw(uint64_t *state) {
  double sum = 0;
  for (int i = 0; i < 4; i++) sum += (double)(next(state) >> 11) * 0x1p-53 - 0.5;
  return sum * sqrt(3);
}

static const struct {
  const char *distribution;
  double mean, spread;
  bool fits_half;
} kinds[] = {
    {"N(0,1)", 0, 1, true},     {"N(1,1)", 1, 1, true}, /* the mean is subtracted from some rows */
    {"N(0.4,1)", 0.4, 1, true}, /* backward, the sums of some go around it */
    {"mean 1e4", 1e4, 1, true}, {"3e37", 0, 3e37, false}, /* its sums of squares overflow */
    {"1e-39", 0, 1e-39, false},
};

typedef struct shape {
  int64_t rows, cols;
  bool every_kind;
} shape;

/* Among them short rows in groups of up to 32, and rows of whole vectors in pairs and alone. */
static const shape forward_shapes[] = {
    {3, 4095, true},    {3, 4096, true},   {3, 4097, true},  {2, 8192, true}, {2, 10000, true},
    {333, 1021, false}, {1030, 65, false}, {5, 1023, false}, {7, 33, false},  {17, 64, true},
    {37, 64, false},    {71, 48, false},   {11, 256, false}, {0, 0, false},
};
static const shape few_forward_shapes[] = {
    {3, 4097, true}, {2, 10000, false}, {333, 1021, false}, {7, 33, false}, {0, 0, false},
};
/* On both sides of groups of 4 rows and of blocks of rows, and of the 32 rows of 16 bits that are added up
 * first. */
static const shape backward_shapes[] = {
    {3, 4097, true},    {9, 4096, false},  {9, 4097, false},  {2, 10000, false}, {33, 8193, false},
    {333, 1021, false}, {4, 33, true},     {5, 16, false},    {15, 65, false},   {16, 257, false},
    {17, 31, false},    {63, 7, false},    {64, 48, false},   {65, 130, false},  {255, 19, false},
    {31, 2116, false},  {32, 2047, false}, {32, 2048, true},  {64, 1024, false}, {257, 64, false},
    {1023, 5, true},    {1030, 65, false}, {4099, 16, false}, {20011, 3, false}, {0, 0, false},
};

/* On both sides of 32 columns of bfloat16, which may be computed together, of what is left over after some, and of as few
 * rows as weight and bias are not converted for. */
static const shape split_shapes[] = {
    {1, 32, false},  {2, 33, false},  {15, 64, false},  {17, 31, false},  {18, 32, false},
    {19, 47, false}, {33, 80, false}, {22, 111, false}, {70, 160, false}, {0, 0, false},
};

/* Large enough for what depends on the caches: from 2 MiB in all on a row, of 96 columns or more, may be stored while
 * the next is read,
 * from 16 or 24 MiB in all on later rows may be asked for, from 6 or 16 MiB of output, or 18 to 40 MiB in all, on
 * stores may bypass the caches, in some on one thread alone, with rows of whole vectors or lines and others. Where the
 * last level is small, all of them do. */
static const struct {
  const char *op;
  layernorm_dtype dtype;
  int64_t rows, cols;
  double mean, spread;
} large[] = {
    {"layer_forward", LAYERNORM_F32, 1030, 515, 0, 1},
    {"layer_forward", LAYERNORM_F32, 1030, 515, 1e4, 1},
    {"layer_forward", LAYERNORM_F32, 1030, 515, 0, 3e37},
    {"rms_forward", LAYERNORM_F32, 1030, 515, 0, 1},
    {"rms_forward", LAYERNORM_F32, 1030, 515, 0, 3e37},
    {"layer_forward", LAYERNORM_F16, 1030, 515, 0, 1},
    {"layer_forward", LAYERNORM_F16, 130, 4100, 10, 1},
    {"layer_forward", LAYERNORM_BF16, 1030, 515, 0, 1},
    {"layer_forward", LAYERNORM_BF16, 1030, 515, 0, 3e37},
    {"rms_forward", LAYERNORM_F16, 1030, 515, 0, 1},
    {"rms_forward", LAYERNORM_BF16, 2000, 272, 0, 1},
    {"rms_forward", LAYERNORM_BF16, 2000, 288, 0, 1},
    {"layer_forward", LAYERNORM_BF16, 2000, 303, 0, 1},
    {"layer_forward", LAYERNORM_BF16, 9, 100000, 0, 1},
    {"layer_forward", LAYERNORM_F32, 2900, 95, 0, 1},
    {"layer_forward", LAYERNORM_F32, 2900, 96, 0, 1},
    {"layer_forward", LAYERNORM_F32, 2500, 112, 0, 3e37},
    {"rms_forward", LAYERNORM_F32, 2900, 97, 0, 1},
    {"layer_forward", LAYERNORM_BF16, 5700, 96, 0, 1},
    {"layer_forward", LAYERNORM_F16, 5000, 112, 10, 1},
    {"layer_forward", LAYERNORM_F32, 150, 3000, 0, 1},
    {"layer_forward", LAYERNORM_F32, 75, 4099, 0, 1},
    {"layer_forward", LAYERNORM_F32, 75, 4099, 0, 3e37},
    {"layer_forward", LAYERNORM_F32, 1500, 4096, 1e4, 1},
    {"layer_forward", LAYERNORM_F32, 1500, 5120, 0, 1},
    {"layer_forward", LAYERNORM_F32, 4100, 1024, 0, 1},
    {"layer_forward", LAYERNORM_F32, 4600, 1024, 0, 1},
    {"layer_forward", LAYERNORM_F32, 82000, 64, 0, 1},
    {"layer_forward", LAYERNORM_BF16, 8200, 1024, 0, 1},
    {"rms_forward", LAYERNORM_F16, 2100, 4096, 0, 1},
    {"layer_forward", LAYERNORM_F32, 6151, 1027, 0, 1},
    {"layer_add_forward", LAYERNORM_F32, 6151, 1027, 0, 1},
    {"layer_forward", LAYERNORM_F32, 10100, 601, 0, 1},
    {"layer_add_forward", LAYERNORM_F32, 10100, 601, 0, 1},
    {"layer_add_forward", LAYERNORM_F32, 1700, 1024, 0, 1},
    {"layer_add_forward", LAYERNORM_BF16, 6200, 1024, 0, 1},
    {"layer_add_forward", LAYERNORM_BF16, 16400, 528, 0, 1},
    {"layer_add_forward", LAYERNORM_F16, 8200, 1024, 0, 1},
    {"layer_add_forward", LAYERNORM_F32, 28000, 64, 0, 1},
    {"layer_add_forward", LAYERNORM_F32, 1700, 1024, 0, 3e37},
    {"layer_add_forward", LAYERNORM_F64, 2200, 1032, 0, 1},
    {"rms_add_forward", LAYERNORM_F32, 420, 4144, 0, 1},
    {"rms_add_forward", LAYERNORM_BF16, 16000, 544, 0, 1},
    {"layer_backward", LAYERNORM_F32, 1420, 1024, 0, 1},
    {"layer_backward", LAYERNORM_F32, 1600, 1024, 0, 1},
    {"layer_backward", LAYERNORM_F32, 4100, 1024, 0, 1},
    {"layer_backward", LAYERNORM_F32, 24000, 64, 0, 1},
    {"layer_backward", LAYERNORM_F32, 36000, 64, 0, 1},
    {"layer_backward", LAYERNORM_F32, 65400, 64, 0, 1},
    {"layer_backward", LAYERNORM_F32, 65600, 64, 0, 1},
    {"layer_backward", LAYERNORM_BF16, 4300, 1024, 0, 1},
    {"layer_backward", LAYERNORM_BF16, 8200, 1024, 0, 1},
    {"layer_backward", LAYERNORM_F32, 6151, 1027, 0, 1},
};

static unsigned char *fill(layernorm_dtype dtype, int64_t count, double mean, double spread,
                           uint64_t *state) {
  unsigned char *data = allocate((size_t)count * dtype_size(dtype));
  for (int64_t i = 0; i < count; i++) store(dtype, data, i, mean + spread * draw(state));
  return data;
}

/* Statistics near enough to be taken for those of the forward pass. */
static void fill_statistics(test_case *c) {
  layernorm_dtype dtype = dtype_of(c, RSTD);
  unsigned char *mean = allocate((size_t)c->rows * dtype_size(dtype));
  unsigned char *rstd = allocate((size_t)c->rows * dtype_size(dtype));
  for (int64_t row = 0; row < c->rows; row++) {
    long double sum = 0, squares = 0, center = 0;
    for (int64_t i = 0; i < c->cols; i++) sum += load(c->x_dtype, c->data[X], row * c->cols + i);
    if (c->op->norm != LAYERNORM_NORM_RMS) center = sum / c->cols;
    for (int64_t i = 0; i < c->cols; i++) {
      long double d = load(c->x_dtype, c->data[X], row * c->cols + i) - center;
      squares += d * d;
    }
    store(dtype, mean, row, (double)center);
    store(dtype, rstd, row, (double)(1 / sqrtl(squares / c->cols + c->eps)));
  }
  c->data[RSTD] = rstd;
  if (c->op->norm != LAYERNORM_NORM_RMS)
    c->data[MEAN] = mean;
  else
    free(mean);
}

static test_case make_case(const char *op, layernorm_dtype dtype, layernorm_dtype param_dtype,
                           int64_t rows, int64_t cols, double mean, double spread) {
  static uint64_t state = 1;
  test_case c = {.op = operation_named(op),
                 .distribution = "synthetic",
                 .x_dtype = dtype,
                 .y_dtype = dtype,
                 .param_dtype = param_dtype,
                 .rows = rows,
                 .cols = cols,
                 .eps = 1e-5};
  c.data[X] = fill(dtype, rows * cols, mean, spread, &state);
  if (c.op->norm != LAYERNORM_NORM_ADA) c.data[WEIGHT] = fill(param_dtype, cols, 1, 0.5, &state);
  if (c.op->adds) c.data[RESIDUAL] = fill(dtype, rows * cols, mean, spread, &state);
  if (c.op->is_backward) {
    c.data[DY] = fill(dtype, rows * cols, 0, 1, &state);
    if (cols % 2 == 1) c.data[DSUM] = fill(dtype, rows * cols, 0, 1, &state);
    fill_statistics(&c);
  } else if (c.op->norm == LAYERNORM_NORM_LAYER) {
    c.data[BIAS] = fill(param_dtype, cols, 0, 0.5, &state);
  }
  return c;
}

test_case make_synthetic_case(const char *op, layernorm_dtype dtype, int64_t rows, int64_t cols,
                              double mean, double spread) {
  return make_case(op, dtype, dtype, rows, cols, mean, spread);
}

/* With parameters of both types that kernels take beside bfloat16, and rows around 0 and around 1. */
static void append_split(case_list *list, const char *op) {
  for (const shape *s = split_shapes; s->rows != 0; s++)
    for (int mean = 0; mean < 2; mean++) {
      list->cases[list->count++] =
          make_case(op, LAYERNORM_BF16, LAYERNORM_BF16, s->rows, s->cols, mean, 1);
      list->cases[list->count++] =
          make_case(op, LAYERNORM_BF16, LAYERNORM_F32, s->rows, s->cols, mean, 1);
    }
}

static void append(case_list *list, const char *op, const shape *shapes) {
  enum {
    KINDS = sizeof kinds / sizeof *kinds
  };
  for (int dtype = LAYERNORM_F32; dtype <= LAYERNORM_BF16; dtype++)
    for (const shape *s = shapes; s->rows != 0; s++)
      for (int kind = 0; kind < (s->every_kind ? KINDS : 1); kind++) {
        if (dtype == LAYERNORM_F16 && !kinds[kind].fits_half) continue;
        test_case c = make_synthetic_case(op, (layernorm_dtype)dtype, s->rows, s->cols,
                                          kinds[kind].mean, kinds[kind].spread);
        snprintf(c.distribution, sizeof c.distribution, "%s", kinds[kind].distribution);
        list->cases[list->count++] = c;
      }
}

case_list make_synthetic_cases(void) {
  enum {
    CASES_AT_MOST = 1000
  };
  case_list list = {calloc(CASES_AT_MOST, sizeof *list.cases), 0};
  append(&list, "layer_forward", forward_shapes);
  append(&list, "rms_forward", few_forward_shapes);
  append(&list, "layer_add_forward", few_forward_shapes);
  append(&list, "rms_add_forward", few_forward_shapes);
  append(&list, "layer_backward", backward_shapes);
  append(&list, "rms_backward", backward_shapes);
  append(&list, "ada_forward", few_forward_shapes);
  append(&list, "ada_backward", few_forward_shapes);
  append_split(&list, "layer_forward");
  append_split(&list, "rms_forward");
  append_split(&list, "layer_add_forward");
  append_split(&list, "layer_backward");
  for (size_t i = 0; i < sizeof large / sizeof *large; i++)
    list.cases[list.count++] = make_synthetic_case(large[i].op, large[i].dtype, large[i].rows,
                                                   large[i].cols, large[i].mean, large[i].spread);
  if (list.count > CASES_AT_MOST) die("too many synthetic cases");
  return list;
}

case_list make_channel_cases(void) {
  /* H*W: on both sides of a square of 16, or 8, rows that are transposed at once, of what is left over after some, and of
   * 256, which go through a buffer together. */
  static const int64_t widths[] = {1, 7, 15, 16, 17, 31, 49, 100, 271, 272};
  static const int64_t channels[] = {3, 16, 65, 257, 1025};
  static const char *const ops[] = {"layer_forward", "layer_backward", "rms_forward",
                                    "rms_backward", "layer_add_forward"};
  enum {
    BATCH = 2,
    WIDTHS = sizeof widths / sizeof *widths,
    CHANNELS = sizeof channels / sizeof *channels,
    OPS = sizeof ops / sizeof *ops
  };
  case_list list = {calloc(OPS * WIDTHS * CHANNELS, sizeof *list.cases), 0};
  for (int op = 0; op < OPS; op++)
    for (int w = 0; w < WIDTHS; w++)
      for (int k = 0; k < CHANNELS; k++) { /* each dtype comes to each width and each number */
        layernorm_dtype dtype = (layernorm_dtype)(LAYERNORM_F32 + (op + 3 * w + k) % 4);
        if (widths[w] * channels[k] > 1 << 16) continue;
        list.cases[list.count] =
            make_synthetic_case(ops[op], dtype, BATCH * widths[w], channels[k], 1e3, 1);
        snprintf(list.cases[list.count++].distribution, sizeof list.cases->distribution,
                 "channels");
      }
  return list;
}
