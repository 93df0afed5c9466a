/* Vector operations that exp, the logistic function and tanh are made of. */
#ifndef LAYERNORM_SHIMS_EXPONENTIAL_H
#define LAYERNORM_SHIMS_EXPONENTIAL_H

#include "vectors.h"

LN_INLINE ln_float8 ln_divide_float8(ln_float8 a, ln_float8 b) { return a / b; }

/* The larger; v where it is NaN. */
LN_INLINE ln_double8 ln_at_least8(ln_double8 v, ln_double8 least) { return v < least ? least : v; }

/* The smaller; v where it is NaN. */
LN_INLINE ln_double8 ln_at_most8(ln_double8 v, ln_double8 most) { return v > most ? most : v; }

LN_INLINE ln_double8 ln_negate8(ln_double8 v) { return -v; }
LN_INLINE ln_double8 ln_negative_magnitude8(ln_double8 v) {
  return (ln_double8)((ln_long8)v | INT64_MIN);
}

/* A magnitude with the sign of x. */
LN_INLINE ln_double8 ln_with_sign8(ln_double8 magnitude, ln_double8 x) {
  return (ln_double8)((ln_long8)magnitude | ((ln_long8)x & INT64_MIN));
}

/* 2^(n + 64) of an integer n that the last digits of shifted = n + 1.5 * 2^52 hold. */
LN_INLINE ln_double8 ln_power_of_two8(ln_double8 shifted) {
  return (ln_double8)(((ln_long8)shifted << 52) + ((int64_t)(1023 + 64) << 52));
}

/* The `count` elements at p in the last lanes, zero in the others. With AVX-512 without a call, around which
 * the caller would have to save its vectors. */
LN_INLINE ln_float8 ln_load_short_float8(const float *p, int64_t count) {
#if defined(__AVX512F__)
  return (ln_float8)_mm256_maskz_expandloadu_ps((__mmask8)(0xffu << (8 - count)), p);
#else
  ln_float8 lanes = 0;
  memcpy((float *)&lanes + (8 - count), p, (size_t)count * sizeof *p);
  return lanes;
#endif
}
LN_INLINE ln_double8 ln_load_short8(const double *p, int64_t count) {
#if defined(__AVX512F__)
  return (ln_double8)_mm512_maskz_expandloadu_pd((__mmask8)(0xffu << (8 - count)), p);
#else
  ln_double8 lanes = 0;
  memcpy((double *)&lanes + (8 - count), p, (size_t)count * sizeof *p);
  return lanes;
#endif
}

#endif
