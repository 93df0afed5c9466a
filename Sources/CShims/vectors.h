/* Vector operations that Swift's SIMD types lack, or that it does not compile to one instruction.
 * Each has a portable form with the same bits; a clang ext_vector_type(n) is Swift's SIMDn. */
#ifndef LAYERNORM_SHIMS_VECTORS_H
#define LAYERNORM_SHIMS_VECTORS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Everything here is inlined, so that how vectors are passed does not matter. */
#pragma clang diagnostic ignored "-Wpsabi"

#define LN_INLINE static inline __attribute__((always_inline, unused))

typedef float ln_float8 __attribute__((ext_vector_type(8)));
typedef float ln_float16 __attribute__((ext_vector_type(16)));
typedef double ln_double4 __attribute__((ext_vector_type(4)));
typedef double ln_double8 __attribute__((ext_vector_type(8)));
typedef double ln_double16 __attribute__((ext_vector_type(16)));
typedef uint16_t ln_ushort16 __attribute__((ext_vector_type(16)));
typedef uint32_t ln_uint16 __attribute__((ext_vector_type(16)));
typedef int32_t ln_int16 __attribute__((ext_vector_type(16)));
typedef int64_t ln_long8 __attribute__((ext_vector_type(8)));

/* How many vectors of 64 bytes the registers hold. */
#if defined(__AVX512F__)
#define LN_VECTORS_IN_REGISTERS 32
#elif defined(__AVX__) || defined(__aarch64__)
#define LN_VECTORS_IN_REGISTERS 8
#else
#define LN_VECTORS_IN_REGISTERS 4
#endif

/* The same address, of which a compiler does not know where it comes from: it would keep every sum of it and
 * something else for the whole of a loop, in more registers than there are. */
LN_INLINE void *ln_opaque(const void *p) {
  __asm__("" : "+r"(p));
  return (void *)p;
}

/* The same of an index: a compiler would have a pointer of each array go on by itself. */
LN_INLINE int64_t ln_opaque_index(int64_t index) {
  __asm__("" : "+r"(index));
  return index;
}

/* Has a function align what it keeps on the stack. A compiler that finds out late that registers do not hold its
 * vectors puts them anywhere there, in two cache lines, or for some depths of the stack in two pages. */
LN_INLINE void ln_align_stack(void) {
  _Alignas(64) char aligned;
  __asm__("" : : "r"(&aligned));
}

LN_INLINE ln_double8 ln_widen8(ln_float8 v) { return __builtin_convertvector(v, ln_double8); }
LN_INLINE ln_double16 ln_widen16(ln_float16 v) { return __builtin_convertvector(v, ln_double16); }
LN_INLINE ln_float8 ln_narrow8(ln_double8 v) { return __builtin_convertvector(v, ln_float8); }
LN_INLINE ln_double8 ln_widen_low16(ln_float16 v) {
  return __builtin_convertvector(v.lo, ln_double8);
}
LN_INLINE ln_double8 ln_widen_high16(ln_float16 v) {
  return __builtin_convertvector(v.hi, ln_double8);
}
LN_INLINE ln_float16 ln_narrow16(ln_double16 v) { return __builtin_convertvector(v, ln_float16); }

/* Stores that go past the caches; the address is a multiple of the vector's size. They are ordered
 * before what follows by ln_stream_fence. */
