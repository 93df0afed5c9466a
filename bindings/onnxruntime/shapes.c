/* The shapes of the outputs, where the model is loaded. */
#include "norm_op.h"

#include <stdlib.h>

/* The status of a question whose answer may be missing. */
static int succeeded(const OrtApi *api, OrtStatus *status) {
  if (!status) return 1;
  api->ReleaseStatus(status);
  return 0;
}

static int64_t axis_attribute(const norm_op *op, OrtShapeInferContext *context) {
  const OrtApi *api = op->api;
  const OrtOpAttr *attribute;
  int64_t axis = -1;
  size_t size;
  if (!op->kind->adds &&
      succeeded(api, api->ShapeInferContext_GetAttribute(context, "axis", &attribute)) &&
      !succeeded(api, api->ReadOpAttr(attribute, ORT_OP_ATTR_INT, &axis, sizeof axis, &size)))
    axis = -1;
  return axis;
}

/* Gives the output of `role` the shape in `info`. One that the node does not have is refused, which
 * does no harm. */
static OrtStatus *set_output(const norm_op *op, OrtShapeInferContext *context, role role,
                             OrtTensorTypeAndShapeInfo *info, ort_element type) {
  const OrtApi *api = op->api;
  OrtStatus *status = api->SetTensorElementType(info, type);
  for (size_t i = 0; !status && i < op->kind->outputs; i++) {
    if (op->kind->output[i] == role)
      succeeded(api, api->ShapeInferContext_SetOutputTypeShape(context, i, info));
  }
  return status;
}

/* The shape and the dtype of a required input. */
static OrtStatus *input(const norm_op *op, OrtShapeInferContext *context, role role,
                        OrtTensorTypeAndShapeInfo **info, ort_element *type) {
  size_t i = 0;
  while (op->kind->input[i] != role) i++;
  OrtStatus *status = op->api->ShapeInferContext_GetInputTypeShape(context, i, info);
  return status ? status : op->api->GetTensorElementType(*info, type);
}

/* Of an operator for several dtypes, ONNX Runtime asks the first, whatever those of the node. */
OrtStatus *infer_shapes(const OrtCustomOp *base, OrtShapeInferContext *context) {
  const norm_op *op = (const norm_op *)base;
  const OrtApi *api = op->api;
  OrtTensorTypeAndShapeInfo *x, *weight, *out = NULL;
  ort_element x_type, y_type;
  size_t rank = 0;
  OrtStatus *status = input(op, context, X, &x, &x_type);
  if (!status) status = input(op, context, WEIGHT, &weight, &y_type);
  if (!status) status = api->GetDimensionsCount(x, &rank);
  /* An unknown shape looks like that of a scalar. */
  if (status || rank == 0) return status;

  int64_t *dims = malloc(rank * sizeof *dims);
  const char **names = malloc(rank * sizeof *names);
  if (!dims || !names) {
    status = failure(api, ORT_FAIL, "no memory for a shape of %zu dimensions", rank);
    goto done;
  }
  if ((status = api->GetDimensions(x, dims, rank))) goto done;
  if ((status = api->GetSymbolicDimensions(x, names, rank))) goto done;
  /* A size that has neither a value nor a name would be taken for the value -1. */
  for (size_t i = 0; i < rank; i++)
    if (dims[i] < 0 && !names[i][0]) goto done;
  if ((status = api->CreateTensorTypeAndShapeInfo(&out))) goto done;
  if ((status = api->SetDimensions(out, dims, rank))) goto done;
  if ((status = api->SetSymbolicDimensions(out, names, rank))) goto done;
  if ((status = set_output(op, context, Y, out, y_type))) goto done;
  if ((status = set_output(op, context, SUM, out, x_type))) goto done;

  int64_t axis = axis_attribute(op, context);
  if (axis < 0) axis += (int64_t)rank;
  for (int64_t i = axis < 0 ? 0 : axis; i < (int64_t)rank; i++) dims[i] = 1, names[i] = "";
  if ((status = api->SetDimensions(out, dims, rank))) goto done;
  if ((status = api->SetSymbolicDimensions(out, names, rank))) goto done;
  if ((status = set_output(op, context, MEAN, out, ORT_FLOAT))) goto done;
  status = set_output(op, context, RSTD, out, ORT_FLOAT);

done:
  if (out) api->ReleaseTensorTypeAndShapeInfo(out);
  free(dims);
  free(names);
  return status;
}
