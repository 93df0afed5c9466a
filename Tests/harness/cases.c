#include "harness.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The columns of the manifest: what a case is, and then one offset for each tensor. */
static const char *const facts[] = {"op",    "data", "x_dtype", "y_dtype",      "param_dtype",
                                    "flags", "rows", "cols",    "distribution", "eps"};
enum {
  FACT_COUNT = sizeof facts / sizeof *facts,
  FIELD_COUNT = FACT_COUNT + TENSOR_COUNT
};

const char *const tensor_names[TENSOR_COUNT] = {"x",      "residual", "x_bias",  "dy",   "dsum",
                                                "weight", "bias",     "mean",    "rstd", "sum",
                                                "y",      "dx",       "dweight", "dbias"};

const operation operations[] = {
    {"layer_forward", LAYERNORM_NORM_LAYER, false, false, 0, 0},
    {"rms_forward", LAYERNORM_NORM_RMS, false, false, 0, 0},
    {"layer_add_forward", LAYERNORM_NORM_LAYER, true, false, 0, 0},
    {"rms_add_forward", LAYERNORM_NORM_RMS, true, false, 0, 0},
    {"layer_backward", LAYERNORM_NORM_LAYER, false, true, 0, 0},
    {"rms_backward", LAYERNORM_NORM_RMS, false, true, 0, 0},
    {"ada_forward", LAYERNORM_NORM_ADA, false, false, 0, 0},
    {"ada_add_forward", LAYERNORM_NORM_ADA, true, false, 0, 0},
    {"ada_backward", LAYERNORM_NORM_ADA, false, true, 0, 0},
    {"ada_other_forward", LAYERNORM_NORM_ADA, false, false, -1.3, 0.45},
    {"ada_other_backward", LAYERNORM_NORM_ADA, false, true, -1.3, 0.45},
    {NULL, LAYERNORM_NORM_LAYER, false, false, 0, 0},
};

const operation *operation_named(const char *name) {
  const operation *op = operations;
  while (op->name != NULL && strcmp(op->name, name) != 0) op++;
  if (op->name == NULL) die("no op is called %s", name);
  return op;
}

extent extent_of(tensor t) {
  switch (t) {
  case X_BIAS:
  case WEIGHT:
  case BIAS:
  case DWEIGHT:
  case DBIAS:
    return OF_COLS;
  case MEAN:
  case RSTD:
    return OF_ROWS;
  default:
    return OF_ELEMENTS;
  }
}

layernorm_dtype dtype_of(const test_case *c, tensor t) {
  switch (t) {
  case X:
  case RESIDUAL:
  case X_BIAS:
  case SUM:
    return c->x_dtype;
  case DY:
  case DSUM:
  case Y:
  case DX:
    return c->y_dtype;
  case MEAN:
  case RSTD:
    return compute_dtype(c->x_dtype);
  default:
    return c->param_dtype;
  }
}

int64_t count_of(const test_case *c, tensor t) {
  extent e = extent_of(t);
  return (e == OF_COLS ? 1 : c->rows) * (e == OF_ROWS ? 1 : c->cols);
}

bool is_output(const test_case *c, tensor t) {
  if (c->op->is_backward) return t == DX || (t > DX && c->op->norm != LAYERNORM_NORM_ADA);
  return t == Y || t == RSTD || (t == MEAN && c->op->norm != LAYERNORM_NORM_RMS) ||
         (t == SUM && c->op->adds);
}

const char *describe(const test_case *c) {
  static char text[256];
  char with[96] = "";
  for (int t = X; t < TENSOR_COUNT; t++)
    if (t != X && t != DY && (is_output(c, t) ? c->initial[t] : c->data[t]) != NULL)
      snprintf(with + strlen(with), sizeof with - strlen(with), " %s", tensor_names[t]);
  snprintf(text, sizeof text,
           "%s %s to %s, parameters %s, %" PRId64 " x %" PRId64 ", %s, eps %g, flags %d, with%s",
           c->op->name, dtype_name(c->x_dtype), dtype_name(c->y_dtype), dtype_name(c->param_dtype),
           c->rows, c->cols, c->distribution, c->eps, (int)c->flags, with);
  return text;
}

static test_case parse_case(const char *directory, char *field[FIELD_COUNT]) {
  test_case c = {.op = operation_named(field[0]),
                 .x_dtype = dtype_named(field[2]),
                 .y_dtype = dtype_named(field[3]),
                 .param_dtype = dtype_named(field[4]),
                 .flags = (uint64_t)whole_number(field[5]),
                 .rows = whole_number(field[6]),
                 .cols = whole_number(field[7]),
                 .eps = strtod(field[9], NULL)};
  snprintf(c.distribution, sizeof c.distribution, "%s", field[8]);
  for (int t = X; t < TENSOR_COUNT; t++) {
    const char *offset = field[FACT_COUNT + t];
    bool output = is_output(&c, t);
    if (strcmp(offset, "-") == 0) {
      if (output) die("the manifest has no %s of: %s", tensor_names[t], describe(&c));
      continue;
    }
    size_t bytes = (size_t)count_of(&c, t) * (dtype_size(dtype_of(&c, t)) + (output ? 1 : 0));
    c.data[t] = data_at(directory, field[1], output ? c.op->name : "inputs", offset, bytes);
  }
  return c;
}

case_list read_cases(const char *directory) {
  const char *columns[FIELD_COUNT];
  memcpy(columns, facts, sizeof facts);
  memcpy(columns + FACT_COUNT, tensor_names, sizeof tensor_names);
  manifest m = read_manifest(directory, "manifest.tsv", columns, FIELD_COUNT);
  case_list list = {calloc((size_t)m.lines, sizeof *list.cases), m.lines};
  for (int i = 0; i < m.lines; i++)
    list.cases[i] = parse_case(directory, m.fields + i * FIELD_COUNT);
  return list;
}
