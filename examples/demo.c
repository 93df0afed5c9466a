/* One layer norm of a real model, by liblayernorm and by a plain C loop.
 *
 *     demo examples/data/minilm
 *
 * Exits with 1 if a result is more than 3 units in the last place off. */
#define _POSIX_C_SOURCE 200809L
#include <layernorm.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
  CALLS = 2001
};
static const double allowed_error = 3;

static void fail(const char *what, const char *why) {
  fprintf(stderr, "demo: %s: %s\n", what, why);
  exit(1);
}

static FILE *open_file(const char *folder, const char *name) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "rb");
  if (!file) fail(path, "cannot be opened");
  return file;
}

static void *new_array(size_t count, size_t size) {
  void *array = calloc(count, size);
  if (!array) fail("calloc", "no memory");
  return array;
}

static void *read_array(const char *folder, const char *name, size_t count, size_t size) {
  void *array = new_array(count, size);
  FILE *file = open_file(folder, name);
  if (fread(array, size, count, file) != count) fail(name, "is too short");
  fclose(file);
  return array;
}

static void plain_loop(int64_t rows, int64_t cols, const float *x, const float *weight,
                       const float *bias, float eps, float *y) {
  for (int64_t r = 0; r < rows; r++, x += cols, y += cols) {
    float mean = 0, var = 0;
    for (int64_t c = 0; c < cols; c++) mean += x[c];
    mean /= (float)cols;
    for (int64_t c = 0; c < cols; c++) var += (x[c] - mean) * (x[c] - mean);
    float rstd = 1 / sqrtf(var / (float)cols + eps);
    for (int64_t c = 0; c < cols; c++) y[c] = (x[c] - mean) * rstd * weight[c] + bias[c];
  }
}

/* The largest |y - exact| in units in the last place, as float32, of max(|exact|, root mean square
 * of the exact row). */
static double largest_error(int64_t rows, int64_t cols, const float *y, const double *exact) {
  double largest = 0;
  for (int64_t r = 0; r < rows; r++, y += cols, exact += cols) {
    double squares = 0;
    for (int64_t c = 0; c < cols; c++) squares += exact[c] * exact[c];
    double rms = sqrt(squares / (double)cols);
    for (int64_t c = 0; c < cols; c++) {
      double unit = ldexp(1, ilogb(fmax(fabs(exact[c]), rms)) - (FLT_MANT_DIG - 1));
      double error = fabs(y[c] - exact[c]) / unit;
      if (!(error <= largest)) /* a NaN too */
        largest = error;
    }
  }
  return largest;
}

static double microseconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int ascending(const void *a, const void *b) {
  double left = *(const double *)a, right = *(const double *)b;
  return (left > right) - (left < right);
}

static double median(double *values, size_t count) {
  qsort(values, count, sizeof *values, ascending);
  return values[count / 2];
}

static void print_values(const char *name, const float *values) {
  printf("  %-7s", name);
  for (int i = 0; i < 6; i++) printf("%9.4f", values[i]);
  printf("  ...\n");
}

int main(int argc, char **argv) {
  if (argc != 2) fail("usage", "demo FOLDER, such as examples/data/minilm");
  const char *folder = argv[1];
  if (!layernorm_isa()) fail("layernorm_isa", layernorm_last_error());

  FILE *sentences = open_file(folder, "sentences.txt");
  char line[256];
  long rows, cols;
  float eps;
  if (!fgets(line, sizeof line, sentences) || sscanf(line, "%ld %ld %f", &rows, &cols, &eps) != 3)
    fail("sentences.txt", "does not begin with rows, cols and eps");
  printf("liblayernorm %d.%d.%d from C, instruction set %s, up to %d threads\n\n",
         layernorm_version() / 10000, layernorm_version() / 100 % 100, layernorm_version() % 100,
         layernorm_isa(), (int)layernorm_get_num_threads());
  printf("In:  hidden states of all-MiniLM-L6-v2, %ld tokens x %ld features, of\n", rows, cols);
  while (fgets(line, sizeof line, sentences)) printf("  %s", strchr(line, ' '));
  fclose(sentences);

  size_t count = (size_t)(rows * cols);
  float *x = read_array(folder, "x.f32", count, sizeof *x);
  float *weight = read_array(folder, "weight.f32", (size_t)cols, sizeof *weight);
  float *bias = read_array(folder, "bias.f32", (size_t)cols, sizeof *bias);
  double *exact = read_array(folder, "y.f64", count, sizeof *exact);
  float *y = new_array(count, sizeof *y);
  float *y_plain = new_array(count, sizeof *y_plain);
  float *mean = new_array((size_t)rows, sizeof *mean);
  float *rstd = new_array((size_t)rows, sizeof *rstd);

  if (layernorm_forward_f32(rows, cols, x, weight, bias, eps, y, mean, rstd) != LAYERNORM_SUCCESS)
    fail("layernorm_forward_f32", layernorm_last_error());
  print_values("x", x);
  printf("\nOut: their layer norm\n");
  print_values("y", y);
  print_values("mean", mean);
  print_values("rstd", rstd);

  /* Alternated, so that both meet the same state of the machine. */
  static double ours[CALLS], plain[CALLS];
  for (int i = 0; i < CALLS; i++) {
    double start = microseconds();
    layernorm_forward_f32(rows, cols, x, weight, bias, eps, y, NULL, NULL);
    double middle = microseconds();
    plain_loop(rows, cols, x, weight, bias, eps, y_plain);
    ours[i] = middle - start;
    plain[i] = microseconds() - middle;
  }
  double error = largest_error(rows, cols, y, exact);
  printf("\n%-24s%12s%18s\n", "", "us per call", "largest error *");
  printf("%-24s%12.1f%18.2f\n", "liblayernorm", median(ours, CALLS), error);
  printf("%-24s%12.1f%18.2f\n", "a plain C loop", median(plain, CALLS),
         largest_error(rows, cols, y_plain, exact));
  printf("* in units in the last place of float32, against float64\n");

  free(x), free(weight), free(bias), free(exact);
  free(y), free(y_plain), free(mean), free(rstd);
  return error <= allowed_error ? 0 : 1;
}
