#include "harness.h"

#include <math.h>
#include <string.h>

typedef struct format {
  const char *name;
  size_t size;
  int precision;    /* bits of the significand, the hidden one included */
  int min_exponent; /* of the last place of a subnormal */
} format;

static const format formats[] = {
    [LAYERNORM_F32] = {"f32", 4, 24, -149},
    [LAYERNORM_F64] = {"f64", 8, 53, -1074},
    [LAYERNORM_F16] = {"f16", 2, 11, -24},
    [LAYERNORM_BF16] = {"bf16", 2, 8, -133},
};

size_t dtype_size(layernorm_dtype dtype) { return formats[dtype].size; }

const char *dtype_name(layernorm_dtype dtype) { return formats[dtype].name; }

layernorm_dtype dtype_named(const char *name) {
  for (int dtype = LAYERNORM_F32; dtype <= LAYERNORM_BF16; dtype++)
    if (strcmp(formats[dtype].name, name) == 0) return (layernorm_dtype)dtype;
  die("no dtype is called %s", name);
}

layernorm_dtype compute_dtype(layernorm_dtype x_dtype) {
  return x_dtype == LAYERNORM_F64 ? LAYERNORM_F64 : LAYERNORM_F32;
}

static double half_to_double(uint16_t bits) {
  int exponent = (bits >> 10) & 31;
  int significand = bits & 1023;
  double magnitude = exponent == 31  ? (significand ? NAN : INFINITY)
                     : exponent == 0 ? ldexp(significand, -24)
                                     : ldexp(significand + 1024, exponent - 25);
  return bits >> 15 ? -magnitude : magnitude;
}

static uint16_t half_from_double(double value) {
  uint16_t sign = signbit(value) ? 0x8000 : 0;
  if (isnan(value)) return sign | 0x7E00;
  if (isinf(value)) return sign | 0x7C00;
  int exponent = value == 0 ? -14 : (int)fmax(ilogb(value), -14);
  if (exponent > 15) return sign | 0x7C00;
  /* In units of the last place; a carry out of the significand counts on into the exponent. */
  int units = (int)nearbyint(ldexp(fabs(value), 10 - exponent));
  return sign | (uint16_t)(((exponent + 14) << 10) + units);
}

static uint16_t bfloat_from_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (isnan(value)) return 0x7FC0;
  return (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

double load(layernorm_dtype dtype, const void *data, int64_t index) {
  const unsigned char *element = (const unsigned char *)data + index * (int64_t)dtype_size(dtype);
  if (dtype == LAYERNORM_F64) {
    double value;
    memcpy(&value, element, sizeof value);
    return value;
  }
  if (dtype == LAYERNORM_F32) {
    float value;
    memcpy(&value, element, sizeof value);
    return value;
  }
  uint16_t half;
  memcpy(&half, element, sizeof half);
  if (dtype == LAYERNORM_F16) return half_to_double(half);
  uint32_t bits = (uint32_t)half << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

void store(layernorm_dtype dtype, void *data, int64_t index, double value) {
  unsigned char *element = (unsigned char *)data + index * (int64_t)dtype_size(dtype);
  float single = (float)value;
  uint16_t half = dtype == LAYERNORM_F16 ? half_from_double(value) : bfloat_from_float(single);
  const void *source = dtype == LAYERNORM_F64   ? (const void *)&value
                       : dtype == LAYERNORM_F32 ? (const void *)&single
                                                : (const void *)&half;
  memcpy(element, source, dtype_size(dtype));
}

/* The bits of infinity: above them, but for the sign, are the NaNs. */
static const uint64_t infinities[] = {[LAYERNORM_F32] = 0x7F800000,
                                      [LAYERNORM_F64] = 0x7FF0000000000000,
                                      [LAYERNORM_F16] = 0x7C00,
                                      [LAYERNORM_BF16] = 0x7F80};

static uint64_t bits_at(const unsigned char *element, size_t size) {
  uint16_t half;
  uint32_t single;
  uint64_t bits;
  switch (size) { /* a constant size each, so that the compiler makes loads of it */
  case sizeof half:
    memcpy(&half, element, sizeof half);
    return half;
  case sizeof single:
    memcpy(&single, element, sizeof single);
    return single;
  default:
    memcpy(&bits, element, sizeof bits);
    return bits;
  }
}

void make_nans_the_same(layernorm_dtype dtype, void *data, int64_t count) {
  const size_t size = dtype_size(dtype);
  const uint64_t infinity = infinities[dtype], magnitude = UINT64_MAX >> (65 - 8 * size);
  unsigned char *element = data;
  for (int64_t i = 0; i < count; i++, element += size)
    if ((bits_at(element, size) & magnitude) > infinity) store(dtype, data, i, NAN);
}

long double unit_in_last_place(layernorm_dtype dtype, long double magnitude) {
  const format *f = &formats[dtype];
  int place = magnitude > 0 ? ilogbl(magnitude) - f->precision + 1 : f->min_exponent;
  return ldexpl(1, place > f->min_exponent ? place : f->min_exponent);
}
