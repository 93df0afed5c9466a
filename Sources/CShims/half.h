/* The 16-bit types, float16 and bfloat16, from and to vectors of float32. */
#ifndef LAYERNORM_SHIMS_HALF_H
#define LAYERNORM_SHIMS_HALF_H

#include "vectors.h"

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
#if defined(__AVX2__)
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

#if defined(__AVX2__) && !defined(__AVX512BW__)
/* Words 1, 3, 5 ... of the second, the others of the first. */
LN_INLINE ln_float16 ln_blend_odd_words(ln_uint16 a, ln_uint16 b) {
  ln_float8 low = (ln_float8)_mm256_blend_epi16((__m256i)a.lo, (__m256i)b.lo, 0xaa);
  ln_float8 high = (ln_float8)_mm256_blend_epi16((__m256i)a.hi, (__m256i)b.hi, 0xaa);
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
/* What ln_pack_bf16 makes of upper and lower halves. */
LN_INLINE ln_float8 ln_round_words(ln_float8 upper, ln_float8 lower) {
  __m256i is_even = _mm256_andnot_si256((__m256i)upper, _mm256_set1_epi16(1));
  __m256i rounds_up = _mm256_srai_epi16(_mm256_subs_epu16((__m256i)lower, is_even), 15);
  return (ln_float8)_mm256_sub_epi16((__m256i)upper, rounds_up);
}
#endif

#if defined(__AVX512BW__)
/* Words of `a`, and of `b` those that a mask of bytes names, shuffled by bytes: one operation, of which a compiler that
 * knew which bytes these are would make two. */
LN_INLINE ln_float16 ln_merge_words(ln_float16 a, ln_float16 b, __m512i bytes, __mmask64 of_b) {
  __asm__("" : "+v"(bytes), "+Yk"(of_b));
  __asm__("vpshufb %1, %2, %0%{%3%}" : "+v"(a) : "v"(bytes), "v"(b), "Yk"(of_b));
  return a;
}
#endif

/* The other way round: the upper halves of both. */
LN_INLINE ln_float16 ln_join_bf16(ln_float16 even, ln_float16 odd) {
#if defined(__AVX512BW__)
  const __m512i upper_to_lower = _mm512_set4_epi32(0x0f0e0f0e, 0x0b0a0b0a, 0x07060706, 0x03020302);
  return ln_merge_words(odd, even, upper_to_lower, 0x3333333333333333);
#elif defined(__AVX2__)
  return ln_blend_odd_words((ln_uint16)even >> 16, (ln_uint16)odd);
#else
  return (ln_float16)((ln_uint16)even >> 16 | ((ln_uint16)odd & 0xffff0000));
#endif
}
#if defined(__AVX2__)
/* The same of the lower halves. */
LN_INLINE ln_float16 ln_join_lower_halves(ln_float16 even, ln_float16 odd) {
#if defined(__AVX512BW__)
  const __m512i lower_to_upper = _mm512_set4_epi32(0x0d0c0d0c, 0x09080908, 0x05040504, 0x01000100);
  return ln_merge_words(even, odd, lower_to_upper, 0xcccccccccccccccc);
#else
  return ln_blend_odd_words((ln_uint16)even, (ln_uint16)odd << 16);
#endif
}
#endif
LN_INLINE ln_float16 ln_pack_bf16(ln_float16 even, ln_float16 odd, bool short_nan) {
#if defined(__AVX2__)
  if (short_nan) {
    /* The same with the upper halves of both in one vector of words, and the lower ones in another, so in half as many
     * operations: 1 is added where the lower half is above 0x8000, or is that and the upper one is odd. */
    ln_float16 upper = ln_join_bf16(even, odd);
    ln_float16 lower = ln_join_lower_halves(even, odd);
#if defined(__AVX512BW__)
    __m512i is_even = _mm512_andnot_si512((__m512i)upper, _mm512_set1_epi16(1));
    __m512i rounds_up = _mm512_srai_epi16(_mm512_subs_epu16((__m512i)lower, is_even), 15);
    return (ln_float16)_mm512_sub_epi16((__m512i)upper, rounds_up);
#else
    upper.lo = ln_round_words(upper.lo, lower.lo);
    upper.hi = ln_round_words(upper.hi, lower.hi);
    return upper;
#endif
  }
#endif
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
