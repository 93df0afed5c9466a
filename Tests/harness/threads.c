/* Calls from many threads, forks, the pool's own threads, a host's threads, and the error of each
 * thread. Every result is compared with that of a single thread. */
#include "harness.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
  CALLERS = 8,
  CALLS_EACH = 40,
  FORKS = 12,
  SECONDS_AT_MOST = 60
};

/* A case and what one thread has computed. */
typedef struct job {
  test_case c;
  unsigned char *results[TENSOR_COUNT];
} job;

typedef struct job_list {
  job *jobs;
  int count;
  const job *parallel; /* one that is worth more than one thread */
  const job *backward; /* and one that has sums over rows besides */
} job_list;

static size_t bytes_of(const test_case *c, tensor t) {
  return (size_t)count_of(c, t) * dtype_size(dtype_of(c, t));
}

/* The outputs, in memory of this call; false if the library fails. */
static bool compute(const test_case *c, unsigned char *results[TENSOR_COUNT]) {
  call_arguments arguments = {.batch = 1};
  for (int t = X; t < TENSOR_COUNT; t++) {
    results[t] = is_output(c, (tensor)t) ? allocate(bytes_of(c, (tensor)t)) : NULL;
    arguments.at[t] = results[t] ? results[t] : (unsigned char *)c->data[t];
  }
  return call_general(c, &arguments) == LAYERNORM_SUCCESS;
}

static bool comes_out_the_same(const job *j) {
  unsigned char *results[TENSOR_COUNT];
  bool same = compute(&j->c, results);
  for (int t = X; t < TENSOR_COUNT; t++) {
    if (results[t] != NULL)
      same = memcmp(results[t], j->results[t], bytes_of(&j->c, (tensor)t)) == 0 && same;
    free(results[t]);
  }
  return same;
}

static job_list make_jobs(void) {
  case_list cases = make_synthetic_cases();
  job_list list = {calloc((size_t)cases.count, sizeof *list.jobs), 0, NULL, NULL};
  layernorm_set_num_threads(1);
  for (int i = 0; i < cases.count; i++) {
    const test_case *c = &cases.cases[i];
    if (c->rows * c->cols > 1 << 20) continue;
    job *j = &list.jobs[list.count++];
    j->c = *c;
    check(compute(c, j->results), "%s: %s", describe(c), layernorm_last_error());
    const job **large = c->op->is_backward ? &list.backward : &list.parallel;
    if (c->rows * c->cols > 1 << 18 && c->x_dtype == LAYERNORM_F32 && *large == NULL) *large = j;
  }
  return list;
}

static void numbers_of_threads(void) {
  cpu_set_t cpus;
  if (sched_getaffinity(0, sizeof cpus, &cpus) != 0) die("sched_getaffinity");
  int32_t usual = CPU_COUNT(&cpus);
  check(layernorm_get_num_threads() == usual, "%d threads at first, %d CPUs",
        (int)layernorm_get_num_threads(), (int)usual);
  for (int32_t n = 1; n <= 1024; n++)
    check(layernorm_set_num_threads(n) == LAYERNORM_SUCCESS && layernorm_get_num_threads() == n,
          "%d threads cannot be set", (int)n);
  static const int32_t refused[] = {-1, 1025, INT32_MIN, INT32_MAX};
  for (int i = 0; i < 4; i++) {
    check(layernorm_set_num_threads(refused[i]) == LAYERNORM_ERROR_NUM_THREADS,
          "%d threads are not refused", (int)refused[i]);
    check(strncmp(layernorm_last_error(), "num_threads", 11) == 0, "the sentence is \"%s\"",
          layernorm_last_error());
    check(layernorm_get_num_threads() == 1024, "a refused number of threads has an effect");
  }
  check(layernorm_set_num_threads(0) == LAYERNORM_SUCCESS, "0 threads are refused");
  check(layernorm_get_num_threads() == usual, "0 does not give the default number of threads");
}

