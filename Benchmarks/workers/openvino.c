/* OpenVINO, through its C API: an infer request whose tensors lie in our buffers. */
#include <openvino/c/openvino.h>
#include <stdio.h>
#include <string.h>

#include "worker.h"

static ov_core_t *core;
static ov_model_t *model;
static ov_compiled_model_t *compiled;
static ov_infer_request_t *request;
static ov_tensor_t *tensors[4];
static int tensor_count;

#define TRY(call)                                                                                  \
  do {                                                                                             \
    if (call) return error_message();                                                              \
  } while (0)

static const char *error_message(void) {
  static char text[512];
  snprintf(text, sizeof text, "%s", ov_get_last_err_msg());
  for (char *c = text; *c; c++)
    if (*c == '\n') *c = ' ';
  return text;
}

const char *worker_start(const char *argument) {
  (void)argument;
  static char text[128];
  ov_version_t version;
  if (ov_core_create(&core) || ov_get_openvino_version(&version))
    worker_fail("%s", error_message());
  snprintf(text, sizeof text, "%s", version.buildNumber);
  ov_version_free(&version);
  return text;
}

static const char *tensor(const job *j, void *data, ov_tensor_t **made) {
  static const ov_element_type_e types[] = {[FLOAT32] = F32, [FLOAT16] = F16, [BFLOAT16] = BF16};
  int64_t dims[] = {j->rows, j->cols};
  ov_shape_t shape;
  TRY(ov_shape_create(2, dims, &shape));
  const ov_status_e status = ov_tensor_create_from_host_ptr(types[j->dtype], shape, data, made);
  ov_shape_free(&shape);
  TRY(status);
  tensor_count++;
  return NULL;
}

static const char *prepare(const job *j) {
  static const char *const precisions[] = {
      [FLOAT32] = "f32", [FLOAT16] = "f16", [BFLOAT16] = "bf16"};
  char path[4200], threads[16];
  snprintf(path, sizeof path, "%s/openvino.xml", j->dir);
  snprintf(threads, sizeof threads, "%d", j->threads);
  TRY(ov_core_read_model(core, path, NULL, &model));
  TRY(ov_core_compile_model(core, model, "CPU", 8, &compiled, ov_property_key_inference_num_threads,
                            threads, ov_property_key_num_streams, "1",
                            ov_property_key_hint_performance_mode, "LATENCY",
                            ov_property_key_hint_inference_precision, precisions[j->dtype]));
  TRY(ov_compiled_model_create_infer_request(compiled, &request));
  const char *error;
  void *inputs[] = {j->x, j->residual}, *outputs[] = {j->y, j->sum};
  for (size_t i = 0; i < 2 && inputs[i]; i++) {
    ov_tensor_t **t = &tensors[tensor_count];
    if ((error = tensor(j, inputs[i], t))) return error;
    TRY(ov_infer_request_set_input_tensor_by_index(request, i, *t));
  }
  for (size_t i = 0; i < 2 && outputs[i]; i++) {
    ov_tensor_t **t = &tensors[tensor_count];
    if ((error = tensor(j, outputs[i], t))) return error;
    TRY(ov_infer_request_set_output_tensor_by_index(request, i, *t));
  }
  TRY(ov_infer_request_infer(request));
  return NULL;
}

const char *worker_prepare(const job *j) {
  if (j->op == LN_BWD) return "no backward operator";
  if (j->op == LN_FWD_STATS) return "its operator does not give the statistics";
  if (j->op == LN_FWD_READ) return "not measured";
  const char *error = prepare(j);
  if (error) worker_finish();
  return error;
}

void worker_run(void) { ov_infer_request_infer(request); }

void worker_finish(void) {
  if (request) ov_infer_request_free(request);
  while (tensor_count) ov_tensor_free(tensors[--tensor_count]);
  if (compiled) ov_compiled_model_free(compiled);
  if (model) ov_model_free(model);
  request = NULL, compiled = NULL, model = NULL;
}
