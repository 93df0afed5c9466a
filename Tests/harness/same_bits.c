/* The bits of every case are the same however it is run.
 *
 * For each instruction set a process of its own (the library reads LAYERNORM_ISA once) runs every
 * case in every way below, compares with the plain run, and writes a digest of the plain run's
 * bits. The digests of the instruction sets are then compared.
 */
#include "harness.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  CACHE_LINE = 64,
  LARGE = 1 << 21 /* elements above which the slow variants are sampled */
};

static const run_options variants[] = {
    {.what = "after a guard page", .where = BEGINS_AFTER_GUARD},
    {.what = "general", .general = true},
    {.what = "general", .general = true, .where = BEGINS_AFTER_GUARD},
    {.what = "without mean", .no_mean = true},
    {.what = "without rstd", .no_rstd = true},
    {.what = "without mean and rstd", .no_mean = true, .no_rstd = true},
    {.what = "in place", .in_place = true},
    {.what = "in place", .in_place = true, .general = true, .x_layout = EVERY_SECOND},
    {.what = "x with padded rows", .general = true, .x_layout = PADDED_ROWS},
    {.what = "y with padded rows", .general = true, .y_layout = PADDED_ROWS},
    {.what = "x with stride 2", .general = true, .x_layout = EVERY_SECOND},
    {.what = "y with stride 2", .general = true, .y_layout = EVERY_SECOND},
    {.what = "x with reversed rows", .general = true, .x_layout = ROWS_REVERSED},
    {.what = "y with reversed rows", .general = true, .y_layout = ROWS_REVERSED},
    {.what = "x with reversed cols", .general = true, .x_layout = COLS_REVERSED},
    {.what = "y with reversed cols", .general = true, .y_layout = COLS_REVERSED},
    {.what = "all reversed", .general = true, .x_layout = ALL_REVERSED, .y_layout = ALL_REVERSED},
    {.what = "x with channels first", .general = true, .x_layout = CHANNELS_FIRST},
    {.what = "y with channels first", .general = true, .y_layout = CHANNELS_FIRST},
    {.what = "channels first in place",
     .general = true,
     .in_place = true,
     .x_layout = CHANNELS_FIRST},
};

/* Variants with a batch, for the cases whose rows it divides. */
static const run_options batch_variants[] = {
    {.what = "a batch", .general = true},
    {.what = "a padded batch", .general = true, .x_layout = PADDED_ROWS, .y_layout = PADDED_ROWS},
    {.what = "a batch with channels first",
     .general = true,
     .x_layout = CHANNELS_FIRST,
     .y_layout = CHANNELS_FIRST},
    {.what = "a reversed batch", .general = true, .x_layout = ALL_REVERSED},
};

/* Compares what is there in both, of rows first_row ... of `all`. */
static void expect_same(const test_case *c, const outputs *all, int64_t first_row,
                        const outputs *part, int64_t rows, const run_options *o) {
  static const char *const names[TENSOR_COUNT] = {[Y] = "y", [MEAN] = "mean", [RSTD] = "rstd"};
  for (int t = Y; t < TENSOR_COUNT; t++) {
    if (part->data[t] == NULL) continue;
    size_t row_bytes = dtype_size(dtype_of(c, t)) * (size_t)(t == Y ? c->cols : 1);
    const unsigned char *expected = all->data[t] + (size_t)first_row * row_bytes;
    check(memcmp(expected, part->data[t], (size_t)rows * row_bytes) == 0,
          "%s: other bits of %s [%s, shifts %d %d]", describe(c), names[t], o->what,
          (int)o->shift[X], (int)o->shift[Y]);
  }
}

static void run_and_compare(const test_case *c, const outputs *plain, run_options o) {
  if (!is_uniform(c)) o.general = true;
  if (o.in_place && c->x_dtype != c->y_dtype) return;
  outputs out = run(c, &o);
  expect_same(c, plain, 0, &out, c->rows, &o);
  free_outputs(&out);
}

