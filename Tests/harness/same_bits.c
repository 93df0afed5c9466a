/* The bits of every case are the same however it is run.
 *
 * For each instruction set a process of its own (the library reads LAYERNORM_ISA once) runs every
 * case in every way of variants.c, compares with the plain run, and writes a digest of the plain
 * run's bits. The digests of the instruction sets are then compared.
 */
#include "harness.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t digest(const test_case *c, const outputs *out) {
  uint64_t hash = FNV_BASIS;
  for (int t = X; t < TENSOR_COUNT; t++) {
    if (out->data[t] == NULL) continue;
    size_t bytes = (size_t)count_of(c, (tensor)t) * dtype_size(dtype_of(c, (tensor)t));
    hash = fnv(hash, out->data[t], bytes);
  }
  return hash;
}

static test_case *add_case(case_list *list, test_case c) {
  list->cases = realloc(list->cases, (size_t)(list->count + 1) * sizeof *list->cases);
  list->cases[list->count] = c;
  return &list->cases[list->count++];
}

/* All cases, with and without references; those of backward passes also with their statistics to be
 * computed again, and adding to what happens to be in the outputs: x and weight do. */
static case_list all_cases(void) {
  case_list list = {NULL, 0};
  case_list parts[] = {read_cases(REFERENCES), make_synthetic_cases(), make_channel_cases()};
  for (int p = 0; p < 3; p++) {
    for (int i = 0; i < parts[p].count; i++) {
      test_case c = parts[p].cases[i];
      add_case(&list, c);
      if (!c.op->is_backward) continue;
      c.data[MEAN] = c.data[RSTD] = NULL;
      add_case(&list, c);
      if (c.x_dtype != c.y_dtype || c.x_dtype != c.param_dtype || c.data[WEIGHT] == NULL) continue;
      c = parts[p].cases[i];
      c.initial[DX] = c.data[X];
      c.initial[DWEIGHT] = c.initial[DBIAS] = c.data[WEIGHT];
      add_case(&list, c);
    }
    free(parts[p].cases);
  }
  return list;
}

static uint64_t plain_digest(const test_case *c) {
  run_options o = {.general = c->op->is_backward};
  outputs plain = run(c, &o);
  uint64_t bits = digest(c, &plain);
  free_outputs(&plain);
  return bits;
}

static void with_threads(const case_list *list, const uint64_t *digests, int32_t threads,
                         const char *whose) {
  check(layernorm_set_num_threads(threads) == LAYERNORM_SUCCESS, "%d threads refused", threads);
  for (int i = 0; i < list->count; i++)
    check(plain_digest(&list->cases[i]) == digests[i], "%s: other bits [%d threads, %s]",
          describe(&list->cases[i]), threads, whose);
}

int same_bits_worker(void) {
  case_list list = all_cases();
  uint64_t *digests = calloc((size_t)list.count, sizeof *digests);
  check_isa_of_worker();
  layernorm_set_num_threads(1);
  for (int i = 0; i < list.count; i++) {
    const test_case *c = &list.cases[i];
    run_options o = {.general = c->op->is_backward}; /* which has every output */
    outputs plain = run(c, &o);
    digests[i] = digest(c, &plain);
    compare_variants(c, &plain);
    free_outputs(&plain);
    printf("%016" PRIx64 "\n", digests[i]);
  }
  with_threads(&list, digests, 2, "its own");
  with_threads(&list, digests, 3, "its own");
  with_threads(&list, digests, 7, "its own");
  host_pool pool = {.threads = 3};
  layernorm_set_parallel_for(host_parallel_for, &pool);
  with_threads(&list, digests, 3, "the host's");
  layernorm_set_parallel_for(NULL, NULL);
  check(pool.calls > 0, "no work was handed to the host's threads");
  fprintf(stderr, "same bits, %s: %d cases, %" PRId64 " of %" PRId64 " checks failed\n",
          layernorm_isa(), list.count, failure_count(), check_count());
  return failure_count() == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static case_list compared;

static const char *describe_compared(int i) { return describe(&compared.cases[i]); }

int test_same_bits(void) {
  compared = all_cases();
  compare_isas("same_bits_worker", compared.count, describe_compared);
  return summary("same bits");
}
