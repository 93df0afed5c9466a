#include "cells.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const facts[] = {"op",   "cell",   "data",         "flags",
                                    "rows", "hidden", "distribution", "eps"};
enum {
  FACT_COUNT = sizeof facts / sizeof *facts,
  FIELD_COUNT = FACT_COUNT + CELL_TENSOR_COUNT
};

static const char *const cell_names[] = {
    [LAYERNORM_CELL_RNN_TANH] = "rnn_tanh",
    [LAYERNORM_CELL_RNN_RELU] = "rnn_relu",
    [LAYERNORM_CELL_LSTM] = "lstm",
    [LAYERNORM_CELL_GRU] = "gru",
};

const char *cell_name(layernorm_cell cell) { return cell_names[cell]; }

const char *const cell_tensor_names[CELL_TENSOR_COUNT] = {
    "x_gates",  "h_gates",   "h_prev",   "c_prev",    "mask",     "x_weight",  "x_bias",
    "h_weight", "h_bias",    "c_weight", "c_bias",    "dh",       "dc",        "h",
    "c",        "gates",     "mean",     "rstd",      "dx_gates", "dh_gates",  "dh_prev",
    "dc_prev",  "dx_weight", "dx_bias",  "dh_weight", "dh_bias",  "dc_weight", "dc_bias"};

static bool is_rnn(layernorm_cell cell) {
  return cell == LAYERNORM_CELL_RNN_TANH || cell == LAYERNORM_CELL_RNN_RELU;
}

int gates_of(layernorm_cell cell) { return is_rnn(cell) ? 1 : cell == LAYERNORM_CELL_GRU ? 3 : 4; }

int norms_of(const cell_case *c) {
  if (is_rnn(c->cell)) return 1;
  const bool per_gate = (c->flags & LAYERNORM_FLAG_PER_GATE) != 0;
  if (c->cell == LAYERNORM_CELL_GRU) return per_gate ? 6 : 4;
  return per_gate ? 9 : 3;
}

bool has_tensor(layernorm_cell cell, cell_tensor t) {
  switch (t) {
  case CELL_C_PREV:
  case CELL_C_WEIGHT:
  case CELL_C_BIAS:
  case CELL_DC:
  case CELL_C:
  case CELL_DC_PREV:
  case CELL_DC_WEIGHT:
  case CELL_DC_BIAS:
    return cell == LAYERNORM_CELL_LSTM;
  case CELL_H_WEIGHT:
  case CELL_H_BIAS:
  case CELL_DH_GATES:
  case CELL_DH_WEIGHT:
  case CELL_DH_BIAS:
    return !is_rnn(cell);
  default:
    return true;
  }
}

bool is_cell_output(const cell_case *c, cell_tensor t) {
  if (!has_tensor(c->cell, t)) return false;
  if (c->is_backward) return t >= CELL_DX_GATES;
  return t >= CELL_H && t <= CELL_RSTD && !(t == CELL_GATES && is_rnn(c->cell));
}

bool is_of_params(cell_tensor t) {
  return (t >= CELL_X_WEIGHT && t <= CELL_C_BIAS) || t >= CELL_DX_WEIGHT;
}

/* Elements of a row, or of a parameter. */
static int64_t width_of(const cell_case *c, cell_tensor t) {
  switch (t) {
  case CELL_X_GATES:
  case CELL_H_GATES:
  case CELL_GATES:
  case CELL_DX_GATES:
  case CELL_DH_GATES:
  case CELL_X_WEIGHT:
  case CELL_X_BIAS:
  case CELL_H_WEIGHT:
  case CELL_H_BIAS:
  case CELL_DX_WEIGHT:
  case CELL_DX_BIAS:
  case CELL_DH_WEIGHT:
  case CELL_DH_BIAS:
    return c->hidden * gates_of(c->cell);
  case CELL_MEAN:
  case CELL_RSTD:
    return norms_of(c);
  case CELL_MASK:
    return 1;
  default:
    return c->hidden;
  }
}

size_t cell_row_bytes(const cell_case *c, cell_tensor t) {
  return (size_t)width_of(c, t) * (t == CELL_MASK ? 1 : dtype_size(c->dtype));
}

