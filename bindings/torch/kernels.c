/* The operators' CPU kernels, and their registration. The operators and their schemas are defined in
 * layernorm/torch/_operators.py. */
#include "norms.h"

#include <stdio.h>
#include <string.h>

/* ---- Arguments -------------------------------------------------------------------------------- */

static tensor_handle optional_tensor(stable_value value) {
  return value ? (tensor_handle) * (const stable_value *)(uintptr_t)value : NULL;
}

static double number(stable_value value) {
  double result;
  memcpy(&result, &value, sizeof result);
  return result;
}

static stable_value item(stable_value list, size_t index) {
  stable_value value = 0;
  shim.torch_list_get_item((list_handle)list, index, &value);
  return value;
}

static struct shape shape_of(stable_value list) {
  size_t dims = MAX_DIMS + 1;
  shim.torch_list_size((list_handle)list, &dims);
  struct shape shape = {.dims = dims > MAX_DIMS ? -1 : (int64_t)dims};
  for (int64_t d = 0; d < shape.dims; d++) shape.sizes[d] = (int64_t)item(list, (size_t)d);
  return shape;
}

/* Frees the arguments of a kernel, whose kinds are T: Tensor, O: Tensor?, L: a list, F: float, and
 * D: float?. */
static void release(stable_value *stack, const char *kinds) {
  for (; *kinds; kinds++, stack++) {
    if (*kinds == 'T') shim.aoti_torch_delete_tensor_object((tensor_handle)*stack);
    if (*kinds == 'L') shim.torch_delete_list((list_handle)*stack);
    if (*kinds == 'O' && *stack) shim.aoti_torch_delete_tensor_object(optional_tensor(*stack));
    if ((*kinds == 'O' || *kinds == 'D') && *stack) shim.delete_box((void *)(uintptr_t)*stack);
  }
}

/* ---- What is not covered ---------------------------------------------------------------------- */

static _Thread_local char python_error[1024];

/* The functions below layernorm::pytorch_* report an exception by this, since an exception that they
 * raise would not come through the dispatcher as it was. */
EXPORT void layernorm_torch_set_error(const char *sentence) {
  snprintf(python_error, sizeof python_error, "%s", sentence);
}

/* Replaces the arguments on the stack by the results of PyTorch's own code for the operator. */
static void call_pytorch(const char *operator_name, stable_value *stack, uint64_t outputs) {
  python_error[0] = 0;
  if (shim.torch_call_dispatcher(operator_name, "", stack, shim.version))
    raise_error("PyTorch's own operator cannot be called");
  if (!python_error[0]) return;
  for (uint64_t i = 0; i < outputs; i++)
    shim.aoti_torch_delete_tensor_object((tensor_handle)stack[i]);
  raise_error(python_error);
}

/* ---- Kernels ---------------------------------------------------------------------------------- */

static void finish_forward(const struct forward *call, const char *kinds, const char *instead,
                           stable_value *stack, uint64_t outputs) {
  tensor_handle results[MAX_RESULTS];
  if (!forward(call, results)) return call_pytorch(instead, stack, outputs);
  release(stack, kinds);
  for (uint64_t i = 0; i < outputs; i++) stack[i] = (stable_value)results[i];
}

/* What is not wanted is returned as `absent` says: an undefined tensor, or one without elements. */
enum absent {
  UNDEFINED,
  EMPTY
};

static void finish_backward(const struct backward *call, const char *kinds, const char *instead,
                            stable_value *stack, uint64_t outputs, enum absent absent) {
  tensor_handle results[3];
  if (!backward(call, results)) return call_pytorch(instead, stack, outputs);
  const layernorm_dtype x_dtype = describe(call->x).dtype;
  release(stack, kinds);
  for (uint64_t i = 0; i < outputs; i++) {
    void *data;
    if (!results[i] && absent == EMPTY)
      results[i] = new_tensor(1, &(int64_t){0}, x_dtype, &data);
    else if (!results[i])
      shim.aoti_torch_new_uninitialized_tensor(&results[i]);
    stack[i] = (stable_value)results[i];
  }
}

/* aten::native_layer_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight, Tensor? bias,
 *                         float eps) -> (Tensor, Tensor, Tensor)
 * and layernorm::layer_norm with the same arguments. */
static void layer_norm(stable_value *stack, uint64_t outputs, bool aten) {
  const struct forward call = {.norm = LAYERNORM_NORM_LAYER,
                               .x = (tensor_handle)stack[0],
                               .shape = shape_of(stack[1]),
                               .weight = optional_tensor(stack[2]),
                               .bias = optional_tensor(stack[3]),
                               .eps = number(stack[4]),
                               .stats_as_x = aten};
  finish_forward(&call, "TLOOF",
                 aten ? "layernorm::pytorch_native_layer_norm" : "layernorm::pytorch_layer_norm",
                 stack, outputs);
}

