"""Arrays of other libraries, through DLPack, as NumPy arrays that share their memory."""

from ctypes import (
    POINTER,
    Structure,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
    py_object,
    pythonapi,
)
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class SupportsDLPack(Protocol):
    """An array of any library that exports DLPack; it has to be in the CPU's memory."""

    def __dlpack__(self) -> Any: ...


def from_dlpack(exporter: Any, name: str) -> NDArray[Any]:
    """`exporter` as a NumPy array that shares its memory.

    Raises TypeError, naming the argument `name`, where that cannot be."""
    try:
        return np.from_dlpack(exporter)
    except Exception as error:
        # NumPy has no bfloat16 of its own and refuses it; everything else that it refuses stays so.
        try:
            array = _bfloat16(exporter)
        except ImportError as missing:
            raise TypeError(f"{name} is bfloat16, which needs ml_dtypes: {missing}") from error
        except Exception:
            array = None
        if array is None:
            raise TypeError(f"{name} cannot be read through DLPack: {error}") from error
        return array


# What follows is dlpack.h, as far as it takes to reach a bfloat16 tensor on the CPU.
_CPU = 1
_BFLOAT = 4
_READ_ONLY = 1


class _Tensor(Structure):
    _fields_ = [
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("code", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


class _Versioned(Structure):
    _fields_ = [
        ("major", c_uint32),
        ("minor", c_uint32),
        ("context", c_void_p),
        ("deleter", c_void_p),
        ("flags", c_uint64),
        ("tensor", _Tensor),
    ]


_is_valid = pythonapi.PyCapsule_IsValid
_is_valid.argtypes = [py_object, c_char_p]
_is_valid.restype = c_int
_get_pointer = pythonapi.PyCapsule_GetPointer
_get_pointer.argtypes = [py_object, c_char_p]
_get_pointer.restype = c_void_p


class _Memory:
    """What NumPy keeps as the base of the array.

    The capsule is never renamed to "used_...": it stays its exporter's, whose destructor frees the
    tensor when the capsule goes, which is when the last array on this memory has gone."""

    def __init__(self, capsule: object, interface: dict[str, Any]) -> None:
        self.capsule = capsule
        self.__array_interface__ = interface


def _bfloat16(exporter: Any) -> NDArray[Any] | None:
    try:
        capsule = exporter.__dlpack__(max_version=(1, 0))
    except TypeError:  # from before DLPack 1.0
        capsule = exporter.__dlpack__()
    if _is_valid(capsule, b"dltensor_versioned"):
        versioned = _Versioned.from_address(_get_pointer(capsule, b"dltensor_versioned"))
        if versioned.major != 1:
            return None
        tensor, read_only = versioned.tensor, bool(versioned.flags & _READ_ONLY)
    else:
        # Without flags nothing says that writing is allowed: NumPy takes it so as well.
        tensor = _Tensor.from_address(_get_pointer(capsule, b"dltensor"))
        read_only = True
    if (tensor.device_type, tensor.code, tensor.bits, tensor.lanes) != (_CPU, _BFLOAT, 16, 1):
        return None
    import ml_dtypes

    shape = tuple(tensor.shape[: tensor.ndim])
    strides = None
    if tensor.strides:
        strides = tuple(2 * stride for stride in tensor.strides[: tensor.ndim])
    interface = {
        "version": 3,
        "typestr": "<u2",
        "shape": shape,
        "strides": strides,
        "data": ((tensor.data or 0) + tensor.byte_offset, read_only),
    }
    array: NDArray[Any] = np.asarray(_Memory(capsule, interface)).view(ml_dtypes.bfloat16)
    return array
