#include "harness.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

uint64_t fnv(uint64_t hash, const unsigned char *bytes, size_t count) {
  for (size_t i = 0; i < count; i++) hash = (hash ^ bytes[i]) * 0x100000001B3u;
  return hash;
}

/* The digests that a worker has written, one for each case. */
static uint64_t *read_digests(FILE *stream, int count) {
  uint64_t *digests = calloc((size_t)count, sizeof *digests);
  rewind(stream);
  for (int i = 0; i < count; i++)
    check(fscanf(stream, "%" SCNx64, &digests[i]) == 1, "the digest of case %d is missing", i);
  return digests;
}

void compare_isas(const char *worker, int count, const char *(*describe_case)(int)) {
  enum {
    ISAS_AT_MOST = 8
  };
  pid_t workers[ISAS_AT_MOST] = {0};
  FILE *streams[ISAS_AT_MOST] = {NULL};
  for (int i = 0; isa_names[i] != NULL; i++) { /* all at once */
    if (!cpu_has(isa_names[i])) {
      printf("same bits, %s: NOT RUN, this CPU does not have it\n", isa_names[i]);
      continue;
    }
    streams[i] = tmpfile();
    if (streams[i] == NULL) die("cannot make a temporary file");
    setting isa = {"LAYERNORM_ISA", isa_names[i]};
    workers[i] = start_again(worker, isa, streams[i]);
  }
  uint64_t *first = NULL;
  for (int i = 0; isa_names[i] != NULL; i++) {
    if (workers[i] == 0) continue;
    int status = wait_for(workers[i]);
    uint64_t *digests = read_digests(streams[i], count);
    fclose(streams[i]);
    check(status == EXIT_SUCCESS, "%s ended with status %d", isa_names[i], status);
    for (int c = 0; first != NULL && c < count; c++)
      check(digests[c] == first[c], "%s: other bits under %s than under %s", describe_case(c),
            isa_names[i], isa_names[0]);
    if (first == NULL)
      first = digests;
    else
      free(digests);
  }
  free(first);
}

void check_isa_of_worker(void) {
  const char *isa = layernorm_isa(), *forced = getenv("LAYERNORM_ISA");
  check(isa != NULL && forced != NULL && strcmp(isa, forced) == 0, "%s runs, not %s",
        isa ? isa : layernorm_last_error(), forced);
}
