#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
  const char *name;
  int (*test)(void);
  bool worker; /* what a test runs in a process of its own */
} tests[] = {
    {"accuracy", test_accuracy, false},
    {"arguments", test_arguments, false},
    {"same_bits", test_same_bits, false},
    {"same_bits_worker", same_bits_worker, true},
    {"environment", test_environment, false},
    {"environment_worker", environment_worker, true},
    {"threads", test_threads, false},
    {"gradient_sums", test_gradient_sums, false},
    {"cells", test_cells, false},
    {"cell_gradients", test_cell_gradients, false},
    {"cell_bits", test_cell_bits, false},
    {"cell_bits_worker", cell_bits_worker, true},
    {"cell_arguments", test_cell_arguments, false},
};

int main(int argc, char **argv) {
  for (size_t i = 0; argc == 2 && i < sizeof tests / sizeof *tests; i++)
    if (strcmp(argv[1], tests[i].name) == 0) return tests[i].test();
  fputs("usage: harness TEST, where TEST is one of\n", stderr);
  for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
    if (!tests[i].worker) fprintf(stderr, "  %s\n", tests[i].name);
  return EXIT_FAILURE;
}
