#include "refusals.h"

#include <ctype.h>
#include <string.h>

static union {
  double aligned;
  unsigned char bytes[PARTS * PART];
} block;
static unsigned char before[sizeof block];

static void fill_block(void) {
  for (size_t i = 0; i < sizeof block.bytes; i++)
    block.bytes[i] = (unsigned char)(i * 37 % 113); /* finite in every dtype */
  memcpy(before, block.bytes, sizeof before);
}

void *part(int t) {
  if (before[1] == 0) fill_block();
  return block.bytes + t * PART;
}

void *moved(int t, int64_t bytes) { return (unsigned char *)part(t) + bytes; }

const int64_t *strides(int64_t batch, int64_t row, int64_t col) {
  static int64_t kept[4][3];
  static int turn;
  int64_t *s = kept[turn++ % 4];
  s[0] = batch;
  s[1] = row;
  s[2] = col;
  return s;
}

bool block_unchanged(void) {
  bool same = memcmp(before, block.bytes, sizeof before) == 0;
  fill_block();
  return same;
}

/* Whether the sentence begins with one of the names, divided by '|', as a whole word. */
static bool begins_with_one_of(const char *sentence, const char *names) {
  while (*names != 0) {
    size_t length = strcspn(names, "|");
    if (strncmp(sentence, names, length) == 0 && !isalnum((unsigned char)sentence[length]) &&
        sentence[length] != '_')
      return true;
    names += length + (names[length] == '|');
  }
  return false;
}

void expect_refused(layernorm_status got, layernorm_status wanted, const char *names,
                    const char *word, const char *call) {
  const char *sentence = layernorm_last_error();
  check(got == wanted, "%s: %s, not %s (%s)", call, layernorm_status_string(got),
        layernorm_status_string(wanted), sentence);
  check(got == LAYERNORM_SUCCESS ||
            (begins_with_one_of(sentence, names) && strstr(sentence, word) != NULL),
        "%s: the sentence \"%s\" does not begin with %s or lacks \"%s\"", call, sentence, names,
        word);
  check(block_unchanged(), "%s: something was written", call);
}

void expect_accepted(layernorm_status got, const char *call) {
  check(got == LAYERNORM_SUCCESS, "%s: %s (%s)", call, layernorm_status_string(got),
        layernorm_last_error());
  fill_block();
}
