/* The border between the library and its kernels: the kernels of one instruction set, as C function
 * pointers, so that no Swift generic crosses it. */
#ifndef LAYERNORM_SHIMS_KERNEL_TABLE_H
#define LAYERNORM_SHIMS_KERNEL_TABLE_H

#include <stdint.h>

/* Rows to normalize. Elements of a row are contiguous; strides are in elements of their tensor. */
typedef struct ln_forward_work {
  int64_t cols;
  double eps;
  const void *x;
  const void *weight; /* NULL: ones */
  const void *bias;   /* NULL: zeros */
  void *y;
  void *mean; /* NULL: not wanted */
  void *rstd; /* NULL: not wanted */
  int64_t rows_per_batch;
  int64_t x_row_stride, x_batch_stride;
  int64_t y_row_stride, y_batch_stride;
} ln_forward_work;

/* Normalizes the rows begin ..< end of all batches' rows. */
typedef void (*ln_forward_kernel)(const ln_forward_work *work, int64_t begin, int64_t end);

/* Copies `count` elements with conversion between an element type and a compute type. */
typedef void (*ln_convert_kernel)(int64_t count, const void *source, int64_t source_stride,
                                  void *destination, int64_t destination_stride);

typedef struct ln_convert_kernels {
  ln_convert_kernel from_f32, from_f64, from_f16, from_bf16;
  ln_convert_kernel to_f32, to_f64, to_f16, to_bf16;
} ln_convert_kernels;

typedef struct ln_kernel_table {
  /* x, y, weight and bias of the one dtype; those of 16-bit types may be NULL */
  ln_forward_kernel forward_f32, forward_f64, forward_f16, forward_bf16;
  /* x and y as named, weight and bias in float32 */
  ln_forward_kernel forward_f16_params_f32, forward_bf16_params_f32;
  ln_convert_kernels convert_f32; /* between each dtype and float32 */
  ln_convert_kernels convert_f64; /* between each dtype and float64 */
} ln_kernel_table;

void ln_fill_kernel_table_x86_64(ln_kernel_table *table);
void ln_fill_kernel_table_x86_64_v3(ln_kernel_table *table);
void ln_fill_kernel_table_x86_64_v4(ln_kernel_table *table);

#endif
