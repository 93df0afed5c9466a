/* Kernels: a node's attributes, and the call of liblayernorm for its tensors. */
#include "norm_op.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct kernel {
  const norm_op *op;
  int64_t axis;
  float eps;
} kernel;

OrtStatus *create_kernel(const OrtCustomOp *base, const OrtApi *api, const OrtKernelInfo *info,
                         void **out) {
  const norm_op *op = (const norm_op *)base;
  int64_t axis = -1, stash_type = ORT_FLOAT;
  float eps = op->kind->eps;
  /* An attribute that is not there is an error that leaves the default. */
  api->ReleaseStatus(api->KernelInfoGetAttribute_float(info, "epsilon", &eps));
  if (!op->kind->adds) {
    api->ReleaseStatus(api->KernelInfoGetAttribute_int64(info, "axis", &axis));
    api->ReleaseStatus(api->KernelInfoGetAttribute_int64(info, "stash_type", &stash_type));
  }
  if (stash_type != ORT_FLOAT)
    return failure(api, ORT_INVALID_ARGUMENT, "stash_type is %lld, not 1: float32",
                   (long long)stash_type);
  if (!(eps >= 0 && isfinite(eps)))
    return failure(api, ORT_INVALID_ARGUMENT, "epsilon is %g, not finite and 0 or more", eps);
  kernel *made = malloc(sizeof *made);
  if (!made) return failure(api, ORT_FAIL, "no memory for a kernel of %s", op->kind->name);
  *made = (kernel){op, axis, eps};
  *out = made;
  return NULL;
}

void destroy_kernel(void *kernel) { free(kernel); }

/* ---- Tensors --------------------------------------------------------------------------------- */

enum {
  MAX_RANK = 16
};

typedef struct tensor {
  char *data; /* NULL for an optional tensor that is not there */
  size_t rank;
  int64_t dims[MAX_RANK];
} tensor;

static OrtStatus *too_many_dims(const OrtApi *api, const char *name, size_t rank) {
  return failure(api, ORT_INVALID_ARGUMENT, "%s has %zu dimensions, more than %d", name, rank,
                 MAX_RANK);
}

static OrtStatus *read_shape(const norm_op *op, const OrtValue *value, const char *name,
                             tensor *out) {
  const OrtApi *api = op->api;
  OrtStatus *status;
  if (op->base.version >= ORT_WITH_SHAPE_REFERENCE) { /* allocates nothing */
    int type;
    const int64_t *dims;
    status = api->GetTensorElementTypeAndShapeDataReference(value, &type, &dims, &out->rank);
    if (status) return status;
    if (out->rank > MAX_RANK) return too_many_dims(api, name, out->rank);
    for (size_t i = 0; i < out->rank; i++) out->dims[i] = dims[i];
    return NULL;
  }
  OrtTensorTypeAndShapeInfo *info;
  status = api->GetTensorTypeAndShape(value, &info);
  if (status) return status;
  status = api->GetDimensionsCount(info, &out->rank);
  if (!status) {
    status = out->rank > MAX_RANK ? too_many_dims(api, name, out->rank)
                                  : api->GetDimensions(info, out->dims, out->rank);
  }
  api->ReleaseTensorTypeAndShapeInfo(info);
  return status;
}

/* What ONNX calls an input, and com.microsoft with a residual. */
static const char *input_name(const norm_op *op, role role) {
  static const char *const names[2][X_BIAS + 1] = {
      {[X] = "X", [WEIGHT] = "scale", [BIAS] = "B"},
      {"input", "skip", "gamma", "beta", "bias"},
  };
  return names[op->kind->adds][role];
}

static OrtStatus *read_inputs(const norm_op *op, const OrtKernelContext *context, tensor *tensors) {
  const OrtApi *api = op->api;
  for (size_t i = 0; i < op->kind->inputs; i++) {
    role role = op->kind->input[i];
    const OrtValue *value;
    OrtStatus *status = api->KernelContext_GetInput(context, i, &value);
    if (status) return status;
    if (!value) continue;
    if ((status = read_shape(op, value, input_name(op, role), &tensors[role]))) return status;
    void *data;
    /* Inputs are only read. */
    if ((status = api->GetTensorMutableData((OrtValue *)value, &data))) return status;
    tensors[role].data = data;
  }
  return NULL;
}

