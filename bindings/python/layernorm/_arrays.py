"""From what a caller passes to what the library takes: dtypes, shapes, strides, addresses."""

import sys
from collections.abc import Callable
from ctypes import Array as CArray
from ctypes import c_char, c_float
from math import inf
from numbers import Real
from operator import index
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._dlpack import from_dlpack
from ._library import DType

Array: TypeAlias = NDArray[Any]

# Looked up by equality, so that the other byte order is not found.
DTYPES: Final[dict[np.dtype[Any], DType]] = {
    np.dtype(np.float32): DType.F32,
    np.dtype(np.float64): DType.F64,
    np.dtype(np.float16): DType.F16,
}

# addressof(from_buffer(array)) is the address of a writable contiguous array in a quarter of the
# time of array.ctypes.data; it raises for any other array, and for bfloat16.
from_buffer: Final[Callable[[Any], CArray[c_char]]] = (c_char * 0).from_buffer


def dtype_of(array: Array, name: str) -> DType:
    """The library's dtype of `array`; TypeError where it has none."""
    code = DTYPES.get(array.dtype)
    if code is None:
        # An array can be bfloat16 only after somebody has imported ml_dtypes.
        ml_dtypes = sys.modules.get("ml_dtypes")
        if ml_dtypes is None or array.dtype != np.dtype(ml_dtypes.bfloat16):
            raise TypeError(
                f"{name} has dtype {array.dtype}; "
                "it must be float32, float64, float16 or bfloat16, in native byte order"
            )
        code = DTYPES[array.dtype] = DType.BF16
    return code


def as_input(value: Any, name: str) -> Array:
    """`value` as an array of a dtype that the library has, without a copy where it is an array."""
    if not isinstance(value, np.ndarray) and hasattr(value, "__dlpack__"):
        array = from_dlpack(value, name)
    else:
        try:
            array = np.asarray(value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name} is not an array: {error}") from error
    dtype_of(array, name)
    return array


def as_input_like(value: Any, name: str, model: Array, model_name: str) -> Array:
    """`value` as an array of the shape and dtype of `model`."""
    array = as_input(value, name)
    check_shape(array, name, model.shape)
    check_dtype(array, name, model.dtype, model_name)
    return array


def as_output(value: Any, name: str, shape: tuple[int, ...]) -> Array:
    """`value` as an array of that shape that can be written to."""
    if isinstance(value, np.ndarray):
        array = value.view(np.ndarray)
    elif hasattr(value, "__dlpack__"):
        array = from_dlpack(value, name)
    else:
        raise TypeError(f"{name} must be an array, not {type(value).__name__}")
    dtype_of(array, name)
    check_shape(array, name, shape)
    if not array.flags.writeable:
        raise ValueError(f"{name} is read-only")
    return array


def check_shape(array: Array, name: str, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; it must be {shape}")


def check_dtype(array: Array, name: str, dtype: np.dtype[Any], whose: str) -> None:
    if array.dtype != dtype:
        raise TypeError(f"{name} has dtype {array.dtype}; it must be that of {whose}, {dtype}")


def is_contiguous(array: Array) -> bool:
    return array.flags.c_contiguous and array.flags.aligned


def contiguous(array: Array) -> Array:
    """`array`, or a contiguous copy of it."""
    return array if is_contiguous(array) else np.require(array, requirements=["C", "A"])


def as_output_vector(value: Any, name: str, shape: tuple[int, ...]) -> Array:
    """As as_output(), of what the library has no strides for."""
    array = as_output(value, name, shape)
    if not is_contiguous(array):
        raise ValueError(f"{name} must be contiguous and aligned")
    return array


def as_vector(value: Any, name: str, shape: tuple[int, ...]) -> Array:
    """`value` as a contiguous array of that shape: what the library has no strides for."""
    array = as_input(value, name)
    check_shape(array, name, shape)
    return contiguous(array)


def as_params(
    shape: tuple[int, ...], weight: Any, bias: Any
) -> tuple[Array | None, Array | None, DType]:
    """weight and bias, of that shape, made contiguous and of one dtype: the third item."""
    weight = None if weight is None else as_vector(weight, "weight", shape)
    bias = None if bias is None else as_vector(bias, "bias", shape)
    if weight is None and bias is None:
        return None, None, DType.DTYPE_DEFAULT
    if weight is not None and bias is not None and weight.dtype != bias.dtype:
        # The smallest dtype that holds the values of both; NumPy cannot promote bfloat16.
        wide = np.float64 if np.float64 in (weight.dtype, bias.dtype) else np.float32
        weight, bias = weight.astype(wide), bias.astype(wide)
    return weight, bias, DTYPES[(bias if weight is None else weight).dtype]


def normalized_axes(shape: tuple[int, ...], normalized_shape: Any, axis: Any) -> range:
    """The axes of x, of that shape, that are normalized together: the last ones, or `axis`."""
    ndim = len(shape)
    if ndim == 0:
        raise ValueError("x must have at least one dimension")
    if axis is not None:
        if normalized_shape is not None:
            raise ValueError("axis takes the place of normalized_shape: only one can be given")
        return _one_axis(ndim, axis)
    if normalized_shape is None:
        return range(ndim - 1, ndim)
    sizes = (normalized_shape,) if hasattr(normalized_shape, "__index__") else normalized_shape
    try:
        inner = tuple(map(index, sizes))
    except TypeError:
        raise TypeError(
            f"normalized_shape must be an int or a tuple of ints, not {normalized_shape!r}"
        ) from None
    if not inner or shape[-len(inner) :] != inner:
        raise ValueError(f"normalized_shape is {inner}; the shape of x, {shape}, must end in it")
    return range(ndim - len(inner), ndim)


def _one_axis(ndim: int, axis: Any) -> range:
    try:
        number = index(axis)
    except TypeError:
        raise TypeError(f"axis must be an int, not {type(axis).__name__}") from None
    if not -ndim <= number < ndim:
        raise ValueError(f"axis is {number}; x has {ndim} dimensions")
    number %= ndim
    return range(number, number + 1)


def pointer(array: Array | None) -> int:
    return 0 if array is None else array.ctypes.data


def stats_dtype(x: Array) -> np.dtype[Any]:
    """The dtype of mean and rstd: the one that x is computed in."""
    return np.dtype(np.float64 if x.dtype == np.float64 else np.float32)


def rounded_eps(eps: Any, x: Array) -> float:
    """eps as the library's everyday calls for the dtype of x take it."""
    if not isinstance(eps, Real):
        raise TypeError(f"eps must be a number, not {type(eps).__name__}")
    try:
        exact = float(eps)
    except OverflowError:  # an int
        exact = inf
    return exact if x.dtype == np.float64 else c_float(exact).value