static void the_pool(const job_list *list) {
  check(thread_count() == 1, "%d threads run before any work is large", thread_count());
  layernorm_set_num_threads(4);
  check(comes_out_the_same(list->parallel), "4 threads: other bits");
  check(thread_count() == 4, "%d threads run after large work for 4", thread_count());
  clock_t before = clock();
  nanosleep(&(struct timespec){1, 0}, NULL);
  double used = (double)(clock() - before) / CLOCKS_PER_SEC;
  check(used < 0.01, "idle for a second, the process used %.3f s of CPU time", used);
}

typedef struct caller {
  const job_list *list;
  unsigned seed;
  int wrong;
} caller;

static void *call_often(void *argument) {
  caller *me = argument;
  for (int i = 0; i < CALLS_EACH; i++) {
    me->seed = me->seed * 1103515245 + 12345;
    me->wrong += !comes_out_the_same(&me->list->jobs[(me->seed >> 8) % me->list->count]);
  }
  return NULL;
}

/* Meanwhile the number of threads changes, which may change no bits. */
static void many_callers(const job_list *list) {
  caller callers[CALLERS];
  pthread_t threads[CALLERS];
  for (int i = 0; i < CALLERS; i++) {
    callers[i] = (caller){list, (unsigned)i, 0};
    if (pthread_create(&threads[i], NULL, call_often, &callers[i]) != 0) die("no thread");
  }
  for (int i = 0; i < 200; i++) {
    layernorm_set_num_threads(1 + i % 7);
    nanosleep(&(struct timespec){0, 1000000}, NULL);
  }
  for (int i = 0; i < CALLERS; i++) {
    pthread_join(threads[i], NULL);
    check(callers[i].wrong == 0, "caller %d of %d: %d of %d calls gave other bits", i, CALLERS,
          callers[i].wrong, CALLS_EACH);
  }
}

/* Ends a process that hangs, so that its parent sees it. */
static void compute_in_child(const job_list *list) {
  alarm(SECONDS_AT_MOST);
  layernorm_set_num_threads(3);
  bool same = comes_out_the_same(list->parallel) && comes_out_the_same(list->backward);
  _exit(!same ? 1 : thread_count() != 3 ? 2 : 0);
}

static void fork_and_compute(const job_list *list, const char *when) {
  fflush(NULL);
  pid_t child = fork();
  if (child < 0) die("cannot fork");
  if (child == 0) compute_in_child(list);
  int status;
  waitpid(child, &status, 0);
  check(!WIFSIGNALED(status), "a child forked %s ended by signal %d", when, WTERMSIG(status));
  check(!WIFEXITED(status) || WEXITSTATUS(status) != 1, "a child forked %s: other bits", when);
  check(!WIFEXITED(status) || WEXITSTATUS(status) != 2, "a child forked %s is not parallel", when);
}

static void forks(const job_list *list) {
  layernorm_set_num_threads(3);
  check(comes_out_the_same(list->parallel), "3 threads: other bits");
  fork_and_compute(list, "from an idle process");
  caller busy[2] = {{list, 1, 0}, {list, 2, 0}};
  pthread_t threads[2];
  for (int i = 0; i < 2; i++)
    if (pthread_create(&threads[i], NULL, call_often, &busy[i]) != 0) die("no thread");
  for (int i = 0; i < FORKS; i++) fork_and_compute(list, "amid calls");
  for (int i = 0; i < 2; i++) {
    pthread_join(threads[i], NULL);
    check(busy[i].wrong == 0, "%d calls gave other bits while the process forked", busy[i].wrong);
  }
  check(comes_out_the_same(list->parallel), "3 threads after forks: other bits");
}