static size_t element_size(ort_element type) {
  return type == ORT_DOUBLE ? 8 : type == ORT_FLOAT ? 4 : 2;
}

static layernorm_dtype dtype(ort_element type) {
  switch (type) {
  case ORT_DOUBLE:
    return LAYERNORM_F64;
  case ORT_FLOAT16:
    return LAYERNORM_F16;
  case ORT_BFLOAT16:
    return LAYERNORM_BF16;
  default:
    return LAYERNORM_F32;
  }
}

static int64_t product(const int64_t *dims, size_t begin, size_t end) {
  int64_t result = 1;
  for (size_t i = begin; i < end; i++) result *= dims[i];
  return result;
}

/* ---- Parameters ------------------------------------------------------------------------------ */

/* weight or bias: as it lies, or broadcast to the shape of x by strides. */
typedef struct parameter {
  const char *data;
  bool direct; /* it is [cols] */
  bool by_row; /* it differs between rows */
  int64_t strides[MAX_RANK];
} parameter;

static OrtStatus *read_parameter(const norm_op *op, role role, const tensor *x, size_t axis,
                                 const tensor *given, parameter *out) {
  out->data = given->data;
  out->direct = true;
  if (!given->data) return NULL;
  int64_t stride = 1;
  for (size_t back = 1; back <= given->rank; back++) {
    int64_t size = given->dims[given->rank - back];
    if (size != 1 && (back > x->rank || size != x->dims[x->rank - back]))
      return failure(op->api, ORT_INVALID_ARGUMENT,
                     "%s has the size %lld in dimension %zu, where %s has %lld",
                     input_name(op, role), (long long)size, given->rank - back, input_name(op, X),
                     (long long)(back > x->rank ? 1 : x->dims[x->rank - back]));
    if (back > x->rank) continue;
    out->strides[x->rank - back] = size == 1 ? 0 : stride;
    stride *= size;
  }
  for (size_t i = 0; i < x->rank; i++) {
    if (i + given->rank < x->rank) out->strides[i] = 0;
    if (x->dims[i] == 1) continue;
    if (i < axis && out->strides[i] != 0) out->by_row = true;
    if (i >= axis && out->strides[i] == 0) out->direct = false;
  }
  out->direct = out->direct && !out->by_row;
  return NULL;
}

/* The parameter of one row, as [cols]. */
static void gather(const parameter *parameter, const tensor *x, size_t axis, int64_t cols,
                   int64_t row, size_t size, char *out) {
  int64_t offset = 0;
  for (size_t i = axis; i-- > 0; row /= x->dims[i])
    offset += row % x->dims[i] * parameter->strides[i];
  for (int64_t col = 0; col < cols; col++) {
    int64_t at = offset, rest = col;
    for (size_t i = x->rank; i-- > axis; rest /= x->dims[i])
      at += rest % x->dims[i] * parameter->strides[i];
    memcpy(out + (size_t)col * size, parameter->data + (size_t)at * size, size);
  }
}

/* ---- The call -------------------------------------------------------------------------------- */

typedef struct call {
  layernorm_forward_args args; /* for all rows; the parameters are set when it runs */
  tensor inputs[X_BIAS + 1];
  size_t axis;
  int64_t residual_rows; /* after which it begins again */
  parameter weight, bias;
  size_t x_size, y_size;
} call;

/* Sets the parameters to those of `row`; `gathered` has room for both. */
static void set_parameters(const call *call, int64_t row, char *gathered,
                           layernorm_forward_args *args) {
  const parameter *weight = &call->weight, *bias = &call->bias;
  const tensor *x = &call->inputs[X];
  args->weight = weight->data;
  args->bias = bias->data;
  if (!weight->direct) {
    gather(weight, x, call->axis, args->cols, row, call->y_size, gathered);
    args->weight = gathered;
    gathered += (size_t)args->cols * call->y_size;
  }
  if (!bias->direct) {
    gather(bias, x, call->axis, args->cols, row, call->y_size, gathered);
    args->bias = gathered;
  }
}

static layernorm_status run_at_once(const call *call, char *gathered) {
  layernorm_forward_args args = call->args;
  set_parameters(call, 0, gathered, &args);
  const int64_t repeated[] = {0, args.cols, 1};
  if (call->residual_rows < args.rows) {
    args.batch = args.rows / call->residual_rows;
    args.rows = call->residual_rows;
    args.residual_strides = repeated;
  }
  return layernorm_forward(&args);
}

