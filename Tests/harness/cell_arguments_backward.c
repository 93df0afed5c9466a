/* What the library refuses in the backward steps of recurrent cells. */
#include "refusals.h"

#include <math.h>
#include <string.h>

typedef layernorm_cell_backward_args arguments;
#define CALL layernorm_cell_backward

enum {
  OF_GATES = 4 * BYTES /* the LSTM's */
};

static arguments good(void) {
  arguments args = LAYERNORM_CELL_BACKWARD_ARGS_INIT;
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
  args.c = part(CELL_C);
  args.gates = part(CELL_GATES);
  args.mean = part(CELL_MEAN);
  args.rstd = part(CELL_RSTD);
  args.dh = part(CELL_DH);
  args.dc = part(CELL_DC);
  args.dx_gates = part(CELL_DX_GATES);
  args.dh_gates = part(CELL_DH_GATES);
  args.dh_prev = part(CELL_DH_PREV);
  args.dc_prev = part(CELL_DC_PREV);
  args.dx_weight = part(CELL_DX_WEIGHT);
  args.dx_bias = part(CELL_DX_BIAS);
  args.dh_weight = part(CELL_DH_WEIGHT);
  args.dh_bias = part(CELL_DH_BIAS);
  args.dc_weight = part(CELL_DC_WEIGHT);
  args.dc_bias = part(CELL_DC_BIAS);
  return args;
}

/* Another cell, without the arguments that it does not have. */
static void become(arguments *a, layernorm_cell cell) {
  a->cell = cell;
  a->c_prev = a->c_weight = a->c_bias = a->c = a->dc = NULL;
  a->dc_prev = a->dc_weight = a->dc_bias = NULL;
  if (cell == LAYERNORM_CELL_GRU) return;
  a->h_weight = a->h_bias = NULL;
  a->dh_gates = a->dh_weight = a->dh_bias = NULL;
}
#define RNN become(&a, LAYERNORM_CELL_RNN_TANH)
#define GRU become(&a, LAYERNORM_CELL_GRU)

static void pointers(void) {
  expect_refused(layernorm_cell_backward(NULL), LAYERNORM_ERROR_NULL_POINTER, "args", "NULL",
                 "layernorm_cell_backward(NULL)");
  REFUSED(NULL_POINTER, "x_gates", "NULL", a.x_gates = NULL);
  REFUSED(NULL_POINTER, "h_gates", "NULL", a.h_gates = NULL);
  REFUSED(NULL_POINTER, "c", "NULL", a.c = NULL);
  REFUSED(NULL_POINTER, "gates", "NULL", a.gates = NULL);
  REFUSED(NULL_POINTER, "gates", "NULL", RNN, a.gates = NULL);
  REFUSED(NULL_POINTER, "mean", "NULL", a.mean = NULL);
  REFUSED(NULL_POINTER, "rstd", "NULL", a.rstd = NULL);
  REFUSED(NULL_POINTER, "dh", "NULL", a.dh = NULL);
  REFUSED(NULL_POINTER, "dx_gates", "NULL", a.dx_gates = NULL);
  REFUSED(NULL_POINTER, "dh_gates", "NULL", a.dh_gates = NULL);
  ACCEPTED(RNN, a.h_gates = NULL);
  ACCEPTED(a.h_prev = NULL);
  ACCEPTED(GRU, a.h_prev = NULL);
  ACCEPTED(a.c_prev = NULL);
  ACCEPTED(a.mask = NULL);
  ACCEPTED(a.x_weight = NULL, a.x_bias = NULL);
  ACCEPTED(a.h_weight = NULL, a.h_bias = NULL);
  ACCEPTED(a.c_weight = NULL, a.c_bias = NULL);
  ACCEPTED(GRU, a.h_weight = NULL, a.h_bias = NULL);
  ACCEPTED(a.dc = NULL);
  ACCEPTED(a.dh_prev = NULL);
  ACCEPTED(a.dc_prev = NULL);
  ACCEPTED(a.dx_weight = NULL, a.dx_bias = NULL);
  ACCEPTED(a.dh_weight = NULL, a.dh_bias = NULL);
  ACCEPTED(a.dc_weight = NULL, a.dc_bias = NULL);
}

