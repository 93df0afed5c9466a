"""Residual addition with a norm: the same bits as one after the other."""

import numpy as np
import pytest
from layernorm import add_layer_norm, add_rms_norm, layer_norm, rms_norm
from reference import DTYPES, normal, same_bits

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)

# The fused function, the norm alone, and what both are passed.
PAIRS = {
    "layer_norm": (add_layer_norm, layer_norm, {"bias": 5}),
    "rms_norm": (add_rms_norm, rms_norm, {}),
    "rms_norm of 1 + weight": (add_rms_norm, rms_norm, {"weight_offset": True}),
}
pairs = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)


def added(x, residual, x_bias=None):
    """The sum in the precision of the computation, rounded once."""
    compute = np.float64 if x.dtype == np.float64 else np.float32
    total = x.astype(compute)
    if x_bias is not None:
        total = total + x_bias.astype(compute)
    return (total + residual.astype(compute)).astype(x.dtype)


def assert_same(results, expected):
    assert len(results) == len(expected)
    for result, wanted in zip(results, expected):
        assert same_bits(result, wanted)


def separate(norm, x, residual, normalized_shape=None, x_bias=None, **arguments):
    total = added(x, residual, x_bias)
    y, *stats = norm(total, normalized_shape, **arguments, return_stats=True)
    return y, total, *stats


def params(extra, shape, dtype):
    seeds = {"weight": 4} | extra
    return {n: s if isinstance(s, bool) else normal(shape, dtype, s) for n, s in seeds.items()}


@dtypes
@pairs
@pytest.mark.parametrize("cols", [1, 2, 7, 64, 65, 768, 1021])
@pytest.mark.parametrize("with_x_bias", [False, True])
def test_last_dimension(dtype, pair, cols, with_x_bias):
    fused, norm, extra = pair
    x, residual = normal((3, 5, cols), dtype), normal((3, 5, cols), dtype, 1)
    x_bias = normal(cols, dtype, 2) if with_x_bias else None
    for arguments in {}, params(extra, cols, dtype):
        expected = separate(norm, x, residual, None, x_bias, **arguments)
        assert_same(fused(x, residual, x_bias=x_bias, **arguments), expected[:2])
        arguments["return_stats"] = True
        assert_same(fused(x, residual, cols, x_bias=x_bias, **arguments), expected)


@dtypes
@pairs
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_normalized_shape(dtype, pair, dims):
    fused, norm, extra = pair
    x, residual = normal((4, 6, 10), dtype), normal((4, 6, 10), dtype, 1)
    shape = x.shape[-dims:]
    x_bias, arguments = normal(shape, dtype, 2), params(extra, shape, dtype)
    expected = separate(norm, x, residual, shape, x_bias, **arguments)
    assert_same(fused(x, residual, shape, x_bias=x_bias, **arguments), expected[:2])


@dtypes
@pairs
def test_strides(dtype, pair):
    fused, norm, extra = pair
    x = normal((4, 10, 6), dtype).swapaxes(1, 2)
    residual = np.broadcast_to(normal((6, 20), dtype, 1)[:, ::2], x.shape)
    x_bias, arguments = normal(20, dtype, 2)[::2], params(extra, 10, dtype)
    expected = separate(norm, x, residual, None, x_bias, **arguments)
    out, sum_out = (
        np.empty((4, 6, 30), dtype)[..., ::-3],
        np.empty((6, 4, 10), dtype).swapaxes(0, 1),
    )
    y, total = fused(x, residual, x_bias=x_bias, out=out, sum_out=sum_out, **arguments)
    assert y is out
    assert total is sum_out
    assert_same((y, total), expected[:2])


@dtypes
@pairs
@pytest.mark.parametrize(
    ("out", "sum_out"),
    [(a, b) for a in ("x", "residual", None) for b in ("x", "residual", None) if a != b],
)
@pytest.mark.parametrize("contiguous", [True, False])
def test_in_place(dtype, pair, out, sum_out, contiguous):
    fused, norm, _ = pair
    arrays = {"x": normal((40, 12), dtype), "residual": normal((40, 12), dtype, 1)}
    if not contiguous:
        arrays = {name: array[::-2, ::3] for name, array in arrays.items()}
    expected = separate(norm, **arrays)[:2]
    outs = arrays.get(out), arrays.get(sum_out)
    results = fused(**arrays, out=outs[0], sum_out=outs[1])
    for result, place in zip(results, outs):
        assert place is None or result is place
    assert_same(results, expected)


@dtypes
def test_mixed_dtypes(dtype):
    x, residual = normal((5, 33), dtype), normal((5, 33), dtype, 1)
    weight, out = normal(33, np.float32, 2), np.empty((5, 33), np.float64)
    y, total = add_rms_norm(x, residual, weight=weight, out=out)
    assert y is out
    assert same_bits(total, added(x, residual))
    expected = rms_norm(total, weight=weight, out=np.empty_like(out))
    assert same_bits(y, expected)


@pairs
@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_no_elements(pair, shape):
    x = np.empty(shape, np.float32)
    y, total = pair[0](x, x.copy())
    assert y.shape == total.shape == shape