static void at_every_alignment(const test_case *c, const outputs *plain) {
  int64_t x_places = CACHE_LINE / (int64_t)dtype_size(c->x_dtype);
  int64_t y_places = CACHE_LINE / (int64_t)dtype_size(c->y_dtype);
  int64_t places = x_places > y_places ? x_places : y_places;
  if (c->rows * c->cols > LARGE) places = 3;
  for (int64_t i = 1; i < places; i++) {
    run_options o = {.what = "at another alignment"};
    /* Each passes through all of its places, in an order of its own; the plain run is at 0. */
    o.shift[X] = i;
    o.shift[Y] = 5 * i % y_places;
    o.shift[WEIGHT] = 3 * i % x_places;
    o.shift[BIAS] = 7 * i % x_places;
    o.shift[MEAN] = i % 5;
    o.shift[RSTD] = i % 3;
    run_and_compare(c, plain, o);
  }
}

static test_case one_row(const test_case *c, int64_t row) {
  test_case single = *c;
  single.rows = 1;
  single.data[X] += (size_t)(row * c->cols) * dtype_size(c->x_dtype);
  return single;
}

static void each_row_alone(const test_case *c, const outputs *plain) {
  int64_t step = c->rows * c->cols > LARGE ? c->rows / 3 : 1;
  for (int64_t row = 0; row < c->rows && c->rows > 1; row += step) {
    test_case single = one_row(c, row);
    run_options o = {.what = "a row alone", .general = !is_uniform(c)};
    outputs out = run(&single, &o);
    expect_same(c, plain, row, &out, 1, &o);
    free_outputs(&out);
  }
}

/* The same row many times over, in memory only once. */
static void a_broadcast_row(const test_case *c, const outputs *plain) {
  enum {
    TIMES = 3
  };
  if (c->rows == 0) return;
  const int64_t strides[3] = {0, 0, 1};
  layernorm_forward_args args = LAYERNORM_FORWARD_ARGS_INIT;
  size_t bytes = (size_t)c->cols * dtype_size(c->y_dtype);
  args.eps = compute_dtype(c->x_dtype) == LAYERNORM_F64 ? c->eps : (double)(float)c->eps;
  args.x_dtype = c->x_dtype;
  args.y_dtype = c->y_dtype;
  args.param_dtype = c->param_dtype;
  args.rows = TIMES;
  args.cols = c->cols;
  args.x_strides = strides;
  unsigned char *inputs[Y];
  for (int t = X; t < Y; t++) {
    size_t input_bytes = (size_t)c->cols * dtype_size(dtype_of(c, t));
    inputs[t] = malloc(input_bytes);
    if (c->data[t] != NULL) memcpy(inputs[t], c->data[t], input_bytes);
  }
  args.x = inputs[X];
  args.weight = c->data[WEIGHT] ? inputs[WEIGHT] : NULL;
  args.bias = c->data[BIAS] ? inputs[BIAS] : NULL;
  unsigned char *y = malloc(TIMES * bytes);
  args.y = y;
  layernorm_status status = layernorm_forward(&args);
  check(status == LAYERNORM_SUCCESS, "%s: broadcast: %s", describe(c), layernorm_last_error());
  make_nans_the_same(c->y_dtype, y, TIMES * c->cols);
  for (int i = 0; i < TIMES; i++)
    check(memcmp(y + (size_t)i * bytes, plain->data[Y], bytes) == 0,
          "%s: other bits of y [x broadcast]", describe(c));
  for (int t = X; t < Y; t++) free(inputs[t]);
  free(y);
}

static void in_every_way(const test_case *c, const outputs *plain) {
  for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
    run_and_compare(c, plain, variants[i]);
  const int64_t divisors[] = {2, 3, c->rows};
  for (int d = 0; d < 3; d++)
    for (size_t i = 0; i < sizeof batch_variants / sizeof *batch_variants; i++)
      if (divisors[d] > 1 && c->rows % divisors[d] == 0 && c->rows > 0) {
        run_options o = batch_variants[i];
        o.batch = divisors[d];
        run_and_compare(c, plain, o);
      }
  at_every_alignment(c, plain);
  each_row_alone(c, plain);
  a_broadcast_row(c, plain);
}