static void cells(void) {
  REFUSED(CELL, "cell", "", a.cell = (layernorm_cell)4);
  REFUSED(CELL, "cell", "", a.cell = (layernorm_cell)-1);
  ACCEPTED(RNN);
  ACCEPTED(GRU);
  ACCEPTED(become(&a, LAYERNORM_CELL_RNN_RELU));
  REFUSED(CELL, "c_prev", "", GRU, a.c_prev = part(CELL_C_PREV));
  REFUSED(CELL, "c_weight", "", GRU, a.c_weight = part(CELL_C_WEIGHT));
  REFUSED(CELL, "c_bias", "", GRU, a.c_bias = part(CELL_C_BIAS));
  REFUSED(CELL, "c", "", GRU, a.c = part(CELL_C));
  REFUSED(CELL, "dc", "", GRU, a.dc = part(CELL_DC));
  REFUSED(CELL, "dc_prev", "", GRU, a.dc_prev = part(CELL_DC_PREV));
  REFUSED(CELL, "dc_weight", "", GRU, a.dc_weight = part(CELL_DC_WEIGHT));
  REFUSED(CELL, "dc_bias", "", GRU, a.dc_bias = part(CELL_DC_BIAS));
  REFUSED(CELL, "c", "", RNN, a.c = part(CELL_C));
  REFUSED(CELL, "dc", "", RNN, a.dc = part(CELL_DC));
  REFUSED(CELL, "h_weight", "", RNN, a.h_weight = part(CELL_H_WEIGHT));
  REFUSED(CELL, "h_bias", "", RNN, a.h_bias = part(CELL_H_BIAS));
  REFUSED(CELL, "dh_gates", "", RNN, a.dh_gates = part(CELL_DH_GATES));
  REFUSED(CELL, "dh_weight", "", RNN, a.dh_weight = part(CELL_DH_WEIGHT));
  REFUSED(CELL, "dh_bias", "", RNN, a.dh_bias = part(CELL_DH_BIAS));
}

static void values(void) {
  const char *any = "rows|hidden|x_gates|h_gates|h_prev|c_prev|x_weight|c|gates|mean|rstd|dh|dc";
  REFUSED(SIZE, "rows", "negative", a.rows = -1);
  REFUSED(SIZE, "hidden", "negative", a.hidden = INT64_MIN);
  REFUSED(SIZE, any, "", a.rows = INT64_MAX);
  REFUSED(SIZE, any, "", a.hidden = INT64_MAX);
  REFUSED(SIZE, any, "", a.hidden = INT64_MAX / 4, a.rows = 1);
  REFUSED(SIZE, any, "", a.rows = (int64_t)1 << 31, a.hidden = (int64_t)1 << 29);
  REFUSED(EPS, "eps", "negative", a.eps = -1e-5);
  REFUSED(EPS, "eps", "NaN", a.eps = NAN);
  REFUSED(EPS, "eps", "infinite", a.eps = INFINITY);
  REFUSED(DTYPE, "dtype", "", a.dtype = LAYERNORM_F16);
  REFUSED(DTYPE, "dtype", "", a.dtype = (layernorm_dtype)-1);
  ACCEPTED(a.dtype = LAYERNORM_F64);
  ACCEPTED(a.flags = LAYERNORM_FLAG_PER_GATE | LAYERNORM_FLAG_ACCUMULATE_PARAMS);
  REFUSED(FLAGS, "flags", "", a.flags = LAYERNORM_FLAG_ACCUMULATE_DX);
  REFUSED(FLAGS, "flags", "", a.flags = LAYERNORM_FLAG_WEIGHT_OFFSET);
  REFUSED(FLAGS, "flags", "", a.flags = (uint64_t)1 << 32);
  REFUSED(STRUCT_SIZE, "struct_size", "", a.struct_size = 0);
  REFUSED(STRUCT_SIZE, "struct_size", "", a.struct_size -= 8);
  REFUSED(STRUCT_SIZE, "struct_size", "", a.struct_size += 8);
  guarded region = {NULL, NULL, NULL, 0};
  size_t only = sizeof(size_t);
  void *args = place(&region, sizeof only, ENDS_AT_GUARD, 0);
  memcpy(args, &only, sizeof only);
  expect_refused(layernorm_cell_backward(args), LAYERNORM_ERROR_STRUCT_SIZE, "struct_size", "",
                 "a struct of struct_size alone");
}