/* Row by row, each with parameters of its own. */
static layernorm_status run_by_row(const call *call, char *gathered) {
  const size_t statistic = call->args.x_dtype == LAYERNORM_F64 ? sizeof(double) : sizeof(float);
  layernorm_status status = LAYERNORM_SUCCESS;
  for (int64_t row = 0; row < call->args.rows && status == LAYERNORM_SUCCESS; row++) {
    layernorm_forward_args args = call->args;
    set_parameters(call, row, gathered, &args);
    size_t elements = (size_t)(row * args.cols), x = elements * call->x_size;
    args.rows = 1;
    args.x = (const char *)args.x + x;
    args.y = (char *)args.y + elements * call->y_size;
    if (args.residual)
      args.residual = (const char *)args.residual +
                      (size_t)(row % call->residual_rows * args.cols) * call->x_size;
    if (args.sum) args.sum = (char *)args.sum + x;
    if (args.mean) args.mean = (char *)args.mean + (size_t)row * statistic;
    if (args.rstd) args.rstd = (char *)args.rstd + (size_t)row * statistic;
    status = layernorm_forward(&args);
  }
  return status;
}

/* ---- Threads --------------------------------------------------------------------------------- */

/* The threads of the session that a call belongs to. */
typedef struct session_threads {
  const OrtApi *api;
  const OrtKernelContext *context;
  OrtStatus *status;
} session_threads;

typedef struct work {
  layernorm_task task;
  void *context;
} work;

static void run_part(void *data, size_t index) {
  const work *work = data;
  work->task(work->context, (int64_t)index);
}

/* A layernorm_parallel_for. */
static void share_out(void *host, int64_t count, layernorm_task task, void *context) {
  session_threads *threads = host;
  work work = {task, context};
  threads->status =
      threads->api->KernelContext_ParallelFor(threads->context, run_part, (size_t)count, 0, &work);
}

static OrtStatus *run(const OrtApi *api, const OrtKernelContext *context, const call *call,
                      char *gathered) {
  session_threads threads = {api, context, NULL};
  layernorm_set_thread_parallel_for(share_out, &threads);
  bool by_row = call->weight.by_row || call->bias.by_row;
  layernorm_status status = by_row ? run_by_row(call, gathered) : run_at_once(call, gathered);
  layernorm_set_thread_parallel_for(NULL, NULL);
  if (threads.status || status == LAYERNORM_SUCCESS) return threads.status;
  return api->CreateStatus(ORT_INVALID_ARGUMENT, layernorm_last_error());
}

/* ---- From a node to the call ----------------------------------------------------------------- */

/* Checks the residual's shape: that of x, whose leading dimensions it may lack or have as 1. */
static OrtStatus *read_residual(const norm_op *op, call *call) {
  const tensor *x = &call->inputs[X], *residual = &call->inputs[RESIDUAL];
  size_t skipped = 0;
  while (skipped < residual->rank && residual->dims[skipped] == 1) skipped++;
  size_t rank = residual->rank - skipped;
  /* Its last dimension is that of x even where that is 1. */
  bool fits = residual->rank > 0 && rank <= x->rank &&
              residual->dims[residual->rank - 1] == x->dims[x->rank - 1];
  for (size_t back = 1; fits && back <= rank; back++)
    fits = residual->dims[residual->rank - back] == x->dims[x->rank - back];
  if (!fits)
    return failure(op->api, ORT_INVALID_ARGUMENT,
                   "skip does not have the shape of input, or that without leading dimensions");
  call->residual_rows = product(residual->dims, 0, residual->rank - 1);
  call->args.residual = residual->data;
  return NULL;
}

