// General calls: strides, batches, mixed types; and what a span is made from.
#include "checks.hpp"
#include <array>
#include <vector>

namespace {

const std::vector<float> x = {1, 2, 4, 8, 3, 9, 27, 81, 5, 6, 7, 9};

// x as [3][4], normalized by rows.
std::vector<float> normalized() {
  std::vector<float> y(x.size());
  CHECK(bool(layernorm::forward(3, 4, x, y)));
  return y;
}

void channels_first() {
  // [cols][rows] in memory.
  std::vector<float> transposed(x.size()), y(x.size());
  for (std::size_t row = 0; row < 3; ++row)
    for (std::size_t col = 0; col < 4; ++col) transposed[col * 3 + row] = x[row * 4 + col];
  layernorm::forward_args<float> args;
  args.rows = 3, args.cols = 4;
  args.x = {transposed, {12, 1, 3}};
  args.y = y;
  CHECK(bool(layernorm::forward(args)));
  CHECK(y == normalized());

  args.x = {layernorm::span<const float>(transposed.data(), 11), {12, 1, 3}};
  REFUSED(layernorm::forward(args), LAYERNORM_ERROR_SIZE,
          "x has 11 elements, where its strides need 12");
}

void backwards() {
  const std::vector<float> reversed(x.rbegin(), x.rend());
  std::vector<float> y(x.size());
  layernorm::forward_args<float> args;
  args.rows = 3, args.cols = 4;
  args.x = {reversed, {0, -4, -1}};
  args.y = y;
  CHECK(bool(layernorm::forward(args)));
  CHECK(y == normalized());
}

void batches() {
  std::vector<float> y(x.size(), 7), rstd(3);
  layernorm::forward_args<float> args;
  args.rows = 1, args.cols = 4, args.batch = 3;
  args.x = x, args.y = y, args.rstd = rstd;
  CHECK(bool(layernorm::forward(args)));
  CHECK(y == normalized());

  args.batch = 2;
  REFUSED(layernorm::forward(args), LAYERNORM_ERROR_SIZE,
          "x has 12 elements, not batch * rows * cols = 8");
  args.x = layernorm::span<const float>(x.data(), 8), args.y = layernorm::span<float>(y.data(), 8);
  REFUSED(layernorm::forward(args), LAYERNORM_ERROR_SIZE,
          "rstd has 3 elements, not batch * rows = 2");

  // No batches, no rows.
  std::vector<float> dweight(4, 7);
  layernorm::backward_args<float> gradients;
  gradients.rows = 1, gradients.cols = 4, gradients.batch = 0, gradients.dweight = dweight;
  gradients.dy = layernorm::span<const float>(), gradients.x = layernorm::span<const float>();
  CHECK(bool(layernorm::backward(gradients)));
  CHECK(dweight == std::vector<float>(4, 0));
}

void mixed_types() {
  // 1, 2, 4 and 8 in bfloat16.
  const std::array<layernorm::bfloat16, 4> half = {{{0x3F80}, {0x4000}, {0x4080}, {0x4100}}};
  const std::array<double, 4> weight = {2, 2, 2, 2};
  std::array<float, 4> y{}, once{}, dx{};
  layernorm::forward_args<layernorm::bfloat16, float, double> args;
  args.rows = 1, args.cols = 4;
  args.x = half, args.y = y, args.weight = weight;
  CHECK(bool(layernorm::forward(args)));
  layernorm::forward_args<layernorm::bfloat16, float, float> offset;
  offset.rows = 1, offset.cols = 4, offset.flags = LAYERNORM_FLAG_WEIGHT_OFFSET;
  const float ones[4] = {1, 1, 1, 1};
  offset.x = half, offset.y = once, offset.weight = ones;
  CHECK(bool(layernorm::forward(offset)));
  CHECK(y == once);
  for (std::size_t col = 0; col < 4; ++col) CHECK(y[col] == 2 * normalized()[col]);

  layernorm::backward_args<layernorm::bfloat16, float> gradients;
  gradients.rows = 1, gradients.cols = 4;
  gradients.dy = ones, gradients.x = half, gradients.dx = dx;
  CHECK(bool(layernorm::backward(gradients)));
  CHECK((dx == std::array<float, 4>{}));
}

void kinds_of_memory() {
  const float array[4] = {1, 2, 4, 8};
  float in_array[4];
  std::array<float, 4> in_std_array{};
  std::vector<float> in_vector(4);
  CHECK(bool(layernorm::forward(1, 4, array, in_array)));
  CHECK(bool(layernorm::forward(1, 4, std::vector<float>(array, array + 4), in_std_array)));
  CHECK(bool(layernorm::forward(1, 4, layernorm::span<const float>(array, 4), in_vector)));
  for (std::size_t col = 0; col < 4; ++col)
    CHECK(in_array[col] == normalized()[col] && in_std_array[col] == in_array[col] &&
          in_vector[col] == in_array[col]);
  // In place.
  CHECK(bool(layernorm::forward(1, 4, in_vector, in_vector)));
#if __cplusplus >= 202002L
  CHECK(bool(layernorm::forward(1, 4, std::span(array), in_vector,
                                {.weight = std::span(array), .eps = 1e-6})));
#endif
}

} // namespace

void layouts() {
  channels_first();
  backwards();
  batches();
  mixed_types();
  kinds_of_memory();
}
