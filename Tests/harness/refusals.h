/* What the tests of arguments share. A file that includes this defines the type `arguments`, a
 * function good() that makes them, and CALL, the call that takes them. */
#ifndef REFUSALS_H
#define REFUSALS_H

#include "cells.h"

enum {
  ROWS = 3,
  COLS = 4,
  PART = 1024,
  PARTS = (int)CELL_TENSOR_COUNT > (int)TENSOR_COUNT ? (int)CELL_TENSOR_COUNT : (int)TENSOR_COUNT,
  BYTES = ROWS * COLS * sizeof(float)
};

/* The part of a tensor or cell_tensor in one block for all of them, so that any overlap can be asked for and any
 * write is seen. Parts lie far enough apart for every layout of the tests. */
void *part(int t);
void *moved(int t, int64_t bytes);
/* Strides that live long enough for a call. */
const int64_t *strides(int64_t batch, int64_t row, int64_t col);
/* Whether all is as it was; puts it back. */
bool block_unchanged(void);

/* The sentence has to begin with one of the names, which '|' divides, and to contain `word`; nothing
 * may have been written. */
void expect_refused(layernorm_status got, layernorm_status wanted, const char *names,
                    const char *word, const char *call);
void expect_accepted(layernorm_status got, const char *call);

/* Good arguments, changed as the last argument says, are refused or accepted. */
#define REFUSED(status, names, word, ...)                                                          \
  do {                                                                                             \
    arguments a = good();                                                                          \
    report_faults_as(#__VA_ARGS__);                                                                \
    __VA_ARGS__;                                                                                   \
    expect_refused(CALL(&a), LAYERNORM_ERROR_##status, names, word, #__VA_ARGS__);                 \
  } while (0)
#define ACCEPTED(...)                                                                              \
  do {                                                                                             \
    arguments a = good();                                                                          \
    report_faults_as(#__VA_ARGS__);                                                                \
    __VA_ARGS__;                                                                                   \
    expect_accepted(CALL(&a), #__VA_ARGS__);                                                       \
  } while (0)
#define CALL_REFUSED(status, names, word, call)                                                    \
  expect_refused(call, LAYERNORM_ERROR_##status, names, word, #call)

/* The parts of the test. */
void refused_forward(void);
void refused_add(void);
void refused_backward(void);
void refused_cell_forward(void);
void refused_cell_backward(void);

#endif
