/* liblayernorm for C++17 and later: typed functions over spans, header-only, on top of layernorm.h.
 *
 *     std::vector<float> x(rows * cols), y(rows * cols), weight(cols);
 *     layernorm::forward(rows, cols, x, y, {.weight = weight, .eps = 1e-6}).or_throw(); // C++20
 *
 * forward, backward, rms_forward, rms_backward, add_forward and rms_add_forward take contiguous
 * matrices [rows][cols] of one element type, and by name what may be left out. forward and backward of
 * nothing but forward_args or backward_args do the rest: mixed types, strides, what is fused with the
 * norm. What the arguments mean is in layernorm.h.
 *
 * The element type is float, double or one of 16 bits: layernorm::float16, layernorm::bfloat16, the
 * compiler's _Float16 and __bf16, C++23's std::float16_t and std::bfloat16_t, and any class whose
 * std::numeric_limits has the digits of one of those. mean and rstd are double for double, else float.
 *
 * The size of every span is checked. An empty weight, bias, x_bias, mean, rstd, dweight or dbias is one
 * that is not given, or not wanted.
 *
 * Every call returns a result, true for success, and throws nothing; or_throw() makes an exception of
 * one that failed. Nothing has been written then. */
#ifndef LAYERNORM_HPP
#define LAYERNORM_HPP

#include "layernorm.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <version>
#ifdef __cpp_lib_span
#include <span>
#endif

namespace layernorm {

/* ---- Results ---------------------------------------------------------------------------------- */

#ifdef __cpp_exceptions
/* A call that failed; what() is the sentence that says why. */
class error : public std::runtime_error {
public:
  error(layernorm_status status, const char *message)
      : std::runtime_error(message), status_(status) {}
  layernorm_status status() const noexcept { return status_; }

private:
  layernorm_status status_;
};
#endif

/* What became of a call; true for success. */
class [[nodiscard]] result {
public:
  result(layernorm_status status, const char *message) noexcept
      : status_(status), message_(message) {}

  explicit operator bool() const noexcept { return status_ == LAYERNORM_SUCCESS; }
  layernorm_status status() const noexcept { return status_; }

