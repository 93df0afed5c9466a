/* liblayernorm: layer normalization and RMSNorm for CPUs, behind a C ABI.
 *
 * Layer norm of a row x of `cols` elements (Ba, Kiros, Hinton 2016, arXiv:1607.06450):
 *
 *     mean = sum(x) / cols
 *     rstd = 1 / sqrt(sum((x - mean)^2) / cols + eps)
 *     y    = (x - mean) * rstd * weight + bias
 *
 * weight (gamma) and bias (beta) have `cols` elements and are shared by all rows.
 *
 * RMSNorm (Zhang, Sennrich 2019, arXiv:1910.07467) does not center:
 *
 *     rstd = 1 / sqrt(sum(x^2) / cols + eps)
 *     y    = x * rstd * weight
 *
 * Start with the everyday calls, layernorm_forward_f32() and its siblings: contiguous rows, one
 * dtype. layernorm_forward() and layernorm_backward() take an argument struct and do the rest: mixed
 * dtypes, strides, what is fused with the norm.
 *
 * What holds for every call:
 *  - It returns a status and never prints, aborts or traps. On any status but LAYERNORM_SUCCESS no
 *    output has been written, and layernorm_last_error() names the argument and what was wrong.
 *  - The bits of a row's result depend on that row, weight, bias and eps only: not on the
 *    instruction set, the number of threads, the other rows, the alignment or the optional outputs.
 *    (Which NaN a NaN is, its sign and payload, is not covered.)
 *  - float32, float16 and bfloat16 compute in float32, float64 in float64; sums and rstd are
 *    finished in twice that precision.
 *  - Calls may come from any number of threads at once.
 *  - An output with the shape of x may be one of the inputs of that shape itself, with the same
 *    strides and dtype (y == x, sum == x, dx == dy, dx == x); any other overlap of an output with an
 *    input or another output is refused.
 *  - A pointer needs the alignment of its element type and no more.
 *  - rows == 0 succeeds and writes nothing; with cols == 0, mean and rstd are NaN (0/0).
 *  - Finite input whose exact result is finite gives that result, also where the sums overflow or
 *    underflow in float32. A constant row gives exactly bias. NaN or infinity in a row gives what
 *    the formula gives in IEEE arithmetic, in that row only.
 *
 * Set up from the environment, read once at the first call; an empty variable counts as unset:
 *   LAYERNORM_ISA          x86-64, x86-64-v3 or x86-64-v4: use this instruction set and not the
 *                          best that the CPU has. A name that is unknown or that the CPU lacks makes
 *                          every computing call return LAYERNORM_ERROR_ISA.
 *   LAYERNORM_NUM_THREADS  the initial value of layernorm_set_num_threads(). Anything but a whole
 *                          number from 1 to 1024 makes every computing call return
 *                          LAYERNORM_ERROR_NUM_THREADS until that setter has been called.
 */
#ifndef LAYERNORM_H
#define LAYERNORM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Version ---------------------------------------------------------------------------------- */

#define LAYERNORM_VERSION_MAJOR 0
#define LAYERNORM_VERSION_MINOR 1
#define LAYERNORM_VERSION_PATCH 0
/* The version as one number: 10000 * major + 100 * minor + patch. */
#define LAYERNORM_VERSION                                                                          \
  (LAYERNORM_VERSION_MAJOR * 10000 + LAYERNORM_VERSION_MINOR * 100 + LAYERNORM_VERSION_PATCH)

/* LAYERNORM_VERSION of the library that is loaded. */
int32_t layernorm_version(void);

/* ---- Status ----------------------------------------------------------------------------------- */

