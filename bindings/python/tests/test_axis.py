"""Normalization over one axis: the same bits as over the last one, after moving it there."""

import layernorm
import numpy as np
import pytest
from layernorm import LayerNorm, RMSNorm, layer_norm
from layernorm._layout import lay_out
from reference import DTYPES, normal, same_bits

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)

# How many arrays of x's shape each function takes and returns, and what has the shape of weight.
FUNCTIONS = {
    "layer_norm": (1, 1, ["weight", "bias"]),
    "rms_norm": (1, 1, ["weight"]),
    "add_layer_norm": (2, 2, ["weight", "bias", "x_bias"]),
    "add_rms_norm": (2, 2, ["weight", "x_bias"]),
    "layer_norm_backward": (2, 1, ["weight"]),
    "rms_norm_backward": (2, 1, ["weight"]),
}
functions = pytest.mark.parametrize("name", FUNCTIONS)
axes = pytest.mark.parametrize(
    ("shape", "axis"),
    [((2, 96, 7, 7), 1), ((3, 5, 4, 6), -3), ((2, 3, 65, 9), 2), ((33, 40), 0), ((4, 6), -1)],
    ids=str,
)


def assert_same(results, expected):
    assert len(results) == len(expected)
    for result, wanted in zip(results, expected):
        assert same_bits(result, wanted)


def as_tuple(results):
    return results if isinstance(results, tuple) else (results,)


def arguments(name, shape, axis, dtype):
    inputs, outputs, params = FUNCTIONS[name]
    given = {param: normal(shape[axis], dtype, 10 + n) for n, param in enumerate(params)}
    return [normal(shape, dtype, seed) for seed in range(inputs)], given, outputs


def moved(arrays, axis):
    """The arrays with that axis last, contiguous."""
    return [np.array(np.moveaxis(array, axis, -1), order="C") for array in arrays]


@dtypes
@functions
@axes
def test_same_bits_as_moved(dtype, name, shape, axis):
    function = getattr(layernorm, name)
    arrays, params, count = arguments(name, shape, axis, dtype)
    results = as_tuple(function(*arrays, **params, axis=axis))
    expected = as_tuple(function(*moved(arrays, axis), **params))
    for result in results[:count]:
        assert result.shape == shape
        assert result.flags.c_contiguous
    assert_same([*moved(results[:count], axis), *results[count:]], expected)


@dtypes
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "add_layer_norm", "add_rms_norm"])
@axes
def test_stats(dtype, name, shape, axis):
    function = getattr(layernorm, name)
    arrays, params, count = arguments(name, shape, axis, dtype)
    stats = function(*arrays, **params, axis=axis, return_stats=True)[count:]
    for stat in stats:
        assert stat.shape == tuple(np.delete(shape, axis))
    assert_same(stats, function(*moved(arrays, axis), **params, return_stats=True)[count:])
    if "add" not in name:
        backward = getattr(layernorm, f"{name}_backward")
        named = dict(zip(["mean", "rstd"] if len(stats) == 2 else ["rstd"], stats))
        dy, weight = normal(shape, dtype, 20), params["weight"]
        dx, *sums = backward(dy, *arrays, None, weight, **named, axis=axis)
        expected = backward(*moved([dy, *arrays], axis), None, weight, **named)
        assert_same([*moved([dx], axis), *sums], expected)


@dtypes
@functions
@pytest.mark.parametrize("out_axes", [(0, 1, 2, 3), (0, 2, 3, 1), (3, 2, 1, 0)])
def test_out(dtype, name, out_axes):
    """Whatever the layout of the output, which takes a copy for the last one."""
    shape, axis = (3, 24, 4, 5), 1
    function = getattr(layernorm, name)
    arrays, params, count = arguments(name, shape, axis, dtype)
    names = ["dx"] if "backward" in name else ["out", "sum_out"][:count]
    memory = [np.empty([shape[a] for a in out_axes], dtype) for _ in names]
    outs = [array.transpose(np.argsort(out_axes)) for array in memory]
    expected = as_tuple(function(*arrays, **params, axis=axis))
    results = as_tuple(function(*arrays, **params, **dict(zip(names, outs)), axis=axis))
    for result, out in zip(results, outs):
        assert result is out
    assert_same(results, expected)


@dtypes
@functions
def test_in_place(dtype, name):
    shape, axis = (3, 24, 4, 5), 1
    function = getattr(layernorm, name)
    arrays, params, count = arguments(name, shape, axis, dtype)
    names = ["dx"] if "backward" in name else ["out", "sum_out"][:count]
    expected = as_tuple(function(*arrays, **params, axis=axis))
    results = as_tuple(function(*arrays, **params, **dict(zip(names, arrays)), axis=axis))
    assert_same(results, expected)


@pytest.mark.parametrize(
    ("axis", "sizes", "strides"),
    [
        (0, (1, 60, 4), (0, 1, 60)),
        (1, (4, 10, 6), (60, 1, 10)),
        (2, (1, 24, 10), None),
    ],
)
def test_nothing_is_copied(axis, sizes, strides):
    x = normal((4, 6, 10), np.float32)
    layout = lay_out({"x": x}, {"out": np.empty_like(x)}, range(axis, axis + 1))
    assert (layout.batch, layout.rows, layout.cols) == sizes
    assert layout.pointers("x")[0] == x.ctypes.data
    assert layout.arrays["out"] is layout.outputs["out"]
    assert (tuple(layout.strides["x"]) if layout.strides else None) == strides


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_no_elements(shape):
    x = np.empty(shape, np.float32)
    y, mean, rstd = layer_norm(x, axis=1, return_stats=True)
    assert y.shape == shape
    assert mean.shape == rstd.shape == (shape[0], shape[2])
    assert np.isnan(mean).all()


@dtypes
def test_modules(dtype):
    x = normal((2, 96, 7, 7), dtype)
    weight, bias = normal(96, dtype, 1), normal(96, dtype, 2)
    assert same_bits(LayerNorm(weight, bias, axis=1)(x), layer_norm(x, None, weight, bias, axis=1))
    assert same_bits(RMSNorm(weight, axis=1)(x), layernorm.rms_norm(x, None, weight, axis=1))