static void native_layer_norm(stable_value *stack, uint64_t inputs, uint64_t outputs) {
  (void)inputs;
  layer_norm(stack, outputs, true);
}

static void own_layer_norm(stable_value *stack, uint64_t inputs, uint64_t outputs) {
  (void)inputs;
  layer_norm(stack, outputs, false);
}

/* layernorm::add_layer_norm(Tensor x, Tensor residual, SymInt[] normalized_shape, Tensor? weight,
 *                           Tensor? bias, float eps) -> (Tensor, Tensor, Tensor, Tensor) */
static void add_layer_norm(stable_value *stack, uint64_t inputs, uint64_t outputs) {
  (void)inputs;
  const struct forward call = {.norm = LAYERNORM_NORM_LAYER,
                               .x = (tensor_handle)stack[0],
                               .residual = (tensor_handle)stack[1],
                               .shape = shape_of(stack[2]),
                               .weight = optional_tensor(stack[3]),
                               .bias = optional_tensor(stack[4]),
                               .eps = number(stack[5])};
  finish_forward(&call, "TTLOOF", "layernorm::pytorch_add_layer_norm", stack, outputs);
}

/* The eps of a `float?`: PyTorch's default is the machine epsilon of what it computes in. */
static double optional_eps(stable_value value, tensor_handle x) {
  if (value) return number(*(const stable_value *)(uintptr_t)value);
  return describe(x).dtype == LAYERNORM_F64 ? 0x1p-52 : 0x1p-23;
}

/* aten::_fused_rms_norm(Tensor input, int[] normalized_shape, Tensor? weight, float? eps)
 *                       -> (Tensor, Tensor)
 * and layernorm::rms_norm with the same arguments. */
static void rms_norm(stable_value *stack, uint64_t outputs, const char *instead) {
  const struct forward call = {.norm = LAYERNORM_NORM_RMS,
                               .x = (tensor_handle)stack[0],
                               .shape = shape_of(stack[1]),
                               .weight = optional_tensor(stack[2]),
                               .eps = optional_eps(stack[3], (tensor_handle)stack[0])};
  finish_forward(&call, "TLOD", instead, stack, outputs);
}

static void fused_rms_norm(stable_value *stack, uint64_t inputs, uint64_t outputs) {
  (void)inputs;
  rms_norm(stack, outputs, "layernorm::pytorch__fused_rms_norm");
}

static void own_rms_norm(stable_value *stack, uint64_t inputs, uint64_t outputs) {
  (void)inputs;
  rms_norm(stack, outputs, "layernorm::pytorch_rms_norm");
}

/* layernorm::add_rms_norm(Tensor x, Tensor residual, SymInt[] normalized_shape, Tensor? weight,
 *                         float? eps) -> (Tensor, Tensor, Tensor) */
static void add_rms_norm(stable_value *stack, uint64_t inputs, uint64_t outputs) {
  (void)inputs;
  const struct forward call = {.norm = LAYERNORM_NORM_RMS,
                               .x = (tensor_handle)stack[0],
                               .residual = (tensor_handle)stack[1],
                               .shape = shape_of(stack[2]),
                               .weight = optional_tensor(stack[3]),
                               .eps = optional_eps(stack[4], (tensor_handle)stack[0])};
  finish_forward(&call, "TTLOD", "layernorm::pytorch_add_rms_norm", stack, outputs);
}

/* aten::native_layer_norm_backward(Tensor grad_out, Tensor input, SymInt[] normalized_shape,
 *                                  Tensor mean, Tensor rstd, Tensor? weight, Tensor? bias,
 *                                  bool[3] output_mask) -> (Tensor, Tensor, Tensor) */
static void native_layer_norm_backward(stable_value *stack, uint64_t inputs, uint64_t outputs) {
  (void)inputs;
  struct backward call = {.norm = LAYERNORM_NORM_LAYER,
                          .dy = (tensor_handle)stack[0],
                          .x = (tensor_handle)stack[1],
                          .shape = shape_of(stack[2]),
                          .mean = (tensor_handle)stack[3],
                          .rstd = (tensor_handle)stack[4],
                          .weight = optional_tensor(stack[5])};
  for (size_t i = 0; i < 3; i++) call.wanted[i] = (bool)item(stack[7], i);
  finish_backward(&call, "TTLTTOOL", "layernorm::pytorch_native_layer_norm_backward", stack,
                  outputs, UNDEFINED);
}

/* aten::_fused_rms_norm_backward(Tensor grad_out, Tensor input, int[] normalized_shape, Tensor rstd,
 *                                Tensor? weight, bool[2] output_mask) -> (Tensor, Tensor) */