/* The values are part of the ABI: one is added, none is ever changed. */
typedef enum layernorm_status {
  LAYERNORM_SUCCESS = 0,
  LAYERNORM_ERROR_NULL_POINTER = 1, /* a pointer is NULL where data is needed */
  LAYERNORM_ERROR_SIZE = 2,         /* a size is negative, or a product of sizes overflows */
  LAYERNORM_ERROR_EPS = 3,          /* eps is negative, NaN or infinite */
  LAYERNORM_ERROR_DTYPE = 4,        /* not a layernorm_dtype */
  LAYERNORM_ERROR_NORM = 5,         /* not a layernorm_norm, or an argument that it does not have */
  LAYERNORM_ERROR_FLAGS = 6,        /* an unknown flag is set */
  LAYERNORM_ERROR_STRUCT_SIZE = 7,  /* struct_size is not one that this library knows */
  LAYERNORM_ERROR_STRIDE = 8,       /* two elements of an output would share an address */
  LAYERNORM_ERROR_OVERLAP = 9,      /* an output overlaps an input or another output */
  LAYERNORM_ERROR_ALIGNMENT = 10,   /* a pointer is not a multiple of its element's size */
  LAYERNORM_ERROR_ISA = 11,         /* LAYERNORM_ISA is unknown, or the CPU lacks it */
  LAYERNORM_ERROR_NUM_THREADS = 12, /* a number of threads outside 1...1024 */
  LAYERNORM_ERROR_OUT_OF_MEMORY = 13,
  LAYERNORM_ERROR_CELL = 14 /* not a layernorm_cell, or an argument that it does not have */
} layernorm_status;

/* The name of a status, such as "LAYERNORM_ERROR_EPS". Never NULL; valid for ever. */
const char *layernorm_status_string(layernorm_status status);

/* What was wrong in the last call that failed on this thread: one sentence that begins with the
 * argument's name. Never NULL; empty before the first failure. Valid until the next call that
 * fails on this thread. */
const char *layernorm_last_error(void);

/* ---- Everyday calls --------------------------------------------------------------------------- */

/* Layer norm of each row of a contiguous x[rows][cols] into y[rows][cols].
 *
 *   rows, cols   0 or more
 *   weight       [cols], or NULL for ones
 *   bias         [cols], or NULL for zeros
 *   eps          0 or more, finite
 *   mean, rstd   [rows], each written unless it is NULL; float32 for float16, bfloat16 and float32,
 *                float64 for float64
 *
 * float16 (IEEE binary16) and bfloat16 are passed as their bits in uint16_t.
 *
 * @return LAYERNORM_SUCCESS, or NULL_POINTER, SIZE, EPS, OVERLAP, ALIGNMENT, ISA, NUM_THREADS */
layernorm_status layernorm_forward_f32(int64_t rows, int64_t cols, const float *x,
                                       const float *weight, const float *bias, float eps, float *y,
                                       float *mean, float *rstd);
layernorm_status layernorm_forward_f64(int64_t rows, int64_t cols, const double *x,
                                       const double *weight, const double *bias, double eps,
                                       double *y, double *mean, double *rstd);
layernorm_status layernorm_forward_f16(int64_t rows, int64_t cols, const uint16_t *x,
                                       const uint16_t *weight, const uint16_t *bias, float eps,
                                       uint16_t *y, float *mean, float *rstd);
layernorm_status layernorm_forward_bf16(int64_t rows, int64_t cols, const uint16_t *x,
                                        const uint16_t *weight, const uint16_t *bias, float eps,
                                        uint16_t *y, float *mean, float *rstd);

/* Backward of layer norm, for a contiguous dy[rows][cols] and the x of the forward call. Writes dx,
 * dweight and dbias by assignment, each unless it is NULL.
 *
 * With x^ = (x - mean) * rstd and g = dy * weight:
 *
 *     dx      = rstd * (g - sum(g) / cols - x^ * sum(g * x^) / cols)
 *     dweight = sum of dy * x^ over the rows,  dbias = sum of dy over the rows
 *
 *   weight       [cols], or NULL for ones
 *   mean, rstd   [rows], as the forward call gave them; or both NULL: computed again from x, with eps,
 *                which serves only then
 *   dx           [rows][cols]; may be dy or x
 *   dweight      [cols]
 *   dbias        [cols]
 *
 * The sums over rows are kept in twice the precision that rows are computed in and rounded once; of
 * 16-bit rows, some, at most 32, are added up in float32 before.
 * With rows == 0, dweight and dbias become zero.
 *
 * @return LAYERNORM_SUCCESS, or NULL_POINTER, SIZE, EPS, OVERLAP, ALIGNMENT, ISA, NUM_THREADS,
 *         OUT_OF_MEMORY */
layernorm_status layernorm_backward_f32(int64_t rows, int64_t cols, const float *dy, const float *x,
                                        const float *weight, const float *mean, const float *rstd,
                                        float eps, float *dx, float *dweight, float *dbias);
