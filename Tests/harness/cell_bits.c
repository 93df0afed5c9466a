/* The bits of every step of a cell are the same however it is run: alone or in a batch, in place, at
 * any alignment, without the optional outputs, on any number of threads, under every instruction
 * set. */
#include "cells.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WITHOUT(t) (UINT32_C(1) << (t))
#define STATISTICS (WITHOUT(CELL_MEAN) | WITHOUT(CELL_RSTD))
#define PREVIOUS (WITHOUT(CELL_DH_PREV) | WITHOUT(CELL_DC_PREV))
#define OF_X (WITHOUT(CELL_DX_WEIGHT) | WITHOUT(CELL_DX_BIAS))
#define OF_H (WITHOUT(CELL_DH_WEIGHT) | WITHOUT(CELL_DH_BIAS))
#define OF_C (WITHOUT(CELL_DC_WEIGHT) | WITHOUT(CELL_DC_BIAS))

static const cell_options variants[] = {
    {.what = "after a guard page", .where = BEGINS_AFTER_GUARD},
    {.what = "without gates", .without = WITHOUT(CELL_GATES)},
    {.what = "without mean", .without = WITHOUT(CELL_MEAN)},
    {.what = "without rstd", .without = WITHOUT(CELL_RSTD)},
    {.what = "without what backward needs", .without = WITHOUT(CELL_GATES) | STATISTICS},
    {.what = "h == h_prev", .in_place = WITHOUT(CELL_H)},
    {.what = "c == c_prev", .in_place = WITHOUT(CELL_C)},
    {.what = "h == h_prev, c == c_prev", .in_place = WITHOUT(CELL_H) | WITHOUT(CELL_C)},
    {.what = "without dh_prev and dc_prev", .without = PREVIOUS},
    {.what = "without dx_weight", .without = WITHOUT(CELL_DX_WEIGHT)},
    {.what = "without dx_bias", .without = WITHOUT(CELL_DX_BIAS)},
    {.what = "without dh_weight", .without = WITHOUT(CELL_DH_WEIGHT)},
    {.what = "without dh_bias", .without = WITHOUT(CELL_DH_BIAS)},
    {.what = "without dc_weight", .without = WITHOUT(CELL_DC_WEIGHT)},
    {.what = "without dc_bias", .without = WITHOUT(CELL_DC_BIAS)},
    {.what = "without parameters", .without = OF_X | OF_H | OF_C},
    {.what = "parameters of x alone", .without = PREVIOUS | OF_H | OF_C},
    {.what = "parameters of h alone", .without = PREVIOUS | OF_X | OF_C},
    {.what = "parameters of c alone", .without = PREVIOUS | OF_X | OF_H},
    {.what = "dh_prev == dh", .in_place = WITHOUT(CELL_DH_PREV)},
    {.what = "dc_prev == dc", .in_place = WITHOUT(CELL_DC_PREV)},
    {.what = "dh_prev == dh, dc_prev == dc", .in_place = PREVIOUS},
};

static uint64_t digest(const cell_case *c, const cell_outputs *out) {
  uint64_t hash = FNV_BASIS;
  for (int t = 0; t < CELL_TENSOR_COUNT; t++)
    if (out->data[t] != NULL) hash = fnv(hash, out->data[t], cell_bytes(c, (cell_tensor)t));
  return hash;
}

/* Compares what is there in both, of rows first_row ... of `all`; sums over rows if these are all. */
static void expect_same(const cell_case *c, const cell_outputs *all, int64_t first_row,
                        const cell_outputs *part, int64_t rows, const char *what) {
  for (int i = 0; i < CELL_TENSOR_COUNT; i++) {
    const cell_tensor t = (cell_tensor)i;
    if (all->data[t] == NULL || part->data[t] == NULL) continue;
    const bool of_params = is_of_params(t);
    if (of_params && rows != c->rows) continue;
    const size_t bytes = cell_row_bytes(c, t);
    const size_t first = of_params ? 0 : (size_t)first_row * bytes;
    check(memcmp(all->data[t] + first, part->data[t], of_params ? bytes : (size_t)rows * bytes) ==
              0,
          "%s: other bits of %s [%s]", describe_cell(c), cell_tensor_names[t], what);
  }
}

