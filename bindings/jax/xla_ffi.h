/* What the adapter uses of XLA's C interface for foreign functions (xla/ffi/api/c_api.h), declared by
 * hand: nothing of XLA is needed to build it. Tests/frameworks/jax/test_abi.py compares it with the
 * header of the installed jaxlib. */
#ifndef LAYERNORM_XLA_FFI_H
#define LAYERNORM_XLA_FFI_H

#include <stddef.h>
#include <stdint.h>

/* Every struct of the interface begins with its size, and most go on with a list of extensions. */
typedef struct xla_ffi_extension {
  size_t struct_size;
  int type;
  struct xla_ffi_extension *next;
} xla_ffi_extension;

enum {
  XLA_FFI_EXTENSION_METADATA = 1
};

typedef struct xla_ffi_version {
  size_t struct_size;
  xla_ffi_extension *extensions;
  int major;
  int minor;
} xla_ffi_version;

typedef struct xla_ffi_metadata {
  size_t struct_size;
  xla_ffi_version version;
  uint32_t traits;
} xla_ffi_metadata;

typedef struct xla_ffi_metadata_extension {
  xla_ffi_extension base;
  xla_ffi_metadata *metadata;
} xla_ffi_metadata_extension;

typedef struct xla_ffi_error xla_ffi_error;

enum {
  XLA_FFI_INVALID_ARGUMENT = 3,
  XLA_FFI_RESOURCE_EXHAUSTED = 8,
  XLA_FFI_FAILED_PRECONDITION = 9
};

typedef struct xla_ffi_error_create_args {
  size_t struct_size;
  xla_ffi_extension *extensions;
  const char *message;
  int code;
} xla_ffi_error_create_args;

typedef struct xla_ffi_error_destroy_args {
  size_t struct_size;
  xla_ffi_extension *extensions;
  xla_ffi_error *error;
} xla_ffi_error_destroy_args;

typedef struct xla_ffi_schedule_args {
  size_t struct_size;
  xla_ffi_extension *extensions;
  void *context;
  void (*task)(void *data);
  void *data;
} xla_ffi_schedule_args;

typedef struct xla_ffi_api {
  size_t struct_size;
  xla_ffi_extension *extensions;
  xla_ffi_version version;
  const void *internal;
  xla_ffi_error *(*error_create)(xla_ffi_error_create_args *args);
  void (*error_get_message)(void);
  void (*error_destroy)(xla_ffi_error_destroy_args *args);
  void (*unused[8])(void);
  xla_ffi_error *(*thread_pool_schedule)(xla_ffi_schedule_args *args);
} xla_ffi_api;

enum {
  XLA_FFI_PRED = 1,
  XLA_FFI_F16 = 10,
  XLA_FFI_F32 = 11,
  XLA_FFI_F64 = 12,
  XLA_FFI_BF16 = 16
};

typedef struct xla_ffi_buffer {
  size_t struct_size;
  xla_ffi_extension *extensions;
  int dtype;
  void *data;
  int64_t rank;
  int64_t *dims;
} xla_ffi_buffer;

enum {
  XLA_FFI_OPERAND_BUFFER = 1
};

/* Arguments, or results. */
typedef struct xla_ffi_operands {
  size_t struct_size;
  xla_ffi_extension *extensions;
  int64_t size;
  int *types;
  void **values;
} xla_ffi_operands;

enum {
  XLA_FFI_ATTRIBUTE_SCALAR = 3
};

typedef struct xla_ffi_scalar {
  int dtype;
  void *value;
} xla_ffi_scalar;

typedef struct xla_ffi_span {
  const char *data;
  size_t size;
} xla_ffi_span;

typedef struct xla_ffi_attributes {
  size_t struct_size;
  xla_ffi_extension *extensions;
  int64_t size;
  int *types;
  xla_ffi_span **names;
  void **values;
} xla_ffi_attributes;

typedef struct xla_ffi_call_frame {
  size_t struct_size;
  xla_ffi_extension *extensions;
  const xla_ffi_api *api;
  void *context;
  int stage;
  xla_ffi_operands arguments;
  xla_ffi_operands results;
  xla_ffi_attributes attributes;
} xla_ffi_call_frame;

#endif /* LAYERNORM_XLA_FFI_H */
