#include <layernorm.h>
#include <stdio.h>

int main(void) {
  const float x[2][2] = {{1, 3}, {5, 5}};
  const float bias[2] = {10, 20};
  float y[2][2];
  layernorm_status status = layernorm_forward_f32(2, 2, x[0], NULL, bias, 0, y[0], NULL, NULL);
  printf("%s: %g %g, %g %g\n", layernorm_status_string(status), y[0][0], y[0][1], y[1][0], y[1][1]);
  return !(status == LAYERNORM_SUCCESS && layernorm_version() == LAYERNORM_VERSION &&
           y[0][0] == 9 && y[0][1] == 21 && y[1][0] == 10 && y[1][1] == 20);
}
