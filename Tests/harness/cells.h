/* The recurrent cells in the harness: their cases, their calls, and their errors. */
#ifndef CELLS_H
#define CELLS_H

#include "harness.h"

/* In the order of cells.tsv. C, GATES, MEAN and RSTD are outputs of a forward step and inputs of a
 * backward one. */
typedef enum cell_tensor {
  CELL_X_GATES,
  CELL_H_GATES,
  CELL_H_PREV,
  CELL_C_PREV,
  CELL_MASK,
  CELL_X_WEIGHT,
  CELL_X_BIAS,
  CELL_H_WEIGHT,
  CELL_H_BIAS,
  CELL_C_WEIGHT,
  CELL_C_BIAS,
  CELL_DH,
  CELL_DC,
  CELL_H,
  CELL_C,
  CELL_GATES,
  CELL_MEAN,
  CELL_RSTD,
  CELL_DX_GATES,
  CELL_DH_GATES,
  CELL_DH_PREV,
  CELL_DC_PREV,
  CELL_DX_WEIGHT,
  CELL_DX_BIAS,
  CELL_DH_WEIGHT,
  CELL_DH_BIAS,
  CELL_DC_WEIGHT,
  CELL_DC_BIAS,
  CELL_TENSOR_COUNT
} cell_tensor;

extern const char *const cell_tensor_names[CELL_TENSOR_COUNT];

/* One step: a line of cells.tsv, or a synthetic one. */
typedef struct cell_case {
  bool is_backward;
  layernorm_cell cell;
  layernorm_dtype dtype;
  uint64_t flags;
  int64_t rows, hidden;
  char distribution[24];
  double eps;
  /* Of an input its elements. Of an output the nearest value to each exact element; for each an
   * int8_t, the rest in 1/256 of the last place; for each an int16_t, the exponent of the unit that
   * its error is counted in, or EXACTLY. NULL: absent, or without a reference. */
  const unsigned char *data[CELL_TENSOR_COUNT];
  /* With ACCUMULATE_PARAMS, what is in the gradients of the parameters before the call. */
  const unsigned char *initial[CELL_TENSOR_COUNT];
} cell_case;

enum {
  EXACTLY = INT16_MIN
};

typedef struct cell_list {
  cell_case *cases;
  int count;
} cell_list;

const char *cell_name(layernorm_cell cell);
int gates_of(layernorm_cell cell);
int norms_of(const cell_case *c); /* that a row goes through */
bool has_tensor(layernorm_cell cell, cell_tensor t);
bool is_cell_output(const cell_case *c,
                    cell_tensor t);                   /* one that the cell has in this direction */
bool is_of_params(cell_tensor t);                     /* a parameter or its gradient */
size_t cell_bytes(const cell_case *c, cell_tensor t); /* of the elements */
size_t cell_row_bytes(const cell_case *c, cell_tensor t); /* not of a parameter */
/* The case in words, in a buffer of this call. */
const char *describe_cell(const cell_case *c);
/* All lines of cells.tsv in `directory`. Exits if they cannot be read. */
cell_list read_cells(const char *directory);
/* A case without references, with every input that the cell has but a mask; it stays for ever. A
 * backward one needs what a forward one gave. */
cell_case make_cell(layernorm_cell cell, layernorm_dtype dtype, uint64_t flags, int64_t rows,
                    int64_t hidden);

/* ---- Running (cell_run.c) --------------------------------------------------------------------- */

/* All zero: each buffer ends at its guard page, with every output. */
typedef struct cell_options {
  const char *what; /* for reports */
  placement where;
  int64_t shift;     /* elements away from the guard page, other ones for each tensor */
  uint32_t without;  /* 1 << tensor for each output that is not asked for */
  uint32_t in_place; /* 1 << tensor for each output that takes the place of its input */
} cell_options;

typedef struct cell_outputs {
  unsigned char *data[CELL_TENSOR_COUNT]; /* NULL: an input, or not asked for */
} cell_outputs;

/* The input whose place an output may take; the output itself if there is none. */
cell_tensor place_of_output(cell_tensor output);
/* The call without guard pages; `at` holds the pointers. */
layernorm_status call_cell(const cell_case *c, void *const at[CELL_TENSOR_COUNT]);
cell_outputs run_cell(const cell_case *c, const cell_options *options);
void free_cell_outputs(cell_outputs *out);
/* The backward case of a forward one and what it gave, with a dh and dc; valid as long as both. */
cell_case backward_of(const cell_case *forward, const cell_outputs *out, const unsigned char *dh,
                      const unsigned char *dc);

#endif
