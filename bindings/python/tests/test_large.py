"""An output of 24 MiB or more is stored past the caches, short rows are taken in groups, and many
16-bit rows take weight and bias converted once: the bits are those of small calls."""

import numpy as np
import pytest
from layernorm import add_layer_norm, layer_norm, rms_norm
from ml_dtypes import bfloat16
from reference import same_bits

SHAPES = [
    (98304 + 3, 64),
    (25000, 257),
    (10500, 601),
    (6200, 1024),
    (6150, 1031),
    (1600, 4096),
    (193, 32771),
]
THRESHOLD = 24 << 20


def aligned(shape, dtype, offset):
    """An array whose first element lies `offset` elements after a multiple of 64 bytes."""
    dtype = np.dtype(dtype)
    count = int(np.prod(shape))
    memory = np.empty(count * dtype.itemsize + 128, np.uint8)
    start = -memory.ctypes.data % 64 + offset * dtype.itemsize
    return memory[start : start + count * dtype.itemsize].view(dtype).reshape(shape)


@pytest.mark.parametrize("offset", [0, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_large_equals_small(shape, dtype, offset):
    rows, cols = shape
    rows *= 4 // np.dtype(dtype).itemsize
    rng = np.random.default_rng(cols)
    x = rng.standard_normal((rows, cols), np.float32).astype(dtype)
    weight, bias = rng.standard_normal((2, cols), np.float32).astype(dtype)
    assert x.nbytes >= THRESHOLD
    y = aligned(x.shape, dtype, offset)
    layer_norm(x, None, weight, bias, out=y)
    scaled = rms_norm(x, None, weight, out=aligned(x.shape, dtype, offset))
    fused, total = add_layer_norm(x, x, None, weight, bias, out=aligned(x.shape, dtype, offset))
    for row in [0, 1, 7, 8, 9, rows // 2, rows - 2, rows - 1]:
        some = x[row : row + 1]
        assert same_bits(y[row : row + 1], layer_norm(some, None, weight, bias))
        assert same_bits(scaled[row : row + 1], rms_norm(some, None, weight))
        alone, sum_alone = add_layer_norm(some, some, None, weight, bias)
        assert same_bits(fused[row : row + 1], alone)
        assert same_bits(total[row : row + 1], sum_alone)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, bfloat16, np.float64])
@pytest.mark.parametrize("shape", [(98304 + 3, 64), (6200, 1024), (1600, 4096)])
def test_rows_apart(shape, dtype):
    """Only the first of the rows of the output begins where a cache line does."""
    rows, cols = shape
    x = np.random.default_rng(cols).standard_normal(shape, np.float32).astype(dtype)
    weight = bias = np.ones(cols, dtype)
    out = aligned((rows, cols + 1), dtype, 0)[:, :cols]
    layer_norm(x, None, weight, bias, out=out)
    assert same_bits(out, layer_norm(x, None, weight, bias))
    rms_norm(x, None, weight, out=out)
    assert same_bits(out, rms_norm(x, None, weight))
    fused, total = add_layer_norm(x, x, None, weight, bias, out=out)
    expected, sum_expected = add_layer_norm(x, x, None, weight, bias)
    assert same_bits(fused, expected)
    assert same_bits(total, sum_expected)


@pytest.mark.parametrize("cols", [3328, 4097, 5125, 6144])
def test_long_rows_in_place(cols):
    """Some columns of several rows come before the next; what ends a row overlaps what is there."""
    x = np.random.default_rng(cols).standard_normal((77, cols), np.float32)
    weight, bias = np.random.default_rng(0).standard_normal((2, cols), np.float32)
    expected = [layer_norm(row, None, weight, bias) for row in x]
    assert same_bits(layer_norm(x, None, weight, bias, out=x), np.stack(expected))
