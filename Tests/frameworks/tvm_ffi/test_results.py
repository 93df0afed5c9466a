"""The functions against the same of the package for NumPy, which are tested by themselves: the same
bits, for tensors of each framework, in random shapes, strides and dtypes."""

import jax.numpy as jnp
import layernorm
import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

FLOATS = [np.float32, np.float64, np.float16]
FRAMEWORKS = {
    "numpy": lambda a: a,
    "torch": lambda a: torch.from_dlpack(a),
    "jax": lambda a: jnp.from_dlpack(a),
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("writes", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_frameworks(module, framework, writes, dtype):
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.normal(size=s).astype(dtype) for s in ((3, 5, 16), 16, 16))
    y, mean, rstd = np.empty_like(x), np.empty((3, 5), np.float32), np.empty((3, 5), np.float32)
    inputs, outputs = FRAMEWORKS[framework], FRAMEWORKS[writes]
    arguments = inputs(x), inputs(weight), inputs(bias), 1e-5
    # Without a copy: what is written to the tensors of torch is in the arrays that they share.
    returned = module.layer_norm(*arguments, outputs(y), outputs(mean), outputs(rstd))
    assert returned is None
    expected = layernorm.layer_norm(x, 16, weight, bias, return_stats=True)
    for ours, theirs in zip((y, mean, rstd), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_torch_bfloat16(module):
    x, weight = torch.randn(4, 8, dtype=torch.bfloat16), torch.randn(8)
    y = torch.empty_like(x)
    module.rms_norm(x, weight, 1e-6, y)
    array = x.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    expected = layernorm.rms_norm(array, weight=weight.numpy(), eps=1e-6)
    np.testing.assert_array_equal(y.view(torch.uint16).numpy(), expected.view(np.uint16))


def laid_out(draw, array, normalized):
    """The numbers of the array in memory of another layout."""
    wide = np.zeros([*array.shape[:-1], 2 * array.shape[-1]], array.dtype)
    views = [array, wide[..., ::2]]
    if normalized == 1:
        views.append(wide[..., : array.shape[-1]])
    if normalized == 1 and array.ndim > 1:
        channels = 0 if array.ndim == 2 else 1
        moved = np.ascontiguousarray(np.moveaxis(array, -1, channels))
        views.append(np.moveaxis(moved, channels, -1))
    view = draw(st.sampled_from(views))
    view[...] = array
    return view


@st.composite
def calls(draw):
    """Arrays x, residual, dy of one shape, weight and bias or None, and the normalized shape."""
    shape = draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    normalized = draw(st.integers(1, len(shape)))
    x_dtype, y_dtype, param_dtype = (draw(st.sampled_from(FLOATS)) for _ in range(3))
    has_weight, has_bias = draw(st.booleans()), draw(st.booleans())
    if not has_weight:
        param_dtype = x_dtype
        normalized = normalized if has_bias else 1
    tail = tuple(shape[len(shape) - normalized :])
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    matrices = [
        laid_out(draw, rng.normal(size=shape).astype(dtype), normalized)
        for dtype in (x_dtype, x_dtype, y_dtype)
    ]
    params = [
        rng.normal(size=tail).astype(param_dtype) if h else None for h in (has_weight, has_bias)
    ]
    return matrices, params, tail


def assert_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a, b, strict=True)


def like(array):
    """One of its layout, or None for None."""
    return None if array is None else np.full_like(array, np.nan)


@settings(max_examples=200, deadline=None)
@given(calls())
def test_layer_norm(module, call):
    (x, residual, dy), (weight, bias), tail = call
    expected = layernorm.layer_norm(x, tail, weight, bias, out=like(dy), return_stats=True)
    y, mean, rstd = map(like, expected)
    module.layer_norm(x, weight, bias, 1e-5, y, mean, rstd)
    assert_equal((y, mean, rstd), expected)

    expected = layernorm.add_layer_norm(
        x, residual, tail, weight, bias, 1e-3, out=like(dy), sum_out=like(x), return_stats=True
    )
    y, total, mean, rstd = map(like, expected)
    module.add_layer_norm(x, residual, weight, bias, 1e-3, y, total, mean, rstd)
    assert_equal((y, total, mean, rstd), expected)

    wanted = {"dx": like(dy), "dweight": like(weight), "dbias": like(bias)}
    wanted = {name: False if array is None else array for name, array in wanted.items()}
    gradients = like(dy), like(weight), like(bias)
    for given_stats in (mean, rstd), (None, None):
        expected = layernorm.layer_norm_backward(
            dy, total, tail, weight, *given_stats, 1e-3, **wanted
        )
        module.layer_norm_backward(dy, total, weight, *given_stats, 1e-3, *gradients)
        assert_equal(gradients, expected)
    expected = layernorm.layer_norm_backward(dy, total, tail, weight, mean, rstd, dsum=dy, **wanted)
    module.add_layer_norm_backward(dy, dy, total, weight, mean, rstd, 0, *gradients)
    assert_equal(gradients, expected)


@settings(max_examples=200, deadline=None)
@given(calls())
def test_rms_norm(module, call):
    (x, residual, dy), (weight, _), tail = call
    if weight is None:
        tail = tail[-1:]
    expected = layernorm.rms_norm(x, tail, weight, out=like(dy), return_stats=True)
    y, rstd = map(like, expected)
    module.rms_norm(x, weight, 1e-5, y, rstd)
    assert_equal((y, rstd), expected)

    expected = layernorm.add_rms_norm(
        x, residual, tail, weight, 0, out=like(dy), sum_out=like(x), return_stats=True
    )
    y, total, rstd = map(like, expected)
    module.add_rms_norm(x, residual, weight, 0, y, total, rstd)
    assert_equal((y, total, rstd), expected)

    gradients = like(dy), like(weight)
    wanted = {"dx": like(dy), "dweight": False if weight is None else like(weight)}
    for given_rstd in rstd, None:
        expected = layernorm.rms_norm_backward(dy, total, tail, weight, given_rstd, 0, **wanted)
        module.rms_norm_backward(dy, total, weight, given_rstd, 0, *gradients)
        assert_equal(gradients, expected)
    expected = layernorm.rms_norm_backward(dy, total, tail, weight, rstd, dsum=dy, **wanted)
    module.add_rms_norm_backward(dy, dy, total, weight, rstd, 0, *gradients)
    assert_equal(gradients, expected)


def test_in_place(module):
    x = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
    expected = layernorm.layer_norm(x)
    module.layer_norm(x, None, None, 1e-5, x)
    np.testing.assert_array_equal(x, expected)


def test_gradients_that_are_not_wanted(module):
    x, dy = np.random.default_rng(2).normal(size=(2, 4, 6))
    dbias = np.empty(6)
    module.layer_norm_backward(dy, x, None, None, None, 1e-5, None, None, dbias)
    np.testing.assert_array_equal(dbias, layernorm.layer_norm_backward(dy, x)[2])
