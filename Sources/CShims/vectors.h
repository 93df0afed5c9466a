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

/* In how many lanes neither a nor b has a magnitude below the bound. */
LN_INLINE int32_t ln_lanes_at_least16(ln_float16 bound, ln_float16 a, ln_float16 b) {
  ln_int16 are = (__builtin_elementwise_abs(a) >= bound) & (__builtin_elementwise_abs(b) >= bound);
#if defined(__AVX512DQ__)
  return __builtin_popcount(_mm512_movepi32_mask((__m512i)are));
#elif defined(__AVX2__)
  return __builtin_popcount((unsigned)_mm256_movemask_ps((__m256)are.lo)) +
         __builtin_popcount((unsigned)_mm256_movemask_ps((__m256)are.hi));
#else
  return -__builtin_reduce_add(are);
#endif
}
LN_INLINE int32_t ln_lanes_at_least8(ln_double8 bound, ln_double8 a, ln_double8 b) {
  ln_long8 are = (__builtin_elementwise_abs(a) >= bound) & (__builtin_elementwise_abs(b) >= bound);
#if defined(__AVX512DQ__)
  return __builtin_popcount(_mm512_movepi64_mask((__m512i)are));
#elif defined(__AVX2__)
  return __builtin_popcount((unsigned)_mm256_movemask_pd((__m256d)are.lo)) +
         __builtin_popcount((unsigned)_mm256_movemask_pd((__m256d)are.hi));
#else
  return (int32_t)-__builtin_reduce_add(are);
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

/* bfloat16 is the upper half of a float32. */
LN_INLINE ln_float16 ln_from_bf16(ln_ushort16 h) {
#if defined(__AVX512BW__)
  /* From the upper half, which is zero, the lower words. By name: of the intrinsic, a compiler makes a
   * permutation of two sources, which takes twice as long. */
  const __m512i words =
      _mm512_set_epi16(15, 16, 14, 16, 13, 16, 12, 16, 11, 16, 10, 16, 9, 16, 8, 16, 7, 16, 6, 16,
                       5, 16, 4, 16, 3, 16, 2, 16, 1, 16, 0, 16);
  __m512i widened;
  __asm__("vpermw %1, %2, %0"
          : "=v"(widened)
          : "v"(_mm512_zextsi256_si512((__m256i)h)), "v"(words));
  return (ln_float16)widened;
#else
  return (ln_float16)(__builtin_convertvector(h, ln_uint16) << 16);
#endif
}

/* The same of 16 elements in memory. */
LN_INLINE ln_float16 ln_load_bf16(const void *p) {
#if defined(__AVX2__) && !defined(__AVX512BW__)
  /* Of eight elements that both lanes hold, four each, in one operation. */
  const __m256i words = _mm256_setr_epi8(-1, -1, 0, 1, -1, -1, 2, 3, -1, -1, 4, 5, -1, -1, 6, 7, -1,
                                         -1, 8, 9, -1, -1, 10, 11, -1, -1, 12, 13, -1, -1, 14, 15);
  const __m128i *eights = p;
  ln_float8 low =
      (ln_float8)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(eights)), words);
  ln_float8 high = (ln_float8)_mm256_shuffle_epi8(
      _mm256_broadcastsi128_si256(_mm_loadu_si128(eights + 1)), words);
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#else
  ln_ushort16 h;
  memcpy(&h, p, sizeof h);
  return ln_from_bf16(h);
#endif
}

/* Rounds to nearest, ties to even; a NaN becomes the default one, or one with all bits set. The lower halves hold
 * anything. `short_nan`: the lower half of a NaN is zero; then it stays one, as it is. */
