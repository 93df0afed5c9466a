#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
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
const unsigned char *data_at(const char *directory, const char *data, const char *part,
                             const char *offset, size_t bytes) {
  static file files[FILES_AT_MOST];
  char path[4096];
  snprintf(path, sizeof path, "%s/%s.%s.bin", directory, data, part);
  for (int i = 0; i < FILES_AT_MOST; i++) {
    if (files[i].path == NULL) files[i] = read_file(path);
    if (strcmp(files[i].path, path) != 0) continue;
    if ((size_t)whole_number(offset) + bytes > files[i].size)
      die("%s ends before %zu bytes at %s", path, bytes, offset);
    return files[i].bytes + whole_number(offset);
  }
  die("more than %d data files", FILES_AT_MOST);
}

int64_t whole_number(const char *field) {
  char *end;
  long long value = strtoll(field, &end, 10);
  if (end == field || *end != 0 || value < 0) die("a manifest has %s for a whole number", field);
  return value;
}

/* Cuts a line into its fields, in place. */
static void split(char *line, char **fields, int count) {
  for (int i = 0; i < count; i++) {
    if (line == NULL) die("a manifest has a line with %d fields", i);
    fields[i] = line;
    line = strchr(line, '\t');
    if (line != NULL) *line++ = 0;
  }
  if (line != NULL) die("a manifest has a line with more than %d fields", count);
}

manifest read_manifest(const char *directory, const char *name, const char *const *columns,
                       int count) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  file f = read_file(path);
  int lines = 0;
  for (size_t i = 0; i < f.size; i++) lines += f.bytes[i] == '\n';
  manifest m = {calloc((size_t)(lines * count), sizeof *m.fields), -1};
  char *rest = NULL;
  for (char *line = strtok_r((char *)f.bytes, "\n", &rest); line != NULL;
       line = strtok_r(NULL, "\n", &rest)) {
    char **fields = m.fields + (m.lines < 0 ? 0 : m.lines) * count; /* over those of the head */
    split(line, fields, count);
    for (int i = 0; m.lines < 0 && i < count; i++)
      if (strcmp(fields[i], columns[i]) != 0) die("%s has a column %s", path, fields[i]);
    m.lines++;
  }
  return m;
}
