#include <layernorm.hpp>

#include <iostream>
#include <vector>

int main() {
  const std::vector<float> x = {1, 3, 5, 5}, bias = {10, 20};
  std::vector<float> y(4);
  layernorm::forward_args<float> args;
  args.bias = bias;
  args.eps = 0;
  layernorm::forward(2, 2, x, y, args).or_throw();
  std::cout << y[0] << " " << y[1] << ", " << y[2] << " " << y[3] << "\n";
  return y != std::vector<float>{9, 21, 10, 20};
}
