#define _GNU_SOURCE
#include "shim.h"

#include <dlfcn.h>
#include <stdlib.h>

struct shim shim;

/* A version in the form of aoti_torch_abi_version(). */
#define TORCH_VERSION(major, minor) ((uint64_t)(major) << 56 | (uint64_t)(minor) << 48)

static void *find(void *library, const char *name, const char **missing) {
  void *found = dlsym(library, name);
  if (!found) *missing = name;
  return found;
}

const char *load_shim(void) {
  void *torch = dlopen("libtorch_cpu.so", RTLD_NOW | RTLD_NOLOAD);
  if (!torch) return "libtorch_cpu.so is not loaded";
  const char *missing = NULL;
  uint64_t (*abi_version)(void);
  *(void **)&abi_version = find(torch, "aoti_torch_abi_version", &missing);
  if (missing) return "PyTorch is too old; the adapter needs 2.10 or later";
  const uint64_t version = abi_version();
  if (version < TORCH_VERSION(2, 10)) return "PyTorch is too old; the adapter needs 2.10 or later";
  if (version >= TORCH_VERSION(3, 0))
    return "PyTorch is too new; the adapter is made for version 2";
  shim.version = TORCH_VERSION(2, 10);

#define SHIM_FIND(result, name, parameters) *(void **)&shim.name = find(torch, #name, &missing);
  SHIM_FUNCTIONS(SHIM_FIND)
#undef SHIM_FIND
  *(void **)&shim.delete_box = dlsym(torch, "torch_delete_stable_ivalue"); /* 2.13 and later */
  /* Before that, the operator delete of the libstdc++ on which libtorch_cpu.so depends. */
  if (!shim.delete_box) *(void **)&shim.delete_box = find(torch, "_ZdlPv", &missing);
  if (missing) return missing;

  shim.cpu = shim.aoti_torch_device_type_cpu();
  shim.float32 = shim.aoti_torch_dtype_float32();
  shim.float64 = shim.aoti_torch_dtype_float64();
  shim.float16 = shim.aoti_torch_dtype_float16();
  shim.bfloat16 = shim.aoti_torch_dtype_bfloat16();
  return NULL;
}

_Noreturn void raise_error(const char *sentence) {
  shim.aoti_torch_check(false, __func__, __FILE__, __LINE__, sentence);
  abort(); /* not reached: the call above throws */
}
