#include "harness.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The columns of the manifest: what a case is, and then one offset for each tensor. */
static const char *const columns[] = {"op",   "data", "x_dtype",      "y_dtype", "param_dtype",
                                      "rows", "cols", "distribution", "eps"};
static const char *const tensors[TENSOR_COUNT] = {"x", "weight", "bias", "y", "mean", "rstd"};
enum {
  COLUMN_COUNT = sizeof columns / sizeof *columns,
  FIELD_COUNT = COLUMN_COUNT + TENSOR_COUNT,
  FILES_AT_MOST = 64
};

typedef struct file {
  char *path;
  unsigned char *bytes;
  size_t size;
} file;

static file read_file(const char *path) {
  file f = {strdup(path), NULL, 0};
  FILE *stream = fopen(path, "rb");
  if (stream == NULL || fseek(stream, 0, SEEK_END) != 0) die("cannot read %s", path);
  f.size = (size_t)ftell(stream);
  rewind(stream);
  f.bytes = malloc(f.size + 1);
  if (f.bytes == NULL || fread(f.bytes, 1, f.size, stream) != f.size) die("cannot read %s", path);
  f.bytes[f.size] = 0;
  fclose(stream);
  return f;
}

/* Each file is read once and stays for as long as the process. */
static const file *data_file(const char *directory, const char *data, const char *part) {
  static file files[FILES_AT_MOST];
  char path[4096];
  snprintf(path, sizeof path, "%s/%s.%s.bin", directory, data, part);
  for (int i = 0; i < FILES_AT_MOST; i++) {
    if (files[i].path == NULL) files[i] = read_file(path);
    if (strcmp(files[i].path, path) == 0) return &files[i];
  }
  die("more than %d data files", FILES_AT_MOST);
}

layernorm_dtype dtype_of(const test_case *c, tensor t) {
  switch (t) {
  case X:
    return c->x_dtype;
  case Y:
    return c->y_dtype;
  case WEIGHT:
  case BIAS:
    return c->param_dtype;
  default:
    return compute_dtype(c->x_dtype);
  }
}

int64_t count_of(const test_case *c, tensor t) {
  switch (t) {
  case X:
  case Y:
    return c->rows * c->cols;
  case WEIGHT:
  case BIAS:
    return c->cols;
  default:
    return c->rows;
  }
}

const char *describe(const test_case *c) {
  static char text[256];
  snprintf(text, sizeof text, "%s x %s, y %s%s%s%s%s, %" PRId64 " x %" PRId64 ", %s, eps %g", c->op,
           dtype_name(c->x_dtype), dtype_name(c->y_dtype), c->data[WEIGHT] ? ", weight" : "",
           c->data[BIAS] ? ", bias" : "", c->data[WEIGHT] || c->data[BIAS] ? " " : "",
           c->data[WEIGHT] || c->data[BIAS] ? dtype_name(c->param_dtype) : "", c->rows, c->cols,
           c->distribution, c->eps);
  return text;
}

static int64_t whole(const char *field) {
  char *end;
  long long value = strtoll(field, &end, 10);
  if (end == field || *end != 0 || value < 0) die("the manifest has %s for a whole number", field);
  return value;
}

static test_case parse_case(const char *directory, char *field[FIELD_COUNT]) {
  test_case c = {.x_dtype = dtype_named(field[2]),
                 .y_dtype = dtype_named(field[3]),
                 .param_dtype = dtype_named(field[4]),
                 .rows = whole(field[5]),
                 .cols = whole(field[6]),
                 .eps = strtod(field[8], NULL)};
  if (strcmp(field[0], "layer_forward") != 0) die("no op is called %s", field[0]);
  snprintf(c.op, sizeof c.op, "%s", field[0]);
  snprintf(c.distribution, sizeof c.distribution, "%s", field[7]);
  for (int t = X; t < TENSOR_COUNT; t++) {
    const char *offset = field[COLUMN_COUNT + t];
    if (strcmp(offset, "-") == 0) continue;
    bool output = t >= Y;
    const file *f = data_file(directory, field[1], output ? c.op : "inputs");
    size_t bytes = (size_t)count_of(&c, t) * (dtype_size(dtype_of(&c, t)) + (output ? 1 : 0));
    if ((size_t)whole(offset) + bytes > f->size)
      die("%s ends before the %s of: %s", f->path, tensors[t], describe(&c));
    c.data[t] = f->bytes + whole(offset);
  }
  return c;
}

/* Cuts a line into its fields, in place. */
static void split(char *line, char *field[FIELD_COUNT]) {
  for (int i = 0; i < FIELD_COUNT; i++) {
    if (line == NULL) die("the manifest has a line with %d fields", i);
    field[i] = line;
    line = strchr(line, '\t');
    if (line != NULL) *line++ = 0;
  }
  if (line != NULL) die("the manifest has a line with more than %d fields", FIELD_COUNT);
}

case_list read_cases(const char *directory) {
  char path[4096];
  snprintf(path, sizeof path, "%s/manifest.tsv", directory);
  file manifest = read_file(path);
  int lines = 0;
  for (size_t i = 0; i < manifest.size; i++) lines += manifest.bytes[i] == '\n';
  case_list list = {calloc((size_t)lines, sizeof *list.cases), 0};
  char *field[FIELD_COUNT];
  char *rest = NULL;
  for (char *line = strtok_r((char *)manifest.bytes, "\n", &rest); line != NULL;
       line = strtok_r(NULL, "\n", &rest)) {
    split(line, field);
    if (list.count == 0 && strcmp(field[0], "op") == 0) {
      for (int i = 0; i < FIELD_COUNT; i++)
        if (strcmp(field[i], i < COLUMN_COUNT ? columns[i] : tensors[i - COLUMN_COUNT]) != 0)
          die("the manifest has a column %s", field[i]);
      continue;
    }
    list.cases[list.count++] = parse_case(directory, field);
  }
  return list;
}
