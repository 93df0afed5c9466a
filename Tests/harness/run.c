#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static guarded regions[TENSOR_COUNT];

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

static bool is_present(const test_case *c, const run_options *o, tensor t) {
  return is_output(c, t) ? (o->without >> t & 1) == 0 : c->data[t] != NULL;
}

static bool is_general(const test_case *c, const run_options *o) {
  bool general = o->general || o->batch > 1 || !has_everyday_call(c);
  for (int t = X; t < TENSOR_COUNT; t++)
    general |= is_present(c, o, t) && o->layouts[t] != CONTIGUOUS;
  return general;
}

bool can_run(const test_case *c, const run_options *o) {
  for (int t = X; t < TENSOR_COUNT; t++) {
    if (o->layouts[t] != CONTIGUOUS && !is_present(c, o, t)) return false;
    if ((o->without >> t & 1) != 0 && !is_output(c, t)) return false;
  }
  for (int i = 0; i < 2; i++) {
    tensor output = o->in_place[i].output, input = o->in_place[i].input;
    if (output == input) continue;
    if (!is_present(c, o, output) || !is_present(c, o, input) || c->initial[output] != NULL ||
        dtype_of(c, output) != dtype_of(c, input))
      return false;
  }
  return true;
}

/* The tensor in whose memory a tensor lies: itself, or an input if it is computed in place. */
static tensor place_of(const run_options *o, tensor t) {
  for (int i = 0; i < 2; i++)
    if (o->in_place[i].output == t && o->in_place[i].input != t) return o->in_place[i].input;
  return t;
}

static const char *text_of(const test_case *c, const run_options *o) {
  static char text[512];
  int length =
      snprintf(text, sizeof text, "%s [%s: %s call, batch %d, %s guard page, shifts", describe(c),
               o->what ? o->what : "plain", is_general(c, o) ? "general" : "everyday",
               (int)o->batch, o->where == ENDS_AT_GUARD ? "ends at" : "begins after");
  for (int t = X; t < TENSOR_COUNT; t++)
    length += snprintf(text + length, sizeof text - (size_t)length, " %d", (int)o->shift[t]);
  snprintf(text + length, sizeof text - (size_t)length, "]");
  return text;
}

/* A call in the making. */
typedef struct prepared {
  call_arguments arguments;
  span spans[TENSOR_COUNT];
  unsigned char *copies[TENSOR_COUNT]; /* of the inputs that no output takes the place of */
} prepared;

static void prepare(prepared *p, const test_case *c, const run_options *o, tensor t) {
  const int64_t batch = p->arguments.batch;
  size_t size = dtype_size(dtype_of(c, t));
  span *s = &p->spans[t];
  *s = extent_of(t) == OF_ELEMENTS ? span_of(o->layouts[t], batch, c->rows / batch, c->cols)
                                   : (span){{0, 0, 0}, 0, count_of(c, t)};
  size_t bytes = (size_t)s->count * size;
  unsigned char *low = place(&regions[t], bytes, o->where, (size_t)o->shift[t] * size);
  unsigned char *first = low + s->first * (int64_t)size;
  p->arguments.at[t] = first;
  if (o->layouts[t] != CONTIGUOUS) p->arguments.strides[t] = s->strides;
  const unsigned char *content = is_output(c, t) ? c->initial[t] : c->data[t];
  if (content == NULL) return;
  if (extent_of(t) == OF_ELEMENTS)
    copy_tensor(SCATTER, c, batch, s, first, (unsigned char *)content, size);
  else
    memcpy(low, content, bytes);
  if (is_output(c, t) || o->in_place[0].input == t || o->in_place[1].input == t) return;
  p->copies[t] = allocate(bytes);
  memcpy(p->copies[t], low, bytes);
}

static unsigned char *collect(const prepared *p, const test_case *c, tensor t,
                              const guarded *region, const char *text) {
  size_t size = dtype_size(dtype_of(c, t));
  unsigned char *data = allocate((size_t)count_of(c, t) * size);
  if (extent_of(t) == OF_ELEMENTS) {
    copy_tensor(GATHER, c, p->arguments.batch, &p->spans[t], p->arguments.at[t], data, size);
    check(all_poison(region->low, region->bytes), "%s: wrote between the elements of %s", text,
          tensor_names[t]);
  } else {
    memcpy(data, p->arguments.at[t], (size_t)count_of(c, t) * size);
  }
  make_nans_the_same(dtype_of(c, t), data, count_of(c, t));
  return data;
}

outputs run(const test_case *c, const run_options *options) {
  run_options o = *options;
  bool general = is_general(c, &o);
  if (!general && c->op->is_backward && c->op->norm == LAYERNORM_NORM_RMS)
    o.without |= 1u << DBIAS; /* which the everyday call does not have */
  const char *text = text_of(c, &o);
  report_faults_as(text);
  prepared p = {.arguments = {.batch = o.batch > 1 ? o.batch : 1}};
  for (int t = X; t < TENSOR_COUNT; t++) {
    if (!is_present(c, &o, (tensor)t)) continue;
    tensor home = place_of(&o, (tensor)t);
    if (home == (tensor)t) {
      prepare(&p, c, &o, home);
    } else { /* an input, which comes first */
      p.arguments.at[t] = p.arguments.at[home];
      p.arguments.strides[t] = p.arguments.strides[home];
      p.spans[t] = p.spans[home];
    }
  }
  layernorm_status status =
      general ? call_general(c, &p.arguments) : call_everyday(c, &p.arguments);
  check(status == LAYERNORM_SUCCESS, "%s: %s (%s)", text, layernorm_status_string(status),
        layernorm_last_error());
  outputs out = {{NULL}};
  for (int t = X; t < TENSOR_COUNT; t++) {
    if (p.arguments.at[t] == NULL) continue;
    const guarded *region = &regions[place_of(&o, (tensor)t)];
    if (p.copies[t] != NULL)
      check(memcmp(p.copies[t], region->low, region->bytes) == 0, "%s: %s was changed", text,
            tensor_names[t]);
    if (is_output(c, (tensor)t)) out.data[t] = collect(&p, c, (tensor)t, region, text);
    check(margins_intact(region), "%s: wrote outside of %s", text, tensor_names[t]);
    free(p.copies[t]);
  }
  return out;
}

void free_outputs(outputs *out) {
  for (int t = X; t < TENSOR_COUNT; t++) {
    free(out->data[t]);
    out->data[t] = NULL;
  }
}
