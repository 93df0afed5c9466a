/* ONNX Runtime, through its C API: a model of one node, run on tensors that lie in our buffers. The
 * wheel carries the library and no header, so the few entries of its function table that are used
 * are declared here by their place in it, which is fixed for ever. The argument is the library. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker.h"

enum {
  GET_ERROR_MESSAGE = 2,
  CREATE_ENV = 3,
  CREATE_SESSION = 7,
  CREATE_SESSION_OPTIONS = 10,
  SET_GRAPH_OPTIMIZATION_LEVEL = 23,
  SET_INTRA_OP_NUM_THREADS = 24,
  CREATE_TENSOR_WITH_DATA = 49,
  CREATE_CPU_MEMORY_INFO = 69,
  RELEASE_STATUS = 93,
  RELEASE_SESSION = 95,
  RELEASE_VALUE = 96,
  RELEASE_SESSION_OPTIONS = 100,
  RUN_WITH_BINDING = 133,
  CREATE_BINDING = 134,
  RELEASE_BINDING = 135,
  BIND_INPUT = 136,
  BIND_OUTPUT = 137,
};
enum {
  ORT_FLOAT = 1,
  ORT_FLOAT16 = 10,
  ORT_BFLOAT16 = 16
};
enum {
  LOG_FATAL = 4,
  ALL_OPTIMIZATIONS = 99,
  API_VERSION = 17
};

typedef void *(*const *table)(); /* functions of any arguments; most return NULL or a status */
typedef struct api_base {
  table (*get_api)(uint32_t version);
  const char *(*get_version)(void);
} api_base;

static table api;
static void *environment, *memory_info;

static void *session, *options, *binding, *values[8];
static int value_count;

/* NULL, or the message of a status that is then freed. */
static const char *message(void *status) {
  static char text[512];
  if (!status) return NULL;
  const char *said = ((const char *(*)(void *))api[GET_ERROR_MESSAGE])(status);
  snprintf(text, sizeof text, "%s", said);
  for (char *c = text; *c; c++)
    if (*c == '\n') *c = ' ';
  api[RELEASE_STATUS](status);
  return text;
}

#define TRY(...)                                                                                   \
  do {                                                                                             \
    const char *error_ = message(__VA_ARGS__);                                                     \
    if (error_) return error_;                                                                     \
  } while (0)

const char *worker_start(const char *path) {
  void *library = dlopen(path, RTLD_NOW);
  if (!library) worker_fail("%s", dlerror());
  const api_base *(*get_base)(void);
  *(void **)&get_base = dlsym(library, "OrtGetApiBase");
  if (!get_base) worker_fail("%s", dlerror());
  api = get_base()->get_api(API_VERSION);
  const char *error = message(api[CREATE_ENV](LOG_FATAL, "bench", &environment));
  if (!error) error = message(api[CREATE_CPU_MEMORY_INFO](0, 0, &memory_info));
  if (error) worker_fail("%s", error);
  return get_base()->get_version();
}

static const char *bind(int place, const char *name, void *data, const int64_t *shape, int type) {
  const size_t bytes = (size_t)(shape[0] * shape[1] * (type == ORT_FLOAT ? 4 : 2));
  TRY(api[CREATE_TENSOR_WITH_DATA](memory_info, data, bytes, shape, (size_t)2, type,
                                   &values[value_count]));
  TRY(api[place](binding, name, values[value_count++]));
  return NULL;
}

static const char *prepare(const job *j) {
  static const int types[] = {
      [FLOAT32] = ORT_FLOAT, [FLOAT16] = ORT_FLOAT16, [BFLOAT16] = ORT_BFLOAT16};
  const int type = types[j->dtype];
  const int64_t matrix[] = {j->rows, j->cols}, statistic[] = {j->rows, 1};
  const struct {
    int place;
    const char *name;
    void *data;
    int type;
    const int64_t *shape;
  } bound[] = {
      {BIND_INPUT, "x", j->x, type, matrix},
      {BIND_INPUT, "residual", j->residual, type, matrix},
      {BIND_OUTPUT, "y", j->y, type, matrix},
      {BIND_OUTPUT, "mean", j->mean, ORT_FLOAT, statistic},
      {BIND_OUTPUT, "rstd", j->rstd, ORT_FLOAT, statistic},
      {BIND_OUTPUT, "sum", j->sum, type, matrix},
  };
  char model[4200];
  snprintf(model, sizeof model, "%s/onnxruntime.onnx", j->dir);
  TRY(api[CREATE_SESSION_OPTIONS](&options));
  TRY(api[SET_INTRA_OP_NUM_THREADS](options, j->threads));
  TRY(api[SET_GRAPH_OPTIMIZATION_LEVEL](options, ALL_OPTIMIZATIONS));
  TRY(api[CREATE_SESSION](environment, model, options, &session));
  TRY(api[CREATE_BINDING](session, &binding));
  for (size_t i = 0; i < sizeof bound / sizeof *bound; i++) {
    if (!bound[i].data) continue;
    const char *error =
        bind(bound[i].place, bound[i].name, bound[i].data, bound[i].shape, bound[i].type);
    if (error) return error;
  }
  TRY(api[RUN_WITH_BINDING](session, NULL, binding));
  return NULL;
}

const char *worker_prepare(const job *j) {
  if (j->op == LN_BWD) return "no backward operator";
  if (j->op == LN_FWD_READ) return "not measured";
  const char *error = prepare(j);
  if (error) worker_finish();
  return error;
}

void worker_run(void) { api[RUN_WITH_BINDING](session, NULL, binding); }

void worker_finish(void) {
  if (binding) api[RELEASE_BINDING](binding);
  while (value_count) api[RELEASE_VALUE](values[--value_count]);
  if (session) api[RELEASE_SESSION](session);
  if (options) api[RELEASE_SESSION_OPTIONS](options);
  binding = session = options = NULL;
}
