/* What this adapter uses of ONNX Runtime's C ABI, as its public documentation gives it: entries of
 * OrtApi with their places in that table, to which ONNX Runtime only appends, and OrtCustomOp. */
#ifndef LAYERNORM_ORT_H
#define LAYERNORM_ORT_H

#include <stddef.h>
#include <stdint.h>

typedef struct OrtStatus OrtStatus;
typedef struct OrtValue OrtValue;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtCustomOpDomain OrtCustomOpDomain;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef struct OrtShapeInferContext OrtShapeInferContext;
typedef struct OrtOpAttr OrtOpAttr;
typedef struct OrtCustomOp OrtCustomOp;
typedef struct OrtApi OrtApi;

/* OrtErrorCode */
enum {
  ORT_FAIL = 1,
  ORT_INVALID_ARGUMENT = 2
};

/* OrtOpAttrType */
enum {
  ORT_OP_ATTR_INT = 1
};

/* ONNXTensorElementDataType: the numbers of ONNX's TensorProto.DataType. */
typedef enum ort_element {
  ORT_FLOAT = 1,
  ORT_FLOAT16 = 10,
  ORT_DOUBLE = 11,
  ORT_BFLOAT16 = 16
} ort_element;

/* OrtCustomOpInputOutputCharacteristic */
typedef enum ort_presence {
  ORT_REQUIRED = 0,
  ORT_OPTIONAL = 1
} ort_presence;

typedef struct OrtApiBase {
  const OrtApi *(*GetApi)(uint32_t version);
  const char *(*GetVersionString)(void);
} OrtApiBase;

/* Versions of the table; version n belongs to ONNX Runtime 1.n. */
enum {
  /* Has every entry below but the last. Before, an operator was run for dtypes not its own. */
  ORT_OLDEST = 18,
  ORT_WITH_SHAPE_REFERENCE = 24, /* has the last */
  /* Before, a shape function crashes where a node leaves out an optional input (1.23) or gives a
   * shape to an output that a node leaves out (1.27). */
  ORT_WITH_SHAPE_FUNCTION = 28
};

typedef void (*ort_unused)(void);

struct OrtApi {
  OrtStatus *(*CreateStatus)(int code, const char *message);
  ort_unused unused1[25];
  OrtStatus *(*CreateCustomOpDomain)(const char *domain, OrtCustomOpDomain **out);
  OrtStatus *(*CustomOpDomain_Add)(OrtCustomOpDomain *domain, const OrtCustomOp *op);
  OrtStatus *(*AddCustomOpDomain)(OrtSessionOptions *options, OrtCustomOpDomain *domain);
  ort_unused unused29[22];
  OrtStatus *(*GetTensorMutableData)(OrtValue *value, void **out);
  ort_unused unused52[5];
  OrtStatus *(*CreateTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo **out);
  OrtStatus *(*SetTensorElementType)(OrtTensorTypeAndShapeInfo *info, ort_element type);
  OrtStatus *(*SetDimensions)(OrtTensorTypeAndShapeInfo *info, const int64_t *dims, size_t count);
  OrtStatus *(*GetTensorElementType)(const OrtTensorTypeAndShapeInfo *info, ort_element *out);
  OrtStatus *(*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo *info, size_t *out);
  OrtStatus *(*GetDimensions)(const OrtTensorTypeAndShapeInfo *info, int64_t *dims, size_t count);
  OrtStatus *(*GetSymbolicDimensions)(const OrtTensorTypeAndShapeInfo *info, const char **names,
                                      size_t count);
  ort_unused unused64;
  OrtStatus *(*GetTensorTypeAndShape)(const OrtValue *value, OrtTensorTypeAndShapeInfo **out);
  ort_unused unused66[19];
  OrtStatus *(*KernelInfoGetAttribute_float)(const OrtKernelInfo *info, const char *name,
                                             float *out);
  OrtStatus *(*KernelInfoGetAttribute_int64)(const OrtKernelInfo *info, const char *name,
                                             int64_t *out);
  ort_unused unused87[3];
  OrtStatus *(*KernelContext_GetInput)(const OrtKernelContext *context, size_t index,
                                       const OrtValue **out);
  OrtStatus *(*KernelContext_GetOutput)(OrtKernelContext *context, size_t index,
                                        const int64_t *dims, size_t count, OrtValue **out);
  ort_unused unused92;
  void (*ReleaseStatus)(OrtStatus *status);
  ort_unused unused94[5];
  void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo *info);
  ort_unused unused100;
  void (*ReleaseCustomOpDomain)(OrtCustomOpDomain *domain);
  ort_unused unused102[166];
  OrtStatus *(*ShapeInferContext_GetInputTypeShape)(const OrtShapeInferContext *context,
                                                    size_t index, OrtTensorTypeAndShapeInfo **out);
  OrtStatus *(*ShapeInferContext_GetAttribute)(const OrtShapeInferContext *context,
                                               const char *name, const OrtOpAttr **out);
  OrtStatus *(*ShapeInferContext_SetOutputTypeShape)(const OrtShapeInferContext *context,
                                                     size_t index,
                                                     const OrtTensorTypeAndShapeInfo *info);
  OrtStatus *(*SetSymbolicDimensions)(OrtTensorTypeAndShapeInfo *info, const char **names,
                                      size_t count);
  OrtStatus *(*ReadOpAttr)(const OrtOpAttr *attribute, int type, void *data, size_t size,
                           size_t *needed);
  ort_unused unused273;
  OrtStatus *(*KernelContext_ParallelFor)(const OrtKernelContext *context,
                                          void (*task)(void *data, size_t index), size_t count,
                                          size_t batches, void *data);
  ort_unused unused275[139];
  OrtStatus *(*GetTensorElementTypeAndShapeDataReference)(const OrtValue *value, int *type,
                                                          const int64_t **dims, size_t *count);
};

