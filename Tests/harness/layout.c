#include "harness.h"

span span_of(layout how, int64_t batch, int64_t rows, int64_t cols) {
  enum {
    PADDING = 3,
    BATCH_PADDING = 5
  };
  span s = {{rows * cols, cols, 1}, 0, 0};
  switch (how) {
  case CONTIGUOUS:
    break;
  case PADDED_ROWS:
    s.strides[1] = cols + PADDING;
    s.strides[0] = rows * s.strides[1] + BATCH_PADDING;
    break;
  case EVERY_SECOND:
    for (int axis = 0; axis < 3; axis++) s.strides[axis] *= 2;
    break;
  case ROWS_REVERSED:
    s.strides[1] = -cols;
    break;
  case COLS_REVERSED:
    s.strides[2] = -1;
    break;
  case ALL_REVERSED:
    for (int axis = 0; axis < 3; axis++) s.strides[axis] *= -1;
    break;
  case CHANNELS_FIRST:
    s.strides[1] = 1;
    s.strides[2] = rows;
    break;
  case ONE_ROW:
    s.strides[0] = s.strides[1] = 0;
    break;
  }
  const int64_t sizes[3] = {batch, rows, cols};
  if (batch == 0 || rows == 0 || cols == 0) return s;
  s.count = 1;
  for (int axis = 0; axis < 3; axis++) {
    int64_t reach = (sizes[axis] - 1) * s.strides[axis];
    s.first -= reach < 0 ? reach : 0;
    s.count += reach < 0 ? -reach : reach;
  }
  return s;
}
