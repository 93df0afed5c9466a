"""Arrays of other libraries, by an exporter that has nothing but the two methods of DLPack."""

import sys
import weakref

import numpy as np
import pytest
from layernorm import (
    _dlpack,
    add_layer_norm,
    add_rms_norm,
    layer_norm,
    layer_norm_backward,
    rms_norm,
    rms_norm_backward,
)
from ml_dtypes import bfloat16
from reference import DTYPES, normal, same_bits

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
versions = pytest.mark.parametrize("versioned", [True, False], ids=["versioned", "unversioned"])


class Exporter:
    """Exports an array through NumPy; a bfloat16 one as uint16, of which it corrects the type."""

    def __init__(self, array, versioned=True, device=(1, 0), **tensor):
        self.array = array
        self.versioned = versioned
        self.device = device
        self.tensor = tensor  # fields that are set in what is exported
        if array.dtype == bfloat16:
            self.array = array.view(np.uint16)
            self.tensor = {"code": 4} | tensor

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **arguments):
        if not self.versioned and arguments:
            raise TypeError("an exporter from before DLPack 1.0 takes no arguments")
        capsule = self.array.__dlpack__(**arguments)
        if _dlpack._is_valid(capsule, b"dltensor_versioned"):
            pointer = _dlpack._get_pointer(capsule, b"dltensor_versioned")
            tensor = _dlpack._Versioned.from_address(pointer).tensor
        else:
            tensor = _dlpack._Tensor.from_address(_dlpack._get_pointer(capsule, b"dltensor"))
        for name, value in self.tensor.items():
            setattr(tensor, name, value)
        return capsule


@dtypes
@versions
def test_inputs(dtype, versioned):
    x, weight, bias = normal((4, 10), dtype), normal(10, dtype, 1), normal(10, dtype, 2)
    expected = layer_norm(x, None, weight, bias)
    exporters = [Exporter(array, versioned) for array in (x, weight, bias)]
    assert same_bits(layer_norm(exporters[0], None, *exporters[1:]), expected)
    assert same_bits(layer_norm(exporters[0], 10, weight, exporters[2]), expected)


@dtypes
@versions
@pytest.mark.parametrize(
    ("function", "tensors", "params"),
    [
        (rms_norm, ["x"], ["weight"]),
        (add_layer_norm, ["x", "residual"], ["weight", "bias", "x_bias"]),
        (add_rms_norm, ["x", "residual"], ["weight", "x_bias"]),
        (layer_norm_backward, ["dy", "x", "dsum"], ["weight"]),
        (rms_norm_backward, ["dy", "x", "dsum"], ["weight"]),
    ],
)
def test_inputs_of_every_function(dtype, versioned, function, tensors, params):
    shapes = dict.fromkeys(tensors, (4, 10)) | dict.fromkeys(params, (10,))
    arrays = {key: normal(shape, dtype, n) for n, (key, shape) in enumerate(shapes.items())}
    exporters = {key: Exporter(array, versioned) for key, array in arrays.items()}
    for result, wanted in zip(function(**exporters), function(**arrays)):
        assert same_bits(result, wanted)


@dtypes
def test_outputs_of_every_function(dtype):
    x, residual, weight = normal((4, 10), dtype), normal((4, 10), dtype, 1), normal(10, dtype, 2)
    for function, names in (
        (add_layer_norm, ["out", "sum_out"]),
        (layer_norm_backward, ["dx", "dweight", "dbias"]),
    ):
        expected = function(x, residual, None, weight)
        places = {key: np.zeros_like(array) for key, array in zip(names, expected)}
        exporters = {key: Exporter(array) for key, array in places.items()}
        results = function(x, residual, None, weight, **exporters)
        for result, exporter in zip(results, exporters.values()):
            assert result is exporter
        for array, wanted in zip(places.values(), expected):
            assert same_bits(array, wanted)


