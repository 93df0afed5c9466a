/* What the adapter uses of PyTorch's stable C ABI (torch/csrc/inductor/aoti_torch/c/shim.h and
 * torch/csrc/stable/c/shim.h of PyTorch 2.10 or later), declared by hand, and found at run time in the
 * libtorch_cpu.so that the process has loaded: nothing of PyTorch is needed to build. */
#ifndef LAYERNORM_TORCH_SHIM_H
#define LAYERNORM_TORCH_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What layernorm/torch/_native.py looks up. */
#define EXPORT __attribute__((visibility("default")))

/* A value on the stack of a boxed kernel: a number's bits, or a handle. A value of an optional type is
 * NULL or the address of a boxed value. The kernel owns its arguments; the caller, the results. */
typedef uint64_t stable_value;

typedef struct torch_tensor *tensor_handle;
typedef struct torch_list *list_handle;
typedef struct torch_library *library_handle;
typedef void (*boxed_kernel)(stable_value *stack, uint64_t inputs, uint64_t outputs);
typedef void (*range_function)(int64_t begin, int64_t end, void *context);

/* F(result, name, parameters). An int32_t result of 0 is success, unless the function is a getter. */
#define SHIM_FUNCTIONS(F)                                                                          \
  F(int32_t, aoti_torch_dtype_float32, (void))                                                     \
  F(int32_t, aoti_torch_dtype_float64, (void))                                                     \
  F(int32_t, aoti_torch_dtype_float16, (void))                                                     \
  F(int32_t, aoti_torch_dtype_bfloat16, (void))                                                    \
  F(int32_t, aoti_torch_device_type_cpu, (void))                                                   \
  F(int32_t, aoti_torch_is_defined, (tensor_handle, bool *))                                       \
  F(int32_t, aoti_torch_is_contiguous, (tensor_handle, bool *))                                    \
  F(int32_t, aoti_torch_get_dim, (tensor_handle, int64_t *))                                       \
  F(int32_t, aoti_torch_get_sizes, (tensor_handle, int64_t **))                                    \
  F(int32_t, aoti_torch_get_strides, (tensor_handle, int64_t **))                                  \
  F(int32_t, aoti_torch_get_dtype, (tensor_handle, int32_t *))                                     \
  F(int32_t, torch_get_const_data_ptr, (tensor_handle, const void **))                             \
  F(int32_t, torch_get_mutable_data_ptr, (tensor_handle, void **))                                 \
  F(int32_t, aoti_torch_new_uninitialized_tensor, (tensor_handle *))                               \
  F(int32_t, aoti_torch_empty_strided,                                                             \
    (int64_t, const int64_t *, const int64_t *, int32_t, int32_t, int32_t, tensor_handle *))       \
  F(int32_t, aoti_torch_delete_tensor_object, (tensor_handle))                                     \
  F(int32_t, torch_list_size, (list_handle, size_t *))                                             \
  F(int32_t, torch_list_get_item, (list_handle, size_t, stable_value *))                           \
  F(int32_t, torch_delete_list, (list_handle))                                                     \
  F(int32_t, aoti_torch_library_init_impl,                                                         \
    (const char *, const char *, const char *, uint32_t, library_handle *))                        \
  F(int32_t, torch_library_impl, (library_handle, const char *, boxed_kernel, uint64_t))           \
  F(int32_t, aoti_torch_delete_library_object, (library_handle))                                   \
  F(int32_t, torch_call_dispatcher, (const char *, const char *, stable_value *, uint64_t))        \
  F(int32_t, torch_parallel_for, (int64_t, int64_t, int64_t, range_function, void *))              \
  F(void, aoti_torch_check, (bool, const char *, const char *, uint32_t, const char *))

struct shim {
#define SHIM_FIELD(result, name, parameters) result(*name) parameters;
  SHIM_FUNCTIONS(SHIM_FIELD)
#undef SHIM_FIELD
  /* Frees the box of an optional value. */
  void (*delete_box)(void *);
  /* The version whose conventions this adapter follows, for the functions that ask. */
  uint64_t version;
  int32_t cpu, float32, float64, float16, bfloat16;
};

extern struct shim shim;

/* Fills `shim`. Returns NULL, or a sentence that says why it cannot. */
const char *load_shim(void);

/* Raises RuntimeError in the Python program. Does not return. */
_Noreturn void raise_error(const char *sentence);

#endif
