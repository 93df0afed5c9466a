/* What the adapter uses of the C interfaces of tvm-ffi (tvm/ffi/c_api.h) and DLPack (dlpack/dlpack.h),
 * declared by hand: neither is needed to build it. Tests/frameworks/tvm_ffi/test_abi.py compares it
 * with the headers of the installed package. */
#ifndef LAYERNORM_TVM_FFI_H
#define LAYERNORM_TVM_FFI_H

#include <stdint.h>

enum {
  DL_CPU = 1,
  DL_CUDA_HOST = 3,
  DL_ROCM_HOST = 11
};

enum {
  DL_FLOAT = 2,
  DL_BFLOAT = 4
};

typedef struct dl_tensor {
  void *data;
  struct {
    int32_t type, id;
  } device;
  int32_t ndim;
  struct {
    uint8_t code, bits;
    uint16_t lanes;
  } dtype;
  int64_t *shape;
  int64_t *strides; /* in elements; may be NULL for contiguous */
  uint64_t byte_offset;
} dl_tensor;

enum {
  TVM_FFI_NONE = 0,
  TVM_FFI_INT = 1,
  TVM_FFI_FLOAT = 3,
  TVM_FFI_DL_TENSOR = 7,
  TVM_FFI_TENSOR = 70
};

typedef struct tvm_ffi_object {
  uint64_t reference_counts;
  int32_t type;
  uint32_t padding;
  void (*deleter)(void *self, int flags);
} tvm_ffi_object;

typedef struct tvm_ffi_tensor {
  tvm_ffi_object object;
  dl_tensor tensor;
} tvm_ffi_tensor;

typedef struct tvm_ffi_any {
  int32_t type;
  uint32_t padding;
  union {
    int64_t as_int;
    double as_float;
    void *as_pointer;
  };
} tvm_ffi_any;

typedef struct tvm_ffi_version {
  uint32_t major, minor, patch;
} tvm_ffi_version;

/* Of libtvm_ffi.so, which whoever calls has loaded: found when the adapter is, or NULL. */
__attribute__((weak)) void TVMFFIGetVersion(tvm_ffi_version *version);
__attribute__((weak)) void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message);

#endif /* LAYERNORM_TVM_FFI_H */
