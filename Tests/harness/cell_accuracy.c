/* The largest errors of the recurrent cells against the exact references, as a table, and the bound
 * that they must keep.
 *
 * The unit of each element stands in the reference; Tests/README.md says what it is of. A backward
 * step is given the nearest values to the exact gates, c, mean and rstd, and measured against the
 * exact gradients at those gates and that c. */
#include "cells.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What is shown apart. */
typedef enum part {
  STATES, /* h and c */
  GATES,
  STATISTICS, /* mean and rstd */
  D_GATES,    /* of the products */
  D_STATES,   /* dh_prev and dc_prev */
  D_WEIGHTS,
  D_BIASES,
  PART_COUNT
} part;

static const char *const titles[PART_COUNT] = {
    [STATES] = "h, c",
    [GATES] = "gates",
    [STATISTICS] = "mean, rstd",
    [D_GATES] = "dx_gates, dh_gates",
    [D_STATES] = "dh_prev, dc_prev",
    [D_WEIGHTS] = "dweight",
    [D_BIASES] = "dbias",
};

static const double bound = 1;

static part part_of(cell_tensor t) {
  switch (t) {
  case CELL_H:
  case CELL_C:
    return STATES;
  case CELL_GATES:
    return GATES;
  case CELL_MEAN:
  case CELL_RSTD:
    return STATISTICS;
  case CELL_DX_GATES:
  case CELL_DH_GATES:
    return D_GATES;
  case CELL_DH_PREV:
  case CELL_DC_PREV:
    return D_STATES;
  case CELL_DX_WEIGHT:
  case CELL_DH_WEIGHT:
  case CELL_DC_WEIGHT:
    return D_WEIGHTS;
  default:
    return D_BIASES;
  }
}

/* A row of the table. */
typedef struct group {
  layernorm_cell cell;
  layernorm_dtype dtype;
  const char *distribution;
  int cases;
  double worst[PART_COUNT]; /* -1 where nothing was measured */
} group;

typedef struct table {
  group groups[256];
  int count;
} table;

static group *group_of(table *t, const cell_case *c) {
  for (int i = 0; i < t->count; i++) {
    group *g = &t->groups[i];
    if (g->cell == c->cell && g->dtype == c->dtype && strcmp(g->distribution, c->distribution) == 0)
      return g;
  }
  if (t->count == sizeof t->groups / sizeof *t->groups) die("the table has too many rows");
  group *g = &t->groups[t->count++];
  *g = (group){c->cell, c->dtype, c->distribution, 0, {0}};
  for (int i = 0; i < PART_COUNT; i++) g->worst[i] = -1;
  return g;
}

/* The largest error of a part, and where it is. */
typedef struct cell_peak {
  peak peak;
  cell_tensor tensor;
} cell_peak;

/* Raises the peaks by the errors of one tensor. */
static void measure_tensor(const cell_case *c, const cell_case *reference, cell_tensor t,
                           const unsigned char *got, cell_peak peaks[PART_COUNT]) {
  const size_t bytes = cell_bytes(c, t);
  const int64_t count = (int64_t)(bytes / dtype_size(c->dtype));
  const unsigned char *nearest = reference->data[t];
  const int8_t *residues = (const int8_t *)nearest + bytes;
  for (int64_t i = 0; i < count; i++) {
    int16_t exponent;
    memcpy(&exponent, nearest + bytes + count + i * (int64_t)sizeof exponent, sizeof exponent);
    const double exact = load(c->dtype, nearest, i), value = load(c->dtype, got, i);
    const double initial = c->initial[t] != NULL ? load(c->dtype, c->initial[t], i) : 0;
    long double unit = exponent == EXACTLY ? 0 : ldexpl(1, exponent);
    if (initial != 0) unit = fmaxl(unit, unit_in_last_place(c->dtype, fabsl(exact + initial)));
    const double error = error_of(value, c->dtype, exact, residues[i], initial, unit);
    cell_peak *p = &peaks[part_of(t)];
    if (error > p->peak.error) *p = (cell_peak){{error, i, value, exact}, t};
  }
}

/* Runs a case against each guard page; reference is the same but for what is there before. */
static void run_and_measure(const cell_case *c, const cell_case *reference, const char *what,
                            group *g) {
  for (int where = ENDS_AT_GUARD; where <= BEGINS_AFTER_GUARD; where++) {
    const cell_options o = {.what = what, .where = (placement)where};
    cell_outputs out = run_cell(c, &o);
    cell_peak peaks[PART_COUNT];
    for (int i = 0; i < PART_COUNT; i++) peaks[i] = (cell_peak){{.error = -1}, CELL_H};
    for (int t = 0; t < CELL_TENSOR_COUNT; t++)
      if (out.data[t] != NULL) measure_tensor(c, reference, (cell_tensor)t, out.data[t], peaks);
    free_cell_outputs(&out);
    for (int i = 0; i < PART_COUNT; i++) {
      const peak *p = &peaks[i].peak;
      g->worst[i] = fmax(g->worst[i], p->error);
      check(p->error <= bound, "%s [%s]: %s[%lld] = %a for %a, %.3f units off, at most %g",
            describe_cell(c), what, cell_tensor_names[peaks[i].tensor], (long long)p->index, p->got,
            p->nearest, p->error, bound);
    }
  }
}

/* With the gradients of the parameters added to numbers of their own size. */
static void accumulating(const cell_case *c, group *g) {
  cell_case adding = *c;
  unsigned char *initial[CELL_TENSOR_COUNT] = {NULL};
  uint64_t state = 1;
  for (int i = CELL_DX_WEIGHT; i < CELL_TENSOR_COUNT; i++) {
    const cell_tensor t = (cell_tensor)i;
    if (!is_cell_output(c, t)) continue;
    const int64_t count = (int64_t)(cell_bytes(c, t) / dtype_size(c->dtype));
    adding.initial[t] = initial[t] = allocate(cell_bytes(c, t));
    for (int64_t k = 0; k < count; k++)
      store(c->dtype, initial[t], k, draw(&state) * (1 + fabs(load(c->dtype, c->data[t], k))));
  }
  run_and_measure(&adding, c, "accumulating", g);
  for (int i = CELL_DX_WEIGHT; i < CELL_TENSOR_COUNT; i++) free(initial[i]);
}

static void print_table(const table *t) {
  printf("| cell | dtype | products | cases |");
  for (int i = 0; i < PART_COUNT; i++) printf(" %s |", titles[i]);
  printf("\n|---|---|---|---|");
  for (int i = 0; i < PART_COUNT; i++) printf("---|");
  putchar('\n');
  for (int i = 0; i < t->count; i++) {
    const group *g = &t->groups[i];
    printf("| %-8s | %s | %-11s | %3d |", cell_name(g->cell), dtype_name(g->dtype), g->distribution,
           g->cases);
    for (int k = 0; k < PART_COUNT; k++)
      g->worst[k] < 0 ? printf("       |") : printf(" %5.2f |", g->worst[k]);
    putchar('\n');
  }
}

int test_cells(void) {
  static table t;
  const char *isa = isa_of_test("cells");
  if (isa == NULL) return NOT_RUN;
  cell_list list = read_cells(REFERENCES);
  for (int i = 0; i < list.count; i++) {
    const cell_case *c = &list.cases[i];
    group *g = group_of(&t, c);
    g->cases++;
    run_and_measure(c, c, "plain", g);
    if (c->is_backward) accumulating(c, g);
  }
  print_table(&t);
  printf("cells: %d steps under %s, in units in the last place, each at most %g\n", list.count, isa,
         bound);
  return summary("cells");
}
