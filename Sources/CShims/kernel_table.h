/* The border between the library and its kernels: the kernels of one instruction set, as C function
 * pointers, so that no Swift generic crosses it. */
#ifndef LAYERNORM_SHIMS_KERNEL_TABLE_H
#define LAYERNORM_SHIMS_KERNEL_TABLE_H

#include <stdint.h>

/* Rows [batch][row] whose elements lie side by side; strides in elements. data is NULL for a tensor
 * that is absent. */
typedef struct ln_rows {
  void *data;
  int64_t row_stride, batch_stride;
} ln_rows;

/* Rows to normalize: row r is row r mod rows_per_batch of batch r / rows_per_batch. */
typedef struct ln_forward_work {
  int64_t cols;
  int64_t rows_per_batch;
  double eps;
  int64_t bytes_per_group; /* of x, of rows that go through both passes together; 0: few */
  int32_t has_pairs;       /* rows are normalized two at a time, where they are not streamed */
  int32_t centers;         /* LayerNorm; else RMSNorm */
  int32_t rounds_rstd;     /* rstd is used rounded, as where y has a 16-bit type */
  int32_t is_far;          /* rows come from beyond the caches: later ones are asked for */
  int32_t fetches;         /* lines of x are asked for shortly before they are read */
  int32_t fetches_later;   /* those of the next block, where a row is not read in order */
  int64_t stores_ahead;    /* of far rows: bytes before it is stored to, a line of y is asked for */
  int32_t is_piped; /* rows are stored while others are read; none has fewer than 16 columns */
  /* y is stored past the caches: apart from x, and too large for them. So many bytes has at least a row whose ends are
   * not where vectors are. */
  int32_t streams;
  int32_t
      is_plain; /* rows, of a vector or more, are normalized one by one, and nothing is asked for */
  int32_t
      has_blocks; /* some columns of several rows are normalized before the next: of float32, centered, to nothing added */
  int32_t has_long_nan; /* what is split below may be a NaN that has more than 16 bits */
  ln_rows x, residual, sum, y;
  /* Where what is added waits to be normalized, of one group at a time: sum is then stored past the caches too. Else
   * it waits in sum, or in y where that is not wanted. */
  ln_rows added;
  int64_t added_bytes; /* at least those of a row */
  const void *weight;  /* NULL: ones */
  const void *bias;    /* NULL: zeros */
  /* The same as ln_split_kernel makes of them, for rows of bfloat16 and parameters of float32; NULL: that takes the
   * kernel longer. */
  const void *split_weight, *split_bias;
  const void *x_bias; /* NULL: zeros */
  void *mean;         /* NULL: not wanted */
  void *rstd;         /* NULL: not wanted */
  double ada_scale;   /* C of AdaNorm, whose weight and bias are NULL; 0 for the other norms */
  double ada_slope;   /* k of AdaNorm */
  const struct ln_kernel_table *kernels; /* for rows out of range */
} ln_forward_work;

/* Normalizes the rows begin ..< end. */
typedef void (*ln_forward_kernel)(const ln_forward_work *work, int64_t begin, int64_t end);

typedef struct ln_backward_work {
  int64_t cols;
  int64_t rows_per_batch;
  double eps;
  int32_t centers;
  int32_t accumulates_dx; /* dx is added to */
  int32_t reads_ahead; /* later rows of dy and x are asked for; 2: unless registers have 512 bits */
  int32_t writes_ahead; /* lines of dx too, 1: before a row's sums, 2: before they are stored to */
  int32_t fetches, fetches_later; /* lines of x and dy, as in forward */
  int32_t is_near; /* the last level: columns may be gone through from the last to the first */
  int32_t
      streams; /* dx is stored past the caches: apart from dy and x, aligned, and too large for them */
  int32_t
      coarse_rows; /* dy has 16 bits where it comes from: so many rows are added up in the compute type */
  int32_t detaches_mean;   /* mean is a constant: dx goes without the term sum(g) / cols */
  int32_t detaches_rstd;   /* rstd is: without the term x^ * sum(g * x^) / cols */
  ln_rows dy, x, dsum, dx; /* dsum and dx may be absent */
  const void *weight;      /* in the compute type, any offset added */
  const void
      *split_weight; /* what ln_split_kernel makes of it, if there is one, of rows of bfloat16 */
  const void *mean;  /* NULL, with rstd: from x; NULL alone for RMSNorm */
  const void *rstd;
  const struct ln_kernel_table *kernels; /* for rows out of range */
} ln_backward_work;

/* dx of the rows begin ..< end. Their dy * x^ and dy are summed up in `sums`, row by row, unless it is
 * NULL: first those of dweight, then those of dbias, each LN_SUM_BYTES for a vector of columns; of coarse rows,
 * then those of the last ones in the compute type, each half as large. `before`: how many rows of the same
 * block they hold already; 0: they are cleared. Rows of bfloat16 are a whole block. */
typedef void (*ln_backward_kernel)(const ln_backward_work *work, int64_t begin, int64_t end,
                                   void *sums, int64_t before);

enum {
  LN_SUM_BYTES = 128
};

/* Adds up the sums of `blocks` blocks, `block_bytes` apart, in a fixed tree (in their place), and
 * writes the gradient of weight or bias, [cols], in the compute type; `accumulates`: adds it to what is there.
 * `coarse`: the sums of the last coarse rows, or NULL. */
