/* What the library refuses in the steps of recurrent cells. */
#include "refusals.h"

#include <math.h>
#include <string.h>

typedef layernorm_cell_forward_args arguments;
#define CALL layernorm_cell_forward

enum {
  OF_GATES = 4 * BYTES /* the LSTM's */
};

static arguments good(void) {
  arguments args = LAYERNORM_CELL_FORWARD_ARGS_INIT;
  args.cell = LAYERNORM_CELL_LSTM;
  args.rows = ROWS;
  args.hidden = COLS;
  args.x_gates = part(CELL_X_GATES);
  args.h_gates = part(CELL_H_GATES);
  args.h_prev = part(CELL_H_PREV);
  args.c_prev = part(CELL_C_PREV);
  args.mask = part(CELL_MASK);
  args.x_weight = part(CELL_X_WEIGHT);
  args.x_bias = part(CELL_X_BIAS);
  args.h_weight = part(CELL_H_WEIGHT);
  args.h_bias = part(CELL_H_BIAS);
  args.c_weight = part(CELL_C_WEIGHT);
  args.c_bias = part(CELL_C_BIAS);
  args.h = part(CELL_H);
  args.c = part(CELL_C);
  args.gates = part(CELL_GATES);
  args.mean = part(CELL_MEAN);
  args.rstd = part(CELL_RSTD);
  return args;
}

/* Another cell, without the arguments that it does not have. */
static void become(arguments *a, layernorm_cell cell) {
  a->cell = cell;
  a->c_prev = a->c_weight = a->c_bias = NULL;
  a->c = NULL;
  if (cell == LAYERNORM_CELL_GRU) return;
  a->h_weight = a->h_bias = NULL;
  a->gates = NULL;
}
#define RNN become(&a, LAYERNORM_CELL_RNN_RELU)
#define GRU become(&a, LAYERNORM_CELL_GRU)

static void pointers(void) {
  expect_refused(layernorm_cell_forward(NULL), LAYERNORM_ERROR_NULL_POINTER, "args", "NULL",
                 "layernorm_cell_forward(NULL)");
  REFUSED(NULL_POINTER, "x_gates", "NULL", a.x_gates = NULL);
  REFUSED(NULL_POINTER, "h_gates", "NULL", a.h_gates = NULL);
  REFUSED(NULL_POINTER, "h_gates", "NULL", GRU, a.h_gates = NULL);
  REFUSED(NULL_POINTER, "h", "NULL", a.h = NULL);
  REFUSED(NULL_POINTER, "h", "NULL", RNN, a.h = NULL);
  REFUSED(NULL_POINTER, "c", "NULL", a.c = NULL);
  ACCEPTED(RNN, a.h_gates = NULL);
  ACCEPTED(a.h_prev = NULL);
  ACCEPTED(GRU, a.h_prev = NULL);
  ACCEPTED(a.c_prev = NULL);
  ACCEPTED(a.mask = NULL);
  ACCEPTED(a.x_weight = NULL);
  ACCEPTED(a.x_bias = NULL);
  ACCEPTED(a.h_weight = NULL);
  ACCEPTED(a.h_bias = NULL);
  ACCEPTED(a.c_weight = NULL);
  ACCEPTED(a.c_bias = NULL);
  ACCEPTED(a.gates = NULL);
  ACCEPTED(a.mean = NULL);
  ACCEPTED(a.rstd = NULL);
  ACCEPTED(a.rows = 0, a.x_gates = NULL, a.h_gates = NULL, a.h = NULL, a.c = NULL);
}

static void cells(void) {
  REFUSED(CELL, "cell", "", a.cell = (layernorm_cell)4);
  REFUSED(CELL, "cell", "", a.cell = (layernorm_cell)-1);
  ACCEPTED(RNN);
  ACCEPTED(GRU);
  ACCEPTED(become(&a, LAYERNORM_CELL_RNN_TANH));
  REFUSED(CELL, "c_prev", "", GRU, a.c_prev = part(CELL_C_PREV));
  REFUSED(CELL, "c_weight", "", GRU, a.c_weight = part(CELL_C_WEIGHT));
  REFUSED(CELL, "c_bias", "", GRU, a.c_bias = part(CELL_C_BIAS));
  REFUSED(CELL, "c", "", GRU, a.c = part(CELL_C));
  REFUSED(CELL, "c_prev", "", RNN, a.c_prev = part(CELL_C_PREV));
  REFUSED(CELL, "c_weight", "", RNN, a.c_weight = part(CELL_C_WEIGHT));
  REFUSED(CELL, "c_bias", "", RNN, a.c_bias = part(CELL_C_BIAS));
  REFUSED(CELL, "c", "", RNN, a.c = part(CELL_C));
  REFUSED(CELL, "h_weight", "", RNN, a.h_weight = part(CELL_H_WEIGHT));
  REFUSED(CELL, "h_bias", "", RNN, a.h_bias = part(CELL_H_BIAS));
  REFUSED(CELL, "gates", "", RNN, a.gates = part(CELL_GATES));
}