layernorm_status layernorm_backward_f64(int64_t rows, int64_t cols, const double *dy,
                                        const double *x, const double *weight, const double *mean,
                                        const double *rstd, double eps, double *dx, double *dweight,
                                        double *dbias);
layernorm_status layernorm_backward_f16(int64_t rows, int64_t cols, const uint16_t *dy,
                                        const uint16_t *x, const uint16_t *weight,
                                        const float *mean, const float *rstd, float eps,
                                        uint16_t *dx, uint16_t *dweight, uint16_t *dbias);
layernorm_status layernorm_backward_bf16(int64_t rows, int64_t cols, const uint16_t *dy,
                                         const uint16_t *x, const uint16_t *weight,
                                         const float *mean, const float *rstd, float eps,
                                         uint16_t *dx, uint16_t *dweight, uint16_t *dbias);

/* RMSNorm of each row of a contiguous x[rows][cols] into y[rows][cols]. Arguments and status as in
 * layernorm_forward_f32(). */
layernorm_status layernorm_rms_forward_f32(int64_t rows, int64_t cols, const float *x,
                                           const float *weight, float eps, float *y, float *rstd);
layernorm_status layernorm_rms_forward_f64(int64_t rows, int64_t cols, const double *x,
                                           const double *weight, double eps, double *y,
                                           double *rstd);
layernorm_status layernorm_rms_forward_f16(int64_t rows, int64_t cols, const uint16_t *x,
                                           const uint16_t *weight, float eps, uint16_t *y,
                                           float *rstd);
layernorm_status layernorm_rms_forward_bf16(int64_t rows, int64_t cols, const uint16_t *x,
                                            const uint16_t *weight, float eps, uint16_t *y,
                                            float *rstd);

/* Backward of RMSNorm. Writes dx and dweight by assignment, each unless it is NULL.
 *
 * With x^ = x * rstd and g = dy * weight: dx = rstd * (g - x^ * sum(g * x^) / cols) and dweight = sum
 * of dy * x^ over the rows. Arguments and status as in layernorm_backward_f32(). */
layernorm_status layernorm_rms_backward_f32(int64_t rows, int64_t cols, const float *dy,
                                            const float *x, const float *weight, const float *rstd,
                                            float eps, float *dx, float *dweight);
layernorm_status layernorm_rms_backward_f64(int64_t rows, int64_t cols, const double *dy,
                                            const double *x, const double *weight,
                                            const double *rstd, double eps, double *dx,
                                            double *dweight);
layernorm_status layernorm_rms_backward_f16(int64_t rows, int64_t cols, const uint16_t *dy,
                                            const uint16_t *x, const uint16_t *weight,
                                            const float *rstd, float eps, uint16_t *dx,
                                            uint16_t *dweight);
layernorm_status layernorm_rms_backward_bf16(int64_t rows, int64_t cols, const uint16_t *dy,
                                             const uint16_t *x, const uint16_t *weight,
                                             const float *rstd, float eps, uint16_t *dx,
                                             uint16_t *dweight);

/* Residual addition and norm in one call: sum = x + residual, rounded to the dtype, and y = the norm
 * of that rounded sum: the same bits as the two steps one after the other.
 *
 *   residual     [rows][cols]
 *   sum          [rows][cols], or NULL: not wanted; may be x or residual
 *
 * The other arguments and the status as in layernorm_forward_f32(). */
layernorm_status layernorm_add_forward_f32(int64_t rows, int64_t cols, const float *x,
                                           const float *residual, const float *weight,
                                           const float *bias, float eps, float *sum, float *y,
                                           float *mean, float *rstd);
layernorm_status layernorm_add_forward_f64(int64_t rows, int64_t cols, const double *x,
                                           const double *residual, const double *weight,
                                           const double *bias, double eps, double *sum, double *y,
                                           double *mean, double *rstd);
layernorm_status layernorm_add_forward_f16(int64_t rows, int64_t cols, const uint16_t *x,
                                           const uint16_t *residual, const uint16_t *weight,
                                           const uint16_t *bias, float eps, uint16_t *sum,
                                           uint16_t *y, float *mean, float *rstd);