static void overlaps(void) {
  ACCEPTED(a.dh_prev = part(CELL_DH));
  ACCEPTED(a.dc_prev = part(CELL_DC));
  ACCEPTED(a.dh_prev = part(CELL_DH), a.dc_prev = part(CELL_DC));
  ACCEPTED(a.dc = part(CELL_DH), a.h_prev = part(CELL_C_PREV));
  REFUSED(OVERLAP, "dh_prev", "dh", a.dh_prev = moved(CELL_DH, 4));
  REFUSED(OVERLAP, "dh_prev", "dc", a.dh_prev = part(CELL_DC));
  REFUSED(OVERLAP, "dc_prev", "dc", a.dc_prev = moved(CELL_DC, BYTES - 4));
  REFUSED(OVERLAP, "dc_prev", "dh", a.dc_prev = part(CELL_DH));
  REFUSED(OVERLAP, "dh_prev", "h_prev", a.dh_prev = part(CELL_H_PREV));
  REFUSED(OVERLAP, "dc_prev", "c_prev", a.dc_prev = part(CELL_C_PREV));
  REFUSED(OVERLAP, "dc_prev", "c", a.dc_prev = part(CELL_C));
  REFUSED(OVERLAP, "dh_prev|dc_prev", "", a.dc_prev = part(CELL_DH_PREV));
  REFUSED(OVERLAP, "dx_gates", "x_gates", a.dx_gates = part(CELL_X_GATES));
  REFUSED(OVERLAP, "dx_gates", "h_gates", a.dx_gates = moved(CELL_H_GATES, OF_GATES - 4));
  REFUSED(OVERLAP, "dx_gates", "gates", a.dx_gates = part(CELL_GATES));
  REFUSED(OVERLAP, "dh_gates", "h_gates", a.dh_gates = part(CELL_H_GATES));
  REFUSED(OVERLAP, "dh_gates", "dh", a.dh_gates = part(CELL_DH));
  REFUSED(OVERLAP, "dx_gates|dh_gates", "", a.dh_gates = moved(CELL_DX_GATES, 4));
  REFUSED(OVERLAP, "dx_gates", "mean", a.dx_gates = part(CELL_MEAN));
  REFUSED(OVERLAP, "dh_gates", "rstd", a.dh_gates = part(CELL_RSTD));
  REFUSED(OVERLAP, "dx_gates", "mask", a.mask = part(CELL_DX_GATES));
  REFUSED(OVERLAP, "dc_bias", "mask", a.mask = moved(CELL_DC_BIAS, COLS * 4 - 1));
  REFUSED(OVERLAP, "dx_weight|dx_bias", "", a.dx_bias = part(CELL_DX_WEIGHT));
  REFUSED(OVERLAP, "dh_weight|dc_bias", "", a.dc_bias = part(CELL_DH_WEIGHT));
  REFUSED(OVERLAP, "dx_weight", "x_weight", a.dx_weight = part(CELL_X_WEIGHT));
  REFUSED(OVERLAP, "dc_weight", "c_weight", a.dc_weight = part(CELL_C_WEIGHT));
  REFUSED(OVERLAP, "dh_bias", "x_gates", a.dh_bias = part(CELL_X_GATES));
}

