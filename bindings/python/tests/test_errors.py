"""Every error has the right type, names the argument, and leaves the output as it was."""

import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from layernorm import layer_norm, set_num_threads
from reference import normal

X = normal((4, 10), np.float32)
W = normal(10, np.float32)


OUTPUTS = ["out", "sum_out", "dx", "dweight", "dbias"]


def raises(error, name, *args, function=layer_norm, **kwargs):
    """Calls the function, whose error has to begin with the name of the argument."""
    outs = [kwargs[key] for key in OUTPUTS if isinstance(kwargs.get(key), np.ndarray)]
    before = [out.tobytes() for out in outs]
    with pytest.raises(error, match=rf"^{name}\b") as caught:
        function(*args, **kwargs)
    assert caught.type is error
    assert [out.tobytes() for out in outs] == before


BAD_DTYPES = ["int8", "int64", "uint16", "bool", "complex64", "longdouble", "object", "U3", "M8[s]"]
BAD_DTYPES += [">f4", ">f8", ">f2", np.dtype([("a", "f4")]), ml_dtypes.float8_e5m2]
bad_dtypes = pytest.mark.parametrize("dtype", BAD_DTYPES, ids=str)


@bad_dtypes
def test_dtype_of_x(dtype):
    raises(TypeError, "x", np.zeros((4, 10), dtype))
    raises(TypeError, "x", np.zeros((4, 10), dtype), out=np.ones((4, 10), np.float32))


@bad_dtypes
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_dtype_of_weight_and_bias(dtype, name):
    raises(TypeError, name, X, **{name: np.zeros(10, dtype)})


@bad_dtypes
def test_dtype_of_out(dtype):
    raises(TypeError, "out", X, out=np.zeros((4, 10), dtype))


@pytest.mark.parametrize("x", [None, "text", 3, [1, 2], {}, object()], ids=str)
def test_type_of_x(x):
    raises(TypeError, "x", x)


def test_x_that_is_ragged():
    raises(ValueError, "x", [[1.0, 2.0], [3.0]])


@pytest.mark.parametrize("x", [1.5, np.float32(1), np.array(1.0)], ids=repr)
@pytest.mark.parametrize("normalized_shape", [None, 1, ()])
def test_x_without_dimensions(x, normalized_shape):
    raises(ValueError, "x", x, normalized_shape)


@pytest.mark.parametrize("shape", [9, 4, (10, 4), (4,), (1, 4, 10), (), [], -10, (-1,), 0])
def test_normalized_shape_that_does_not_fit(shape):
    raises(ValueError, "normalized_shape", X, shape)


@pytest.mark.parametrize("shape", [10.0, "10", (10.0,), (None,), {"a": 1}], ids=repr)
def test_type_of_normalized_shape(shape):
    raises(TypeError, "normalized_shape", X, shape)


@pytest.mark.parametrize("shape", [(), (9,), (11,), (1,), (1, 10), (10, 1), (4, 10)])
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_shape_of_weight_and_bias(shape, name):
    raises(ValueError, name, X, **{name: np.ones(shape, np.float32)})
    raises(ValueError, name, X, 10, **{name: np.ones(shape, np.float64)}, out=np.ones_like(X))


@pytest.mark.parametrize("eps", [-1, -1e-30, float("nan"), float("inf"), -float("inf"), 1e300])
@pytest.mark.parametrize("shape", [None, 10])
def test_eps_out_of_range(eps, shape):
    raises(ValueError, "eps", X, shape, eps=eps, out=np.ones_like(X))


def test_eps_of_float64_has_its_range():
    x = X.astype(np.float64)
    assert np.abs(layer_norm(x, eps=1e300)).max() < 1e-149
    raises(ValueError, "eps", x, eps=10**400)