layernorm_status layernorm_add_forward_bf16(int64_t rows, int64_t cols, const uint16_t *x,
                                            const uint16_t *residual, const uint16_t *weight,
                                            const uint16_t *bias, float eps, uint16_t *sum,
                                            uint16_t *y, float *mean, float *rstd);

/* As layernorm_add_forward_f32() and its siblings, with RMSNorm. */
layernorm_status layernorm_rms_add_forward_f32(int64_t rows, int64_t cols, const float *x,
                                               const float *residual, const float *weight,
                                               float eps, float *sum, float *y, float *rstd);
layernorm_status layernorm_rms_add_forward_f64(int64_t rows, int64_t cols, const double *x,
                                               const double *residual, const double *weight,
                                               double eps, double *sum, double *y, double *rstd);
layernorm_status layernorm_rms_add_forward_f16(int64_t rows, int64_t cols, const uint16_t *x,
                                               const uint16_t *residual, const uint16_t *weight,
                                               float eps, uint16_t *sum, uint16_t *y, float *rstd);
layernorm_status layernorm_rms_add_forward_bf16(int64_t rows, int64_t cols, const uint16_t *x,
                                                const uint16_t *residual, const uint16_t *weight,
                                                float eps, uint16_t *sum, uint16_t *y, float *rstd);

/* ---- General calls ---------------------------------------------------------------------------- */

typedef enum layernorm_dtype {
  LAYERNORM_DTYPE_DEFAULT = 0, /* x: float32; every other tensor: the dtype of x */
  LAYERNORM_F32 = 1,
  LAYERNORM_F64 = 2,
  LAYERNORM_F16 = 3, /* IEEE binary16 */
  LAYERNORM_BF16 = 4
} layernorm_dtype;

typedef enum layernorm_norm {
  LAYERNORM_NORM_LAYER = 0,
  LAYERNORM_NORM_RMS = 1, /* has no mean */
  /* AdaNorm (Xu et al. 2019, arXiv:1911.07013): y = C * (1 - k * x^) * x^ with the x^ of layer norm, C =
   * ada_scale and k = ada_slope. Backward takes the factor C * (1 - k * x^) for a constant: g = dy * C *
   * (1 - k * x^) in the formula of dx. Has no weight and no bias. */
  LAYERNORM_NORM_ADA = 2
} layernorm_norm;

/* Bits of `flags`. */
#define LAYERNORM_FLAG_WEIGHT_OFFSET 1u     /* 1 + weight takes the place of weight, as in Gemma */
#define LAYERNORM_FLAG_ACCUMULATE_DX 2u     /* backward adds to dx and does not assign it */
#define LAYERNORM_FLAG_ACCUMULATE_PARAMS 4u /* backward adds to dweight and dbias */
/* DetachNorm (Xu et al. 2019, arXiv:1911.07013): backward takes mean, or rstd, or with both bits both,
 * for constants. Without the term of what is detached,
 *
 *     dx = rstd * (g - sum(g) / cols - x^ * sum(g * x^) / cols)
 *
 * becomes the gradient; with both, dx = rstd * g. dweight and dbias are the same. RMSNorm has no mean to
 * detach. */
#define LAYERNORM_FLAG_DETACH_MEAN 8u  /* leaves out sum(g) / cols */
#define LAYERNORM_FLAG_DETACH_RSTD 16u /* leaves out x^ * sum(g * x^) / cols */

/* Arguments of layernorm_forward(). Begin with LAYERNORM_FORWARD_ARGS_INIT; a field that is zero
 * has its default.
 *
 * x, residual, sum and y have the shape [batch][rows][cols]; each row of cols elements is normalized.
 * Their strides, in elements, are {batch, row, col} in an array of three, or NULL for contiguous. A
 * stride may be negative; a stride of an input may be 0. For example, normalization over the channels
 * of a contiguous [N][C][H*W] tensor is batch = N, rows = H*W, cols = C, strides {C*H*W, 1, H*W}.
 *
 * With residual or x_bias, sum = (x + x_bias) + residual, rounded to x_dtype, is what is normalized.
 *
 * The computation is in float64 if x_dtype is float64, else in float32, whatever the other
 * dtypes; a wider weight or bias is rounded first, and so are eps, ada_scale and ada_slope.
 *
 * ada_scale and ada_slope came later: a struct_size that ends before them has the defaults of
 * LAYERNORM_FORWARD_ARGS_INIT, C = 1 and k = 0.1. */
