"""Values, against the reference: dtypes, shapes, layouts, outputs."""

import numpy as np
import pytest
import reference
from layernorm import layer_norm
from ml_dtypes import bfloat16
from reference import DTYPES, UNITS, normal, same_bits

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def assert_correct(result, x, dims=1, weight=None, bias=None, eps=reference.EPS):
    exact, _, _ = reference.layer_norm(x, dims, weight, bias, eps)
    assert result.shape == x.shape
    assert reference.units(result, exact, dims) <= UNITS[result.dtype]


@dtypes
@pytest.mark.parametrize("cols", [1, 2, 7, 64, 65, 768, 1021])
@pytest.mark.parametrize("params", ["", "weight", "bias", "weight bias"])
def test_last_dimension(dtype, cols, params):
    x = normal((3, 5, cols), dtype)
    given = {name: normal(cols, dtype, seed) for seed, name in enumerate(params.split())}
    y = layer_norm(x, **given)
    assert y.dtype == dtype
    assert_correct(y, x, **given)


@dtypes
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_normalized_shape(dtype, dims):
    x = normal((4, 6, 10), dtype)
    shape = x.shape[-dims:]
    weight, bias = normal(shape, dtype, 1), normal(shape, dtype, 2)
    y = layer_norm(x, shape, weight, bias)
    assert_correct(y, x, dims, weight, bias)
    assert same_bits(y, layer_norm(x, list(shape), weight, bias))


def test_normalized_shape_of_one_dimension_is_an_int_too():
    x = normal((4, 6), np.float32)
    assert same_bits(layer_norm(x, 6), layer_norm(x, (6,)))
    assert same_bits(layer_norm(x, np.int64(6)), layer_norm(x))


@dtypes
@pytest.mark.parametrize("eps", [0, 1e-12, 1e-5, 0.1, 10])
def test_eps(dtype, eps):
    x = normal((3, 100), dtype)
    assert_correct(layer_norm(x, eps=eps), x, eps=eps)
    assert same_bits(layer_norm(x, eps=np.float64(eps)), layer_norm(x, 100, eps=eps))


LAYOUTS = {
    "contiguous": lambda x: x,
    "Fortran order": np.asfortranarray,
    "transposed": lambda x: np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2),
    "leading dimensions swapped": lambda x: np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1),
    "every second row": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "every third element": lambda x: np.repeat(x, 3, axis=-1)[..., ::3],
    "rows backwards": lambda x: x[::-1].copy()[::-1],
    "elements backwards": lambda x: x[..., ::-1].copy()[..., ::-1],
    "everything backwards": lambda x: np.flip(np.flip(x).copy()),
    "one row for all": lambda x: np.broadcast_to(x[0, 0].copy(), x.shape),
    "one element for all": lambda x: np.broadcast_to(x[0, 0, 0], x.shape),
    "read-only": lambda x: np.frombuffer(x.tobytes(), np.uint8).view(x.dtype).reshape(x.shape),
    "unaligned": lambda x: unaligned(x),
    "a field": lambda x: field(x),
}


def unaligned(x):
    memory = np.empty(x.nbytes + 1, np.uint8)[1:]
    memory[:] = np.frombuffer(x.tobytes(), np.uint8)
    return memory.view(x.dtype).reshape(x.shape)


def field(x):
    """As in an array of packed records, where the strides are not multiples of the element size."""
    records = np.empty((*x.shape, x.itemsize + 1), np.uint8)
    array = np.ndarray(x.shape, x.dtype, records, 0, records.strides[:-1])
    array[...] = x
    return array


@dtypes
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dims", [1, 2])
def test_layouts_of_x(dtype, layout, dims):
    x = LAYOUTS[layout](normal((4, 6, 10), dtype))
    assert x.shape == (4, 6, 10)
    y, mean, rstd = layer_norm(x, x.shape[-dims:], return_stats=True)
    assert_correct(y, x, dims)
    expected = layer_norm(np.array(x, order="C"), x.shape[-dims:], return_stats=True)
    for got, wanted in zip((y, mean, rstd), expected):
        assert same_bits(got, wanted)


OUT_LAYOUTS = ["contiguous", "Fortran order", "leading dimensions swapped", "every second row"]
OUT_LAYOUTS += ["every third element", "everything backwards", "unaligned", "a field"]


@dtypes
@pytest.mark.parametrize("layout", OUT_LAYOUTS)
@pytest.mark.parametrize("x_layout", ["contiguous", "Fortran order", "leading dimensions swapped"])
@pytest.mark.parametrize("dims", [1, 2])
def test_layouts_of_out(dtype, layout, x_layout, dims):
    x = LAYOUTS[x_layout](normal((4, 6, 10), dtype))
    out = LAYOUTS[layout](np.zeros(x.shape, dtype))
    shape = x.shape[-dims:]
    assert layer_norm(x, shape, out=out) is out
    assert same_bits(out, layer_norm(x, shape))


@pytest.mark.parametrize("axes", [(2, 0, 1, 3), (1, 2, 0, 3), (0, 2, 1, 3), (3, 2, 1, 0)])
@pytest.mark.parametrize("out_axes", [(0, 1, 2, 3), (1, 0, 2, 3), (2, 1, 0, 3), (3, 1, 2, 0)])
def test_more_dimensions_than_three_strides_express(axes, out_axes):
    x = normal((4, 4, 4, 4), np.float32).transpose(axes)
    out = np.empty((4, 4, 4, 4), np.float32).transpose(out_axes)
    layer_norm(x, out=out)
    assert same_bits(out, layer_norm(x.copy()))


