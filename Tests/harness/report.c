#include "harness.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static int64_t checks, failures;

bool check(bool passed, const char *format, ...) {
  enum {
    PRINTED_AT_MOST = 50
  };
  checks++;
  if (passed) return true;
  if (++failures <= PRINTED_AT_MOST) {
    va_list arguments;
    va_start(arguments, format);
    fputs("FAILED: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
  }
  return false;
}

int64_t check_count(void) { return checks; }

int64_t failure_count(void) { return failures; }

int summary(const char *name) {
  printf("%s: %lld checks, %lld failed\n", name, (long long)checks, (long long)failures);
  return failures == 0 && checks > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

void die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("harness: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(EXIT_FAILURE);
}