static void a_host(const job_list *list) {
  host_pool pool = {.threads = 3};
  layernorm_set_num_threads(3);
  check(layernorm_set_parallel_for(host_parallel_for, &pool) == LAYERNORM_SUCCESS, "refused");
  check(comes_out_the_same(list->parallel), "on the host's threads: other bits");
  check(pool.calls == 1 && pool.indices > 1, "the host served %d calls, %d parts", (int)pool.calls,
        (int)pool.indices);
  float x[4] = {1, 2, 3, 4}, y[4];
  check(layernorm_forward_f32(1, 4, x, NULL, NULL, 1, y, NULL, NULL) == LAYERNORM_SUCCESS, "small");
  check(pool.calls == 1, "small work went to the host's threads");
  check(comes_out_the_same(list->backward), "backward on the host's threads: other bits");
  check(pool.calls > 1, "backward did not go to the host's threads");
  layernorm_set_num_threads(1);
  check(comes_out_the_same(list->parallel), "a host, 1 thread: other bits");
  layernorm_set_num_threads(3);
  check(layernorm_set_parallel_for(NULL, NULL) == LAYERNORM_SUCCESS, "NULL is refused");
  int64_t calls = pool.calls;
  check(comes_out_the_same(list->parallel), "back on own threads: other bits");
  check(pool.calls == calls, "the host's threads are used after they were taken away");
}

static void *call_once(void *argument) {
  const job_list *list = argument;
  check(comes_out_the_same(list->parallel), "on a thread without a host: other bits");
  return NULL;
}

static void a_host_of_a_thread(const job_list *list) {
  host_pool own = {.threads = 3}, others = {.threads = 3};
  layernorm_set_num_threads(3);
  layernorm_set_parallel_for(host_parallel_for, &others);
  check(layernorm_set_thread_parallel_for(host_parallel_for, &own) == LAYERNORM_SUCCESS, "refused");
  check(comes_out_the_same(list->parallel), "on the host of this thread: other bits");
  check(own.calls == 1 && others.calls == 0, "the host of the process served this thread's call");
  pthread_t thread;
  if (pthread_create(&thread, NULL, call_once, (void *)list) != 0) die("no thread");
  pthread_join(thread, NULL);
  check(own.calls == 1 && others.calls == 1, "the host of this thread served another's call");
  check(layernorm_set_thread_parallel_for(NULL, NULL) == LAYERNORM_SUCCESS, "NULL is refused");
  check(comes_out_the_same(list->parallel), "back on the host of the process: other bits");
  check(own.calls == 1 && others.calls == 2, "this thread's host is used after it was taken away");
  layernorm_set_parallel_for(NULL, NULL);
}

static void *fail_with_rows(void *sentence) {
  strcpy(sentence, layernorm_last_error());
  float x = 0;
  layernorm_forward_f32(-1, 1, &x, NULL, NULL, 1, &x, NULL, NULL);
  strcat(sentence, layernorm_last_error());
  return NULL;
}

static void the_last_error(void) {
  float x[1] = {0}, y[1];
  layernorm_forward_f32(1, 1, x, NULL, NULL, -1, y, NULL, NULL);
  char other[1024];
  pthread_t thread;
  if (pthread_create(&thread, NULL, fail_with_rows, other) != 0) die("no thread");
  pthread_join(thread, NULL);
  check(strncmp(other, "rows", 4) == 0, "another thread's errors are \"%s\"", other);
  check(strncmp(layernorm_last_error(), "eps", 3) == 0, "this thread's error became \"%s\"",
        layernorm_last_error());
  layernorm_forward_f32(1, 1, x, NULL, NULL, 1, y, NULL, NULL);
  check(strncmp(layernorm_last_error(), "eps", 3) == 0, "a success made the error \"%s\"",
        layernorm_last_error());
}

int test_threads(void) {
  alarm(4 * SECONDS_AT_MOST);
  report_faults_as("threads");
  numbers_of_threads();
  job_list list = make_jobs();
  the_pool(&list);
  the_last_error();
  many_callers(&list);
  forks(&list);
  a_host(&list);
  a_host_of_a_thread(&list);
  return summary("threads");
}
