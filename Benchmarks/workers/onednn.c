/* oneDNN, through its C API: primitives made beforehand, executed on prepared memory objects. */
#include <math.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker.h"

#define TRY(call)                                                                                  \
  do {                                                                                             \
    const dnnl_status_t status_ = (call);                                                          \
    if (status_ != dnnl_success) worker_fail("%s: %d", #call, (int)status_);                       \
  } while (0)

enum {
  MOST_ARGS = 10
};
typedef struct step {
  dnnl_primitive_t primitive;
  int count;
  dnnl_exec_arg_t args[MOST_ARGS];
} step;

static const job *current;
static step steps[2];
static int step_count;
static float *variance;  /* its statistic, where everybody else's is rstd */
static float *params[4]; /* weight, bias, dweight, dbias: oneDNN wants them in float32 */
static dnnl_engine_t engine;
static dnnl_stream_t stream;

const char *worker_start(const char *argument) {
  static char version[64];
  (void)argument;
  TRY(dnnl_engine_create(&engine, dnnl_cpu, 0));
  TRY(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
  const dnnl_version_t *v = dnnl_version();
  snprintf(version, sizeof version, "%d.%d.%d", v->major, v->minor, v->patch);
  return version;
}

/* ---- Memory ----------------------------------------------------------------------------------- */

static dnnl_memory_desc_t describe(int dims, dnnl_data_type_t type) {
  const dnnl_dims_t matrix = {current->rows, current->cols}, rows = {current->rows},
                    cols = {current->cols};
  dnnl_memory_desc_t made;
  if (dims == 2)
    TRY(dnnl_memory_desc_create_with_tag(&made, 2, matrix, type, dnnl_ab));
  else
    TRY(dnnl_memory_desc_create_with_tag(&made, 1, dims ? cols : rows, type, dnnl_a));
  return made;
}

enum {
  STATISTIC = 0,
  PARAMETER = 1,
  MATRIX = 2
};

static dnnl_data_type_t data_type(void) {
  return current->dtype == FLOAT32 ? dnnl_f32 : current->dtype == FLOAT16 ? dnnl_f16 : dnnl_bf16;
}

static void add_arg(step *s, int arg, int shape, void *data) {
  dnnl_memory_desc_t desc = describe(shape, shape == MATRIX ? data_type() : dnnl_f32);
  if (s->count == MOST_ARGS) worker_fail("too many arguments");
  s->args[s->count].arg = arg;
  TRY(dnnl_memory_create(&s->args[s->count++].memory, desc, engine, data));
  TRY(dnnl_memory_desc_destroy(desc));
}

/* ---- float16 and bfloat16 parameters ---------------------------------------------------------- */

static float widen(const void *data, int64_t i) {
  if (current->dtype == FLOAT32) return ((const float *)data)[i];
  if (current->dtype == FLOAT16) return (float)((const _Float16 *)data)[i];
  const uint32_t bits = (uint32_t)((const uint16_t *)data)[i] << 16;
  float wide;
  memcpy(&wide, &bits, sizeof wide);
  return wide;
}

static void narrow(void *data, int64_t i, float wide) {
  if (current->dtype == FLOAT32) {
    ((float *)data)[i] = wide;
  } else if (current->dtype == FLOAT16) {
    ((_Float16 *)data)[i] = (_Float16)wide;
  } else {
    uint32_t bits;
    memcpy(&bits, &wide, sizeof bits);
    ((uint16_t *)data)[i] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
}

static void make_params(void) {
  variance = aligned_alloc(64, (size_t)(current->rows + 15) / 16 * 64);
  if (!variance) worker_fail("out of memory");
  const void *given[2] = {current->weight, current->bias};
  for (int p = 0; p < 4; p++) {
    params[p] = aligned_alloc(64, (size_t)(current->cols + 15) / 16 * 64);
    if (!params[p]) worker_fail("out of memory");
    if (p < 2 && given[p])
      for (int64_t i = 0; i < current->cols; i++) params[p][i] = widen(given[p], i);
  }
}

/* ---- Primitives ------------------------------------------------------------------------------- */

static const unsigned scale_shift = dnnl_use_scale | dnnl_use_shift;

static dnnl_status_t forward_desc(dnnl_primitive_desc_t *made, dnnl_prop_kind_t kind) {
  dnnl_memory_desc_t matrix = describe(MATRIX, data_type());
  dnnl_memory_desc_t statistic = describe(STATISTIC, dnnl_f32);
  const dnnl_status_t status = dnnl_layer_normalization_forward_primitive_desc_create(
      made, engine, kind, matrix, matrix, statistic, 1e-5f, scale_shift, NULL);
  TRY(dnnl_memory_desc_destroy(matrix));
  TRY(dnnl_memory_desc_destroy(statistic));
  return status;
}

static void finish_step(step *s, dnnl_primitive_desc_t desc) {
  TRY(dnnl_primitive_create(&s->primitive, desc));
  TRY(dnnl_primitive_desc_destroy(desc));
}

static int prepare_forward(void *input) {
  step *s = &steps[step_count];
  const int stats = current->op == LN_FWD_STATS;
  dnnl_primitive_desc_t desc;
  if (forward_desc(&desc, stats ? dnnl_forward_training : dnnl_forward_inference)) return 0;
  add_arg(s, DNNL_ARG_SRC, MATRIX, input);
  add_arg(s, DNNL_ARG_SCALE, PARAMETER, params[0]);
  add_arg(s, DNNL_ARG_SHIFT, PARAMETER, params[1]);
  add_arg(s, DNNL_ARG_DST, MATRIX, current->y);
  if (stats) {
    add_arg(s, DNNL_ARG_MEAN, STATISTIC, current->mean);
    add_arg(s, DNNL_ARG_VARIANCE, STATISTIC, variance);
  }
  finish_step(s, desc);
  step_count++;
  return 1;
}

static int prepare_backward(void) {
  step *s = &steps[step_count];
  dnnl_primitive_desc_t hint, desc;
  if (forward_desc(&hint, dnnl_forward_training)) return 0;
  dnnl_memory_desc_t matrix = describe(MATRIX, data_type());
  dnnl_memory_desc_t statistic = describe(STATISTIC, dnnl_f32);
  const dnnl_status_t status = dnnl_layer_normalization_backward_primitive_desc_create(
      &desc, engine, dnnl_backward, matrix, matrix, matrix, statistic, 1e-5f, scale_shift, hint,
      NULL);
  TRY(dnnl_memory_desc_destroy(matrix));
  TRY(dnnl_memory_desc_destroy(statistic));
  TRY(dnnl_primitive_desc_destroy(hint));
  if (status) return 0;
  for (int64_t i = 0; i < current->rows; i++)
    variance[i] = (float)(1 / ((double)current->rstd[i] * current->rstd[i]) - 1e-5);
  add_arg(s, DNNL_ARG_SRC, MATRIX, current->x);
  add_arg(s, DNNL_ARG_DIFF_DST, MATRIX, current->dy);
  add_arg(s, DNNL_ARG_MEAN, STATISTIC, current->mean);
  add_arg(s, DNNL_ARG_VARIANCE, STATISTIC, variance);
  add_arg(s, DNNL_ARG_SCALE, PARAMETER, params[0]);
  add_arg(s, DNNL_ARG_SHIFT, PARAMETER, params[1]);
  add_arg(s, DNNL_ARG_DIFF_SRC, MATRIX, current->dx);
  add_arg(s, DNNL_ARG_DIFF_SCALE, PARAMETER, params[2]);
  add_arg(s, DNNL_ARG_DIFF_SHIFT, PARAMETER, params[3]);
  finish_step(s, desc);
  step_count++;
  return 1;
}

static int prepare_add(void) {
  step *s = &steps[step_count];
  dnnl_primitive_desc_t desc;
  dnnl_memory_desc_t matrix = describe(MATRIX, data_type());
  const dnnl_status_t status = dnnl_binary_primitive_desc_create(&desc, engine, dnnl_binary_add,
                                                                 matrix, matrix, matrix, NULL);
  TRY(dnnl_memory_desc_destroy(matrix));
  if (status) return 0;
  add_arg(s, DNNL_ARG_SRC_0, MATRIX, current->x);
  add_arg(s, DNNL_ARG_SRC_1, MATRIX, current->residual);
  add_arg(s, DNNL_ARG_DST, MATRIX, current->sum);
  finish_step(s, desc);
  step_count++;
  return 1;
}

const char *worker_prepare(const job *j) {
  current = j;
  if (j->op == RMS_FWD) return "this version has no RMSNorm";
  if (j->op == LN_FWD_READ) return "not measured";
  make_params();
  const int made = j->op == LN_BWD   ? prepare_backward()
                   : j->op == ADD_LN ? prepare_add() && prepare_forward(j->sum)
                                     : prepare_forward(j->x);
  if (!made) {
    worker_finish();
    return "no such primitive";
  }
  worker_run();
  if (j->op == LN_BWD)
    for (int64_t i = 0; i < j->cols; i++)
      narrow(j->dweight, i, params[2][i]), narrow(j->dbias, i, params[3][i]);
  if (j->op == LN_FWD_STATS)
    for (int64_t i = 0; i < j->rows; i++)
      j->rstd[i] = (float)(1 / sqrt((double)variance[i] + 1e-5));
  return NULL;
}

void worker_run(void) {
  for (int i = 0; i < step_count; i++)
    dnnl_primitive_execute(steps[i].primitive, stream, steps[i].count, steps[i].args);
  dnnl_stream_wait(stream);
}

void worker_finish(void) {
  for (int i = 0; i < step_count; i++) {
    TRY(dnnl_primitive_destroy(steps[i].primitive));
    for (int k = 0; k < steps[i].count; k++) TRY(dnnl_memory_destroy(steps[i].args[k].memory));
  }
  memset(steps, 0, sizeof steps);
  step_count = 0;
  for (int p = 0; p < 4; p++) free(params[p]), params[p] = NULL;
  free(variance), variance = NULL;
}
