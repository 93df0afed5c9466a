/* What the library needs of the operating system: threads, sleeping and waking, the environment,
 * and the thread-local buffer of layernorm_last_error(). */
#ifndef LAYERNORM_SHIMS_HOST_H
#define LAYERNORM_SHIMS_HOST_H

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
  LN_ERROR_CAPACITY = 256
};

static inline char *ln_error_buffer(void) {
  static _Thread_local char buffer[LN_ERROR_CAPACITY];
  return buffer;
}

/* The host's way to run the work of calls from this thread. `run` is a layernorm_parallel_for or NULL. */
typedef struct ln_thread_host {
  void (*run)(void *context, int64_t count, void (*task)(void *task_context, int64_t index),
              void *task_context);
  void *context;
} ln_thread_host;

static inline ln_thread_host *ln_this_thread_host(void) {
  static _Thread_local ln_thread_host host;
  return &host;
}

/* Sleeps while *word == expected; may return early. */
static inline void ln_futex_wait(const void *word, uint32_t expected) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static inline void ln_futex_wake(const void *word, int32_t threads) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, threads, NULL, NULL, 0);
}

static inline void ln_spin_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static inline int64_t ln_nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The CPUs that this process may run on; 1 at least. By the system call, since the C library's
 * wrapper needs feature macros that an importer of this header may not have set. */
static inline int32_t ln_cpu_count(void) {
  uint64_t set[128];
  long bytes = syscall(SYS_sched_getaffinity, 0, sizeof set, set);
  int32_t count = 0;
  for (long i = 0; i < bytes / (long)sizeof set[0]; i++) count += __builtin_popcountll(set[i]);
  return count < 1 ? 1 : count;
}

/* Starts a detached thread that takes no signals: they are the host's. Returns 0 or an errno. */
static inline int ln_start_thread(void *(*body)(void *), void *argument) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  int failure = pthread_create(&thread, NULL, body, argument);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (failure == 0) pthread_detach(thread);
  return failure;
}

#endif
