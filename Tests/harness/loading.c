/* A host that loads the library at run time: loading starts no thread, nor does small work; the
 * library can be unloaded, with its threads asleep, and loaded again.
 *
 *     loading path/to/liblayernorm.so */
#include "harness.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

typedef layernorm_status (*forward_f32)(int64_t, int64_t, const float *, const float *,
                                        const float *, float, float *, float *, float *);
typedef layernorm_status (*set_num_threads)(int32_t);

static void *symbol(void *library, const char *name) {
  void *found = dlsym(library, name);
  if (found == NULL) die("%s", dlerror());
  return found;
}

static void load_and_use(const char *path, float *x, float *y) {
  enum {
    ROWS = 512,
    COLS = 1024
  };
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) die("%s", dlerror());
  forward_f32 forward;
  set_num_threads set;
  /* Through memory: ISO C has no cast from an object's pointer to a function's. */
  *(void **)&forward = symbol(library, "layernorm_forward_f32");
  *(void **)&set = symbol(library, "layernorm_set_num_threads");
  int before = thread_count();
  for (int i = 0; i < ROWS * COLS; i++) x[i] = (float)(i % 1021);
  check(forward(1, COLS, x, NULL, NULL, 1, y, NULL, NULL) == LAYERNORM_SUCCESS, "small work fails");
  check(thread_count() == before, "small work has started a thread");
  set(3);
  check(forward(ROWS, COLS, x, NULL, NULL, 1, y, NULL, NULL) == LAYERNORM_SUCCESS, "work fails");
  check(thread_count() == 3, "%d threads run after large work for 3", thread_count());
  dlclose(library);
}

int main(int argc, char **argv) {
  if (argc != 2) die("usage: loading path/to/liblayernorm.so");
  float *x = calloc(1 << 20, sizeof *x), *y = calloc(1 << 20, sizeof *y);
  report_faults_as("loading, using or unloading the library");
  void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  check(library != NULL, "%s", library ? "" : dlerror());
  check(thread_count() == 1, "loading has started a thread");
  if (library != NULL) {
    dlclose(library);
    for (int i = 0; i < 3; i++) load_and_use(argv[1], x, y);
  }
  free(x);
  free(y);
  return summary("loading");
}