  /* One sentence that begins with the argument's name; empty for success. Valid until the next call
   * that fails on this thread. */
  const char *message() const noexcept { return message_; }

#ifdef __cpp_exceptions
  /* Throws layernorm::error unless the call succeeded. */
  void or_throw() const {
    if (!*this) throw error(status_, message_);
  }
#endif

private:
  layernorm_status status_;
  const char *message_;
};

/* ---- Element types ---------------------------------------------------------------------------- */

/* The bits of an IEEE binary16. */
struct float16 {
  std::uint16_t bits;
};

/* The bits of a bfloat16: the upper half of a float. */
struct bfloat16 {
  std::uint16_t bits;
};

namespace detail {

template <class T> constexpr layernorm_dtype dtype() {
  constexpr int digits = sizeof(T) == 2 ? std::numeric_limits<T>::digits : 0;
  if (std::is_same_v<T, float>) return LAYERNORM_F32;
  if (std::is_same_v<T, double>) return LAYERNORM_F64;
  if (std::is_same_v<T, float16> || digits == 11) return LAYERNORM_F16;
  if (std::is_same_v<T, bfloat16> || digits == 8) return LAYERNORM_BF16;
  /* std::numeric_limits need not know the compiler's types. */
#ifdef __FLT16_MANT_DIG__
  __extension__ typedef _Float16 compiler_float16;
  if (std::is_same_v<T, compiler_float16>) return LAYERNORM_F16;
#endif
#if defined(__BFLT16_MANT_DIG__) || (defined(__clang__) && defined(__SSE2__))
  __extension__ typedef __bf16 compiler_bfloat16;
  if (std::is_same_v<T, compiler_bfloat16>) return LAYERNORM_BF16;
#endif
  return LAYERNORM_DTYPE_DEFAULT;
}

} // namespace detail

/* The library's number for an element type, LAYERNORM_DTYPE_DEFAULT for any other type. Specialize it
 * for a type of 16 bits that has no std::numeric_limits. */
template <class T> inline constexpr layernorm_dtype dtype = detail::dtype<T>();

/* The type of mean and rstd. */
template <class T> using statistic = std::conditional_t<dtype<T> == LAYERNORM_F64, double, float>;

/* ---- Spans ------------------------------------------------------------------------------------ */

/* One program may hold objects for several standards, hence a namespace for each kind of span. */
#ifdef __cpp_lib_span
inline namespace with_std_span {

template <class T> using span = std::span<T>;
#else
inline namespace with_own_span {

/* Stands in for std::span: made from what std::data and std::size know, such as std::vector,
 * std::array and arrays. */
template <class T> class span {
public:
  constexpr span() noexcept = default;
  constexpr span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}

  template <class Range,
            class Element = std::remove_pointer_t<decltype(std::data(std::declval<Range &>()))>,
            class = std::enable_if_t<std::is_convertible_v<Element (*)[], T (*)[]>>>
  constexpr span(Range &&range) noexcept : data_(std::data(range)), size_(std::size(range)) {}

  constexpr T *data() const noexcept { return data_; }
  constexpr std::size_t size() const noexcept { return size_; }
  constexpr bool empty() const noexcept { return size_ == 0; }

private:
  T *data_ = nullptr;
  std::size_t size_ = 0;
};
#endif

/* The element type of a contiguous range. */
template <class Range>
using element =
    std::remove_cv_t<std::remove_pointer_t<decltype(std::data(std::declval<const Range &>()))>>;

/* Of batch, rows and cols, in elements. */
using strides = std::array<std::int64_t, 3>;

/* A tensor [batch][rows][cols], contiguous where no strides are given; {} is none. Its memory begins at
 * the lowest address, also where a stride is negative. */
template <class T> struct tensor {
  span<T> memory;
  layernorm::strides strides{};
  bool given = false, contiguous = true;

  tensor() = default;
  template <class Range, class = std::enable_if_t<std::is_convertible_v<Range &&, span<T>>>>
  tensor(Range &&range) noexcept : memory(std::forward<Range>(range)), given(true) {}
  tensor(span<T> range, const layernorm::strides &apart) noexcept
      : memory(range), strides(apart), given(true), contiguous(false) {}
};

/* ---- General calls ---------------------------------------------------------------------------- */

/* layernorm_forward_args for x, residual, x_bias and sum of X, y of Y, weight and bias of Param. */
template <class X, class Y = X, class Param = X> struct forward_args {
  std::int64_t rows = 0, cols = 0, batch = 1;
  tensor<const X> x{};
  tensor<const X> residual{}; /* optional, as all but x and y */
  span<const X> x_bias{};
  span<const Param> weight{}, bias{};
  double eps = 1e-5;
  layernorm_norm norm = LAYERNORM_NORM_LAYER;
  std::uint64_t flags = 0;
  tensor<Y> y{};
  tensor<X> sum{};
  span<statistic<X>> mean{}, rstd{};
  double ada_scale = 1, ada_slope = 0.1; /* of LAYERNORM_NORM_ADA */
};

/* layernorm_backward_args for x of X, dy, dsum and dx of DY, weight, dweight and dbias of Param. */
template <class X, class DY = X, class Param = X> struct backward_args {
  std::int64_t rows = 0, cols = 0, batch = 1;
  tensor<const DY> dy{};
  tensor<const X> x{};
  tensor<const DY> dsum{}; /* optional, as all but dy and x */
  span<const Param> weight{};
  span<const statistic<X>> mean{}, rstd{};
  double eps = 1e-5;
  layernorm_norm norm = LAYERNORM_NORM_LAYER;
  std::uint64_t flags = 0;
  tensor<DY> dx{};
  span<Param> dweight{}, dbias{};
  double ada_scale = 1, ada_slope = 0.1; /* of LAYERNORM_NORM_ADA */
};

namespace detail {

/* Hands spans to the arguments of a C call, unless one does not fit the call's shape. */
class checked {
public:
  template <class Args, class CArgs> checked(const Args &args, CArgs &c) noexcept {
    const bool empty = args.batch == 0; /* 0 batches are 1 to the library */
    counts[0] = c.batch = args.batch;
    counts[1] = c.rows = empty ? 0 : args.rows;
    counts[2] = c.cols = args.cols;
    c.eps = args.eps;
    c.norm = args.norm;
    c.flags = args.flags;
    c.ada_scale = args.ada_scale;
    c.ada_slope = args.ada_slope;
  }

  template <class T, class Pointer>
  checked &row(const char *name, span<T> memory, Pointer *&c) noexcept {
    if (memory.empty()) return *this;
    c = memory.data();
    return expect(name, memory.size(), counts[2], "not cols = ");
  }

  template <class T, class Pointer>
  checked &column(const char *name, span<T> memory, Pointer *&c) noexcept {
    if (memory.empty()) return *this;
    c = memory.data();
    return expect(name, memory.size(), counts[0] * counts[1],
                  counts[0] == 1 ? "not rows = " : "not batch * rows = ");
  }

  template <class T, class Pointer>
  checked &optional(const char *name, const tensor<T> &t, Pointer *&c,
                    const std::int64_t *&c_strides) noexcept {
    return t.given ? required(name, t, c, c_strides) : *this;
  }

  template <class T, class Pointer>
  checked &required(const char *name, const tensor<T> &t, Pointer *&c,
                    const std::int64_t *&c_strides) noexcept {
    c = t.memory.data();
    if (t.contiguous) {
      const wide rows = counts[0] * counts[1];
      return expect(name, t.memory.size(), rows > largest ? rows : rows * counts[2],
                    counts[0] == 1 ? "not rows * cols = " : "not batch * rows * cols = ");
    }
    c_strides = t.strides.data();
    wide low = 0, high = 0;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const wide reach = (counts[axis] - 1) * t.strides[axis];
      if (counts[axis] <= 0 || reach > largest || reach < -largest) return *this;
      (reach < 0 ? low : high) += reach;
    }
    if (static_cast<wide>(t.memory.size()) <= high - low)
      return expect(name, t.memory.size(), high - low + 1, "where its strides need ");
    c = t.memory.data() - static_cast<std::ptrdiff_t>(low);
    return *this;
  }

  template <class CArgs>
  result call(layernorm_status (*function)(const CArgs *), const CArgs &c) const noexcept {
    if (misfit) return {LAYERNORM_ERROR_SIZE, misfit};
    const layernorm_status status = function(&c);
    return {status, status == LAYERNORM_SUCCESS ? "" : layernorm_last_error()};
  }

private:
  __extension__ typedef __int128 wide; /* holds any product of two sizes or strides */
  static constexpr wide largest = std::numeric_limits<std::int64_t>::max();

  wide counts[3]; /* batch, rows, cols */
  const char *misfit = nullptr;

  /* Sizes that are negative or overflow are left to the library to refuse. */
  checked &expect(const char *name, std::size_t size, wide count, const char *relation) noexcept {
    const bool known = counts[0] >= 0 && counts[1] >= 0 && counts[2] >= 0 && count <= largest;
    if (misfit || !known || static_cast<wide>(size) == count) return *this;
    static thread_local char sentence[128];
    std::snprintf(sentence, sizeof sentence, "%s has %zu elements, %s%lld", name, size, relation,
                  static_cast<long long>(count));
    misfit = sentence;
    return *this;
  }
};

} // namespace detail

/* layernorm_forward(), such as forward<layernorm::bfloat16, float>({.rows = 2, .cols = 4, ...}). */
template <class X, class Y = X, class Param = X>
result forward(const forward_args<X, Y, Param> &args) noexcept {
  static_assert(dtype<X> && dtype<Y> && dtype<Param>, "not an element type of layernorm");
  layernorm_forward_args c = LAYERNORM_FORWARD_ARGS_INIT;
  c.x_dtype = dtype<X>;
  c.y_dtype = dtype<Y>;
  c.param_dtype = dtype<Param>;
  return detail::checked(args, c)
      .required("x", args.x, c.x, c.x_strides)
      .optional("residual", args.residual, c.residual, c.residual_strides)
      .row("x_bias", args.x_bias, c.x_bias)
      .row("weight", args.weight, c.weight)
      .row("bias", args.bias, c.bias)
      .required("y", args.y, c.y, c.y_strides)
      .optional("sum", args.sum, c.sum, c.sum_strides)
      .column("mean", args.mean, c.mean)
      .column("rstd", args.rstd, c.rstd)
      .call(layernorm_forward, c);
}

/* layernorm_backward(). */
template <class X, class DY = X, class Param = X>
result backward(const backward_args<X, DY, Param> &args) noexcept {
  static_assert(dtype<X> && dtype<DY> && dtype<Param>, "not an element type of layernorm");
  layernorm_backward_args c = LAYERNORM_BACKWARD_ARGS_INIT;
  c.x_dtype = dtype<X>;
  c.dy_dtype = dtype<DY>;
  c.param_dtype = dtype<Param>;
  return detail::checked(args, c)
      .required("dy", args.dy, c.dy, c.dy_strides)
      .required("x", args.x, c.x, c.x_strides)
      .optional("dsum", args.dsum, c.dsum, c.dsum_strides)
      .row("weight", args.weight, c.weight)
      .column("mean", args.mean, c.mean)
      .column("rstd", args.rstd, c.rstd)
      .optional("dx", args.dx, c.dx, c.dx_strides)
      .row("dweight", args.dweight, c.dweight)
      .row("dbias", args.dbias, c.dbias)
      .call(layernorm_backward, c);
}

/* ---- Everyday calls --------------------------------------------------------------------------- */

/* Layer norm of x[rows][cols] into y[rows][cols], which may be x, with anything else in `args`. */
template <class X>
result forward(std::int64_t rows, std::int64_t cols, const X &x, span<element<X>> y,
               forward_args<element<X>> args = {}) noexcept {
  args.rows = rows, args.cols = cols;
  args.x = x, args.y = y;
  return forward(args);
}

/* The same for RMSNorm. */
template <class X>
result rms_forward(std::int64_t rows, std::int64_t cols, const X &x, span<element<X>> y,
                   forward_args<element<X>> args = {}) noexcept {
  args.norm = LAYERNORM_NORM_RMS;
  return forward(rows, cols, x, y, args);
}

/* Layer norm of x + residual; args.sum receives the sum and may be x or residual. */
template <class X>
result add_forward(std::int64_t rows, std::int64_t cols, const X &x,
                   span<const element<X>> residual, span<element<X>> y,
                   forward_args<element<X>> args = {}) noexcept {
  args.residual = residual;
  return forward(rows, cols, x, y, args);
}

/* The same for RMSNorm. */
template <class X>
result rms_add_forward(std::int64_t rows, std::int64_t cols, const X &x,
                       span<const element<X>> residual, span<element<X>> y,
                       forward_args<element<X>> args = {}) noexcept {
  args.norm = LAYERNORM_NORM_RMS;
  return add_forward(rows, cols, x, residual, y, args);
}

/* Backward of layer norm, for dy[rows][cols] and x[rows][cols], with anything else in `args`: dx, which
 * may be dy or x, dweight, dbias. */
template <class X>
result backward(std::int64_t rows, std::int64_t cols, const X &dy, span<const element<X>> x,
                backward_args<element<X>> args) noexcept {
  args.rows = rows, args.cols = cols;
  args.dy = dy, args.x = x;
  return backward(args);
}

/* The same for RMSNorm. */
template <class X>
result rms_backward(std::int64_t rows, std::int64_t cols, const X &dy, span<const element<X>> x,
                    backward_args<element<X>> args) noexcept {
  args.norm = LAYERNORM_NORM_RMS;
  return backward(rows, cols, dy, x, args);
}

} // inline namespace
} // namespace layernorm

#endif /* LAYERNORM_HPP */