typedef struct layernorm_forward_args {
  size_t struct_size;              /* sizeof(layernorm_forward_args) */
  double eps;                      /* 0 or more, finite */
  uint64_t flags;                  /* LAYERNORM_FLAG_WEIGHT_OFFSET or 0 */
  layernorm_norm norm;             /* LAYERNORM_NORM_ */
  layernorm_dtype x_dtype;         /* dtype of x, x_bias, residual and sum */
  layernorm_dtype y_dtype;         /* dtype of y */
  layernorm_dtype param_dtype;     /* dtype of weight and bias */
  int64_t batch;                   /* 0 means 1 */
  int64_t rows;                    /* rows in each batch entry */
  int64_t cols;                    /* the normalized size */
  const void *x;                   /* [batch][rows][cols] */
  const int64_t *x_strides;        /* 3 strides, or NULL: contiguous */
  const void *weight;              /* [cols], contiguous, or NULL: ones */
  const void *bias;                /* [cols], contiguous, or NULL: zeros */
  void *y;                         /* [batch][rows][cols] */
  const int64_t *y_strides;        /* 3 strides, or NULL: contiguous */
  void *mean;                      /* [batch][rows] or NULL: not wanted; float64 if x is, else
                                      float32; NULL for LAYERNORM_NORM_RMS */
  void *rstd;                      /* as mean, for either norm */
  const void *residual;            /* [batch][rows][cols], or NULL: nothing is added */
  const int64_t *residual_strides; /* 3 strides, or NULL: contiguous */
  const void *x_bias;              /* [cols], contiguous: the bias of the layer before; or NULL */
  void *sum;                       /* [batch][rows][cols], or NULL: not wanted */
  const int64_t *sum_strides;      /* 3 strides, or NULL: contiguous */
  double ada_scale;                /* C of LAYERNORM_NORM_ADA: finite, not 0 */
  double ada_slope;                /* k of LAYERNORM_NORM_ADA: finite */
} layernorm_forward_args;

#define LAYERNORM_FORWARD_ARGS_INIT                                                                \
  {                                                                                                \
    sizeof(layernorm_forward_args), 1e-5, 0, LAYERNORM_NORM_LAYER, LAYERNORM_DTYPE_DEFAULT,        \
        LAYERNORM_DTYPE_DEFAULT, LAYERNORM_DTYPE_DEFAULT, 0, 0, 0, NULL, NULL, NULL, NULL, NULL,   \
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1.0, 0.1                                   \
  }

/* The norm described by `args`.
 *
 * Element-contiguous rows of one dtype run at the speed of the everyday calls, whatever the batch
 * and row strides; rows that lie side by side, as in channels-first tensors, several at a time.
 * Other strides and dtypes are gathered row by row through a buffer.
 *
 * @return LAYERNORM_SUCCESS or any LAYERNORM_ERROR_ */
layernorm_status layernorm_forward(const layernorm_forward_args *args);

/* Arguments of layernorm_backward(). Begin with LAYERNORM_BACKWARD_ARGS_INIT; a field that is zero has
 * its default. Shapes, strides and dtypes as in layernorm_forward_args.
 *
 * dx, dweight and dbias are assigned, or added to where `flags` says so. Each may be NULL.
 *
 * x is what was normalized: where the forward call had a residual, its sum. The gradient that arrives
 * at that sum from elsewhere, dsum, is added to dx, which is then the gradient of x and of residual. */
