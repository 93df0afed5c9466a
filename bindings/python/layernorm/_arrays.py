"""From what a caller passes to what the library takes: dtypes, shapes, strides, addresses."""

import sys
from collections.abc import Callable, Sequence
from ctypes import Array as CArray
from ctypes import addressof, c_char, c_int64
from dataclasses import dataclass
from math import prod
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


def as_output(value: Any, name: str, shape: tuple[int, ...]) -> Array:
    """`value` as an array of that shape that can be written to."""
    if isinstance(value, np.ndarray):
        array = value.view(np.ndarray)
    elif hasattr(value, "__dlpack__"):
        array = from_dlpack(value, name)
    else:
        raise TypeError(f"{name} must be an array, not {type(value).__name__}")
    dtype_of(array, name)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; it must be {shape}")
    if not array.flags.writeable:
        raise ValueError(f"{name} is read-only")
    return array


def as_params(
    shape: tuple[int, ...], weight: Any, bias: Any
) -> tuple[Array | None, Array | None, DType]:
    """weight and bias, of that shape, made contiguous and of one dtype: the third item."""
    weight = None if weight is None else _as_param(weight, "weight", shape)
    bias = None if bias is None else _as_param(bias, "bias", shape)
    if weight is None and bias is None:
        return None, None, DType.DTYPE_DEFAULT
    if weight is not None and bias is not None and weight.dtype != bias.dtype:
        # The smallest dtype that holds the values of both; NumPy cannot promote bfloat16.
        wide = np.float64 if np.float64 in (weight.dtype, bias.dtype) else np.float32
        weight, bias = weight.astype(wide), bias.astype(wide)
    return weight, bias, DTYPES[(bias if weight is None else weight).dtype]


def _as_param(value: Any, name: str, shape: tuple[int, ...]) -> Array:
    array = as_input(value, name)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; it must be {shape}")
    return np.require(array, requirements=["C", "A"])


def normalized_dims(x: Array, normalized_shape: Any) -> int:
    """How many trailing dimensions of x are normalized together."""
    if x.ndim == 0:
        raise ValueError("x must have at least one dimension")
    if normalized_shape is None:
        return 1
    sizes = (normalized_shape,) if hasattr(normalized_shape, "__index__") else normalized_shape
    try:
        shape = tuple(map(index, sizes))
    except TypeError:
        raise TypeError(
            f"normalized_shape must be an int or a tuple of ints, not {normalized_shape!r}"
        ) from None
    if not shape or x.shape[-len(shape) :] != shape:
        raise ValueError(f"normalized_shape is {shape}; the shape of x, {x.shape}, must end in it")
    return len(shape)


@dataclass
class Layout:
    """Arrays of one shape as the library takes them: [batch][rows][cols], three strides each,
    or none where all are contiguous.

    An array whose strides three cannot express has been replaced: an input by a copy, an output by
    a new array, whose elements store() copies."""

    batch: int
    rows: int
    cols: int
    arrays: dict[str, Array]
    strides: dict[str, Any]
    outputs: dict[str, Array]

    def pointers(self, name: str) -> tuple[int, int]:
        """The addresses of an array and of its strides."""
        strides = self.strides.get(name)
        return self.arrays[name].ctypes.data, 0 if strides is None else addressof(strides)

    def store(self) -> None:
        """Copies what was computed to the outputs that were replaced."""
        for name, output in self.outputs.items():
            if self.arrays[name] is not output:
                output[...] = self.arrays[name]


def lay_out(inputs: dict[str, Array], outputs: dict[str, Array], dims: int) -> Layout:
    """Lays out arrays of one shape, of which the last `dims` dimensions are normalized together."""
    arrays = inputs | outputs
    shape = next(iter(arrays.values())).shape
    lead, inner = shape[:-dims], shape[-dims:]
    if all(map(_is_contiguous, arrays.values())):
        return Layout(1, prod(lead), prod(inner), arrays, {}, outputs)
    taken = {
        name: array
        if array.flags.aligned
        and len(_merged(lead, [array.strides[:-dims]])) <= 2
        and len(_merged(inner, [array.strides[-dims:]])) <= 1
        else _contiguous(array, name in outputs)
        for name, array in arrays.items()
    }
    if len(_merged(lead, [array.strides[:-dims] for array in taken.values()])) > 2:
        # Two dimensions are enough for each of them, but not the same two for all.
        taken = {name: _contiguous(array, name in outputs) for name, array in arrays.items()}
    _refuse_overlap(inputs, outputs, taken)

    steps = [array.strides[:-dims] for array in taken.values()]
    unused = (1, (0,) * len(taken))
    (batch, batch_steps), (rows, row_steps) = [unused, unused, *_merged(lead, steps)][-2:]
    strides = {}
    for (name, array), batch_step, row_step in zip(taken.items(), batch_steps, row_steps):
        cols_steps = _merged(inner, [array.strides[-dims:]])
        col_step = cols_steps[0][1][0] if cols_steps else array.itemsize
        in_bytes = (batch_step, row_step, col_step)
        strides[name] = (c_int64 * 3)(*(step // array.itemsize for step in in_bytes))
    return Layout(batch, rows, prod(inner), taken, strides, outputs)


def _merged(
    shape: tuple[int, ...], steps: Sequence[tuple[int, ...]]
) -> list[tuple[int, tuple[int, ...]]]:
    """The sizes and strides that are left when neighbouring dimensions through which every array
    steps as through one are made one."""
    merged: list[tuple[int, tuple[int, ...]]] = []
    if 0 in shape:
        return [(0, (0,) * len(steps))]
    for size, *inner in zip(shape, *steps):
        if size == 1:
            continue
        if merged and all(o == size * i for o, i in zip(merged[-1][1], inner)):
            size *= merged.pop()[0]
        merged.append((size, tuple(inner)))
    return merged


def _is_contiguous(array: Array) -> bool:
    return array.flags.c_contiguous and array.flags.aligned


def _contiguous(array: Array, is_output: bool) -> Array:
    if _is_contiguous(array):
        return array
    if is_output:
        return np.empty(array.shape, array.dtype)
    return np.require(array, requirements=["C", "A"])


def _refuse_overlap(
    inputs: dict[str, Array], outputs: dict[str, Array], taken: dict[str, Array]
) -> None:
    """The library refuses overlap in what it sees; this does for arrays that were replaced."""
    for output_name, output in outputs.items():
        for name, array in inputs.items():
            replaced = taken[name] is not array or taken[output_name] is not output
            if replaced and np.may_share_memory(array, output) and not _same(array, output):
                raise ValueError(f"{output_name} overlaps {name}; it may only be {name} itself")


def _same(a: Array, b: Array) -> bool:
    return (a.ctypes.data, a.strides, a.dtype) == (b.ctypes.data, b.strides, b.dtype)
