#include "cells.h"

#include <stdlib.h>
#include <string.h>

/* Where a struct of arguments has the pointer to each tensor; 0: nowhere. */
#define AT(tensor, field) [tensor] = offsetof(layernorm_cell_forward_args, field)
static const size_t forward_fields[CELL_TENSOR_COUNT] = {
    AT(CELL_X_GATES, x_gates),
    AT(CELL_H_GATES, h_gates),
    AT(CELL_H_PREV, h_prev),
    AT(CELL_C_PREV, c_prev),
    AT(CELL_MASK, mask),
    AT(CELL_X_WEIGHT, x_weight),
    AT(CELL_X_BIAS, x_bias),
    AT(CELL_H_WEIGHT, h_weight),
    AT(CELL_H_BIAS, h_bias),
    AT(CELL_C_WEIGHT, c_weight),
    AT(CELL_C_BIAS, c_bias),
    AT(CELL_H, h),
    AT(CELL_C, c),
    AT(CELL_GATES, gates),
    AT(CELL_MEAN, mean),
    AT(CELL_RSTD, rstd),
};
#undef AT
#define AT(tensor, field) [tensor] = offsetof(layernorm_cell_backward_args, field)
static const size_t backward_fields[CELL_TENSOR_COUNT] = {
    AT(CELL_X_GATES, x_gates),
    AT(CELL_H_GATES, h_gates),
    AT(CELL_H_PREV, h_prev),
    AT(CELL_C_PREV, c_prev),
    AT(CELL_MASK, mask),
    AT(CELL_X_WEIGHT, x_weight),
    AT(CELL_X_BIAS, x_bias),
    AT(CELL_H_WEIGHT, h_weight),
    AT(CELL_H_BIAS, h_bias),
    AT(CELL_C_WEIGHT, c_weight),
    AT(CELL_C_BIAS, c_bias),
    AT(CELL_DH, dh),
    AT(CELL_DC, dc),
    AT(CELL_C, c),
    AT(CELL_GATES, gates),
    AT(CELL_MEAN, mean),
    AT(CELL_RSTD, rstd),
    AT(CELL_DX_GATES, dx_gates),
    AT(CELL_DH_GATES, dh_gates),
    AT(CELL_DH_PREV, dh_prev),
    AT(CELL_DC_PREV, dc_prev),
    AT(CELL_DX_WEIGHT, dx_weight),
    AT(CELL_DX_BIAS, dx_bias),
    AT(CELL_DH_WEIGHT, dh_weight),
    AT(CELL_DH_BIAS, dh_bias),
    AT(CELL_DC_WEIGHT, dc_weight),
    AT(CELL_DC_BIAS, dc_bias),
};
#undef AT

static void set_pointers(void *args, const size_t fields[CELL_TENSOR_COUNT],
                         void *const at[CELL_TENSOR_COUNT]) {
  for (int t = 0; t < CELL_TENSOR_COUNT; t++)
    if (fields[t] != 0) memcpy((char *)args + fields[t], &at[t], sizeof at[t]);
}

/* The fields that both structs have. */
#define SET_COMMON(args)                                                                           \
  do {                                                                                             \
    args.eps = c->dtype == LAYERNORM_F64 ? c->eps : (double)(float)c->eps;                         \
    args.flags = c->flags;                                                                         \
    args.cell = c->cell;                                                                           \
    args.dtype = c->dtype;                                                                         \
    args.rows = c->rows;                                                                           \
    args.hidden = c->hidden;                                                                       \
  } while (0)

layernorm_status call_cell(const cell_case *c, void *const at[CELL_TENSOR_COUNT]) {
  if (c->is_backward) {
    layernorm_cell_backward_args args = LAYERNORM_CELL_BACKWARD_ARGS_INIT;
    SET_COMMON(args);
    if (c->initial[CELL_DX_WEIGHT] != NULL) args.flags |= LAYERNORM_FLAG_ACCUMULATE_PARAMS;
    set_pointers(&args, backward_fields, at);
    return layernorm_cell_backward(&args);
  }
  layernorm_cell_forward_args args = LAYERNORM_CELL_FORWARD_ARGS_INIT;
  SET_COMMON(args);
  set_pointers(&args, forward_fields, at);
  return layernorm_cell_forward(&args);
}

cell_tensor place_of_output(cell_tensor output) {
  switch (output) {
  case CELL_H:
    return CELL_H_PREV;
  case CELL_C:
    return CELL_C_PREV;
  case CELL_DH_PREV:
    return CELL_DH;
  case CELL_DC_PREV:
    return CELL_DC;
  default:
    return output;
  }
}