typedef void (*ln_join_kernel)(int64_t cols, int64_t blocks, int64_t block_bytes, void *sums,
                               void *coarse, void *gradient, int32_t accumulates);

/* (x + bias) + residual of `cols` elements into sum, which may be either; NULL: zeros. */
typedef void (*ln_add_kernel)(int64_t cols, const void *x, const void *bias, const void *residual,
                              void *sum);

/* Parameters [cols] in the order that rows of bfloat16 are computed in: of each whole 32 the even ones, then the odd ones.
 * Gives whether one may be a NaN that has more than 16 bits. */
typedef int32_t (*ln_split_kernel)(int64_t cols, const void *parameters, void *split);

/* Multiplies `cols` elements of a gradient by scale + slope * normalized; and what follows them in their
 * last 64 bytes, which both rows have as memory. */
typedef void (*ln_ada_kernel)(int64_t cols, double scale, double slope, const void *normalized,
                              void *gradient);

/* Elements [rows][cols]; strides in elements. */
typedef struct ln_matrix {
  void *data;
  int64_t row_stride, col_stride;
} ln_matrix;

/* Copies elements with conversion between an element type and a compute type. */
typedef void (*ln_convert_kernel)(int64_t rows, int64_t cols, ln_matrix source,
                                  ln_matrix destination);

typedef struct ln_convert_kernels {
  ln_convert_kernel from_f32, from_f64, from_f16, from_bf16;
  ln_convert_kernel to_f32, to_f64, to_f16, to_bf16;
} ln_convert_kernels;

/* Rows of a recurrent cell; all tensors are contiguous. */
typedef struct ln_cell_work {
  int32_t cell;     /* layernorm_cell */
  int32_t per_gate; /* each gate is normalized by itself */
  int64_t hidden;
  double eps;
  const void *x_gates, *h_gates;                     /* [rows][gates * hidden] */
  const void *h_prev, *c_prev;                       /* [rows][hidden]; NULL: zeros */
  const void *x_weight, *x_bias, *h_weight, *h_bias; /* [gates * hidden]; NULL: ones or zeros */
  const void *c_weight, *c_bias;                     /* [hidden]; NULL: ones or zeros */
  void *h, *c, *gates, *mean, *rstd;                 /* forward: the last three may be NULL */
  const void *dh, *dc;                               /* [rows][hidden]; backward only, as below */
  void *dx_gates, *dh_gates;                         /* [rows][gates * hidden] */
  void *dh_prev, *dc_prev;                           /* [rows][hidden], or NULL */
} ln_cell_work;

/* The cells' kernels of one dtype, which compute in numbers of twice its size. Forward and backward: the rows
 * begin ..< end, with memory for vectors of eight such numbers, each gate in vectors of its own: `scratch` for
 * 2 rows of the LSTM's c, backward for 4 gates of one row. `sums`: those over rows for the gradients of the
 * parameters, to which a call adds, or NULL; first of x_weight, x_bias, then of h_weight, h_bias, c_weight and
 * c_bias. */
typedef struct ln_cell_kernels {
  void (*forward)(const ln_cell_work *work, int64_t begin, int64_t end, void *scratch);
  void (*backward)(const ln_cell_work *work, int64_t begin, int64_t end, void *scratch, void *sums);
  /* Of `hidden` columns of a parameter: adds up the sums of all blocks, into the first, and writes the gradient. */
  void (*join)(int64_t hidden, int64_t blocks, int64_t block_bytes, void *sums, void *gradient,
               int32_t accumulates);
} ln_cell_kernels;

/* One row that is out of range, as the kernels describe it to each other: a ScaledForward, and a ScaledBackward of
 * float32 or float64 with the rstd that is given, or 0. */
typedef void (*ln_scaled_forward_kernel)(const void *row);
typedef void (*ln_scaled_backward_kernel)(const void *row, double given_rstd);

/* Forward kernels of one dtype, and, for 16-bit types, with weight and bias in float32; backward kernels
 * of one dtype, with weight in its compute type. Those of 16-bit types may be NULL. */
typedef struct ln_kernel_table {
  ln_forward_kernel forward_f32, forward_f64, forward_f16, forward_bf16;
  ln_forward_kernel forward_f16_params_f32, forward_bf16_params_f32;
  ln_backward_kernel backward_f32, backward_f64, backward_f16, backward_bf16;
  ln_join_kernel join_f32, join_f64;
  ln_add_kernel add_f32, add_f64;
  ln_ada_kernel ada_f32, ada_f64;
  ln_scaled_forward_kernel scaled_forward;
  ln_scaled_backward_kernel scaled_backward_f32, scaled_backward_f64;
  ln_split_kernel split_f32; /* NULL where rows of bfloat16 are computed in order */
  ln_cell_kernels cell_f32, cell_f64;
  ln_convert_kernels convert_f32; /* between each dtype and float32 */
  ln_convert_kernels convert_f64; /* between each dtype and float64 */
} ln_kernel_table;

void ln_fill_kernel_table_x86_64(ln_kernel_table *table);
void ln_fill_kernel_table_x86_64_v3(ln_kernel_table *table);
void ln_fill_kernel_table_x86_64_v4(ln_kernel_table *table);

#endif
