#include "harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
  REGION_BYTES = 48 << 20, /* the largest case in its widest layout; touched only where used */
  MARGIN = 256
};

static void map_region(guarded *region) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  unsigned char *mapping = mmap(NULL, REGION_BYTES + 2 * page, PROT_NONE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED || mprotect(mapping + page, REGION_BYTES, PROT_READ | PROT_WRITE) != 0)
    die("no memory for a guarded region");
  region->begin = mapping + page;
  region->end = region->begin + REGION_BYTES;
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

static size_t margin_below(const guarded *region) {
  return least(MARGIN, (size_t)(region->low - region->begin));
}

static size_t margin_above(const guarded *region) {
  return least(MARGIN, (size_t)(region->end - region->low) - region->bytes);
}

unsigned char *place(guarded *region, size_t bytes, placement where, size_t shift) {
  if (region->begin == NULL) map_region(region);
  if (bytes + shift > REGION_BYTES) die("%zu bytes do not fit a guarded region", bytes);
  region->low = where == ENDS_AT_GUARD ? region->end - bytes - shift : region->begin + shift;
  region->bytes = bytes;
  size_t below = margin_below(region);
  memset(region->low - below, POISON, below + bytes + margin_above(region));
  return region->low;
}

bool all_poison(const unsigned char *data, size_t bytes) {
  return bytes == 0 || (data[0] == POISON && memcmp(data, data + 1, bytes - 1) == 0);
}

bool margins_intact(const guarded *region) {
  size_t below = margin_below(region);
  return all_poison(region->low - below, below) &&
         all_poison(region->low + region->bytes, margin_above(region));
}

static char running[512];

static void fault(int signal_number) {
  static const char sentence[] = "FAILED: touched a guard page or crashed: ";
  ssize_t written = write(STDERR_FILENO, sentence, sizeof sentence - 1);
  written = write(STDERR_FILENO, running, strlen(running));
  written = write(STDERR_FILENO, "\n", 1);
  (void)written;
  _exit(128 + signal_number);
}

void report_faults_as(const char *what) {
  if (running[0] == 0) {
    signal(SIGSEGV, fault);
    signal(SIGBUS, fault);
    signal(SIGILL, fault);
    signal(SIGFPE, fault);
    signal(SIGTRAP, fault);
  }
  snprintf(running, sizeof running, "%s", what);
}