@pytest.mark.parametrize("eps", ["1e-5", None, 1e-5j, [1e-5]], ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_type_of_eps(eps, dtype):
    raises(TypeError, "eps", X.astype(dtype), eps=eps)


@pytest.mark.parametrize("shape", [(4, 9), (40,), (10, 4), (1, 4, 10), ()])
def test_shape_of_out(shape):
    raises(ValueError, "out", X, out=np.ones(shape, np.float32))
    raises(ValueError, "out", X, 10, out=np.ones(shape, np.float64))


@pytest.mark.parametrize("out", [[1.0], 1.0, "text", memoryview(X.copy())], ids=repr)
def test_type_of_out(out):
    raises(TypeError, "out", X, out=out)


def test_out_that_is_read_only():
    out = np.ones_like(X)
    out.flags.writeable = False
    raises(ValueError, "out", X, out=out)
    raises(ValueError, "out", X, out=np.broadcast_to(np.float32(1), X.shape))


def overlapping():
    memory = normal(200, np.float32)
    x = memory[:40].reshape(4, 10)
    yield "shifted by an element", x, memory[1:41].reshape(4, 10)
    yield "shifted by a row", x, memory[10:50].reshape(4, 10)
    yield "backwards", x, x[:, ::-1]
    yield "rows backwards", x, x[::-1]
    yield "another dtype", x, x.view(np.float16)[:, :10]
    square = memory[:100].reshape(10, 10)
    yield "transposed", square, square.T
    cube = memory[:64].reshape(4, 4, 4)
    for axes in (1, 0, 2), (0, 2, 1), (2, 1, 0):
        yield f"transposed {axes}", cube, cube.transpose(axes)
    hypercube = memory[:81].reshape(3, 3, 3, 3)
    for axes in (2, 1, 0, 3), (1, 0, 2, 3), (3, 2, 1, 0):
        yield f"transposed {axes}", hypercube, hypercube.transpose(axes)
        yield f"transposed from {axes}", hypercube.transpose(axes), hypercube


@pytest.mark.parametrize(("x", "out"), [pytest.param(x, out, id=i) for i, x, out in overlapping()])
def test_out_that_overlaps_x(x, out):
    raises(ValueError, "out", x, out=out)


def test_out_that_overlaps_weight_or_bias():
    memory = normal((4, 10), np.float32)
    raises(ValueError, "out", X, weight=memory[0], out=memory)
    raises(ValueError, "out", X, bias=memory[1], out=memory)


def test_out_of_which_elements_share_memory():
    memory = np.ones(100, np.float32)
    strided = np.lib.stride_tricks.as_strided
    for strides in (0, 4), (4, 4), (4, 0), (20, 4):
        raises(ValueError, "out", X, out=strided(memory, (4, 10), strides))


@pytest.mark.parametrize("n", [-1, 1025, 2**31, 2**32 + 1, -(2**31)])
def test_number_of_threads_out_of_range(n):
    with pytest.raises(ValueError, match=r"^n\b"):
        set_num_threads(n)


@pytest.mark.parametrize("n", [1.0, "1", None])
def test_type_of_number_of_threads(n):
    with pytest.raises(TypeError, match=r"^n\b"):
        set_num_threads(n)


def in_new_process(code, **environment):
    code = f"import numpy as np, layernorm\nx = np.ones((2, 3), np.float32)\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip().splitlines()[-1:] or [done.stdout.strip()]


@pytest.mark.parametrize("call", ["layer_norm(x)", "layer_norm(x, 3)", "isa()"])
def test_instruction_set_that_is_unknown(call):
    (last,) = in_new_process(f"layernorm.{call}", LAYERNORM_ISA="pdp-11")
    assert last.startswith("RuntimeError: LAYERNORM_ISA")
    assert "pdp-11" in last


@pytest.mark.parametrize("value", ["0", "1025", "two"])
def test_number_of_threads_in_the_environment(value):
    (last,) = in_new_process("layernorm.layer_norm(x)", LAYERNORM_NUM_THREADS=value)
    assert last.startswith("ValueError: LAYERNORM_NUM_THREADS")
    good = "layernorm.set_num_threads(2); layernorm.layer_norm(x); print('done')"
    assert in_new_process(good, LAYERNORM_NUM_THREADS=value) == ["done"]