typedef struct layernorm_backward_args {
  size_t struct_size;          /* sizeof(layernorm_backward_args) */
  double eps;                  /* serves where rstd is NULL; 0 or more, finite */
  uint64_t flags;              /* LAYERNORM_FLAG_ bits */
  layernorm_norm norm;         /* LAYERNORM_NORM_ */
  layernorm_dtype x_dtype;     /* dtype of x */
  layernorm_dtype dy_dtype;    /* dtype of dy, dsum and dx */
  layernorm_dtype param_dtype; /* dtype of weight, dweight and dbias */
  int64_t batch;               /* 0 means 1 */
  int64_t rows;                /* rows in each batch entry */
  int64_t cols;                /* the normalized size */
  const void *dy;              /* [batch][rows][cols] */
  const int64_t *dy_strides;   /* 3 strides, or NULL: contiguous */
  const void *x;               /* [batch][rows][cols] */
  const int64_t *x_strides;    /* 3 strides, or NULL: contiguous */
  const void *weight;          /* [cols], contiguous, or NULL: ones */
  const void *mean;            /* [batch][rows], with rstd; or NULL, with rstd: computed again. NULL
                                  for LAYERNORM_NORM_RMS */
  const void *rstd;            /* [batch][rows]; float64 if x is, else float32; or NULL */
  const void *dsum;            /* [batch][rows][cols], or NULL: zeros */
  const int64_t *dsum_strides; /* 3 strides, or NULL: contiguous */
  void *dx;                    /* [batch][rows][cols], or NULL: not wanted */
  const int64_t *dx_strides;   /* 3 strides, or NULL: contiguous */
  void *dweight;               /* [cols], contiguous, or NULL: not wanted */
  void *dbias;                 /* [cols], contiguous, or NULL: not wanted */
  double ada_scale;            /* as in layernorm_forward_args */
  double ada_slope;            /* as in layernorm_forward_args */
} layernorm_backward_args;

#define LAYERNORM_BACKWARD_ARGS_INIT                                                               \
  {                                                                                                \
    sizeof(layernorm_backward_args), 1e-5, 0, LAYERNORM_NORM_LAYER, LAYERNORM_DTYPE_DEFAULT,       \
        LAYERNORM_DTYPE_DEFAULT, LAYERNORM_DTYPE_DEFAULT, 0, 0, 0, NULL, NULL, NULL, NULL, NULL,   \
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1.0, 0.1                                   \
  }

/* The gradients described by `args`; formulas as at layernorm_backward_f32() and
 * layernorm_rms_backward_f32().
 *
 * @return LAYERNORM_SUCCESS or any LAYERNORM_ERROR_ */
layernorm_status layernorm_backward(const layernorm_backward_args *args);

/* ---- Recurrent cells -------------------------------------------------------------------------- */

/* Layer-normalized recurrent cells (Ba, Kiros, Hinton 2016, arXiv:1607.06450, section 3.1 and the
 * supplementary equations). A call takes one time step of a batch from the products with the weight
 * matrices on; those are the caller's: x_gates = W_x x and h_gates = W_h h_prev. With LN a layer norm
 * over a row, with the weight and bias that its index names, s the logistic function and * by element:
 *
 *     RNN    h = f(LN_x(x_gates + h_gates)), f = tanh or max(0, .); the sum is rounded to the dtype
 *
 *     LSTM   (f, i, o, g) = LN_x(x_gates) + LN_h(h_gates)
 *            c = s(f) * c_prev + s(i) * tanh(g)
 *            h = s(o) * tanh(LN_c(c))
 *
 *     GRU    (z, r) = LN_x(x_gates[z, r]) + LN_h(h_gates[z, r])
 *            n = tanh(LN_x(x_gates[n]) + s(r) * LN_h(h_gates[n]))
 *            h = (1 - s(z)) * h_prev + s(z) * n
 *
 * The gates of a row lie one after the other, `hidden` elements each, in the order f, i, o, g or
 * z, r, n. A norm spans all gates of a product together (GRU: z and r together, n alone); with
 * LAYERNORM_FLAG_PER_GATE each gate by itself. */
typedef enum layernorm_cell {
  LAYERNORM_CELL_RNN_TANH = 0, /* 1 gate */
  LAYERNORM_CELL_RNN_RELU = 1, /* 1 gate */
  LAYERNORM_CELL_LSTM = 2,     /* 4 gates */
  LAYERNORM_CELL_GRU = 3       /* 3 gates */
} layernorm_cell;

/* Bit of `flags` of the cells (next to LAYERNORM_FLAG_ACCUMULATE_PARAMS). */
#define LAYERNORM_FLAG_PER_GATE 32u /* each gate is normalized by itself */

/* Arguments of layernorm_cell_forward(). Begin with LAYERNORM_CELL_FORWARD_ARGS_INIT. All tensors are
 * contiguous and of one dtype. `norms` is how many norms a row goes through: RNN 1; LSTM 3 (x, h, c), by
 * gate 9 (4 of x, 4 of h, c); GRU 4 (x: z and r, n; h: the same), by gate 6. */