#define ORT_PLACE(entry, place)                                                                    \
  _Static_assert(offsetof(OrtApi, entry) == (place) * sizeof(ort_unused), #entry)
ORT_PLACE(CreateCustomOpDomain, 26);
ORT_PLACE(GetTensorMutableData, 51);
ORT_PLACE(CreateTensorTypeAndShapeInfo, 57);
ORT_PLACE(GetDimensionsCount, 61);
ORT_PLACE(GetTensorTypeAndShape, 65);
ORT_PLACE(KernelInfoGetAttribute_float, 85);
ORT_PLACE(KernelContext_GetInput, 90);
ORT_PLACE(ReleaseStatus, 93);
ORT_PLACE(ReleaseTensorTypeAndShapeInfo, 99);
ORT_PLACE(ReleaseCustomOpDomain, 101);
ORT_PLACE(ShapeInferContext_GetInputTypeShape, 268);
ORT_PLACE(ReadOpAttr, 272);
ORT_PLACE(KernelContext_ParallelFor, 274);
ORT_PLACE(GetTensorElementTypeAndShapeDataReference, 414);
#undef ORT_PLACE

/* An operator: what it takes and gives, and the functions that make and run its kernel. */
struct OrtCustomOp {
  uint32_t version;
  void *(*CreateKernel)(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info);
  const char *(*GetName)(const OrtCustomOp *op);
  const char *(*GetExecutionProviderType)(const OrtCustomOp *op);
  ort_element (*GetInputType)(const OrtCustomOp *op, size_t index);
  size_t (*GetInputTypeCount)(const OrtCustomOp *op);
  ort_element (*GetOutputType)(const OrtCustomOp *op, size_t index);
  size_t (*GetOutputTypeCount)(const OrtCustomOp *op);
  void (*KernelCompute)(void *kernel, OrtKernelContext *context);
  void (*KernelDestroy)(void *kernel);
  ort_presence (*GetInputCharacteristic)(const OrtCustomOp *op, size_t index);
  ort_presence (*GetOutputCharacteristic)(const OrtCustomOp *op, size_t index);
  int (*GetInputMemoryType)(const OrtCustomOp *op, size_t index);
  int (*GetVariadicInputMinArity)(const OrtCustomOp *op);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp *op);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp *op);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp *op);
  OrtStatus *(*CreateKernelV2)(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info,
                               void **kernel);
  OrtStatus *(*KernelComputeV2)(void *kernel, OrtKernelContext *context);
  OrtStatus *(*InferOutputShapeFn)(const OrtCustomOp *op, OrtShapeInferContext *context);
  int (*GetStartVersion)(const OrtCustomOp *op);
  int (*GetEndVersion)(const OrtCustomOp *op);
  size_t (*GetMayInplace)(int **inputs, int **outputs);
  void (*ReleaseMayInplace)(int *inputs, int *outputs);
  size_t (*GetAliasMap)(int **inputs, int **outputs);
  void (*ReleaseAliasMap)(int *inputs, int *outputs);
};

#endif