static void fused_rms_norm_backward(stable_value *stack, uint64_t inputs, uint64_t outputs) {
  (void)inputs;
  struct backward call = {.norm = LAYERNORM_NORM_RMS,
                          .dy = (tensor_handle)stack[0],
                          .x = (tensor_handle)stack[1],
                          .shape = shape_of(stack[2]),
                          .rstd = (tensor_handle)stack[3],
                          .weight = optional_tensor(stack[4])};
  for (size_t i = 0; i < 2; i++) call.wanted[i] = (bool)item(stack[5], i);
  finish_backward(&call, "TTLTOL", "layernorm::pytorch__fused_rms_norm_backward", stack, outputs,
                  UNDEFINED);
}

/* layernorm::layer_norm_backward(Tensor dy, Tensor? dsum, Tensor x, SymInt[] normalized_shape,
 *                                Tensor mean, Tensor rstd, Tensor? weight, Tensor? bias,
 *                                bool[3] wanted) -> (Tensor, Tensor, Tensor) */
static void layer_norm_backward(stable_value *stack, uint64_t inputs, uint64_t outputs) {
  (void)inputs;
  struct backward call = {.norm = LAYERNORM_NORM_LAYER,
                          .dy = (tensor_handle)stack[0],
                          .dsum = optional_tensor(stack[1]),
                          .x = (tensor_handle)stack[2],
                          .shape = shape_of(stack[3]),
                          .mean = (tensor_handle)stack[4],
                          .rstd = (tensor_handle)stack[5],
                          .weight = optional_tensor(stack[6])};
  for (size_t i = 0; i < 3; i++) call.wanted[i] = (bool)item(stack[8], i);
  finish_backward(&call, "TOTLTTOOL", "layernorm::pytorch_layer_norm_backward", stack, outputs,
                  EMPTY);
}

/* layernorm::rms_norm_backward(Tensor dy, Tensor? dsum, Tensor x, SymInt[] normalized_shape,
 *                              Tensor rstd, Tensor? weight, bool[2] wanted) -> (Tensor, Tensor) */
static void rms_norm_backward(stable_value *stack, uint64_t inputs, uint64_t outputs) {
  (void)inputs;
  struct backward call = {.norm = LAYERNORM_NORM_RMS,
                          .dy = (tensor_handle)stack[0],
                          .dsum = optional_tensor(stack[1]),
                          .x = (tensor_handle)stack[2],
                          .shape = shape_of(stack[3]),
                          .rstd = (tensor_handle)stack[4],
                          .weight = optional_tensor(stack[5])};
  for (size_t i = 0; i < 2; i++) call.wanted[i] = (bool)item(stack[6], i);
  finish_backward(&call, "TOTLTOL", "layernorm::pytorch_rms_norm_backward", stack, outputs, EMPTY);
}

/* ---- Registration ----------------------------------------------------------------------------- */

struct registered {
  const char *name;
  boxed_kernel kernel;
};

static const char *implement(const char *namespace_name, const struct registered *kernels,
                             size_t count, library_handle *library) {
  if (shim.aoti_torch_library_init_impl(namespace_name, "CPU", __FILE__, __LINE__, library))
    return "PyTorch takes no kernels";
  for (size_t i = 0; i < count; i++)
    if (shim.torch_library_impl(*library, kernels[i].name, kernels[i].kernel, shim.version))
      return kernels[i].name;
  return NULL;
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Registers the CPU kernels of layernorm::. To be called once. Returns NULL, or a sentence that says why it cannot be. */
EXPORT const char *layernorm_torch_start(void) {
  static const struct registered kernels[] = {
      {"layer_norm", own_layer_norm},     {"layer_norm_backward", layer_norm_backward},
      {"rms_norm", own_rms_norm},         {"rms_norm_backward", rms_norm_backward},
      {"add_layer_norm", add_layer_norm}, {"add_rms_norm", add_rms_norm},
  };
  library_handle library; /* stays for the life of the process */
  const char *error = load_shim();
  if (!error) error = implement("layernorm", kernels, COUNT(kernels), &library);
  return error;
}

static library_handle installed;

/* Puts the kernels in the place of PyTorch's own. */
EXPORT const char *layernorm_torch_install(void) {
  static const struct registered kernels[] = {
      {"native_layer_norm", native_layer_norm},
      {"native_layer_norm_backward", native_layer_norm_backward},
      {"_fused_rms_norm", fused_rms_norm},
      {"_fused_rms_norm_backward", fused_rms_norm_backward},
  };
  /* GCC 12 at -O3 takes a static variable for a constant that is written by its address alone. */
  library_handle library = NULL;
  const char *error = implement("aten", kernels, COUNT(kernels), &library);
  installed = library;
  return error;
}

/* Takes them away again. */
EXPORT void layernorm_torch_uninstall(void) { shim.aoti_torch_delete_library_object(installed); }
