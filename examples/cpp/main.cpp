#include <cstdio>
#include <layernorm.hpp>
#include <vector>

template <class Range> void print(const char *name, const Range &values) {
  std::printf("%s:", name);
  for (const float value : values) std::printf(" %.4f", static_cast<double>(value));
  std::printf("\n");
}

int main() {
  // Layer norm of two rows of four, and their means.
  const std::vector<float> x = {1, 2, 3, 4, 10, 20, 30, 50};
  const std::vector<float> weight = {1, 1, 1, 2};
  std::vector<float> y(8), mean(2);
  layernorm::forward(2, 4, x, y, {.weight = weight, .mean = mean}).or_throw();
  print("y", y);
  print("mean", mean);

  // One step of a residual stream: stream += x, and y is the RMSNorm of the sum.
  std::vector<float> stream(8, 1);
  layernorm::rms_add_forward(2, 4, x, stream, y, {.eps = 1e-6, .sum = stream}).or_throw();
  print("stream", stream);

  // The gradients, for dy = x.
  std::vector<float> dx(8), dweight(4);
  layernorm::backward(2, 4, x, stream, {.weight = weight, .dx = dx, .dweight = dweight}).or_throw();
  print("dweight", dweight);

  // bfloat16 in, float out, normalized over the channels of [2 channels][4 pixels].
  const std::vector<layernorm::bfloat16> image = {
      {0x3F80}, {0x4000}, {0x4040}, {0x4080},  // 1 2 3 4
      {0x40A0}, {0x4000}, {0x3F80}, {0x4080}}; // 5 2 1 4
  const layernorm::strides channels_first = {0, 1, 4};
  layernorm::forward<layernorm::bfloat16, float>(
      {.rows = 4, .cols = 2, .x = {image, channels_first}, .y = {y, channels_first}})
      .or_throw();
  print("channels", y);

  // What is wrong comes as an exception or as a result, with nothing written.
  if (auto result = layernorm::forward(2, 5, x, y); !result)
    std::printf("%s: %s\n", layernorm_status_string(result.status()), result.message());
  try {
    layernorm::forward(2, 4, x, y, {.eps = -1}).or_throw();
  } catch (const layernorm::error &error) {
    std::printf("%s: %s\n", layernorm_status_string(error.status()), error.what());
  }
}
