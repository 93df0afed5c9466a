/* What this CPU and its operating system support, and its floating-point modes. */
#ifndef LAYERNORM_SHIMS_CPU_H
#define LAYERNORM_SHIMS_CPU_H

#include <stdint.h>

/* The highest x86-64 microarchitecture level (x86-64 psABI, "Micro-Architecture Levels") up to 4
 * whose instructions the CPU has and whose registers the operating system saves; 1 at least. */
#if defined(__x86_64__)
#include <cpuid.h>

static inline int32_t ln_x86_64_level(void) {
  unsigned a, b, c, d, features;
  if (!__get_cpuid(1, &a, &b, &features, &d)) return 1;
  const unsigned fma = 1u << 12, movbe = 1u << 22, osxsave = 1u << 27, avx = 1u << 28,
                 f16c = 1u << 29;
  const unsigned leaf1 = fma | movbe | osxsave | avx | f16c;
  if ((features & leaf1) != leaf1) return 1;
  unsigned saved, saved_high;
  __asm__("xgetbv" : "=a"(saved), "=d"(saved_high) : "c"(0));
  if ((saved & 0x06) != 0x06) return 1;
  if (!__get_cpuid(0x80000001, &a, &b, &c, &d) || !(c & 1u << 5)) return 1; /* LZCNT */
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 1;
  const unsigned bmi1 = 1u << 3, avx2 = 1u << 5, bmi2 = 1u << 8;
  if ((b & (bmi1 | avx2 | bmi2)) != (bmi1 | avx2 | bmi2)) return 1;
  const unsigned avx512f = 1u << 16, avx512dq = 1u << 17, avx512cd = 1u << 28, avx512bw = 1u << 30,
                 avx512vl = 1u << 31;
  const unsigned leaf7 = avx512f | avx512dq | avx512cd | avx512bw | avx512vl;
  return (b & leaf7) == leaf7 && (saved & 0xe6) == 0xe6 ? 4 : 3;
}
#else
static inline int32_t ln_x86_64_level(void) { return 1; }
#endif

/* In bytes; 0: unknown. Of a last level that is shared, all of it. To ask takes long where a hypervisor answers. */
typedef struct ln_caches {
  int64_t first, second, last; /* first: of data */
  int32_t last_is_near; /* it is a few cores' own, at little more than the second level's latency */
} ln_caches;

static inline ln_caches ln_cache_sizes(void) {
  ln_caches caches = {0, 0, 0, 0};
#if defined(__x86_64__)
  unsigned a, b, c, d;
  if (!__get_cpuid(0, &a, &b, &c, &d)) return caches;
  caches.last_is_near = b == 0x68747541 || b == 0x6f677948; /* AuthenticAMD, HygonGenuine */
  const unsigned leaf = caches.last_is_near ? 0x8000001d : 4;
  for (unsigned i = 0; i < 8 && __get_cpuid_count(leaf, i, &a, &b, &c, &d) && a & 31; i++) {
    const int64_t bytes =
        ((int64_t)(b >> 22) + 1) * ((b >> 12 & 0x3ff) + 1) * ((b & 0xfff) + 1) * ((int64_t)c + 1);
    const unsigned level = a >> 5 & 7;
    if (level == 1 && (a & 31) == 1) caches.first = bytes;
    if (level == 2) caches.second = bytes;
    if (level >= 2) caches.last = bytes;
  }
#endif
  return caches;
}

/* Of eight lines at random in whole pages of memory, how many no cache has: a load from memory takes over 200 cycles of
 * the time stamp counter, of any speed, with those that asking for the time takes; one from a last level that is near
 * 140 at most. Always other lines: a cache keeps what is touched more often than the rest. */
static inline int32_t ln_lines_lost(const void *memory, int64_t bytes) {
  int32_t lost = 0;
#if defined(__x86_64__)
  const volatile char *first = (const char *)(((uintptr_t)memory + 4095) & ~(uintptr_t)4095);
  const uint64_t pages = bytes >= 8192 ? (uint64_t)bytes / 4096 - 1 : 0;
  if (pages == 0) return 0;
  const volatile char *lines[8];
  uint64_t random = __builtin_ia32_rdtsc();
  for (int i = 0; i < 8; i++) {
    random = random * 6364136223846793005u + 1442695040888963407u; /* Knuth, TAOCP 2, 3.3.4 */
    const volatile char *page = first + (random >> 33) % pages * 4096;
    const unsigned line = random >> 26 & 63;
    lines[i] = page + line * 64;
    (void)page[(line ^ 32) * 64]; /* to find where a page is may take as long: of all at once */
  }
  for (int i = 0; i < 8; i++) {
    __builtin_ia32_lfence();
    const uint64_t begin = __builtin_ia32_rdtsc();
    __builtin_ia32_lfence();
    (void)*lines[i];
    __builtin_ia32_lfence();
    lost += __builtin_ia32_rdtsc() - begin > 200;
  }
#endif
  return lost;
}

/* A host that flushes subnormal numbers to zero, or rounds otherwise than to nearest, would get
 * other bits on its own thread than on the library's. Each part of the work runs between
 * these two: the default modes, then the host's again. */
#if defined(__x86_64__)
static inline uint32_t ln_enter_default_float_modes(void) {
  const uint32_t flags = 0x3f, defaults = 0x1f80;
  uint32_t modes = __builtin_ia32_stmxcsr();
  if ((modes & ~flags) != defaults) __builtin_ia32_ldmxcsr(defaults);
  return modes;
}
static inline void ln_leave_default_float_modes(uint32_t modes) {
  const uint32_t flags = 0x3f, defaults = 0x1f80;
  if ((modes & ~flags) != defaults) __builtin_ia32_ldmxcsr(modes);
}
#elif defined(__aarch64__)
static inline uint32_t ln_enter_default_float_modes(void) {
  uint64_t modes;
  __asm__ volatile("mrs %0, fpcr" : "=r"(modes));
  if (modes != 0) __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
  return (uint32_t)modes;
}
static inline void ln_leave_default_float_modes(uint32_t modes) {
  if (modes != 0) __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)modes));
}
#else
static inline uint32_t ln_enter_default_float_modes(void) { return 0; }
static inline void ln_leave_default_float_modes(uint32_t modes) { (void)modes; }
#endif

#endif