LN_INLINE ln_uint16 ln_round_upper_halves(ln_float16 f, bool short_nan) {
  ln_uint16 u = (ln_uint16)f;
#if defined(__AVX512BW__)
  if (!short_nan) {
    /* The default NaN's upper half stays as it is when it is rounded. */
    const __m512i nan_to_default = _mm512_set1_epi32(0x33);
    u = (ln_uint16)_mm512_fixupimm_ps((__m512)f, (__m512)f, nan_to_default, 0);
  }
  /* A test and a choice, which do not wait for the one port that shifts. */
  const __mmask16 is_odd = _mm512_test_epi32_mask((__m512i)u, _mm512_set1_epi32(0x10000));
  return (ln_uint16)_mm512_mask_add_epi32(_mm512_add_epi32((__m512i)u, _mm512_set1_epi32(0x7fff)),
                                          is_odd, (__m512i)u, _mm512_set1_epi32(0x8000));
#else
  /* Comparisons where there might be a shift, which some CPUs have one narrow unit for. */
  ln_uint16 is_even = (ln_uint16)((u & 0x10000) == 0);
  u = u + 0x8000 + is_even;
  return short_nan ? u : u | (ln_uint16)(f != f);
#endif
}

LN_INLINE ln_ushort16 ln_to_bf16(ln_float16 f, bool short_nan) {
  ln_uint16 u = ln_round_upper_halves(f, short_nan);
#if defined(__AVX512BW__)
  const __m512i upper_words =
      _mm512_set_epi16(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 31, 29, 27, 25, 23, 21, 19,
                       17, 15, 13, 11, 9, 7, 5, 3, 1);
  return (ln_ushort16)_mm512_castsi512_si256(_mm512_permutexvar_epi16(upper_words, (__m512i)u));
#elif defined(__AVX2__)
  const __m256i words = _mm256_packus_epi32(_mm256_srli_epi32((__m256i)u.lo, 16),
                                            _mm256_srli_epi32((__m256i)u.hi, 16));
  return (ln_ushort16)_mm256_permute4x64_epi64(words, 0xd8);
#else
  return __builtin_convertvector(u >> 16, ln_ushort16);
#endif
}

/* Whether rows of bfloat16 are computed 32 columns at a time, the even ones and the odd ones: so that neither reading nor
 * writing moves elements from lane to lane. */
#if defined(__AVX512BW__)
#define LN_SPLITS_BF16 1
#else
#define LN_SPLITS_BF16 0
#endif

/* 32 elements in memory, and of them the even ones, and the odd ones. */
LN_INLINE ln_uint16 ln_load_pairs(const void *p) {
  ln_uint16 pairs;
  memcpy(&pairs, p, sizeof pairs);
#if defined(__AVX512F__)
  /* Loaded once: where lines are straddled, that is what takes time. */
  __asm__("" : "+v"(pairs));
#endif
  return pairs;
}
LN_INLINE ln_float16 ln_even_bf16(ln_uint16 pairs) { return (ln_float16)(pairs << 16); }
LN_INLINE ln_float16 ln_odd_bf16(ln_uint16 pairs) {
  ln_uint16 upper = (ln_uint16){0} + 0xffff0000;
#if defined(__AVX512BW__)
  /* A compiler that knew it would have a mask of words, and make that anew each time. */
  __asm__("" : "+v"(upper));
#endif
  return (ln_float16)(pairs & upper);
}
/* The other way round: the upper halves of both. */
LN_INLINE ln_float16 ln_join_bf16(ln_float16 even, ln_float16 odd) {
#if defined(__AVX512BW__)
  /* One operation, of which a compiler that knew which bytes these are would make two. */
  __m512i upper_to_lower = _mm512_set4_epi32(0x0f0e0f0e, 0x0b0a0b0a, 0x07060706, 0x03020302);
  __mmask64 lower = 0x3333333333333333;
  __asm__("" : "+v"(upper_to_lower), "+Yk"(lower));
  __asm__("vpshufb %1, %2, %0%{%3%}" : "+v"(odd) : "v"(upper_to_lower), "v"(even), "Yk"(lower));
  return odd;
#else
  return (ln_float16)((ln_uint16)even >> 16 | ((ln_uint16)odd & 0xffff0000));
#endif
}
LN_INLINE ln_float16 ln_pack_bf16(ln_float16 even, ln_float16 odd, bool short_nan) {
  return ln_join_bf16((ln_float16)ln_round_upper_halves(even, short_nan),
                      (ln_float16)ln_round_upper_halves(odd, short_nan));
}

