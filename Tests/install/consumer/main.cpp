#include <layernorm.h>

#include <cmath>
#include <iostream>
#include <vector>

int main() {
  const std::vector<double> x = {1, 2, 3, 4};
  std::vector<double> y(x.size());
  double rstd = 0;
  layernorm_forward_args args = LAYERNORM_FORWARD_ARGS_INIT;
  args.eps = 0;
  args.x_dtype = LAYERNORM_F64;
  args.rows = 1;
  args.cols = static_cast<int64_t>(x.size());
  args.x = x.data();
  args.y = y.data();
  args.rstd = &rstd;
  const layernorm_status status = layernorm_forward(&args);
  std::cout << layernorm_status_string(status) << ": " << y[0] << " " << y[3] << ", " << rstd
            << "\n";
  const double exact = 1 / std::sqrt(1.25);
  return !(status == LAYERNORM_SUCCESS && std::fabs(rstd - exact) < 1e-15 &&
           std::fabs(y[0] + 1.5 * exact) < 1e-15 && std::fabs(y[3] - 1.5 * exact) < 1e-15);
}