static void run_and_compare(const cell_case *c, const cell_outputs *plain, const cell_options *o) {
  cell_outputs out = run_cell(c, o);
  expect_same(c, plain, 0, &out, c->rows, o->what);
  free_cell_outputs(&out);
}

static cell_case one_row(const cell_case *c, int64_t row) {
  cell_case single = *c;
  single.rows = 1;
  for (int t = 0; t < CELL_TENSOR_COUNT; t++)
    if (c->data[t] != NULL && !is_of_params((cell_tensor)t))
      single.data[t] += (size_t)row * cell_row_bytes(c, (cell_tensor)t);
  return single;
}

static void each_row_alone(const cell_case *c, const cell_outputs *plain) {
  for (int64_t row = 0; row < c->rows && c->rows > 1; row += 1 + c->rows / 16) {
    const cell_case single = one_row(c, row);
    const cell_options o = {.what = "a row alone"};
    cell_outputs out = run_cell(&single, &o);
    expect_same(c, plain, row, &out, 1, o.what);
    free_cell_outputs(&out);
  }
}

/* Row 1 of every product and state spoiled: its h is NaN, in the others the bits stay. */
static void beside_a_row_of_nans(const cell_case *c, const cell_outputs *plain) {
  if (c->rows < 3) return;
  cell_case spoiled = *c;
  unsigned char *data[CELL_TENSOR_COUNT] = {NULL};
  for (int i = 0; i < CELL_TENSOR_COUNT; i++) {
    const cell_tensor t = (cell_tensor)i;
    if (c->data[t] == NULL || t == CELL_MASK || is_of_params(t) || is_cell_output(c, t)) continue;
    const int64_t width = (int64_t)(cell_row_bytes(c, t) / dtype_size(c->dtype));
    data[t] = allocate(cell_bytes(c, t));
    memcpy(data[t], c->data[t], cell_bytes(c, t));
    for (int64_t k = 0; k < width; k++) store(c->dtype, data[t], width + k, k % 2 ? NAN : INFINITY);
    spoiled.data[t] = data[t];
  }
  const cell_options o = {.what = "beside a row of NaN and infinity"};
  cell_outputs out = run_cell(&spoiled, &o);
  expect_same(c, plain, 0, &out, 1, o.what);
  for (int64_t k = c->hidden; !c->is_backward && c->data[CELL_MASK] == NULL && k < 2 * c->hidden;
       k++)
    check(isnan(load(c->dtype, out.data[CELL_H], k)), "%s: h is not NaN [%s]", describe_cell(c),
          o.what);
  for (int t = 0; t < CELL_TENSOR_COUNT; t++)
    if (out.data[t] != NULL && !is_of_params((cell_tensor)t))
      memmove(out.data[t], out.data[t] + 2 * cell_row_bytes(c, (cell_tensor)t),
              cell_row_bytes(c, (cell_tensor)t));
  expect_same(c, plain, 2, &out, 1, o.what);
  free_cell_outputs(&out);
  for (int t = 0; t < CELL_TENSOR_COUNT; t++) free(data[t]);
}

static void with_a_mask_of_ones(const cell_case *c, const cell_outputs *plain) {
  if (c->data[CELL_MASK] != NULL) return;
  cell_case masked = *c;
  unsigned char *ones = allocate((size_t)c->rows);
  for (int64_t row = 0; row < c->rows; row++) ones[row] = (unsigned char)(1 + row % 255);
  masked.data[CELL_MASK] = ones;
  run_and_compare(&masked, plain, &(cell_options){.what = "with a mask of ones"});
  free(ones);
}

static void compare_ways(const cell_case *c, const cell_outputs *plain) {
  for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
    run_and_compare(c, plain, &variants[i]);
  for (int64_t shift = 1; shift < 64 / (int64_t)dtype_size(c->dtype); shift += 2)
    run_and_compare(c, plain, &(cell_options){.what = "at another alignment", .shift = shift});
  with_a_mask_of_ones(c, plain);
  each_row_alone(c, plain);
  beside_a_row_of_nans(c, plain);
}

