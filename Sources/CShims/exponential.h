/* Vector operations that exp, the logistic function and tanh are made of. */
#ifndef LAYERNORM_SHIMS_EXPONENTIAL_H
#define LAYERNORM_SHIMS_EXPONENTIAL_H

#include "vectors.h"

LN_INLINE ln_float16 ln_divide16(ln_float16 a, ln_float16 b) { return a / b; }
LN_INLINE ln_float16 ln_magnitude16(ln_float16 v) { return __builtin_elementwise_abs(v); }

/* The larger; v where it is NaN. */
LN_INLINE ln_float16 ln_at_least16(ln_float16 v, ln_float16 least) { return v < least ? least : v; }
LN_INLINE ln_double8 ln_at_least8(ln_double8 v, ln_double8 least) { return v < least ? least : v; }

/* a where x is negative, else b. */
LN_INLINE ln_float16 ln_if_negative16(ln_float16 x, ln_float16 a, ln_float16 b) {
  return x < 0 ? a : b;
}
LN_INLINE ln_double8 ln_if_negative8(ln_double8 x, ln_double8 a, ln_double8 b) {
  return x < 0 ? a : b;
}

/* A magnitude with the sign of x. */
LN_INLINE ln_float16 ln_with_sign16(ln_float16 magnitude, ln_float16 x) {
  return (ln_float16)((ln_uint16)magnitude | ((ln_uint16)x & 0x80000000u));
}
LN_INLINE ln_double8 ln_with_sign8(ln_double8 magnitude, ln_double8 x) {
  return (ln_double8)((ln_long8)magnitude | ((ln_long8)x & INT64_MIN));
}

/* 2^(n + 64) of an integer n that the last digits of shifted = n + 1.5 * 2^23, or 2^52, hold. */
LN_INLINE ln_float16 ln_power_of_two16(ln_float16 shifted) {
  return (ln_float16)(((ln_uint16)shifted << 23) + ((127u + 64u) << 23));
}
LN_INLINE ln_double8 ln_power_of_two8(ln_double8 shifted) {
  return (ln_double8)(((ln_long8)shifted << 52) + ((int64_t)(1023 + 64) << 52));
}

/* The `count` elements at p in the last lanes, zero in the others. With AVX-512 without a call, around which
 * the caller would have to save its vectors. */
LN_INLINE ln_float16 ln_load_short16(const float *p, int64_t count) {
#if defined(__AVX512F__)
  return (ln_float16)_mm512_maskz_expandloadu_ps((__mmask16)(0xffffu << (16 - count)), p);
#else
  ln_float16 lanes = 0;
  memcpy((float *)&lanes + (16 - count), p, (size_t)count * sizeof *p);
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
