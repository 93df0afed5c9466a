#include "harness.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

const char *const isa_names[] = {
#if defined(__x86_64__)
    "x86-64",
    "x86-64-v3",
    "x86-64-v4",
#else
    "portable",
#endif
    NULL,
};

bool cpu_has(const char *isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
            __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512vl");
  if (strcmp(isa, "x86-64-v3") == 0) return v3;
  if (strcmp(isa, "x86-64-v4") == 0) return v4;
#endif
  for (int i = 0; isa_names[i] != NULL; i++)
    if (strcmp(isa, isa_names[i]) == 0) return true;
  return false;
}

pid_t start_again(const char *argument, setting environment, FILE *output) {
  fflush(NULL);
  pid_t child = fork();
  if (child < 0) die("cannot fork");
  if (child == 0) {
    if (environment.value != NULL)
      setenv(environment.name, environment.value, 1);
    else
      unsetenv(environment.name);
    if (output != NULL && dup2(fileno(output), STDOUT_FILENO) < 0) _exit(126);
    execl("/proc/self/exe", "harness", argument, (char *)NULL);
    _exit(127);
  }
  return child;
}

int wait_for(pid_t child) {
  int status;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int run_again(const char *argument, setting environment, FILE *output) {
  return wait_for(start_again(argument, environment, output));
}

int thread_count(void) {
  DIR *tasks = opendir("/proc/self/task");
  if (tasks == NULL) die("cannot read /proc/self/task");
  int count = 0;
  for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) count += entry->d_name[0] != '.';
  closedir(tasks);
  return count;
}
