/* liblayernorm, from the path in the worker's argument. */
#include <dlfcn.h>
#include <layernorm.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

#include "worker.h"

#define TYPED(name)                                                                                \
  static __typeof__(layernorm_##name##_f32) *name##_f32;                                           \
  static __typeof__(layernorm_##name##_f16) *name##_f16;                                           \
  static __typeof__(layernorm_##name##_bf16) *name##_bf16;
TYPED(forward)
TYPED(backward)
TYPED(rms_forward)
TYPED(add_forward)
static __typeof__(layernorm_set_num_threads) *set_num_threads;
static __typeof__(layernorm_set_parallel_for) *set_parallel_for;
static __typeof__(layernorm_last_error) *last_error;

static const job *current;
static layernorm_status status;
static const float eps = 1e-5f;

const char *worker_start(const char *path) {
  static char version[128];
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) worker_fail("%s", dlerror());
#define LOAD(variable)                                                                             \
  if (!(*(void **)&variable = dlsym(library, "layernorm_" #variable))) worker_fail("%s", dlerror())
#define LOAD_TYPED(name) LOAD(name##_f32); LOAD(name##_f16); LOAD(name##_bf16)
  LOAD_TYPED(forward);
  LOAD_TYPED(backward);
  LOAD_TYPED(rms_forward);
  LOAD_TYPED(add_forward);
  LOAD(set_num_threads);
  LOAD(set_parallel_for);
  LOAD(last_error);
  __typeof__(layernorm_isa) *isa;
  __typeof__(layernorm_version) *version_number;
  LOAD(isa);
  *(void **)&version_number = dlsym(library, "layernorm_version");
  if (!isa()) worker_fail("%s", last_error());
  const int v = version_number();
  snprintf(version, sizeof version, "%d.%d.%d %s", v / 10000, v / 100 % 100, v % 100, isa());
  return version;
}

/* LN_FWD_READ reads y with OpenMP; two pools on the same cores would get in each other's way. */
static void openmp_for(void *context, int64_t count, layernorm_task task, void *task_context) {
  (void)context;
#pragma omp parallel for schedule(static, 1) num_threads(current->threads)
  for (int64_t i = 0; i < count; i++) task(task_context, i);
}

#define CALLS(suffix, type)                                                                        \
  static void ln_fwd_##suffix(void) {                                                              \
    const job *j = current;                                                                        \
    status = forward_##suffix(j->rows, j->cols, j->x, j->weight, j->bias, eps, j->y, NULL, NULL);  \
  }                                                                                                \
  static void ln_fwd_stats_##suffix(void) {                                                        \
    const job *j = current;                                                                        \
    status =                                                                                       \
        forward_##suffix(j->rows, j->cols, j->x, j->weight, j->bias, eps, j->y, j->mean, j->rstd); \
  }                                                                                                \
  static void ln_bwd_##suffix(void) {                                                              \
    const job *j = current;                                                                        \
    status = backward_##suffix(j->rows, j->cols, j->dy, j->x, j->weight, j->mean, j->rstd, eps,    \
                               j->dx, j->dweight, j->dbias);                                       \
  }                                                                                                \
  static void rms_fwd_##suffix(void) {                                                             \
    const job *j = current;                                                                        \
    status = rms_forward_##suffix(j->rows, j->cols, j->x, j->weight, eps, j->y, NULL);             \
  }                                                                                                \
  static void add_ln_##suffix(void) {                                                              \
    const job *j = current;                                                                        \
    status = add_forward_##suffix(j->rows, j->cols, j->x, j->residual, j->weight, j->bias, eps,    \
                                  j->sum, j->y, NULL, NULL);                                       \
  }                                                                                                \
  static void ln_fwd_read_##suffix(void) {                                                         \
    ln_fwd_##suffix();                                                                             \
    _Pragma("omp parallel num_threads(current->threads)") {                                        \
      int64_t begin, end;                                                                          \
      part(matrix_bytes(current), omp_get_thread_num(), omp_get_num_threads(), &begin, &end);      \
      read_all((const char *)current->y + begin, end - begin);                                     \
    }                                                                                              \
  }
CALLS(f32, float)
CALLS(f16, uint16_t)
CALLS(bf16, uint16_t)

static void (*const calls[][3])(void) = {
    [LN_FWD] = {ln_fwd_f32, ln_fwd_f16, ln_fwd_bf16},
    [LN_FWD_STATS] = {ln_fwd_stats_f32, ln_fwd_stats_f16, ln_fwd_stats_bf16},
    [LN_BWD] = {ln_bwd_f32, ln_bwd_f16, ln_bwd_bf16},
    [RMS_FWD] = {rms_fwd_f32, rms_fwd_f16, rms_fwd_bf16},
    [ADD_LN] = {add_ln_f32, add_ln_f16, add_ln_bf16},
    [LN_FWD_READ] = {ln_fwd_read_f32, ln_fwd_read_f16, ln_fwd_read_bf16},
};
static void (*call)(void);

const char *worker_prepare(const job *j) {
  current = j;
  call = calls[j->op][j->dtype];
  if (set_num_threads(j->threads)) worker_fail("%s", last_error());
  set_parallel_for(j->op == LN_FWD_READ && j->threads > 1 ? openmp_for : NULL, NULL);
  call();
  return status ? last_error() : NULL;
}

void worker_run(void) { call(); }

void worker_finish(void) {}