@dtypes
def test_nothing_between_the_elements_of_out_is_written(dtype):
    x = normal((4, 6, 10), dtype)
    memory = np.full((4, 12, 30), 7, dtype)
    layer_norm(x, out=memory[:, ::2, ::3])
    assert same_bits(memory[:, ::2, ::3], layer_norm(x))
    memory[:, ::2, ::3] = 7
    assert (memory == 7).all()


@dtypes
@pytest.mark.parametrize("layout", OUT_LAYOUTS)
def test_in_place(dtype, layout):
    x = LAYOUTS[layout](normal((4, 6, 10), dtype))
    expected = layer_norm(x)
    assert layer_norm(x, out=x) is x
    assert same_bits(x, expected)


@pytest.mark.parametrize("x_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("param_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("out_dtype", DTYPES, ids=str)
def test_mixed_dtypes(x_dtype, param_dtype, out_dtype):
    x = normal((5, 33), x_dtype)
    weight, bias = normal(33, param_dtype, 1), normal(33, param_dtype, 2)
    out = layer_norm(x, None, weight, bias, out=np.empty(x.shape, out_dtype))
    exact, _, _ = reference.layer_norm(x, 1, weight, bias)
    # A float64 result of a computation in float32 has the error of the latter.
    computed = np.float64 if x_dtype == np.float64 else np.float32
    bound = 3 * float(np.finfo(computed).eps) + 0.51 * float(
        reference.ml_dtypes.finfo(out_dtype).eps
    )
    scale = np.maximum(np.abs(exact), np.sqrt(np.square(exact).mean(-1, keepdims=True)))
    assert (np.abs(out.astype(np.float64) - exact) <= 2 * bound * scale).all()


@pytest.mark.parametrize("weight_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bias_dtype", DTYPES, ids=str)
def test_weight_and_bias_of_two_dtypes(weight_dtype, bias_dtype):
    x = normal((5, 33), np.float64)
    weight, bias = normal(33, weight_dtype, 1), normal(33, bias_dtype, 2)
    wide = layer_norm(x, None, weight.astype(np.float64), bias.astype(np.float64))
    assert same_bits(layer_norm(x, None, weight, bias), wide)


@dtypes
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_stats(dtype, dims):
    x = normal((4, 6, 10), dtype)
    y, mean, rstd = layer_norm(x, x.shape[-dims:], return_stats=True)
    _, exact_mean, exact_rstd = reference.layer_norm(x, dims)
    assert same_bits(y, layer_norm(x, x.shape[-dims:]))
    for got in (mean, rstd):
        assert got.dtype == (np.float64 if dtype == np.float64 else np.float32)
        assert got.shape == x.shape[:-dims]
    eps = float(np.finfo(mean.dtype).eps)
    assert (np.abs(mean - exact_mean) <= eps * np.maximum(np.abs(exact_mean), 1 / exact_rstd)).all()
    assert (np.abs(rstd - exact_rstd) <= eps * exact_rstd).all()


@dtypes
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 5), (0, 0), (2, 3, 0)])
def test_no_elements(dtype, shape):
    y, mean, rstd = layer_norm(np.empty(shape, dtype), return_stats=True)
    assert y.shape == shape
    assert y.dtype == dtype
    assert mean.shape == rstd.shape == shape[:-1]
    assert np.isnan(mean).all()
    assert np.isnan(rstd).all()
    out = np.empty(shape, dtype)
    assert layer_norm(out, out=out) is out


@dtypes
def test_constant_rows_give_the_bias(dtype):
    bias = normal(100, dtype)
    x = np.full((3, 100), 1.1, dtype)
    assert same_bits(layer_norm(x, bias=bias), np.broadcast_to(bias, x.shape))


@dtypes
def test_nan_stays_in_its_row(dtype):
    x = normal((3, 100), dtype)
    expected = layer_norm(x)
    x[1, 17] = np.nan
    y = layer_norm(x)
    assert np.isnan(y[1].astype(np.float32)).all()
    assert same_bits(y[::2], expected[::2])


def test_inputs_that_are_not_arrays():
    y = layer_norm([[1.0, 2.0, 4.0], [3, 5, 9]], weight=[1.0, 2.0, 3.0], bias=(0.5, 0, 1))
    x = np.array([[1.0, 2, 4], [3, 5, 9]])
    assert y.dtype == np.float64
    assert_correct(y, x, 1, np.array([1.0, 2, 3]), np.array([0.5, 0, 1]))


def test_dtypes_that_are_equal_without_being_the_same_object():
    x = normal((3, 10), np.float32)
    other = x.view(np.dtype(np.float32, metadata={"from": "elsewhere"}))
    assert other.dtype is not x.dtype
    assert same_bits(layer_norm(other, out=np.empty_like(x)), layer_norm(x))


def test_subclasses_are_taken_as_arrays():
    x = normal((3, 10), bfloat16)

    class Subclass(np.ndarray):
        pass

    y = layer_norm(x.view(Subclass), weight=np.ones(10, bfloat16).view(Subclass))
    assert type(y) is np.ndarray
    assert same_bits(y, layer_norm(x))
    out = np.empty_like(x).view(Subclass)
    assert layer_norm(x, out=out) is out
    assert same_bits(np.asarray(out), y)
