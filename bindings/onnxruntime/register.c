/* RegisterCustomOps: the operators of the domain "liblayernorm", described to ONNX Runtime. */
#include "norm_op.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const norm_kind kinds[] = {
    {"LayerNormalization",
     LAYERNORM_NORM_LAYER,
     0,
     1e-5f,
     3,
     3,
     {X, WEIGHT, BIAS},
     {Y, MEAN, RSTD}},
    {"RMSNormalization", LAYERNORM_NORM_RMS, 0, 1e-5f, 2, 2, {X, WEIGHT}, {Y, RSTD}},
    {"SkipLayerNormalization",
     LAYERNORM_NORM_LAYER,
     1,
     1e-12f,
     5,
     4,
     {X, RESIDUAL, WEIGHT, BIAS, X_BIAS},
     {Y, MEAN, RSTD, SUM}},
    {"SkipSimplifiedLayerNormalization",
     LAYERNORM_NORM_RMS,
     1,
     1e-12f,
     4,
     4,
     {X, RESIDUAL, WEIGHT, X_BIAS},
     {Y, MEAN, RSTD, SUM}},
};

static const ort_element types[] = {ORT_FLOAT, ORT_DOUBLE, ORT_FLOAT16, ORT_BFLOAT16};

enum {
  KINDS = sizeof kinds / sizeof *kinds,
  TYPES = sizeof types / sizeof *types,
  OPS = KINDS * TYPES * TYPES
};

