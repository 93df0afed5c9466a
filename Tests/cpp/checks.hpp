// What the C++ tests check with, exceptions or not.
#pragma once
#include <cstdio>
#include <cstring>
#include <layernorm.hpp>

inline int failures = 0;

inline void check(bool holds, const char *what, int line) {
  if (holds) return;
  std::printf("line %d: %s does not hold\n", line, what);
  ++failures;
}
#define CHECK(...) check((__VA_ARGS__), #__VA_ARGS__, __LINE__)

inline void refused(const layernorm::result &result, layernorm_status status, const char *message,
                    int line) {
  if (!result && result.status() == status && std::strcmp(result.message(), message) == 0) return;
  std::printf("line %d: %s: '%s', not '%s'\n", line, layernorm_status_string(result.status()),
              result.message(), message);
  ++failures;
}
#define REFUSED(result, status, message) refused(result, status, message, __LINE__)

void element_types();
void sizes();
void layouts();
