#include "checks.hpp"

int main() {
  element_types();
  sizes();
  layouts();
  std::printf("C++ %ld: %d failures\n", long{__cplusplus}, failures);
  return failures != 0;
}