OrtStatus *failure(const OrtApi *api, int code, const char *format, ...) {
  char sentence[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(sentence, sizeof sentence, format, arguments);
  va_end(arguments);
  return api->CreateStatus(code, sentence);
}

/* ---- What ONNX Runtime asks of an operator --------------------------------------------------- */

static const norm_op *norm_of(const OrtCustomOp *base) { return (const norm_op *)base; }

static const char *name(const OrtCustomOp *base) { return norm_of(base)->kind->name; }
static size_t input_count(const OrtCustomOp *base) { return norm_of(base)->kind->inputs; }
static size_t output_count(const OrtCustomOp *base) { return norm_of(base)->kind->outputs; }

static ort_element type_of(const norm_op *op, role role) {
  switch (role) {
  case MEAN:
  case RSTD:
    return ORT_FLOAT;
  case WEIGHT:
  case BIAS:
  case Y:
    return op->y_type;
  default:
    return op->x_type;
  }
}

static ort_element input_type(const OrtCustomOp *base, size_t index) {
  return type_of(norm_of(base), norm_of(base)->kind->input[index]);
}

static ort_element output_type(const OrtCustomOp *base, size_t index) {
  return type_of(norm_of(base), norm_of(base)->kind->output[index]);
}

static ort_presence input_presence(const OrtCustomOp *base, size_t index) {
  return norm_of(base)->kind->input[index] <= WEIGHT ? ORT_REQUIRED : ORT_OPTIONAL;
}

static ort_presence output_presence(const OrtCustomOp *base, size_t index) {
  return norm_of(base)->kind->output[index] == Y ? ORT_REQUIRED : ORT_OPTIONAL;
}

static const char *cpu(const OrtCustomOp *base) {
  (void)base;
  return NULL;
}

static int default_memory(const OrtCustomOp *base, size_t index) {
  (void)base, (void)index;
  return 0;
}

static int first_version(const OrtCustomOp *base) {
  (void)base;
  return 1;
}

static int last_version(const OrtCustomOp *base) {
  (void)base;
  return INT32_MAX;
}

/* y may be written over x. */
static size_t may_inplace(int **inputs, int **outputs) {
  static int first;
  *inputs = *outputs = &first;
  return 1;
}

static void release_may_inplace(int *inputs, int *outputs) { (void)inputs, (void)outputs; }

static norm_op describe(const OrtApi *api, uint32_t version, const norm_kind *kind, ort_element x,
                        ort_element y) {
  return (norm_op){
      .base = {.version = version,
               .GetName = name,
               .GetExecutionProviderType = cpu,
               .GetInputType = input_type,
               .GetInputTypeCount = input_count,
               .GetOutputType = output_type,
               .GetOutputTypeCount = output_count,
               .KernelDestroy = destroy_kernel,
               .GetInputCharacteristic = input_presence,
               .GetOutputCharacteristic = output_presence,
               .GetInputMemoryType = default_memory,
               .CreateKernelV2 = create_kernel,
               .KernelComputeV2 = compute,
               .InferOutputShapeFn = version < ORT_WITH_SHAPE_FUNCTION ? NULL : infer_shapes,
               .GetStartVersion = first_version,
               .GetEndVersion = last_version,
               .GetMayInplace = x == y ? may_inplace : NULL,
               .ReleaseMayInplace = release_may_inplace},
      .api = api,
      .kind = kind,
      .x_type = x,
      .y_type = y};
}

/* ---- Registration ---------------------------------------------------------------------------- */

/* The operators for one ONNX Runtime, of which a process may have several. Made when it first asks,
 * and never freed: its sessions may live as long as the process. */
typedef struct registration {
  struct registration *next;
  const OrtApi *api;
  OrtCustomOpDomain *domain;
  norm_op ops[OPS];
} registration;

static OrtStatus *fill(registration *made, uint32_t version) {
  const OrtApi *api = made->api;
  OrtStatus *status = api->CreateCustomOpDomain("liblayernorm", &made->domain);
  if (status) return status;
  norm_op *op = made->ops;
  for (size_t kind = 0; kind < KINDS; kind++) {
    for (size_t x = 0; x < TYPES; x++) {
      for (size_t y = 0; y < TYPES; y++) {
        if (kinds[kind].adds && x != y) continue; /* com.microsoft's have one dtype */
        *op = describe(api, version, &kinds[kind], types[x], types[y]);
        status = api->CustomOpDomain_Add(made->domain, &op++->base);
        if (status) {
          api->ReleaseCustomOpDomain(made->domain);
          return status;
        }
      }
    }
  }
  return NULL;
}

static OrtStatus *registration_of(const OrtApi *api, uint32_t version, registration **out) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  static registration *known;
  OrtStatus *status = NULL;
  pthread_mutex_lock(&mutex);
  registration *found = known;
  while (found && found->api != api) found = found->next;
  if (!found) {
    found = calloc(1, sizeof *found);
    if (!found) {
      status = failure(api, ORT_FAIL, "no memory for the operators of liblayernorm");
    } else {
      found->api = api;
      status = fill(found, version);
      if (status) {
        free(found);
      } else {
        found->next = known;
        known = found;
      }
    }
  }
  pthread_mutex_unlock(&mutex);
  *out = found;
  return status;
}

/* Called by ONNX Runtime for OrtApi::RegisterCustomOpsLibrary and its siblings. */
__attribute__((visibility("default"))) OrtStatus *RegisterCustomOps(OrtSessionOptions *options,
                                                                    const OrtApiBase *base);

OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base) {
  const char *name = base->GetVersionString();
  unsigned major, minor;
  if (sscanf(name, "%u.%u", &major, &minor) != 2 || major != 1 || minor < ORT_OLDEST) {
    return failure(base->GetApi(1), ORT_FAIL,
                   "liblayernorm's operators need ONNX Runtime 1.%d or later, below 2; this is %s",
                   ORT_OLDEST, name);
  }
  /* To ask for a version that it lacks would have it print a complaint. */
  uint32_t version = minor < ORT_WITH_SHAPE_FUNCTION ? minor : ORT_WITH_SHAPE_FUNCTION;
  const OrtApi *api = base->GetApi(version);
  registration *found;
  OrtStatus *status = registration_of(api, version, &found);
  return status ? status : api->AddCustomOpDomain(options, found->domain);
}
