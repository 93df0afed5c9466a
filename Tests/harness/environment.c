/* What LAYERNORM_ISA and LAYERNORM_NUM_THREADS do. The library reads them once, so that each value
 * has a process of its own. */
#include "harness.h"

#include <stdlib.h>
#include <string.h>

enum {
  THREADS_SET = 5,
  LONGEST = 512
};

/* What a process finds. */
typedef struct findings {
  int everyday, general; /* statuses of the first calls */
  char isa[LONGEST];     /* "NULL" if it is */
  char sentence[LONGEST];
  int threads;                   /* before the setter is called */
  int after_setter, threads_set; /* the status of a call after it, and the number of threads */
} findings;

static layernorm_status general_call(void) {
  float x[2] = {1, 2}, y[2];
  layernorm_forward_args args = LAYERNORM_FORWARD_ARGS_INIT;
  args.rows = 1;
  args.cols = 2;
  args.x = x;
  args.y = y;
  return layernorm_forward(&args);
}

int environment_worker(void) {
  report_faults_as("a call under LAYERNORM_ISA or LAYERNORM_NUM_THREADS");
  float x[2] = {1, 2}, y[2] = {7, 7};
  int everyday = layernorm_forward_f32(1, 2, x, NULL, NULL, 1, y, NULL, NULL);
  if (everyday != LAYERNORM_SUCCESS && (y[0] != 7 || y[1] != 7)) return EXIT_FAILURE;
  char sentence[LONGEST];
  snprintf(sentence, sizeof sentence, "%s", layernorm_last_error());
  int general = general_call();
  const char *isa = layernorm_isa();
  int threads = layernorm_get_num_threads();
  int set = layernorm_set_num_threads(THREADS_SET);
  int after = general_call();
  printf("%d\n%d\n%s\n%s\n%d\n%d\n%d\n", everyday, general, isa ? isa : "NULL", sentence, threads,
         after, layernorm_get_num_threads());
  return set == LAYERNORM_SUCCESS ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void read_line(FILE *stream, char line[LONGEST]) {
  if (fgets(line, LONGEST, stream) == NULL) line[0] = 0;
  line[strcspn(line, "\n")] = 0;
}

static int read_number(FILE *stream) {
  char line[LONGEST];
  read_line(stream, line);
  return line[0] == 0 ? -1 : atoi(line);
}

static findings find(const char *name, const char *value) {
  findings found;
  FILE *output = tmpfile();
  if (output == NULL) die("cannot make a temporary file");
  int status = run_again("environment_worker", (setting){name, value}, output);
  check(status == EXIT_SUCCESS, "%s=%s: ended with status %d", name, value, status);
  rewind(output);
  found.everyday = read_number(output);
  found.general = read_number(output);
  read_line(output, found.isa);
  read_line(output, found.sentence);
  found.threads = read_number(output);
  found.after_setter = read_number(output);
  found.threads_set = read_number(output);
  fclose(output);
  return found;
}

static void expect_status(const char *name, const char *value, int got, int wanted) {
  check(got == wanted, "%s=%s: %s, not %s", name, value,
        layernorm_status_string((layernorm_status)got),
        layernorm_status_string((layernorm_status)wanted));
}

static void expect_refused(const char *name, const char *value, const findings *found, int status) {
  expect_status(name, value, found->everyday, status);
  expect_status(name, value, found->general, status);
  check(strncmp(found->sentence, name, strlen(name)) == 0,
        "%s=%s: the sentence \"%s\" does not begin with it", name, value, found->sentence);
}

static void instruction_sets(void) {
  static const char *const name = "LAYERNORM_ISA";
  for (int i = 0; isa_names[i] != NULL; i++) {
    findings found = find(name, isa_names[i]);
    if (cpu_has(isa_names[i])) {
      expect_status(name, isa_names[i], found.everyday, LAYERNORM_SUCCESS);
      check(strcmp(found.isa, isa_names[i]) == 0, "%s=%s: %s runs", name, isa_names[i], found.isa);
    } else {
      expect_refused(name, isa_names[i], &found, LAYERNORM_ERROR_ISA);
    }
  }
  char long_name[3000];
  memset(long_name, 'x', sizeof long_name - 1);
  long_name[sizeof long_name - 1] = 0;
  const char *const unknown[] = {"avx512",  "x86-64-v2",  "x86-64-v5",        "X86-64", " x86-64",
                                 "x86-64 ", "x86-64-v3x", "%s%n%s%n%s%n\xff", long_name};
  for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
    findings found = find(name, unknown[i]);
    expect_refused(name, unknown[i], &found, LAYERNORM_ERROR_ISA);
    expect_status(name, unknown[i], found.after_setter, LAYERNORM_ERROR_ISA);
    check(strcmp(found.isa, "NULL") == 0, "%s=%s: %s runs", name, unknown[i], found.isa);
  }
}

static void thread_counts(void) {
  static const char *const name = "LAYERNORM_NUM_THREADS";
  static const char *const good[] = {"1", "3", "1024"};
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    findings found = find(name, good[i]);
    expect_status(name, good[i], found.everyday, LAYERNORM_SUCCESS);
    check(found.threads == atoi(good[i]), "%s=%s: %d threads", name, good[i], found.threads);
    check(found.threads_set == THREADS_SET, "%s=%s: the setter has no effect", name, good[i]);
  }
  static const char *const bad[] = {"0",  "-1",  "1025", "many", "2x", " 2",
                                    "2 ", "1.5", "0x2",  "+",    "-",  "99999999999999999999"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    findings found = find(name, bad[i]);
    expect_refused(name, bad[i], &found, LAYERNORM_ERROR_NUM_THREADS);
    expect_status(name, bad[i], found.after_setter, LAYERNORM_SUCCESS);
    check(found.threads_set == THREADS_SET, "%s=%s: the setter has no effect", name, bad[i]);
  }
}

int test_environment(void) {
  instruction_sets();
  thread_counts();
  return summary("environment");
}