typedef struct layernorm_cell_forward_args {
  size_t struct_size;    /* sizeof(layernorm_cell_forward_args) */
  double eps;            /* 0 or more, finite; of every norm */
  uint64_t flags;        /* LAYERNORM_FLAG_PER_GATE or 0 */
  layernorm_cell cell;   /* LAYERNORM_CELL_ */
  layernorm_dtype dtype; /* LAYERNORM_F32 (the default) or LAYERNORM_F64 */
  int64_t rows;          /* the batch size */
  int64_t hidden;        /* the hidden size */
  const void *x_gates;   /* [rows][gates * hidden] */
  const void *h_gates;   /* [rows][gates * hidden]; RNN: may be NULL, where x_gates is the sum */
  const void *h_prev;    /* [rows][hidden], or NULL: zeros; read by the GRU, and with a mask */
  const void *c_prev;    /* [rows][hidden], or NULL: zeros; LSTM only */
  const uint8_t *mask;   /* [rows], or NULL: ones. Where 0, h = h_prev and c = c_prev */
  const void *x_weight;  /* [gates * hidden], or NULL: ones */
  const void *x_bias;    /* [gates * hidden], or NULL: zeros */
  const void *h_weight;  /* [gates * hidden], or NULL: ones; NULL for the RNN */
  const void *h_bias; /* [gates * hidden], or NULL: zeros; NULL for the RNN. (The paper's third bias
                            b of the LSTM is part of x_bias or h_bias: their sum is what counts.) */
  const void *c_weight; /* [hidden], or NULL: ones; LSTM only */
  const void *c_bias;   /* [hidden], or NULL: zeros; LSTM only */
  void *h;              /* [rows][hidden]; may be h_prev */
  void *c;              /* [rows][hidden]; may be c_prev; LSTM only */
  void *gates;          /* [rows][gates * hidden]: the gates after s or tanh, for backward; or NULL.
                            The RNN's are h */
  void *mean;           /* [rows][norms], for backward; or NULL */
  void *rstd;           /* [rows][norms], for backward; or NULL */
} layernorm_cell_forward_args;

#define LAYERNORM_CELL_FORWARD_ARGS_INIT                                                           \
  {                                                                                                \
    sizeof(layernorm_cell_forward_args), 1e-5, 0, LAYERNORM_CELL_RNN_TANH, LAYERNORM_F32, 0, 0,    \
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,  \
        NULL                                                                                       \
  }

/* One step of a cell. In a row where mask is 0, gates, mean and rstd are set to 0.
 *
 * @return LAYERNORM_SUCCESS or any LAYERNORM_ERROR_; CELL for an unknown cell or an argument that it does
 *         not have */
layernorm_status layernorm_cell_forward(const layernorm_cell_forward_args *args);

/* Arguments of layernorm_cell_backward(). Begin with LAYERNORM_CELL_BACKWARD_ARGS_INIT. The inputs up to
 * c_weight are those of the forward call; gates, mean, rstd (and c) are what it gave.
 *
 * dx_gates and dh_gates, times the weight matrices, are the gradients of x and h_prev (the caller's
 * products); dh_prev is what reaches h_prev beside h_gates. */