static OrtStatus *prepare_inputs(const kernel *kernel, const OrtKernelContext *context,
                                 call *call) {
  const norm_op *op = kernel->op;
  tensor *inputs = call->inputs;
  OrtStatus *status = read_inputs(op, context, inputs);
  if (status) return status;
  const tensor *x = &inputs[X];
  int64_t rank = (int64_t)x->rank;
  int64_t axis = kernel->axis < 0 ? kernel->axis + rank : kernel->axis;
  if (axis < 0 || axis >= rank)
    return failure(op->api, ORT_INVALID_ARGUMENT, "axis is %lld, and %s has %zu dimensions",
                   (long long)kernel->axis, input_name(op, X), x->rank);
  call->axis = (size_t)axis;
  layernorm_forward_args *args = &call->args;
  args->eps = kernel->eps;
  args->norm = op->kind->norm;
  args->x_dtype = dtype(op->x_type);
  args->y_dtype = args->param_dtype = dtype(op->y_type);
  args->rows = product(x->dims, 0, call->axis);
  args->cols = product(x->dims, call->axis, x->rank);
  args->x = x->data;
  call->x_size = element_size(op->x_type);
  call->y_size = element_size(op->y_type);
  call->residual_rows = args->rows;
  if (op->kind->adds) {
    if ((status = read_residual(op, call))) return status;
    if (inputs[X_BIAS].data && (inputs[X_BIAS].rank != 1 || inputs[X_BIAS].dims[0] != args->cols))
      return failure(op->api, ORT_INVALID_ARGUMENT,
                     "bias does not have the shape [%lld], the last dimension of input",
                     (long long)args->cols);
    args->x_bias = inputs[X_BIAS].data;
  }
  status = read_parameter(op, WEIGHT, x, call->axis, &inputs[WEIGHT], &call->weight);
  if (status) return status;
  return read_parameter(op, BIAS, x, call->axis, &inputs[BIAS], &call->bias);
}

static OrtStatus *prepare_outputs(const norm_op *op, OrtKernelContext *context, call *call) {
  const OrtApi *api = op->api;
  tensor shape = call->inputs[X];
  void *data[ROLES] = {NULL};
  for (size_t i = 0; i < op->kind->outputs; i++) {
    role role = op->kind->output[i];
    bool statistic = role == MEAN || role == RSTD;
    for (size_t d = call->axis; d < shape.rank; d++)
      shape.dims[d] = statistic ? 1 : call->inputs[X].dims[d];
    OrtValue *value;
    OrtStatus *status = api->KernelContext_GetOutput(context, i, shape.dims, shape.rank, &value);
    if (status) return status;
    if (value && (status = api->GetTensorMutableData(value, &data[role]))) return status;
  }
  if (data[MEAN] && op->kind->norm == LAYERNORM_NORM_RMS)
    return failure(api, ORT_INVALID_ARGUMENT, "mean is not an output that %s has", op->kind->name);
  call->args.y = data[Y];
  call->args.mean = data[MEAN];
  call->args.rstd = data[RSTD];
  call->args.sum = data[SUM];
  return NULL;
}

static void narrow(const double *from, float *to, int64_t count) {
  for (int64_t i = 0; to && i < count; i++) to[i] = (float)from[i];
}

OrtStatus *compute(void *data, OrtKernelContext *context) {
  const kernel *kernel = data;
  const OrtApi *api = kernel->op->api;
  call call = {.args = LAYERNORM_FORWARD_ARGS_INIT};
  OrtStatus *status = prepare_inputs(kernel, context, &call);
  if (!status) status = prepare_outputs(kernel->op, context, &call);
  layernorm_forward_args *args = &call.args;
  if (status || args->rows == 0) return status;

  /* Of float64, the library gives the statistics in float64. */
  float *mean = args->mean, *rstd = args->rstd;
  bool narrows = args->x_dtype == LAYERNORM_F64 && (mean || rstd);
  bool gathers = !call.weight.direct || !call.bias.direct;
  size_t statistics = narrows ? 2 * (size_t)args->rows : 0;
  size_t gathered = gathers ? 2 * (size_t)args->cols * call.y_size : 0;
  if (statistics + gathered == 0) return run(api, context, &call, NULL);

  double *scratch = malloc(statistics * sizeof *scratch + gathered);
  if (!scratch) return failure(api, ORT_FAIL, "no memory for %s", kernel->op->kind->name);
  if (narrows && mean) args->mean = scratch;
  if (narrows && rstd) args->rstd = scratch + args->rows;
  status = run(api, context, &call, (char *)(scratch + statistics));
  if (narrows && !status) {
    narrow(scratch, mean, args->rows);
    narrow(scratch + args->rows, rstd, args->rows);
  }
  free(scratch);
  return status;
}
