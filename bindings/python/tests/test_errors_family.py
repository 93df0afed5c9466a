"""As test_errors.py, of the functions and arguments beside layer_norm()'s first ones."""

import numpy as np
import pytest
from layernorm import (
    add_layer_norm,
    add_rms_norm,
    layer_norm,
    layer_norm_backward,
    rms_norm,
    rms_norm_backward,
)
from reference import normal
from test_errors import bad_dtypes, raises

X = normal((4, 10), np.float32)
DY = normal((4, 10), np.float32, 1)
W = normal(10, np.float32, 2)

forwards = pytest.mark.parametrize("function", [layer_norm, rms_norm])
adds = pytest.mark.parametrize("function", [add_layer_norm, add_rms_norm])
backwards = pytest.mark.parametrize("function", [layer_norm_backward, rms_norm_backward])
EVERY = [layer_norm, rms_norm, add_layer_norm, add_rms_norm, layer_norm_backward, rms_norm_backward]
every = pytest.mark.parametrize("function", EVERY)


def tensors(function):
    return [X] if function in (layer_norm, rms_norm) else [X, DY]


@every
@pytest.mark.parametrize("axis", [2, -3, 2**40])
def test_axis_out_of_range(function, axis):
    raises(ValueError, "axis", *tensors(function), axis=axis, function=function)


@every
@pytest.mark.parametrize("axis", [1.0, "1", (1,), [1]], ids=repr)
def test_type_of_axis(function, axis):
    raises(TypeError, "axis", *tensors(function), axis=axis, function=function)


@every
def test_axis_beside_normalized_shape(function):
    raises(ValueError, "axis", *tensors(function), 10, axis=1, function=function)


@every
@pytest.mark.parametrize("shape", [(10,), (1, 4), (4, 1), ()])
def test_shape_of_weight_with_axis(function, shape):
    given = {"weight": np.ones(shape, np.float32), "axis": 0, "function": function}
    raises(ValueError, "weight", *tensors(function), **given)


@every
def test_common_arguments(function):
    arrays = tensors(function)
    raises(ValueError, "normalized_shape", *arrays, 9, function=function)
    raises(ValueError, "weight", *arrays, weight=W[:9], function=function)
    raises(TypeError, "weight", *arrays, weight=W > 0, function=function)
    raises(ValueError, "eps", *arrays, eps=-1.0, function=function)
    raises(TypeError, "eps", *arrays, eps="1", function=function)


@forwards
def test_out(function):
    raises(ValueError, "out", X, out=X[::-1], function=function)
    raises(ValueError, "out", X, out=np.ones((4, 9), np.float32), function=function)
    raises(TypeError, "out", X, out=3, function=function)


@adds
@bad_dtypes
@pytest.mark.parametrize("name", ["residual", "x_bias", "sum_out"])
def test_dtypes_of_what_is_added(function, dtype, name):
    given = {"residual": DY, name: np.zeros((10,) if name == "x_bias" else (4, 10), dtype)}
    raises(TypeError, name, X, **given, function=function)


@adds
@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_dtypes_that_are_not_that_of_x(function, dtype):
    raises(TypeError, "residual", X, DY.astype(dtype), function=function)
    raises(TypeError, "x_bias", X, DY, x_bias=W.astype(dtype), function=function)
    raises(TypeError, "sum_out", X, DY, sum_out=DY.astype(dtype), function=function)


@adds
@pytest.mark.parametrize("shape", [(4, 9), (40,), (10,), (1, 4, 10), ()])
def test_shapes_of_what_is_added(function, shape):
    array = np.ones(shape, np.float32)
    raises(ValueError, "residual", X, array, function=function)
    raises(ValueError, "sum_out", X, DY, sum_out=array, function=function)
    if shape != (10,):
        raises(ValueError, "x_bias", X, DY, x_bias=array, function=function)


@adds
def test_types_of_what_is_added(function):
    raises(TypeError, "residual", X, None, function=function)
    raises(TypeError, "residual", X, "text", function=function)
    raises(TypeError, "sum_out", X, DY, sum_out=[1.0], function=function)
    read_only = X.copy()
    read_only.flags.writeable = False
    raises(ValueError, "sum_out", X, DY, sum_out=read_only, function=function)


# Of a square array x: a part of it, or it with other strides, in which three express it or do not.
VIEWS = {
    "reversed": lambda a: a[::-1],
    "transposed": lambda a: a.swapaxes(0, 1),
    "permuted": lambda a: a.transpose(2, 1, 0, 3),
}
views = pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)