size_t cell_bytes(const cell_case *c, cell_tensor t) {
  return cell_row_bytes(c, t) * (is_of_params(t) ? 1 : (size_t)c->rows);
}

const char *describe_cell(const cell_case *c) {
  static char text[384];
  int length =
      snprintf(text, sizeof text, "%s %s %s, %" PRId64 " x %" PRId64 ", %s, eps %g, flags %d, with",
               cell_names[c->cell], c->is_backward ? "backward" : "forward", dtype_name(c->dtype),
               c->rows, c->hidden, c->distribution, c->eps, (int)c->flags);
  for (int t = CELL_H_PREV; t <= CELL_DC; t++)
    if (c->data[t] != NULL && t != CELL_DH)
      length += snprintf(text + length, sizeof text - (size_t)length, " %s", cell_tensor_names[t]);
  return text;
}

static cell_case parse_cell(const char *directory, char **field) {
  cell_case c = {.is_backward = strcmp(field[0], "cell_backward") == 0,
                 .dtype = dtype_named(field[2]),
                 .flags = (uint64_t)whole_number(field[3]),
                 .rows = whole_number(field[4]),
                 .hidden = whole_number(field[5]),
                 .eps = strtod(field[7], NULL)};
  int cell = 0;
  while (strcmp(cell_names[cell], field[1]) != 0)
    if (++cell > LAYERNORM_CELL_GRU) die("no cell is called %s", field[1]);
  c.cell = (layernorm_cell)cell;
  snprintf(c.distribution, sizeof c.distribution, "%s", field[6]);
  char data[16];
  snprintf(data, sizeof data, "cells.%s", field[2]);
  for (int t = 0; t < CELL_TENSOR_COUNT; t++) {
    const char *offset = field[FACT_COUNT + t];
    const bool output = is_cell_output(&c, (cell_tensor)t);
    if (strcmp(offset, "-") == 0) {
      if (output) die("cells.tsv has no %s of: %s", cell_tensor_names[t], describe_cell(&c));
      continue;
    }
    size_t bytes = cell_bytes(&c, (cell_tensor)t);
    if (output) bytes += bytes / dtype_size(c.dtype) * (sizeof(int8_t) + sizeof(int16_t));
    c.data[t] = data_at(directory, data, output ? field[0] : "inputs", offset, bytes);
  }
  return c;
}

cell_list read_cells(const char *directory) {
  const char *columns[FIELD_COUNT];
  memcpy(columns, facts, sizeof facts);
  memcpy(columns + FACT_COUNT, cell_tensor_names, sizeof cell_tensor_names);
  manifest m = read_manifest(directory, "cells.tsv", columns, FIELD_COUNT);
  cell_list list = {calloc((size_t)m.lines, sizeof *list.cases), m.lines};
  for (int i = 0; i < m.lines; i++)
    list.cases[i] = parse_cell(directory, m.fields + i * FIELD_COUNT);
  return list;
}

cell_case make_cell(layernorm_cell cell, layernorm_dtype dtype, uint64_t flags, int64_t rows,
                    int64_t hidden) {
  uint64_t state = (uint64_t)cell; /* the same numbers for both dtypes, as float32 has them */
  cell_case c = {.cell = cell,
                 .dtype = dtype,
                 .flags = flags,
                 .rows = rows,
                 .hidden = hidden,
                 .distribution = "synthetic",
                 .eps = 1e-5};
  for (int t = CELL_X_GATES; t <= CELL_C_BIAS; t++) {
    if (t == CELL_MASK || !has_tensor(cell, (cell_tensor)t)) continue;
    const double mean = t == CELL_X_WEIGHT || t == CELL_H_WEIGHT || t == CELL_C_WEIGHT;
    size_t bytes = cell_bytes(&c, (cell_tensor)t);
    unsigned char *data = allocate(bytes);
    for (size_t i = 0; i < bytes / dtype_size(dtype); i++)
      store(dtype, data, (int64_t)i, (double)(float)(mean + 0.5 * draw(&state)));
    c.data[t] = data;
  }
  return c;
}
