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

/* Gives each output of `role` the shape in `info`. One that the node does not have is refused, which
 * does no harm. */
static void set_output(const norm_op *op, OrtShapeInferContext *context, role role,
                       const OrtTensorTypeAndShapeInfo *info) {
  const OrtApi *api = op->api;
  for (size_t i = 0; i < op->kind->outputs; i++) {
    if (op->kind->output[i] == role)
      succeeded(api, api->ShapeInferContext_SetOutputTypeShape(context, i, info));
  }
}

OrtStatus *infer_shapes(const OrtCustomOp *base, OrtShapeInferContext *context) {
  const norm_op *op = (const norm_op *)base;
  const OrtApi *api = op->api;
  OrtTensorTypeAndShapeInfo *x, *out = NULL;
  size_t rank = 0;
  OrtStatus *status = api->ShapeInferContext_GetInputTypeShape(context, 0, &x);
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
  if ((status = api->CreateTensorTypeAndShapeInfo(&out))) goto done;
  if ((status = api->SetDimensions(out, dims, rank))) goto done;
  if ((status = api->SetSymbolicDimensions(out, names, rank))) goto done;
  if ((status = api->SetTensorElementType(out, op->y_type))) goto done;
  set_output(op, context, Y, out);
  if ((status = api->SetTensorElementType(out, op->x_type))) goto done;
  set_output(op, context, SUM, out);

  int64_t axis = axis_attribute(op, context);
  if (axis < 0) axis += (int64_t)rank;
  for (int64_t i = axis < 0 ? 0 : axis; i < (int64_t)rank; i++) dims[i] = 1, names[i] = "";
  if ((status = api->SetDimensions(out, dims, rank))) goto done;
  if ((status = api->SetSymbolicDimensions(out, names, rank))) goto done;
  if ((status = api->SetTensorElementType(out, ORT_FLOAT))) goto done;
  set_output(op, context, MEAN, out);
  set_output(op, context, RSTD, out);

done:
  if (out) api->ReleaseTensorTypeAndShapeInfo(out);
  free(dims);
  free(names);
  return status;
}