static void values(void) {
  const char *any = "rows|hidden|x_gates|h_gates|h_prev|c_prev|x_weight|h|c|gates|mean|rstd";
  REFUSED(SIZE, "rows", "negative", a.rows = -1);
  REFUSED(SIZE, "hidden", "negative", a.hidden = INT64_MIN);
  REFUSED(SIZE, "hidden", "negative", a.rows = 0, a.hidden = -1);
  REFUSED(SIZE, any, "", a.rows = INT64_MAX);
  REFUSED(SIZE, any, "", a.hidden = INT64_MAX);
  REFUSED(SIZE, any, "", a.hidden = INT64_MAX / 4, a.rows = 1);
  REFUSED(SIZE, any, "", a.rows = INT64_MAX, a.hidden = 0);
  REFUSED(SIZE, any, "", a.rows = (int64_t)1 << 31, a.hidden = (int64_t)1 << 29);
  REFUSED(EPS, "eps", "negative", a.eps = -1e-5);
  REFUSED(EPS, "eps", "NaN", a.eps = NAN);
  REFUSED(EPS, "eps", "infinite", a.eps = INFINITY);
  ACCEPTED(a.eps = 0);
  REFUSED(DTYPE, "dtype", "", a.dtype = LAYERNORM_F16);
  REFUSED(DTYPE, "dtype", "", a.dtype = LAYERNORM_BF16);
  REFUSED(DTYPE, "dtype", "", a.dtype = (layernorm_dtype)5);
  REFUSED(DTYPE, "dtype", "", a.dtype = (layernorm_dtype)-1);
  ACCEPTED(a.dtype = LAYERNORM_DTYPE_DEFAULT);
  ACCEPTED(a.dtype = LAYERNORM_F64);
  ACCEPTED(a.flags = LAYERNORM_FLAG_PER_GATE);
  REFUSED(FLAGS, "flags", "", a.flags = LAYERNORM_FLAG_ACCUMULATE_PARAMS);
  REFUSED(FLAGS, "flags", "", a.flags = LAYERNORM_FLAG_WEIGHT_OFFSET);
  REFUSED(FLAGS, "flags", "", a.flags = (uint64_t)1 << 32);
  REFUSED(FLAGS, "flags", "", a.flags = UINT64_MAX);
  REFUSED(STRUCT_SIZE, "struct_size", "", a.struct_size = 0);
  REFUSED(STRUCT_SIZE, "struct_size", "", a.struct_size -= 8);
  REFUSED(STRUCT_SIZE, "struct_size", "", a.struct_size += 8);
  guarded region = {NULL, NULL, NULL, 0};
  size_t only = sizeof(size_t);
  void *args = place(&region, sizeof only, ENDS_AT_GUARD, 0);
  memcpy(args, &only, sizeof only);
  expect_refused(layernorm_cell_forward(args), LAYERNORM_ERROR_STRUCT_SIZE, "struct_size", "",
                 "a struct of struct_size alone");
}

static void overlaps(void) {
  ACCEPTED(a.h = part(CELL_H_PREV));
  ACCEPTED(a.c = part(CELL_C_PREV));
  ACCEPTED(a.h = part(CELL_H_PREV), a.c = part(CELL_C_PREV));
  ACCEPTED(a.x_gates = part(CELL_H_GATES), a.c_prev = part(CELL_H_PREV));
  ACCEPTED(a.h = moved(CELL_H_PREV, BYTES));
  REFUSED(OVERLAP, "h", "h_prev", a.h = moved(CELL_H_PREV, 4));
  REFUSED(OVERLAP, "h", "h_prev", a.h_prev = moved(CELL_H, BYTES - 4));
  REFUSED(OVERLAP, "h", "c_prev", a.h = part(CELL_C_PREV));
  REFUSED(OVERLAP, "c", "c_prev", a.c = moved(CELL_C_PREV, -4));
  REFUSED(OVERLAP, "c", "h_prev", a.c = part(CELL_H_PREV));
  REFUSED(OVERLAP, "h|c", "", a.c = part(CELL_H));
  REFUSED(OVERLAP, "h", "x_gates", a.h = moved(CELL_X_GATES, OF_GATES - 4));
  REFUSED(OVERLAP, "c", "h_gates", a.c = part(CELL_H_GATES));
  REFUSED(OVERLAP, "gates", "x_gates", a.gates = part(CELL_X_GATES));
  REFUSED(OVERLAP, "gates", "h_gates", a.gates = moved(CELL_H_GATES, 4));
  REFUSED(OVERLAP, "gates", "h_prev", a.gates = part(CELL_H_PREV));
  REFUSED(OVERLAP, "gates", "c_prev", a.c_prev = moved(CELL_GATES, OF_GATES - 4));
  REFUSED(OVERLAP, "gates|h", "", a.gates = part(CELL_H));
  REFUSED(OVERLAP, "gates|c", "", a.c = moved(CELL_GATES, OF_GATES - 4));
  REFUSED(OVERLAP, "mean|rstd", "", a.mean = part(CELL_RSTD));
  REFUSED(OVERLAP, "mean|gates", "", a.mean = part(CELL_GATES));
  REFUSED(OVERLAP, "rstd", "h_bias", a.rstd = part(CELL_H_BIAS));
  REFUSED(OVERLAP, "h", "mask", a.mask = part(CELL_H));
  REFUSED(OVERLAP, "gates", "mask", a.mask = moved(CELL_GATES, OF_GATES - 1));
  REFUSED(OVERLAP, "mean", "mask", a.mask = (const uint8_t *)part(CELL_MEAN) - ROWS + 1);
  const char *const params[] = {"x_weight", "x_bias", "h_weight", "h_bias", "c_weight", "c_bias"};
  for (int i = 0; i < 6; i++) {
    REFUSED(OVERLAP, "h", params[i], a.h = part(CELL_X_WEIGHT + i));
    REFUSED(OVERLAP, "c", params[i], a.c = part(CELL_X_WEIGHT + i));
  }
}