@dtypes
@versions
@pytest.mark.parametrize(
    "view",
    [lambda x: x, lambda x: x.T, lambda x: x[::-1, 1::2], lambda x: x[:0], lambda x: x[2]],
    ids=["contiguous", "transposed", "strided", "empty", "row"],
)
def test_memory_is_shared(dtype, versioned, view):
    array = view(normal((6, 10), dtype))
    imported = _dlpack.from_dlpack(Exporter(array, versioned), "x")
    assert same_bits(imported, array)
    assert imported.__array_interface__["data"][0] == array.__array_interface__["data"][0] or (
        array.size == 0
    )
    assert imported.strides == array.strides or array.size == 0


@dtypes
@versions
def test_byte_offset(dtype, versioned):
    array = normal(10, dtype)
    imported = _dlpack.from_dlpack(
        Exporter(array[:7], versioned, byte_offset=3 * array.itemsize), "x"
    )
    assert same_bits(imported, array[3:])


@dtypes
@pytest.mark.parametrize("view", [lambda x: x, lambda x: x.T], ids=["contiguous", "transposed"])
def test_out(dtype, view):
    x, out = view(normal((6, 10), dtype)), view(np.zeros((6, 10), dtype))
    exporter = Exporter(out)
    assert layer_norm(x, out=exporter) is exporter
    assert same_bits(out, layer_norm(x))
    in_place = Exporter(x)
    assert layer_norm(in_place, out=in_place) is in_place
    assert same_bits(x, out)


@dtypes
def test_out_that_is_read_only(dtype):
    out = np.zeros((4, 10), dtype)
    out.flags.writeable = False
    with pytest.raises(ValueError, match=r"^out is read-only"):
        layer_norm(normal((4, 10), dtype), out=Exporter(out))


def test_unversioned_exports_are_not_known_to_be_writable():
    with pytest.raises(ValueError, match=r"^out is read-only"):
        layer_norm(normal((4, 10), bfloat16), out=Exporter(np.zeros((4, 10), bfloat16), False))


@dtypes
@versions
def test_lifetime(dtype, versioned):
    array = normal((4, 10), dtype)
    expected = array.copy()
    exporter = Exporter(array, versioned)
    freed = weakref.ref(array)
    imported = _dlpack.from_dlpack(exporter, "x")[1:]
    del array, exporter
    assert freed() is not None
    assert same_bits(imported, expected[1:])
    del imported
    assert freed() is None


@pytest.mark.parametrize("name", ["x", "weight", "bias", "out"])
@pytest.mark.parametrize(
    "exporter",
    [
        Exporter(np.zeros(10, np.int64)),
        Exporter(np.zeros(10, np.complex64)),
        Exporter(np.zeros(10, np.float32), device=(2, 0), device_type=2),
        Exporter(np.zeros(10, bfloat16), device=(2, 0), device_type=2),
        Exporter(np.zeros(10, bfloat16), lanes=2),
        Exporter(np.zeros(10, bfloat16), code=7, bits=8),
    ],
    ids=["int64", "complex64", "CUDA", "bfloat16 on CUDA", "bfloat16 pairs", "float8"],
)
def test_what_cannot_be_taken(name, exporter):
    arguments = {"x": normal((3, 10), np.float32), name: exporter}
    with pytest.raises(TypeError, match=rf"^{name}\b"):
        layer_norm(**arguments)


def test_exporters_that_refuse():
    class Refuses:
        def __dlpack_device__(self):
            return (1, 0)

        def __dlpack__(self, **arguments):
            raise BufferError("it requires a gradient")

    with pytest.raises(TypeError, match=r"^x cannot .* it requires a gradient"):
        layer_norm(Refuses())


def test_bfloat16_without_ml_dtypes(monkeypatch):
    exporter = Exporter(np.zeros(10, bfloat16))
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(TypeError, match=r"^x is bfloat16, which needs ml_dtypes"):
        layer_norm(exporter)
    assert layer_norm(np.zeros(10, np.float32)).dtype == np.float32