static void alignments(void) {
  REFUSED(ALIGNMENT, "x_gates", "", a.x_gates = moved(CELL_X_GATES, 2));
  REFUSED(ALIGNMENT, "h_gates", "", a.h_gates = moved(CELL_H_GATES, 1));
  REFUSED(ALIGNMENT, "c", "", a.c = moved(CELL_C, 1));
  REFUSED(ALIGNMENT, "gates", "", a.gates = moved(CELL_GATES, 1));
  REFUSED(ALIGNMENT, "mean", "", a.mean = moved(CELL_MEAN, 1));
  REFUSED(ALIGNMENT, "rstd", "", a.rstd = moved(CELL_RSTD, 1));
  REFUSED(ALIGNMENT, "dh", "", a.dh = moved(CELL_DH, 1));
  REFUSED(ALIGNMENT, "dc", "", a.dc = moved(CELL_DC, 1));
  REFUSED(ALIGNMENT, "dx_gates", "", a.dx_gates = moved(CELL_DX_GATES, 1));
  REFUSED(ALIGNMENT, "dh_gates", "", a.dh_gates = moved(CELL_DH_GATES, 1));
  REFUSED(ALIGNMENT, "dh_prev", "", a.dh_prev = moved(CELL_DH_PREV, 1));
  REFUSED(ALIGNMENT, "dc_prev", "", a.dc_prev = moved(CELL_DC_PREV, 1));
  REFUSED(ALIGNMENT, "dx_weight", "", a.dx_weight = moved(CELL_DX_WEIGHT, 1));
  REFUSED(ALIGNMENT, "dx_bias", "", a.dx_bias = moved(CELL_DX_BIAS, 1));
  REFUSED(ALIGNMENT, "dh_weight", "", a.dh_weight = moved(CELL_DH_WEIGHT, 1));
  REFUSED(ALIGNMENT, "dh_bias", "", a.dh_bias = moved(CELL_DH_BIAS, 1));
  REFUSED(ALIGNMENT, "dc_weight", "", a.dc_weight = moved(CELL_DC_WEIGHT, 1));
  REFUSED(ALIGNMENT, "dc_bias", "", a.dc_bias = moved(CELL_DC_BIAS, 1));
  ACCEPTED(a.mask = moved(CELL_MASK, 1));
}

/* Without rows the sums over them are zeros, or nothing to add. */
static void no_rows(void) {
  static const int sums[] = {CELL_DX_WEIGHT, CELL_DX_BIAS,   CELL_DH_WEIGHT,
                             CELL_DH_BIAS,   CELL_DC_WEIGHT, CELL_DC_BIAS};
  arguments a = good();
  a.rows = 0;
  a.flags = LAYERNORM_FLAG_ACCUMULATE_PARAMS;
  check(layernorm_cell_backward(&a) == LAYERNORM_SUCCESS, "rows = 0 is refused: %s",
        layernorm_last_error());
  check(block_unchanged(), "rows = 0 writes where there is nothing to add");
  a.flags = 0;
  unsigned char old[6][PART];
  for (int i = 0; i < 6; i++) memcpy(old[i], part(sums[i]), PART);
  check(layernorm_cell_backward(&a) == LAYERNORM_SUCCESS, "rows = 0 is refused: %s",
        layernorm_last_error());
  for (int i = 0; i < 6; i++) {
    const int count = i < 4 ? 4 * COLS : COLS;
    for (int k = 0; k < count; k++)
      check(load(LAYERNORM_F32, part(sums[i]), k) == 0, "rows = 0: a sum is not 0");
    memcpy(part(sums[i]), old[i], (size_t)count * sizeof(float));
  }
  check(block_unchanged(), "rows = 0 writes more than the sums");
}

void refused_cell_backward(void) {
  pointers();
  cells();
  values();
  overlaps();
  alignments();
  no_rows();
}
