"""RMSNorm against the reference."""

import numpy as np
import pytest
import reference
from layernorm import rms_norm
from reference import DTYPES, UNITS, normal, same_bits

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
offsets = pytest.mark.parametrize("weight_offset", [False, True], ids=["weight", "1 + weight"])


def assert_correct(y, x, dims=1, weight=None, eps=reference.EPS, weight_offset=False):
    exact, _ = reference.rms_norm(x, dims, weight, eps, weight_offset)
    assert y.shape == x.shape
    assert reference.units(y, exact, dims) <= UNITS[y.dtype]


@dtypes
@offsets
@pytest.mark.parametrize("cols", [1, 2, 7, 64, 65, 768, 1021])
def test_last_dimension(dtype, cols, weight_offset):
    x, weight = normal((3, 5, cols), dtype), normal(cols, dtype, 1)
    y = rms_norm(x, weight=weight, weight_offset=weight_offset)
    assert y.dtype == dtype
    assert_correct(y, x, weight=weight, weight_offset=weight_offset)
    assert_correct(rms_norm(x, cols, weight_offset=weight_offset), x)


@dtypes
@offsets
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_normalized_shape(dtype, dims, weight_offset):
    x = normal((4, 6, 10), dtype)
    shape = x.shape[-dims:]
    weight = normal(shape, dtype, 1)
    y = rms_norm(x, shape, weight, weight_offset=weight_offset)
    assert_correct(y, x, dims, weight, weight_offset=weight_offset)
    assert same_bits(y, rms_norm(x, list(shape), weight, weight_offset=weight_offset))


@dtypes
@pytest.mark.parametrize("eps", [0, 1e-12, 1e-5, 0.1, 10])
def test_eps(dtype, eps):
    x = normal((3, 100), dtype)
    assert_correct(rms_norm(x, eps=eps), x, eps=eps)


@dtypes
def test_offset_of_zero_is_no_weight(dtype):
    x = normal((3, 100), dtype)
    y = rms_norm(x, weight=np.zeros(100, dtype), weight_offset=True)
    assert same_bits(y, rms_norm(x))


@dtypes
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_stats(dtype, dims):
    x = normal((4, 6, 10), dtype)
    y, rstd = rms_norm(x, x.shape[-dims:], return_stats=True)
    _, exact = reference.rms_norm(x, dims)
    assert same_bits(y, rms_norm(x, x.shape[-dims:]))
    assert rstd.dtype == (np.float64 if dtype == np.float64 else np.float32)
    assert rstd.shape == x.shape[:-dims]
    assert (np.abs(rstd - exact) <= float(np.finfo(rstd.dtype).eps) * exact).all()


@dtypes
def test_out(dtype):
    x = normal((4, 6, 10), dtype)
    expected = rms_norm(x)
    out = np.empty((4, 10, 6), dtype).swapaxes(1, 2)
    assert rms_norm(x, out=out) is out
    assert same_bits(out, expected)
    assert rms_norm(x, out=x) is x
    assert same_bits(x, expected)


@dtypes
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 5)])
def test_no_elements(dtype, shape):
    y, rstd = rms_norm(np.empty(shape, dtype), return_stats=True)
    assert y.shape == shape
    assert rstd.shape == shape[:-1]
    assert np.isnan(rstd).all()


def test_infinity_gives_zeros_and_nan():
    x = normal((3, 100), np.float32)
    expected = rms_norm(x)
    x[1, 17] = np.inf
    y = rms_norm(x)
    assert np.isnan(y[1, 17])
    assert (np.delete(y[1], 17) == 0).all()
    assert same_bits(y[::2], expected[::2])