/* What ln_from_bf16 makes of what ln_to_bf16 gives, of a short NaN. */
LN_INLINE ln_float16 ln_round_bf16(ln_float16 f) {
  return (ln_float16)(ln_round_upper_halves(f, true) & 0xffff0000);
}

/* IEEE binary16, subnormals and infinities included. Without F16C the exponent is re-biased by one
 * exact multiplication. */
LN_INLINE ln_float16 ln_from_f16(ln_ushort16 h) {
#if defined(__AVX512F__)
  return (ln_float16)_mm512_cvtph_ps((__m256i)h);
#elif defined(__F16C__)
  ln_float8 low = (ln_float8)_mm256_cvtph_ps((__m128i)h.lo);
  ln_float8 high = (ln_float8)_mm256_cvtph_ps((__m128i)h.hi);
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#else
  ln_uint16 u = __builtin_convertvector(h, ln_uint16);
  ln_uint16 sign = (u & 0x8000) << 16;
  ln_uint16 magnitude = u & 0x7fff;
  ln_uint16 finite = (ln_uint16)((ln_float16)(magnitude << 13) * 0x1p112f);
  ln_uint16 special = (magnitude << 13) | 0x7f800000;
  special |= (ln_uint16)(magnitude > 0x7c00) & 0x400000;
  ln_int16 is_special = magnitude >= 0x7c00;
  return (ln_float16)(sign | (is_special ? special : finite));
#endif
}

/* The same of 16 elements in memory. With F16C the conversion itself loads: from a register it is two operations,
 * though on AMD's first Zen it takes less time. */
LN_INLINE ln_float16 ln_load_f16(const void *p) {
  ln_ushort16 h;
  memcpy(&h, p, sizeof h);
  return ln_from_f16(h);
}

/* Rounds to nearest, ties to even; overflows to infinity; a NaN stays one. Without F16C: a result
 * below the smallest normal number is rounded by adding 0.5, whose last place is the smallest
 * subnormal number, the others by integer addition. */
LN_INLINE ln_ushort16 ln_to_f16(ln_float16 f) {
#if defined(__AVX512F__)
  __m256i h = _mm512_cvtps_ph((__m512)f, _MM_FROUND_TO_NEAREST_INT);
  /* What is stored and used as well, a compiler would convert twice: once in the store. */
  __asm__("" : "+v"(h));
  return (ln_ushort16)h;
#elif defined(__F16C__)
  __m128i low = _mm256_cvtps_ph((__m256)f.lo, _MM_FROUND_TO_NEAREST_INT);
  __m128i high = _mm256_cvtps_ph((__m256)f.hi, _MM_FROUND_TO_NEAREST_INT);
  /* A conversion that stores takes AMD's third Zen twice as long as the two apart. */
  __asm__("" : "+x"(low), "+x"(high));
  return (ln_ushort16)_mm256_set_m128i(high, low);
#else
  ln_uint16 u = (ln_uint16)f;
  ln_uint16 sign = (u >> 16) & 0x8000;
  ln_uint16 magnitude = u & 0x7fffffff;
  ln_uint16 normal = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  ln_uint16 subnormal = (ln_uint16)((ln_float16)magnitude + 0.5f) - 0x3f000000;
  ln_uint16 nan = 0x7e00 | ((magnitude >> 13) & 0x3ff);
  ln_uint16 infinity = 0x7c00;
  ln_uint16 result = magnitude < 0x38800000 ? subnormal : normal;
  result = magnitude >= 0x477ff000 ? infinity : result;
  result = magnitude > 0x7f800000 ? nan : result;
  return __builtin_convertvector(result | sign, ln_ushort16);
#endif
}

/* The same into memory: with AVX-512 a conversion that stores leaves out the operation that moves its halves together. */
LN_INLINE void ln_store_f16(void *p, ln_float16 f) {
#if defined(__AVX512F__)
  _mm256_storeu_si256(p, _mm512_cvtps_ph((__m512)f, _MM_FROUND_TO_NEAREST_INT));
#else
  ln_ushort16 h = ln_to_f16(f);
  memcpy(p, &h, sizeof h);
#endif
}

#endif
