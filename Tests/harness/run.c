#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static guarded regions[TENSOR_COUNT];

/* The pointers of one call. */
typedef struct pointers {
  void *at[TENSOR_COUNT];
  int64_t x_strides[3], y_strides[3];
} pointers;

bool is_uniform(const test_case *c) {
  return c->x_dtype == c->y_dtype &&
         (c->x_dtype == c->param_dtype || (c->data[WEIGHT] == NULL && c->data[BIAS] == NULL));
}

static layernorm_status call_everyday(const test_case *c, const pointers *p) {
  void *const *at = p->at;
  float eps = (float)c->eps;
  switch (c->x_dtype) {
  case LAYERNORM_F32:
    return layernorm_forward_f32(c->rows, c->cols, at[X], at[WEIGHT], at[BIAS], eps, at[Y],
                                 at[MEAN], at[RSTD]);
  case LAYERNORM_F64:
    return layernorm_forward_f64(c->rows, c->cols, at[X], at[WEIGHT], at[BIAS], c->eps, at[Y],
                                 at[MEAN], at[RSTD]);
  case LAYERNORM_F16:
    return layernorm_forward_f16(c->rows, c->cols, at[X], at[WEIGHT], at[BIAS], eps, at[Y],
                                 at[MEAN], at[RSTD]);
  default:
    return layernorm_forward_bf16(c->rows, c->cols, at[X], at[WEIGHT], at[BIAS], eps, at[Y],
                                  at[MEAN], at[RSTD]);
  }
}

static layernorm_status call_general(const test_case *c, const run_options *o, const pointers *p) {
  layernorm_forward_args args = LAYERNORM_FORWARD_ARGS_INIT;
  bool in_f64 = compute_dtype(c->x_dtype) == LAYERNORM_F64;
  args.eps = in_f64 ? c->eps : (double)(float)c->eps;
  args.x_dtype = c->x_dtype;
  args.y_dtype = c->y_dtype;
  args.param_dtype = c->param_dtype;
  args.batch = o->batch;
  args.rows = o->batch > 1 ? c->rows / o->batch : c->rows;
  args.cols = c->cols;
  args.x = p->at[X];
  args.x_strides = o->x_layout == CONTIGUOUS ? NULL : p->x_strides;
  args.weight = p->at[WEIGHT];
  args.bias = p->at[BIAS];
  args.y = p->at[Y];
  args.y_strides = o->y_layout == CONTIGUOUS ? NULL : p->y_strides;
  args.mean = p->at[MEAN];
  args.rstd = p->at[RSTD];
  return layernorm_forward(&args);
}

static void copy_element(unsigned char *to, const unsigned char *from, size_t size) {
  switch (size) { /* a constant size each, so that the compiler makes moves of it */
  case 2:
    memcpy(to, from, 2);
    break;
  case 4:
    memcpy(to, from, 4);
    break;
  default:
    memcpy(to, from, 8);
  }
}

typedef enum direction {
  SCATTER,
  GATHER
} direction;

/* Copies between the elements of a tensor in its layout and contiguous ones. Gathering leaves
 * poison behind, so that nothing else is left if no gap was written to. */
static void copy_tensor(direction way, const test_case *c, int64_t batch, const span *s,
                        unsigned char *strided, unsigned char *contiguous, size_t size) {
  static const unsigned char poison[8] = {POISON, POISON, POISON, POISON,
                                          POISON, POISON, POISON, POISON};
  const int64_t rows = c->rows / batch, step = s->strides[2] * (int64_t)size;
  for (int64_t b = 0; b < batch; b++)
    for (int64_t r = 0; r < rows; r++) {
      unsigned char *at = strided + (b * s->strides[0] + r * s->strides[1]) * (int64_t)size;
      for (int64_t i = 0; i < c->cols; i++, at += step, contiguous += size) {
        if (way == SCATTER) {
          copy_element(at, contiguous, size);
        } else {
          copy_element(contiguous, at, size);
          copy_element(at, poison, size);
        }
      }
    }
}

