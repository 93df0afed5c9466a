"""What is refused, and the sentences."""

import ctypes
import os
import subprocess
import sys

import numpy as np
import pytest

X = np.ones((3, 4), np.float32)
Y = np.zeros((3, 4), np.float32)
W = np.ones(4, np.float32)
X64, Y64, W64 = (array.astype(np.float64) for array in (X, Y, W))
SCALAR = np.ones((), np.float32)
STRIDED = np.ones((5, 4, 3, 2), np.float32).transpose(2, 0, 1, 3)[:, ::2]


@pytest.mark.parametrize(
    ("error", "sentence", "arguments"),
    [
        (TypeError, "4 arguments were passed; there must be 5 to 7", (X, W, W, 0)),
        (TypeError, "8 arguments were passed; there must be 5 to 7", (X, W, W, 0, Y, *[None] * 3)),
        (TypeError, "x is None; it must be a tensor", (None, W, W, 0, Y)),
        (TypeError, "y is None; it must be a tensor", (X, W, W, 0, None)),
        (TypeError, "weight must be a tensor", (X, 1.0, W, 0, Y)),
        (TypeError, "bias must be a tensor", (X, W, "b", 0, Y)),
        (TypeError, "eps must be a number", (X, W, W, None, Y)),
        (TypeError, "x must be float32, float64, float16 or bfloat16", (X.astype(int), W, W, 0, Y)),
        (TypeError, "y must be float32", (X, W, W, 0, Y.astype(complex))),
        (TypeError, "bias is float64; beside the others it must be float32", (X, W, W64, 0, Y)),
        (TypeError, "mean is float16; .* must be float32", (X, W, W, 0, Y, np.ones(3, np.float16))),
        (TypeError, "rstd is float32; .* must be float64", (X64, W, W, 0, Y, None, W[:3])),
        (ValueError, "weight must have the shape of the last dimensions of x", (X, W[:3], W, 0, Y)),
        (ValueError, "bias must have the shape of the last dimensions", (X, W, X, 0, Y)),
        (ValueError, "y must have the shape of x", (X, W, W, 0, Y[:2])),
        (ValueError, "y must have the shape of x", (X, W, W, 0, Y[0])),
        (ValueError, "mean must have the shape of x without", (X, W, W, 0, Y, W)),
        (ValueError, "x must have the dimensions that are normalized", (SCALAR, None, None, 0, Y)),
        (ValueError, "x must have the dimensions that are normalized", (X[0], X, None, 0, Y)),
        (ValueError, "weight must be contiguous", (X, np.ones(8, np.float32)[::2], W, 0, Y)),
        (ValueError, "make them contiguous", (STRIDED, None, None, 0, STRIDED.copy())),
        (ValueError, "eps is negative", (X, W, W, -1, Y)),
        (ValueError, "eps is NaN", (X, W, W, float("nan"), Y)),
        (ValueError, "^y ", (X, W, W, 0, X[:, ::-1])),
    ],
)
def test_layer_norm(module, error, sentence, arguments):
    before = Y.copy()
    with pytest.raises(error, match=sentence):
        module.layer_norm(*arguments)
    np.testing.assert_array_equal(Y, before)


@pytest.mark.parametrize(
    ("error", "sentence", "name", "arguments"),
    [
        (TypeError, "residual is None; it must be a tensor", "add_rms_norm", (X, None, W, 0, Y)),
        (TypeError, "residual is float64", "add_layer_norm", (X, X64, W, W, 0, Y)),
        (TypeError, "sum is float64", "add_rms_norm", (X, X, W, 0, Y, Y64)),
        (TypeError, "dy is None", "rms_norm_backward", (None, X, W, None, 0, Y, None)),
        (TypeError, "dx is float64", "rms_norm_backward", (X, X, W, None, 0, Y64, None)),
        (
            TypeError,
            "dsum is float64",
            "add_rms_norm_backward",
            (X, X64, X, W, None, 0, Y, None),
        ),
        (TypeError, "dweight is float64", "rms_norm_backward", (X, X, W, None, 0, Y, W64)),
        (ValueError, "dbias must have", "layer_norm_backward", (X, X, W, None, None, 0, Y, W, X)),
        (ValueError, "^mean", "layer_norm_backward", (X, X, W, None, W[:3], 0, Y, None, None)),
    ],
)
def test_others(module, error, sentence, name, arguments):
    with pytest.raises(error, match=sentence):
        module[name](*arguments)


class ManagedTensor(ctypes.Structure):
    """DLManagedTensor of dlpack.h."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


class Vector:
    """Four zeros, by DLPack alone."""

    def __init__(self, **fields):
        self.numbers = (ctypes.c_float * 4)()
        self.shape = (ctypes.c_int64 * 1)(4)
        data, shape = ctypes.addressof(self.numbers), ctypes.addressof(self.shape)
        given = {"device_type": 1, "ndim": 1, "code": 2, "bits": 32, "lanes": 1, **fields}
        self.tensor = ManagedTensor(data=data, shape=shape, strides=None, **given)

    def __dlpack_device__(self):
        return self.tensor.device_type, 0

    def __dlpack__(self, **_):
        new = ctypes.pythonapi.PyCapsule_New
        new.restype = ctypes.py_object
        new.argtypes = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
        return new(ctypes.addressof(self.tensor), b"dltensor", None)


def test_dlpack(module):
    x, y = Vector(), Vector()
    x.numbers[:] = 1, 2, 3, 4
    module.rms_norm(x, None, 0, y)
    np.testing.assert_allclose(y.numbers, np.array([1, 2, 3, 4]) / np.sqrt(7.5), rtol=1e-6)
    offset = Vector(byte_offset=8, ndim=1)
    offset.shape[0] = 2
    offset.numbers[:] = 9, 9, 3, 4
    module.rms_norm(offset, None, 0, offset)
    np.testing.assert_allclose(
        offset.numbers, [9, 9, *(np.array([3, 4]) / np.sqrt(12.5))], rtol=1e-6
    )
    with pytest.raises(ValueError, match="x is not in the memory of the CPU"):
        module.rms_norm(Vector(device_type=2), None, 0, Vector())
    with pytest.raises(TypeError, match="y must be float32, float64, float16 or bfloat16"):
        module.rms_norm(Vector(), None, 0, Vector(lanes=2))


def test_unknown_isa():
    program = (
        "import numpy as np, layernorm.tvm_ffi as t\n"
        "t.load().rms_norm(np.ones(4), None, 0, np.ones(4))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"LAYERNORM_ISA": "z80"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "RuntimeError: LAYERNORM_ISA" in done.stderr
