"""What the library is passed: arrays as they are wherever three strides can express them."""

import numpy as np
import pytest
from layernorm._layout import lay_out
from reference import normal

A = normal((4, 6, 10), np.float32)
BIG = normal((3, 4, 5, 6), np.float32)

# The array, how many of its dimensions are normalized, (batch, rows, cols), the three strides.
EXPRESSED = {
    "contiguous": (A, 1, (1, 24, 10), None),
    "two dimensions normalized": (A, 2, (1, 4, 60), None),
    "all dimensions normalized": (A, 3, (1, 1, 240), None),
    "one row": (A[0, 0], 1, (1, 1, 10), None),
    "part of each row": (A[..., 2:9], 1, (1, 24, 7), (0, 10, 1)),
    "every second row": (A[:, ::2], 1, (1, 12, 10), (0, 20, 1)),
    "part of the rows": (A[:, 1:5], 1, (4, 4, 10), (60, 10, 1)),
    "every third element": (A[..., ::3], 1, (1, 24, 4), (0, 10, 3)),
    "backwards": (A[::-1, :, ::-1], 1, (4, 6, 10), (-60, 10, -1)),
    "all backwards": (np.flip(A), 1, (1, 24, 10), (0, -10, -1)),
    "all backwards in two dimensions": (np.flip(A), 2, (1, 4, 60), (0, -60, -1)),
    "channels first": (A.transpose(0, 2, 1), 1, (4, 10, 6), (60, 1, 10)),
    "leading dimensions swapped": (A.swapaxes(0, 1), 1, (6, 4, 10), (10, 60, 1)),
    "one row for all": (np.broadcast_to(A[0, 0], (4, 6, 10)), 1, (1, 24, 10), (0, 0, 1)),
    "one element for all": (np.broadcast_to(A[0, 0, 0], (4, 6)), 1, (1, 4, 6), (0, 0, 0)),
    "every second element of both": (A[..., ::2], 2, (1, 4, 30), (0, 60, 2)),
    "one column": (A[..., 3:4], 1, (1, 24, 1), (0, 10, 1)),
    "dimensions of size 1": (A[:, None, ::2, None, 2:], 2, (1, 12, 8), (0, 20, 1)),
    "three leading dimensions": (BIG[:, :, 1:], 1, (12, 4, 6), (30, 6, 1)),
    "first two swapped of three": (BIG.swapaxes(0, 1)[..., 0, :], 1, (4, 3, 6), (30, 120, 1)),
}

# The array, and how many of its dimensions are normalized.
NOT_EXPRESSED = {
    "three strides of rows": (BIG[:, 1:, 1:], 1),
    "three dimensions swapped": (BIG.transpose(2, 1, 0, 3), 1),
    "two strides in a row": (A[..., :5], 2),
    "Fortran order in a row": (np.asfortranarray(A), 2),
}


def last(dims, x):
    return range(x.ndim - dims, x.ndim)


@pytest.mark.parametrize("case", EXPRESSED)
def test_expressed(case):
    x, dims, sizes, strides = EXPRESSED[case]
    layout = lay_out({"x": x}, {}, last(dims, x))
    assert layout.arrays["x"] is x
    assert (layout.batch, layout.rows, layout.cols) == sizes
    assert (tuple(layout.strides["x"]) if layout.strides else None) == strides
    address, strides_address = layout.pointers("x")
    assert address == x.ctypes.data
    assert bool(strides_address) == (strides is not None)


@pytest.mark.parametrize("case", NOT_EXPRESSED)
def test_not_expressed(case):
    x, dims = NOT_EXPRESSED[case]
    y = np.flip(np.empty(x.shape, x.dtype))
    layout = lay_out({"x": x}, {"y": y}, last(dims, x))
    assert layout.arrays["x"] is not x
    assert np.array_equal(layout.arrays["x"], x)
    assert layout.arrays["y"] is y

    layout = lay_out({"y": y}, {"x": x.copy(order="K")}, last(dims, x))
    assert layout.arrays["y"] is y
    assert layout.arrays["x"].flags.c_contiguous


def test_expressed_but_not_together():
    # [a][b][c] of rows, with a and b stepped through as one in x, b and c in y.
    x = normal((3, 4, 7, 6), np.float32)[:, :, :5]
    y = np.empty((3, 8, 5, 6), np.float32)[:, :4]
    assert lay_out({"x": x}, {}, last(1, x)).arrays["x"] is x
    assert lay_out({"y": y}, {}, last(1, x)).arrays["y"] is y
    layout = lay_out({"x": x}, {"y": y}, last(1, x))
    assert np.array_equal(layout.arrays["x"], x)
    assert all(array.flags.c_contiguous for array in layout.arrays.values())
    layout.arrays["y"][...] = 1
    layout.store()
    assert (y == 1).all()