@adds
@views
def test_overlap_of_what_is_added(function, view):
    x, residual = normal((3, 3, 3, 3), np.float32), normal((3, 3, 3, 3), np.float32, 1)
    for array in x, residual:
        raises(ValueError, "out", x, residual, out=view(array), function=function)
        raises(ValueError, "sum_out", x, residual, sum_out=view(array), function=function)
    both = np.ones_like(x)
    for other in both, view(both):
        given = {"out": both, "sum_out": other, "function": function}
        raises(ValueError, "(out|sum_out)", x, residual, **given)
    raises(ValueError, "sum_out", x, residual, weight=x[0, 0, 0], sum_out=x, function=function)


@backwards
@pytest.mark.parametrize("shape", [(4, 9), (40,), (10,), (1, 4, 10), ()])
def test_shapes_of_gradients(function, shape):
    array = np.ones(shape, np.float32)
    raises(ValueError, "dy", array, X, function=function)
    raises(ValueError, "dsum", DY, X, dsum=array, function=function)
    raises(ValueError, "dx", DY, X, dx=array, function=function)
    if shape != (10,):
        raises(ValueError, "dweight", DY, X, dweight=array, function=function)


@backwards
@bad_dtypes
@pytest.mark.parametrize("name", ["dy", "x", "rstd", "dsum", "dx", "dweight"])
def test_dtypes_of_gradients(function, dtype, name):
    shape = {"rstd": (4,), "dweight": (10,)}.get(name, (4, 10))
    given = {"dy": DY, "x": X, name: np.zeros(shape, dtype)}
    raises(TypeError, name, **given, function=function)


@backwards
def test_dtypes_that_do_not_fit_together(function):
    raises(TypeError, "dx", DY, X, dx=X.astype(np.float64), function=function)
    raises(TypeError, "dsum", DY, X, dsum=X.astype(np.float16), function=function)
    half = W.astype(np.float16)
    raises(TypeError, "weight", DY, X, weight=W, dweight=half, function=function)
    raises(TypeError, "rstd", DY, X, rstd=np.ones(4, np.float64), function=function)
    wide = np.ones((4, 10))
    raises(TypeError, "rstd", wide, wide, rstd=np.ones(4, np.float32), function=function)


def test_dtype_of_dbias():
    raises(
        TypeError, "dbias", DY, X, dweight=W.copy(), dbias=np.ones(10), function=layer_norm_backward
    )


@backwards
@pytest.mark.parametrize("name", ["dx", "dweight"])
@pytest.mark.parametrize("value", [None, 1, [1.0], np.True_], ids=repr)
def test_types_of_gradients(function, name, value):
    raises(TypeError, name, DY, X, **{name: value}, function=function)


@backwards
def test_gradients_that_cannot_be_written(function):
    for name, array in ("dx", X.copy()), ("dweight", W.copy()):
        array.flags.writeable = False
        raises(ValueError, name, DY, X, **{name: array}, function=function)
    raises(ValueError, "dweight", DY, X, dweight=np.ones(20, np.float32)[::2], function=function)


@backwards
def test_accumulation_in_new_arrays(function):
    dx, dweight = X.copy(), W.copy()
    raises(ValueError, "dx", DY, X, dweight=dweight, accumulate_dx=True, function=function)
    raises(ValueError, "dweight", DY, X, dx=dx, accumulate_params=True, function=function)


@pytest.mark.parametrize("name", ["mean", "rstd"])
def test_one_of_mean_and_rstd(name):
    given = {name: np.ones(4, np.float32), "function": layer_norm_backward}
    raises(ValueError, "(mean|rstd)", DY, X, **given)


@backwards
@pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 1), (10,)])
def test_shape_of_rstd(function, shape):
    raises(ValueError, "rstd", DY, X, rstd=np.ones(shape, np.float32), function=function)


@backwards
@views
def test_overlap_of_gradients(function, view):
    dy, x, dsum = (normal((3, 3, 3, 3), np.float32, seed) for seed in range(3))
    for array in dy, x, dsum:
        raises(ValueError, "dx", dy, x, dsum=dsum, dx=view(array), function=function)
        raises(ValueError, "dweight", dy, x, dsum=dsum, dweight=array[0, 0, 0], function=function)
    for weight in x[0, 0, 0], np.ones(3, np.float32):
        raises(ValueError, "dweight", dy, x, None, weight, dweight=weight, function=function)
    dx = np.ones_like(x)
    given = {"dx": dx, "dweight": dx[1, 1, 1], "function": function}
    raises(ValueError, "(dx|dweight)", dy, x, **given)