static const char *text_of(const test_case *c, const run_options *o) {
  static char text[512];
  snprintf(text, sizeof text, "%s [%s: %s call, %s guard page, shifts %d %d %d]", describe(c),
           o->what ? o->what : "plain", o->general ? "general" : "everyday",
           o->where == ENDS_AT_GUARD ? "ends at" : "begins after", (int)o->shift[X],
           (int)o->shift[WEIGHT], (int)o->shift[Y]);
  return text;
}

static bool is_wanted(const test_case *c, const run_options *o, tensor t) {
  if (t == WEIGHT || t == BIAS) return c->data[t] != NULL;
  return !(t == MEAN && o->no_mean) && !(t == RSTD && o->no_rstd);
}

outputs run(const test_case *c, const run_options *o) {
  const char *text = text_of(c, o);
  report_faults_as(text);
  int64_t batch = o->batch > 1 ? o->batch : 1;
  const span x_span = span_of(o->x_layout, batch, c->rows / batch, c->cols);
  const span y_span =
      span_of(o->in_place ? o->x_layout : o->y_layout, batch, c->rows / batch, c->cols);
  pointers p = {.at = {NULL}};
  memcpy(p.x_strides, x_span.strides, sizeof p.x_strides);
  memcpy(p.y_strides, y_span.strides, sizeof p.y_strides);
  run_options used = *o;
  used.y_layout = o->in_place ? o->x_layout : o->y_layout;

  unsigned char *input_copy[TENSOR_COUNT] = {NULL};
  for (int t = X; t < TENSOR_COUNT; t++) {
    if (!is_wanted(c, o, t) || (t == Y && o->in_place)) continue;
    size_t size = dtype_size(dtype_of(c, t));
    const span *s = t == X ? &x_span : &y_span;
    bool strided = t == X || t == Y;
    size_t bytes = (size_t)(strided ? s->count : count_of(c, t)) * size;
    unsigned char *low = place(&regions[t], bytes, o->where, (size_t)o->shift[t] * size);
    p.at[t] = strided ? low + s->first * (int64_t)size : low;
    if (t == X)
      copy_tensor(SCATTER, c, batch, s, p.at[X], (unsigned char *)c->data[X], size);
    else if (t < Y)
      memcpy(low, c->data[t], bytes);
    if (t < Y && !(t == X && o->in_place)) {
      input_copy[t] = malloc(bytes + 1);
      memcpy(input_copy[t], low, bytes);
    }
  }
  if (o->in_place) p.at[Y] = p.at[X];

  layernorm_status status = o->general ? call_general(c, &used, &p) : call_everyday(c, &p);
  check(status == LAYERNORM_SUCCESS, "%s: %s (%s)", text, layernorm_status_string(status),
        layernorm_last_error());

  outputs out = {{NULL}};
  for (int t = X; t < TENSOR_COUNT; t++) {
    if (p.at[t] == NULL) continue;
    const guarded *region = &regions[t == Y && o->in_place ? X : t];
    if (input_copy[t] != NULL)
      check(memcmp(input_copy[t], region->low, region->bytes) == 0, "%s: input %d was changed",
            text, t);
    if (t >= Y) {
      size_t size = dtype_size(dtype_of(c, t));
      int64_t count = count_of(c, t);
      out.data[t] = malloc((size_t)count * size + 1);
      if (t == Y) {
        copy_tensor(GATHER, c, batch, &y_span, p.at[Y], out.data[Y], size);
        check(all_poison(region->low, region->bytes), "%s: wrote between the elements of y", text);
      } else {
        memcpy(out.data[t], p.at[t], (size_t)count * size);
      }
      make_nans_the_same(dtype_of(c, t), out.data[t], count);
    }
    check(margins_intact(region), "%s: wrote outside of tensor %d", text, t);
    free(input_copy[t]);
  }
  return out;
}

void free_outputs(outputs *out) {
  for (int t = X; t < TENSOR_COUNT; t++) {
    free(out->data[t]);
    out->data[t] = NULL;
  }
}