typedef struct layernorm_cell_backward_args {
  size_t struct_size;    /* sizeof(layernorm_cell_backward_args) */
  double eps;            /* as in forward */
  uint64_t flags;        /* LAYERNORM_FLAG_PER_GATE, LAYERNORM_FLAG_ACCUMULATE_PARAMS */
  layernorm_cell cell;   /* LAYERNORM_CELL_ */
  layernorm_dtype dtype; /* LAYERNORM_F32 or LAYERNORM_F64 */
  int64_t rows;          /* the batch size */
  int64_t hidden;        /* the hidden size */
  const void *x_gates;   /* [rows][gates * hidden] */
  const void *h_gates;   /* [rows][gates * hidden]; RNN: as in forward */
  const void *h_prev;    /* [rows][hidden], or NULL: zeros; read by the GRU */
  const void *c_prev;    /* [rows][hidden], or NULL: zeros; LSTM only */
  const uint8_t *mask;   /* [rows], or NULL: ones */
  const void *x_weight;  /* [gates * hidden], or NULL: ones */
  const void *x_bias;    /* not read */
  const void *h_weight;  /* [gates * hidden], or NULL: ones; NULL for the RNN */
  const void *h_bias;    /* [gates * hidden], or NULL: zeros; read by the GRU; NULL for the RNN */
  const void *c_weight;  /* [hidden], or NULL: ones; LSTM only */
  const void *c_bias;    /* [hidden], or NULL: zeros; LSTM only */
  const void *c;         /* [rows][hidden]; LSTM only */
  const void *gates;     /* [rows][gates * hidden]; RNN: h, [rows][hidden] */
  const void *mean;      /* [rows][norms] */
  const void *rstd;      /* [rows][norms] */
  const void *dh;        /* [rows][hidden]: the gradient that arrives at h */
  const void
      *dc; /* [rows][hidden], or NULL: zeros; LSTM only: what arrives at c from the next step */
  void *dx_gates;  /* [rows][gates * hidden]; RNN: of h_gates too */
  void *dh_gates;  /* [rows][gates * hidden]; NULL for the RNN */
  void *dh_prev;   /* [rows][hidden], or NULL; may be dh; zeros but for the GRU and masked rows */
  void *dc_prev;   /* [rows][hidden], or NULL; may be dc; LSTM only */
  void *dx_weight; /* [gates * hidden] each, or NULL; summed over the rows */
  void *dx_bias;
  void *dh_weight; /* NULL for the RNN */
  void *dh_bias;
  void *dc_weight; /* [hidden]; LSTM only */
  void *dc_bias;
} layernorm_cell_backward_args;

#define LAYERNORM_CELL_BACKWARD_ARGS_INIT                                                          \
  {                                                                                                \
    sizeof(layernorm_cell_backward_args), 1e-5, 0, LAYERNORM_CELL_RNN_TANH, LAYERNORM_F32, 0, 0,   \
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,  \
        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL                     \
  }

/* The gradients of one step. A masked row gives zeros in dx_gates and dh_gates, passes dh and dc on, and
 * adds nothing to the parameters' gradients.
 *
 * @return LAYERNORM_SUCCESS or any LAYERNORM_ERROR_ */
layernorm_status layernorm_cell_backward(const layernorm_cell_backward_args *args);

/* ---- Instruction set and threads -------------------------------------------------------------- */

/* The instruction set in use: "x86-64", "x86-64-v3" or "x86-64-v4"; "portable" on other machines.
 * NULL if LAYERNORM_ISA is unknown or the CPU lacks it; then layernorm_last_error() says so. */
const char *layernorm_isa(void);

/* How many threads one call may use, the caller's included. */
int32_t layernorm_get_num_threads(void);

/* Sets how many threads one call may use, for the whole process: 1 to 1024, or 0 for the default,
 * one for each CPU that the process may run on. Small work runs on the caller's thread alone.
 *
 * @return LAYERNORM_SUCCESS or LAYERNORM_ERROR_NUM_THREADS */
layernorm_status layernorm_set_num_threads(int32_t num_threads);

/* Part `index` of the work of one call. */
typedef void (*layernorm_task)(void *task_context, int64_t index);

/* Runs task(task_context, i) once for each i in 0 ..< count, in any order and on any threads, and
 * returns when all of them have returned. */
typedef void (*layernorm_parallel_for)(void *context, int64_t count, layernorm_task task,
                                       void *task_context);

/* Hands the work of calls that are worth more than one thread to `parallel_for`, with `context` as
 * its first argument, instead of to the library's own threads: so the host's pool is used.
 * NULL for parallel_for goes back to the library's own. layernorm_get_num_threads() stays the bound
 * on `count`. Takes effect for calls that begin after it has returned.
 *
 * @return LAYERNORM_SUCCESS */
layernorm_status layernorm_set_parallel_for(layernorm_parallel_for parallel_for, void *context);

/* As layernorm_set_parallel_for(), but for calls from the calling thread alone, and ahead of it: for a
 * host that learns of its pool call by call. NULL takes it back, after which `context` may go.
 *
 * @return LAYERNORM_SUCCESS */
layernorm_status layernorm_set_thread_parallel_for(layernorm_parallel_for parallel_for,
                                                   void *context);

#ifdef __cplusplus
}
#endif

#endif /* LAYERNORM_H */