static guarded regions[CELL_TENSOR_COUNT];

/* The tensor in whose memory a tensor lies in this run. */
static cell_tensor home_of(const cell_case *c, const cell_options *o, cell_tensor t) {
  const cell_tensor input = place_of_output(t);
  const bool moves = (o->in_place >> t & 1) != 0 && is_cell_output(c, t) && c->data[input] != NULL;
  return moves ? input : t;
}

static bool is_present(const cell_case *c, const cell_options *o, cell_tensor t) {
  return is_cell_output(c, t) ? (o->without >> t & 1) == 0 : c->data[t] != NULL;
}

static const char *text_of(const cell_case *c, const cell_options *o) {
  static char text[512];
  snprintf(text, sizeof text, "%s [%s, %s guard page, shift %d]", describe_cell(c),
           o->what ? o->what : "plain", o->where == ENDS_AT_GUARD ? "ends at" : "begins after",
           (int)o->shift);
  return text;
}

/* Elements away from the guard page: each tensor passes through all places of a line in an order of
 * its own. */
static size_t shift_of(const cell_case *c, const cell_options *o, cell_tensor t) {
  const int64_t places = 64 / (int64_t)dtype_size(c->dtype);
  return (size_t)((2 * (int64_t)t + 1) * o->shift % places) *
         (t == CELL_MASK ? 1 : dtype_size(c->dtype));
}

cell_outputs run_cell(const cell_case *c, const cell_options *o) {
  const char *text = text_of(c, o);
  report_faults_as(text);
  void *at[CELL_TENSOR_COUNT] = {NULL};
  for (int i = 0; i < CELL_TENSOR_COUNT; i++) {
    const cell_tensor t = (cell_tensor)i;
    if (!is_present(c, o, t) || home_of(c, o, t) != t) continue;
    const size_t bytes = cell_bytes(c, t);
    at[t] = place(&regions[t], bytes, o->where, shift_of(c, o, t));
    const unsigned char *content = is_cell_output(c, t) ? c->initial[t] : c->data[t];
    if (content != NULL) memcpy(at[t], content, bytes);
  }
  for (int t = 0; t < CELL_TENSOR_COUNT; t++)
    if (is_present(c, o, (cell_tensor)t)) at[t] = at[home_of(c, o, (cell_tensor)t)];
  const layernorm_status status = call_cell(c, at);
  check(status == LAYERNORM_SUCCESS, "%s: %s (%s)", text, layernorm_status_string(status),
        layernorm_last_error());
  cell_outputs out = {{NULL}};
  bool overwritten[CELL_TENSOR_COUNT] = {false};
  for (int i = 0; i < CELL_TENSOR_COUNT; i++) {
    const cell_tensor t = (cell_tensor)i, home = home_of(c, o, t);
    if (at[t] == NULL || !is_cell_output(c, t)) continue;
    const size_t bytes = cell_bytes(c, t);
    overwritten[home] = true;
    out.data[t] = allocate(bytes);
    memcpy(out.data[t], at[t], bytes);
    make_nans_the_same(c->dtype, out.data[t], (int64_t)(bytes / dtype_size(c->dtype)));
  }
  for (int i = 0; i < CELL_TENSOR_COUNT; i++) {
    const cell_tensor t = (cell_tensor)i;
    if (at[t] == NULL || home_of(c, o, t) != t) continue;
    check(margins_intact(&regions[t]), "%s: wrote outside of %s", text, cell_tensor_names[t]);
    check(overwritten[t] || memcmp(at[t], c->data[t], cell_bytes(c, t)) == 0, "%s: %s was changed",
          text, cell_tensor_names[t]);
  }
  return out;
}

void free_cell_outputs(cell_outputs *out) {
  for (int t = 0; t < CELL_TENSOR_COUNT; t++) {
    free(out->data[t]);
    out->data[t] = NULL;
  }
}

cell_case backward_of(const cell_case *forward, const cell_outputs *out, const unsigned char *dh,
                      const unsigned char *dc) {
  cell_case c = *forward;
  c.is_backward = true;
  for (int t = CELL_H; t < CELL_TENSOR_COUNT; t++) c.data[t] = NULL;
  c.data[CELL_DH] = dh;
  c.data[CELL_DC] = has_tensor(c.cell, CELL_DC) ? dc : NULL;
  c.data[CELL_C] = out->data[CELL_C];
  c.data[CELL_GATES] = out->data[out->data[CELL_GATES] != NULL ? CELL_GATES : CELL_H];
  c.data[CELL_MEAN] = out->data[CELL_MEAN];
  c.data[CELL_RSTD] = out->data[CELL_RSTD];
  return c;
}
