// Every function, for every element type, gives the bits of the C call that it stands for.
#include "checks.hpp"
#include <vector>
#if __has_include(<stdfloat>)
#include <stdfloat>
#endif

namespace {

template <layernorm_dtype> struct abi;
#define ABI(DTYPE, NAME, STORAGE)                                                                  \
  template <> struct abi<DTYPE> {                                                                  \
    using storage = STORAGE;                                                                       \
    static constexpr auto forward = layernorm_forward_##NAME;                                      \
    static constexpr auto backward = layernorm_backward_##NAME;                                    \
    static constexpr auto rms_forward = layernorm_rms_forward_##NAME;                              \
    static constexpr auto rms_backward = layernorm_rms_backward_##NAME;                            \
    static constexpr auto add_forward = layernorm_add_forward_##NAME;                              \
    static constexpr auto rms_add_forward = layernorm_rms_add_forward_##NAME;                      \
  }
ABI(LAYERNORM_F32, f32, float);
ABI(LAYERNORM_F64, f64, double);
ABI(LAYERNORM_F16, f16, std::uint16_t);
ABI(LAYERNORM_BF16, bf16, std::uint16_t);

// Somebody's classes of 16 bits: one that is known by its std::numeric_limits, one that is not.
struct foreign_half {
  std::uint16_t bits;
};
struct foreign_bfloat {
  std::uint16_t bits;
};

// Values from 1 to 2 with a few bits of noise.
template <class T> std::vector<T> noise(std::size_t count, unsigned seed) {
  std::vector<T> values(count);
  for (T &value : values) {
    seed = seed * 1103515245u + 12345u;
    const unsigned fraction = seed >> 16 & 0x7F;
    typename abi<layernorm::dtype<T>>::storage bits;
    if constexpr (layernorm::dtype<T> == LAYERNORM_F16)
      bits = static_cast<std::uint16_t>(0x3C00 | fraction << 3);
    else if constexpr (layernorm::dtype<T> == LAYERNORM_BF16)
      bits = static_cast<std::uint16_t>(0x3F80 | fraction);
    else
      bits = 1 + static_cast<T>(fraction) / 128;
    std::memcpy(&value, &bits, sizeof value);
  }
  return values;
}

template <class T> bool same(const std::vector<T> &a, const std::vector<T> &b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

template <class T> void every_function() {
  using c = abi<layernorm::dtype<T>>;
  using storage = typename c::storage;
  using statistic = layernorm::statistic<T>;
  const auto in = [](const std::vector<T> &v) {
    return reinterpret_cast<const storage *>(v.data());
  };
  const auto out = [](std::vector<T> &v) { return reinterpret_cast<storage *>(v.data()); };
  constexpr std::int64_t rows = 3, cols = 40;
  const std::vector<T> x = noise<T>(rows * cols, 1), other = noise<T>(rows * cols, 2);
  const std::vector<T> weight = noise<T>(cols, 3), bias = noise<T>(cols, 4);
  std::vector<T> y(rows * cols), sum(y), exact(y), exact_sum(y);
  std::vector<statistic> mean(rows), rstd(rows), exact_mean(rows), exact_rstd(rows);

  layernorm::forward_args<T> all;
  all.weight = weight, all.bias = bias, all.eps = 0.5, all.mean = mean, all.rstd = rstd;
  CHECK(bool(layernorm::forward(rows, cols, x, y, all)));
  c::forward(rows, cols, in(x), in(weight), in(bias), 0.5, out(exact), exact_mean.data(),
             exact_rstd.data());
  CHECK(same(y, exact) && mean == exact_mean && rstd == exact_rstd);

  all.sum = sum;
  CHECK(bool(layernorm::add_forward(rows, cols, x, other, y, all)));
  c::add_forward(rows, cols, in(x), in(other), in(weight), in(bias), 0.5, out(exact_sum),
                 out(exact), exact_mean.data(), exact_rstd.data());
  CHECK(same(y, exact) && same(sum, exact_sum) && mean == exact_mean && rstd == exact_rstd);

  layernorm::forward_args<T> rms;
  rms.weight = weight, rms.eps = 0.25, rms.rstd = rstd;
  CHECK(bool(layernorm::rms_forward(rows, cols, x, y, rms)));
  c::rms_forward(rows, cols, in(x), in(weight), 0.25, out(exact), exact_rstd.data());
  CHECK(same(y, exact) && rstd == exact_rstd);

  rms.sum = sum;
  CHECK(bool(layernorm::rms_add_forward(rows, cols, x, other, y, rms)));
  c::rms_add_forward(rows, cols, in(x), in(other), in(weight), 0.25, out(exact_sum), out(exact),
                     exact_rstd.data());
  CHECK(same(y, exact) && same(sum, exact_sum) && rstd == exact_rstd);

  std::vector<T> dweight(cols), dbias(cols), exact_dweight(cols), exact_dbias(cols);
  layernorm::backward_args<T> gradients;
  gradients.weight = weight, gradients.mean = mean, gradients.rstd = rstd;
  gradients.dx = y, gradients.dweight = dweight, gradients.dbias = dbias;
  CHECK(bool(layernorm::backward(rows, cols, other, x, gradients)));
  c::backward(rows, cols, in(other), in(x), in(weight), mean.data(), rstd.data(), 0, out(exact),
              out(exact_dweight), out(exact_dbias));
  CHECK(same(y, exact) && same(dweight, exact_dweight) && same(dbias, exact_dbias));

  layernorm::backward_args<T> rms_gradients;
  rms_gradients.weight = weight, rms_gradients.eps = 0.25;
  rms_gradients.dx = y, rms_gradients.dweight = dweight;
  CHECK(bool(layernorm::rms_backward(rows, cols, other, x, rms_gradients)));
  c::rms_backward(rows, cols, in(other), in(x), in(weight), nullptr, 0.25, out(exact),
                  out(exact_dweight));
  CHECK(same(y, exact) && same(dweight, exact_dweight));
}

static_assert(layernorm::dtype<int> == LAYERNORM_DTYPE_DEFAULT);
static_assert(layernorm::dtype<std::uint16_t> == LAYERNORM_DTYPE_DEFAULT);
static_assert(layernorm::dtype<long double> == LAYERNORM_DTYPE_DEFAULT);
#ifdef __STDCPP_BFLOAT16_T__
static_assert(layernorm::dtype<std::bfloat16_t> == LAYERNORM_BF16);
#endif

} // namespace

template <> struct std::numeric_limits<foreign_half> {
  static constexpr int digits = 11;
};
template <> inline constexpr layernorm_dtype layernorm::dtype<foreign_bfloat> = LAYERNORM_BF16;

void element_types() {
  every_function<float>();
  every_function<double>();
  every_function<layernorm::float16>();
  every_function<layernorm::bfloat16>();
  every_function<foreign_half>();
  every_function<foreign_bfloat>();
#ifdef __STDCPP_FLOAT16_T__
  every_function<std::float16_t>();
#endif
#ifdef __FLT16_MANT_DIG__
  __extension__ typedef _Float16 compiler_float16;
  every_function<compiler_float16>();
#endif
#ifdef __clang__
  __extension__ typedef __bf16 compiler_bfloat16;
  every_function<compiler_bfloat16>();
#endif
}