LN_INLINE void ln_stream_float16(void *p, ln_float16 v) {
  __builtin_nontemporal_store(v, (ln_float16 *)p);
}
LN_INLINE void ln_stream_double8(void *p, ln_double8 v) {
  __builtin_nontemporal_store(v, (ln_double8 *)p);
}
LN_INLINE void ln_stream_ushort16(void *p, ln_ushort16 v) {
  __builtin_nontemporal_store(v, (ln_ushort16 *)p);
}
LN_INLINE void ln_stream_halves16(void *p, ln_float16 v) {
  __builtin_nontemporal_store(v.lo, (ln_float8 *)p);
  __builtin_nontemporal_store(v.hi, (ln_float8 *)p + 1);
}
LN_INLINE void ln_stream_fence(void) {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

/* Into the second-level cache, to be read, and to be written; the address need not be valid. */
LN_INLINE void ln_prefetch(const void *p) { __builtin_prefetch(p, 0, 2); }
/* Into the first-level cache. */
LN_INLINE void ln_prefetch_near(const void *p) { __builtin_prefetch(p, 0, 3); }
LN_INLINE void ln_prefetch_write(void *p) {
#if defined(__x86_64__)
  /* Part of no level, so that a compiler would not use it; a CPU without it does nothing. */
  __asm__ volatile("prefetchw %0" : : "m"(*(char *)p));
#else
  __builtin_prefetch(p, 1, 2);
#endif
}

/* a0 b0 a1 b1 ... of the lower or upper halves. */
LN_INLINE ln_float16 ln_interleave_low16(ln_float16 a, ln_float16 b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
LN_INLINE ln_float16 ln_interleave_high16(ln_float16 a, ln_float16 b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                 31);
}
LN_INLINE ln_double8 ln_interleave_low8(ln_double8 a, ln_double8 b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
LN_INLINE ln_double8 ln_interleave_high8(ln_double8 a, ln_double8 b) {
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}

/* The even and the odd lanes of both. */
LN_INLINE ln_float16 ln_even16(ln_float16 a, ln_float16 b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}
LN_INLINE ln_float16 ln_odd16(ln_float16 a, ln_float16 b) {
  return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

LN_INLINE ln_double8 ln_even8(ln_double8 a, ln_double8 b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
}
LN_INLINE ln_double8 ln_odd8(ln_double8 a, ln_double8 b) {
  return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
}

LN_INLINE ln_float16 ln_negated16(ln_float16 v) { return -v; }
LN_INLINE ln_double8 ln_negated8(ln_double8 v) { return -v; }
LN_INLINE ln_double8 ln_sqrt8(ln_double8 v) { return __builtin_elementwise_sqrt(v); }
LN_INLINE ln_double8 ln_magnitude8(ln_double8 v) { return __builtin_elementwise_abs(v); }
/* The same vector. What a compiler knows of its parts, it forgets: those of a register that are used apart would
 * otherwise be computed apart, all the way from memory. */
LN_INLINE ln_double8 ln_whole8(ln_double8 v) {
#if defined(__AVX512F__)
  __asm__("" : "+v"(v));
#elif defined(__AVX__)
  __m256d low = (__m256d)v.lo, high = (__m256d)v.hi;
  __asm__("" : "+x"(low), "+x"(high));
  v.lo = (ln_double4)low, v.hi = (ln_double4)high;
#endif
  return v;
}
LN_INLINE ln_float16 ln_whole16(ln_float16 v) { return (ln_float16)ln_whole8((ln_double8)v); }
LN_INLINE ln_double8 ln_divide8(ln_double8 a, ln_double8 b) { return a / b; }

/* Masks: -1 in the lanes that are chosen. */
LN_INLINE ln_long8 ln_less8(ln_double8 a, ln_double8 b) { return a < b; }
LN_INLINE ln_double8 ln_select8(ln_long8 mask, ln_double8 a, ln_double8 b) { return mask ? a : b; }
/* Lane i for bit i. */
LN_INLINE ln_long8 ln_mask8(uint32_t bits) {
  const ln_long8 each = {1, 2, 4, 8, 16, 32, 64, 128};
  return ((int64_t)bits & each) != 0;
}
/* Bit i for lane i. */
LN_INLINE uint32_t ln_bits8(ln_long8 mask) {
#if defined(__AVX512DQ__)
  return _mm512_movepi64_mask((__m512i)mask);
#else
  const ln_long8 bits = {1, 2, 4, 8, 16, 32, 64, 128};
  return (uint32_t)__builtin_reduce_or(mask & bits);
#endif
}

/* How many lanes of a and of b have a magnitude that is not below the bound. */
LN_INLINE int32_t ln_lanes_at_least16(ln_float16 bound, ln_float16 a, ln_float16 b) {
  ln_int16 of_a = __builtin_elementwise_abs(a) >= bound;
  ln_int16 of_b = __builtin_elementwise_abs(b) >= bound;
#if defined(__AVX512DQ__)
  return __builtin_popcount(_mm512_movepi32_mask((__m512i)of_a) |
                            (uint32_t)_mm512_movepi32_mask((__m512i)of_b) << 16);
#elif defined(__AVX2__)
  return __builtin_popcount((unsigned)_mm256_movemask_ps((__m256)of_a.lo) |
                            (unsigned)_mm256_movemask_ps((__m256)of_a.hi) << 8 |
                            (unsigned)_mm256_movemask_ps((__m256)of_b.lo) << 16 |
                            (unsigned)_mm256_movemask_ps((__m256)of_b.hi) << 24);
#else
  return -__builtin_reduce_add(of_a + of_b);
#endif
}
LN_INLINE int32_t ln_lanes_at_least8(ln_double8 bound, ln_double8 a, ln_double8 b) {
  ln_long8 of_a = __builtin_elementwise_abs(a) >= bound;
  ln_long8 of_b = __builtin_elementwise_abs(b) >= bound;
#if defined(__AVX512DQ__)
  return __builtin_popcount(_mm512_movepi64_mask((__m512i)of_a) |
                            (uint32_t)_mm512_movepi64_mask((__m512i)of_b) << 8);
#elif defined(__AVX2__)
  return __builtin_popcount((unsigned)_mm256_movemask_pd((__m256d)of_a.lo) |
                            (unsigned)_mm256_movemask_pd((__m256d)of_a.hi) << 4 |
                            (unsigned)_mm256_movemask_pd((__m256d)of_b.lo) << 8 |
                            (unsigned)_mm256_movemask_pd((__m256d)of_b.hi) << 12);
#else
  return (int32_t)-__builtin_reduce_add(of_a + of_b);
#endif
}

/* The two operands of an addition that halves the number of lanes that belong to one row: of groups of
 * 8, 4 and 2 lanes in a and in b. */
LN_INLINE ln_double8 ln_eights_low8(ln_double8 a, ln_double8 b) {
  return __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
}
LN_INLINE ln_double8 ln_eights_high8(ln_double8 a, ln_double8 b) {
  return __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
}
LN_INLINE ln_double8 ln_fours_low8(ln_double8 a, ln_double8 b) {
  return __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13);
}
LN_INLINE ln_double8 ln_fours_high8(ln_double8 a, ln_double8 b) {
  return __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
}
LN_INLINE ln_double8 ln_twos_low8(ln_double8 a, ln_double8 b) {
  return __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14);
}
LN_INLINE ln_double8 ln_twos_high8(ln_double8 a, ln_double8 b) {
  return __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
}

/* a * b + c, rounded once. Without an instruction for it: the product of two float32 is exact in
 * float64; the sum is rounded there to odd (its last bit set where it is inexact), so that the second
 * rounding, to float32, sees on which side of a tie the exact result lies (Boldo, Melquiond 2008). */
#if defined(__FMA__) || defined(__aarch64__)
LN_INLINE ln_float16 ln_fma16(ln_float16 a, ln_float16 b, ln_float16 c) {
  return __builtin_elementwise_fma(a, b, c);
}
LN_INLINE ln_double8 ln_fma8(ln_double8 a, ln_double8 b, ln_double8 c) {
  return __builtin_elementwise_fma(a, b, c);
}
#else
typedef int64_t ln_long4 __attribute__((ext_vector_type(4)));
typedef float ln_float4 __attribute__((ext_vector_type(4)));

static __attribute__((noinline, unused)) ln_float16 ln_fma16(ln_float16 a, ln_float16 b,
                                                             ln_float16 c) {
  ln_float4 results[4], as[4], bs[4], cs[4];
  memcpy(as, &a, sizeof a);
  memcpy(bs, &b, sizeof b);
  memcpy(cs, &c, sizeof c);
  for (int i = 0; i < 4; i++) {
    ln_double4 addend = __builtin_convertvector(cs[i], ln_double4);
    ln_double4 product =
        __builtin_convertvector(as[i], ln_double4) * __builtin_convertvector(bs[i], ln_double4);
    ln_double4 sum = product + addend;
    ln_double4 part = sum - product;
    ln_double4 error = (product - (sum - part)) + (addend - part);
    ln_long4 bits = (ln_long4)sum;
    ln_long4 inexact = (error < 0) | (error > 0); /* NaN, from an infinite sum, is neither */
    ln_long4 even = (bits & 1) == 0;
    ln_long4 away = ((error > 0) == (sum > 0)); /* -1: the exact sum is larger in magnitude */
    bits += inexact & even & ((away & 2) - 1);
    results[i] = __builtin_convertvector((ln_double4)bits, ln_float4);
  }
  memcpy(&a, results, sizeof a);
  return a;
}
static __attribute__((noinline, unused)) ln_double8 ln_fma8(ln_double8 a, ln_double8 b,
                                                            ln_double8 c) {
  return __builtin_elementwise_fma(a, b, c); /* libm's fma */
}
#endif

/* A vector of ones, and one of -0, of numbers of `size` bytes: 4 or 8. */
LN_INLINE const void *ln_ones(int64_t size) {
  static const float floats[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  static const double doubles[8] = {1, 1, 1, 1, 1, 1, 1, 1};
  return size == 4 ? (const void *)floats : doubles;
}
LN_INLINE const void *ln_negative_zeros(int64_t size) {
  static const float floats[16] = {-0.f, -0.f, -0.f, -0.f, -0.f, -0.f, -0.f, -0.f,
                                   -0.f, -0.f, -0.f, -0.f, -0.f, -0.f, -0.f, -0.f};
  static const double doubles[8] = {-0., -0., -0., -0., -0., -0., -0., -0.};
  return size == 4 ? (const void *)floats : doubles;
}

#endif
