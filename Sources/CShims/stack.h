/* Working memory of small calls. */
#ifndef LAYERNORM_SHIMS_STACK_H
#define LAYERNORM_SHIMS_STACK_H

#include <stddef.h>

enum {
  LN_STACK_BYTES = 16 << 10 /* a quarter of the smallest stack that hosts give their threads */
};

/* Runs body(context, memory) with LN_STACK_BYTES of memory, on cache lines of its own, on the stack: Swift
 * would allocate so much. */
static inline void ln_with_stack_memory(void (*body)(void *context, void *memory), void *context) {
  _Alignas(64) char memory[LN_STACK_BYTES];
  body(context, memory);
}

#endif