/* Appends a forward case without references and its backward one, given what the former leaves; and
 * the same adding to what happens to be in the gradients of the parameters: the parameters. */
static void append_steps(cell_list *list, cell_case forward) {
  const cell_options o = {.what = "forward"};
  cell_outputs out = run_cell(&forward, &o); /* stays, as the inputs of the backward case */
  cell_case backward =
      backward_of(&forward, &out, forward.data[CELL_H_PREV], forward.data[CELL_C_PREV]);
  list->cases = realloc(list->cases, (size_t)(list->count + 3) * sizeof *list->cases);
  list->cases[list->count++] = forward;
  list->cases[list->count++] = backward;
  for (int t = CELL_DX_WEIGHT; t <= CELL_DC_BIAS; t++)
    backward.initial[t] = forward.data[CELL_X_WEIGHT + t - CELL_DX_WEIGHT];
  list->cases[list->count++] = backward;
}

/* Those with references, and larger ones, on both sides of the sizes that kernels have. */
static cell_list all_cells(void) {
  static const struct {
    int64_t rows, hidden;
  } shapes[] = {{0, 5}, {4, 16}, {7, 31}, {130, 65}, {5, 333}, {70, 256}, {3, 1024}};
  cell_list list = read_cells(REFERENCES);
  for (int cell = LAYERNORM_CELL_RNN_TANH; cell <= LAYERNORM_CELL_GRU; cell++)
    for (int dtype = LAYERNORM_F32; dtype <= LAYERNORM_F64; dtype++)
      for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        append_steps(&list, make_cell((layernorm_cell)cell, (layernorm_dtype)dtype,
                                      s % 2 ? LAYERNORM_FLAG_PER_GATE : 0, shapes[s].rows,
                                      shapes[s].hidden));
  return list;
}

static uint64_t plain_digest(const cell_case *c) {
  const cell_options o = {.what = "plain"};
  cell_outputs out = run_cell(c, &o);
  const uint64_t bits = digest(c, &out);
  free_cell_outputs(&out);
  return bits;
}

static void with_threads(const cell_list *list, const uint64_t *digests, const char *how) {
  static const int32_t thread_counts[] = {2, 3, 7};
  for (int t = 0; t < 3; t++) {
    check(layernorm_set_num_threads(thread_counts[t]) == LAYERNORM_SUCCESS, "%d threads refused",
          thread_counts[t]);
    for (int i = 0; i < list->count; i++)
      check(plain_digest(&list->cases[i]) == digests[i], "%s: other bits [%d threads, %s]",
            describe_cell(&list->cases[i]), thread_counts[t], how);
  }
}

int cell_bits_worker(void) {
  check_isa_of_worker();
  layernorm_set_num_threads(1);
  const cell_list list = all_cells();
  uint64_t *digests = calloc((size_t)list.count, sizeof *digests);
  for (int i = 0; i < list.count; i++) {
    const cell_options o = {.what = "plain"};
    cell_outputs plain = run_cell(&list.cases[i], &o);
    digests[i] = digest(&list.cases[i], &plain);
    compare_ways(&list.cases[i], &plain);
    free_cell_outputs(&plain);
    printf("%016" PRIx64 "\n", digests[i]);
  }
  with_threads(&list, digests, "its own");
  host_pool pool = {.threads = 3};
  layernorm_set_parallel_for(host_parallel_for, &pool);
  with_threads(&list, digests, "the host's");
  layernorm_set_parallel_for(NULL, NULL);
  check(pool.calls > 0, "no work was handed to the host's threads");
  fprintf(stderr, "cell bits, %s: %d steps, %" PRId64 " of %" PRId64 " checks failed\n",
          layernorm_isa(), list.count, failure_count(), check_count());
  return failure_count() == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static cell_list compared;

static const char *describe_compared(int i) { return describe_cell(&compared.cases[i]); }

int test_cell_bits(void) {
  compared = all_cells();
  compare_isas("cell_bits_worker", compared.count, describe_compared);
  return summary("cell bits");
}
