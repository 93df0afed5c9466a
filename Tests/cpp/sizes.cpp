// Each span that does not fit is refused by its name, before anything is written.
#include "checks.hpp"
#include <array>
#include <limits>
#include <string>
#include <vector>

namespace {

constexpr auto wrong_size = LAYERNORM_ERROR_SIZE;

void every_argument() {
  const std::vector<float> matrix(6, 1), row(3, 1);
  std::vector<float> y(6, 7), few(1, 7), none;
  using layernorm::forward, layernorm::backward, layernorm::add_forward;
  using forward_args = layernorm::forward_args<float>;
  using backward_args = layernorm::backward_args<float>;

  REFUSED(forward(2, 3, few, y), wrong_size, "x has 1 elements, not rows * cols = 6");
  REFUSED(forward(2, 3, matrix, few), wrong_size, "y has 1 elements, not rows * cols = 6");
  REFUSED(forward(2, 3, matrix, {}), wrong_size, "y has 0 elements, not rows * cols = 6");
  REFUSED(add_forward(2, 3, matrix, few, y), wrong_size,
          "residual has 1 elements, not rows * cols = 6");
  REFUSED(add_forward(2, 3, matrix, {}, y), wrong_size,
          "residual has 0 elements, not rows * cols = 6");
  const auto with = [&](auto set) {
    forward_args args;
    set(args);
    return forward(2, 3, matrix, y, args);
  };
  REFUSED(with([&](auto &a) { a.weight = few; }), wrong_size,
          "weight has 1 elements, not cols = 3");
  REFUSED(with([&](auto &a) { a.bias = few; }), wrong_size, "bias has 1 elements, not cols = 3");
  REFUSED(with([&](auto &a) { a.x_bias = few; }), wrong_size,
          "x_bias has 1 elements, not cols = 3");
  REFUSED(with([&](auto &a) { a.mean = few; }), wrong_size, "mean has 1 elements, not rows = 2");
  REFUSED(with([&](auto &a) { a.rstd = few; }), wrong_size, "rstd has 1 elements, not rows = 2");
  REFUSED(with([&](auto &a) { a.residual = matrix, a.sum = none; }), wrong_size,
          "sum has 0 elements, not rows * cols = 6");
  // The first one is named.
  REFUSED(with([&](auto &a) { a.rstd = few, a.weight = few; }), wrong_size,
          "weight has 1 elements, not cols = 3");

  const auto gradients = [&](auto set) {
    backward_args args;
    args.dx = y;
    set(args);
    return backward(2, 3, matrix, matrix, args);
  };
  REFUSED(backward(2, 3, few, matrix, {}), wrong_size, "dy has 1 elements, not rows * cols = 6");
  REFUSED(backward(2, 3, matrix, few, {}), wrong_size, "x has 1 elements, not rows * cols = 6");
  REFUSED(gradients([&](auto &a) { a.weight = few; }), wrong_size,
          "weight has 1 elements, not cols = 3");
  REFUSED(gradients([&](auto &a) { a.mean = few; }), wrong_size,
          "mean has 1 elements, not rows = 2");
  REFUSED(gradients([&](auto &a) { a.rstd = few; }), wrong_size,
          "rstd has 1 elements, not rows = 2");
  REFUSED(gradients([&](auto &a) { a.dsum = few; }), wrong_size,
          "dsum has 1 elements, not rows * cols = 6");
  REFUSED(gradients([&](auto &a) { a.dx = few; }), wrong_size,
          "dx has 1 elements, not rows * cols = 6");
  REFUSED(gradients([&](auto &a) { a.dweight = few; }), wrong_size,
          "dweight has 1 elements, not cols = 3");
  REFUSED(gradients([&](auto &a) { a.dbias = few; }), wrong_size,
          "dbias has 1 elements, not cols = 3");

  CHECK(y == std::vector<float>(6, 7) && few == std::vector<float>(1, 7));
  // Empty spans among the options are left out.
  CHECK(bool(with([&](auto &a) { a.weight = none, a.bias = none, a.mean = none; })));
}

void what_the_library_refuses() {
  std::array<float, 2> x = {1, 2}, y = {7, 7};
  layernorm::forward_args<float> args;
  args.eps = -1;
  REFUSED(layernorm::forward(1, 2, x, y, args), LAYERNORM_ERROR_EPS, "eps is negative");
  args = {};
  args.mean = layernorm::span<float>(y.data(), 1);
  REFUSED(layernorm::rms_forward(1, 2, x, y, args), LAYERNORM_ERROR_NORM,
          "mean is given, which LAYERNORM_NORM_RMS does not have");
  REFUSED(layernorm::forward(-1, 2, x, y), wrong_size, "rows is -1: it must not be negative");
  constexpr std::int64_t huge = std::numeric_limits<std::int64_t>::max();
  for (const std::int64_t batch : {std::int64_t{1}, huge}) {
    layernorm::forward_args<float> all;
    all.rows = huge, all.cols = huge, all.batch = batch, all.x = x, all.y = y;
    CHECK(layernorm::forward(all).status() == wrong_size);
    all.x = {x, {huge, huge, huge}};
    all.y = {y, {-huge, huge, -huge}};
    CHECK(layernorm::forward(all).status() == wrong_size);
  }
  CHECK(y[0] == 7 && y[1] == 7);
}

#ifdef __cpp_exceptions
void exceptions() {
  float x[2] = {1, 2}, y[2];
  layernorm::forward(1, 2, x, y).or_throw();
  try {
    layernorm::forward(2, 2, x, y).or_throw();
    CHECK(false && "an exception was thrown");
  } catch (const layernorm::error &error) {
    CHECK(error.status() == wrong_size);
    CHECK(error.what() == std::string("x has 2 elements, not rows * cols = 4"));
  }
}
#else
void exceptions() {}
#endif

} // namespace

void sizes() {
  every_argument();
  what_the_library_refuses();
  exceptions();
}