static uint64_t digest(const test_case *c, const outputs *out) {
  uint64_t hash = 0xCBF29CE484222325u; /* FNV-1a */
  for (int t = Y; t < TENSOR_COUNT; t++) {
    size_t bytes = (size_t)count_of(c, t) * dtype_size(dtype_of(c, t));
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ out->data[t][i]) * 0x100000001B3u;
  }
  return hash;
}

/* All cases, with and without references. */
static case_list all_cases(void) {
  case_list a = read_cases(REFERENCES), b = make_synthetic_cases();
  a.cases = realloc(a.cases, (size_t)(a.count + b.count) * sizeof *a.cases);
  memcpy(a.cases + a.count, b.cases, (size_t)b.count * sizeof *b.cases);
  a.count += b.count;
  free(b.cases);
  return a;
}

static uint64_t plain_digest(const test_case *c) {
  run_options o = {.general = !is_uniform(c)};
  outputs plain = run(c, &o);
  uint64_t bits = digest(c, &plain);
  free_outputs(&plain);
  return bits;
}

static void with_threads(const case_list *list, const uint64_t *digests, const char *how) {
  static const int32_t thread_counts[] = {2, 3, 7};
  for (int t = 0; t < 3; t++) {
    check(layernorm_set_num_threads(thread_counts[t]) == LAYERNORM_SUCCESS, "%d threads refused",
          thread_counts[t]);
    for (int i = 0; i < list->count; i++)
      check(plain_digest(&list->cases[i]) == digests[i], "%s: other bits [%d threads, %s]",
            describe(&list->cases[i]), thread_counts[t], how);
  }
}

int same_bits_worker(void) {
  case_list list = all_cases();
  uint64_t *digests = calloc((size_t)list.count, sizeof *digests);
  const char *isa = layernorm_isa(), *forced = getenv("LAYERNORM_ISA");
  check(isa != NULL && forced != NULL && strcmp(isa, forced) == 0, "%s runs, not %s",
        isa ? isa : layernorm_last_error(), forced);
  layernorm_set_num_threads(1);
  for (int i = 0; i < list.count; i++) {
    const test_case *c = &list.cases[i];
    run_options o = {.general = !is_uniform(c)};
    outputs plain = run(c, &o);
    digests[i] = digest(c, &plain);
    in_every_way(c, &plain);
    free_outputs(&plain);
    printf("%016" PRIx64 "\n", digests[i]);
  }
  with_threads(&list, digests, "its own");
  host_pool pool = {.threads = 3};
  layernorm_set_parallel_for(host_parallel_for, &pool);
  with_threads(&list, digests, "the host's");
  layernorm_set_parallel_for(NULL, NULL);
  check(pool.calls > 0, "no work was handed to the host's threads");
  fprintf(stderr, "same bits, %s: %d cases, %" PRId64 " of %" PRId64 " checks failed\n", forced,
          list.count, failure_count(), check_count());
  return failure_count() == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* The digests that a worker has written, one for each case. */
static uint64_t *read_digests(FILE *stream, int count) {
  uint64_t *digests = calloc((size_t)count, sizeof *digests);
  rewind(stream);
  for (int i = 0; i < count; i++)
    check(fscanf(stream, "%" SCNx64, &digests[i]) == 1, "the digest of case %d is missing", i);
  return digests;
}

int test_same_bits(void) {
  case_list list = all_cases();
  uint64_t *first = NULL;
  for (int i = 0; isa_names[i] != NULL; i++) {
    if (!cpu_has(isa_names[i])) {
      printf("same bits, %s: NOT RUN, this CPU does not have it\n", isa_names[i]);
      continue;
    }
    FILE *output = tmpfile();
    if (output == NULL) die("cannot make a temporary file");
    int status = run_again("same_bits_worker", (setting){"LAYERNORM_ISA", isa_names[i]}, output);
    uint64_t *digests = read_digests(output, list.count);
    fclose(output);
    check(status == EXIT_SUCCESS, "%s ended with status %d", isa_names[i], status);
    for (int c = 0; first != NULL && c < list.count; c++)
      check(digests[c] == first[c], "%s: other bits under %s than under %s",
            describe(&list.cases[c]), isa_names[i], isa_names[0]);
    if (first == NULL)
      first = digests;
    else
      free(digests);
  }
  return summary("same bits");
}