static void alignments(void) {
  REFUSED(ALIGNMENT, "x_gates", "", a.x_gates = moved(CELL_X_GATES, 2));
  REFUSED(ALIGNMENT, "h_gates", "", a.h_gates = moved(CELL_H_GATES, 1));
  REFUSED(ALIGNMENT, "h_prev", "", a.h_prev = moved(CELL_H_PREV, 1));
  REFUSED(ALIGNMENT, "c_prev", "", a.c_prev = moved(CELL_C_PREV, 1));
  REFUSED(ALIGNMENT, "x_weight", "", a.x_weight = moved(CELL_X_WEIGHT, 1));
  REFUSED(ALIGNMENT, "x_bias", "", a.x_bias = moved(CELL_X_BIAS, 1));
  REFUSED(ALIGNMENT, "h_weight", "", a.h_weight = moved(CELL_H_WEIGHT, 1));
  REFUSED(ALIGNMENT, "h_bias", "", a.h_bias = moved(CELL_H_BIAS, 1));
  REFUSED(ALIGNMENT, "c_weight", "", a.c_weight = moved(CELL_C_WEIGHT, 1));
  REFUSED(ALIGNMENT, "c_bias", "", a.c_bias = moved(CELL_C_BIAS, 1));
  REFUSED(ALIGNMENT, "h", "", a.h = moved(CELL_H, 1));
  REFUSED(ALIGNMENT, "c", "", a.c = moved(CELL_C, 1));
  REFUSED(ALIGNMENT, "gates", "", a.gates = moved(CELL_GATES, 1));
  REFUSED(ALIGNMENT, "mean", "", a.mean = moved(CELL_MEAN, 1));
  REFUSED(ALIGNMENT, "rstd", "", a.rstd = moved(CELL_RSTD, 1));
  REFUSED(ALIGNMENT, "rstd", "", a.dtype = LAYERNORM_F64, a.rstd = moved(CELL_RSTD, 4));
  ACCEPTED(a.mask = moved(CELL_MASK, 1));
}

/* Without elements, mean and rstd are 0/0; nothing else is written. */
static void empty_hidden(void) {
  arguments a = good();
  a.hidden = 0;
  a.mask = NULL;
  a.x_gates = a.h_gates = NULL;
  a.h = a.c = a.gates = NULL;
  const int statistics[] = {CELL_MEAN, CELL_RSTD};
  unsigned char old[2][3 * ROWS * sizeof(float)];
  for (int i = 0; i < 2; i++) memcpy(old[i], part(statistics[i]), sizeof old[i]);
  check(layernorm_cell_forward(&a) == LAYERNORM_SUCCESS, "hidden = 0 is refused: %s",
        layernorm_last_error());
  for (int i = 0; i < 2; i++) {
    for (int k = 0; k < 3 * ROWS; k++)
      check(isnan(load(LAYERNORM_F32, part(statistics[i]), k)), "hidden = 0: mean or rstd not NaN");
    memcpy(part(statistics[i]), old[i], sizeof old[i]);
  }
  check(block_unchanged(), "hidden = 0 writes more than mean and rstd");
}

void refused_cell_forward(void) {
  pointers();
  cells();
  values();
  overlaps();
  alignments();
  empty_hidden();
}

int test_cell_arguments(void) {
  refused_cell_forward();
  refused_cell_backward();
  return summary("cell_arguments");
}
