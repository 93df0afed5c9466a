"""Arrays of one shape as the library takes them: [batch][rows][cols], with three strides each."""

from collections.abc import Sequence
from ctypes import addressof, c_int64
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ._arrays import Array


@dataclass
class Layout:
    """Sizes, and the arrays with their strides, or none where all are contiguous.

    An array whose strides three cannot express has been replaced: an input by a copy, an output by
    a new array, whose elements store() copies."""

    batch: int
    rows: int
    cols: int
    arrays: dict[str, Array]
    strides: dict[str, Any]
    outputs: dict[str, Array]

    def pointers(self, name: str) -> tuple[int, int]:
        """The addresses of an array and of its strides, 0 for what there is none of."""
        if name not in self.arrays:
            return 0, 0
        strides = self.strides.get(name)
        return self.arrays[name].ctypes.data, 0 if strides is None else addressof(strides)

    def store(self) -> None:
        """Copies what was computed to the outputs that were replaced."""
        for name, output in self.outputs.items():
            if self.arrays[name] is not output:
                output[...] = self.arrays[name]


def lay_out(inputs: dict[str, Array], outputs: dict[str, Array], axes: range) -> Layout:
    """Lays out arrays of one shape, of which `axes` are normalized together. An output that is
    added to is an input as well."""
    inputs = {name: _axes_last(array, axes) for name, array in inputs.items()}
    outputs = {name: _axes_last(array, axes) for name, array in outputs.items()}
    arrays = inputs | outputs
    shape = next(iter(arrays.values())).shape
    dims = len(axes)
    lead, inner = shape[:-dims], shape[-dims:]
    if all(map(_is_contiguous, arrays.values())):
        return Layout(1, prod(lead), prod(inner), arrays, {}, outputs)
    written_only = outputs.keys() - inputs.keys()
    taken = {
        name: array
        if array.flags.aligned
        and len(_merged(lead, [array.strides[:-dims]])) <= 2
        and len(_merged(inner, [array.strides[-dims:]])) <= 1
        else _contiguous(array, name in written_only)
        for name, array in arrays.items()
    }
    if len(_merged(lead, [array.strides[:-dims] for array in taken.values()])) > 2:
        # Two dimensions are enough for each of them, but not the same two for all.
        taken = {name: _contiguous(array, name in written_only) for name, array in arrays.items()}
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


def _axes_last(array: Array, axes: range) -> Array:
    if axes.stop == array.ndim:
        return array
    return np.moveaxis(array, axes, range(-len(axes), 0))


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


def _contiguous(array: Array, written_only: bool) -> Array:
    if _is_contiguous(array):
        return array
    if written_only:
        return np.empty(array.shape, array.dtype)
    return np.require(array, requirements=["C", "A"])


def _refuse_overlap(
    inputs: dict[str, Array], outputs: dict[str, Array], taken: dict[str, Array]
) -> None:
    """The library refuses overlap in what it sees; this does for arrays that were replaced."""
    for output_name, output in outputs.items():
        for name, array in (inputs | outputs).items():
            replaced = taken[name] is not array or taken[output_name] is not output
            if name == output_name or not replaced or not np.may_share_memory(array, output):
                continue
            if name in outputs:
                raise ValueError(f"{output_name} overlaps {name}")
            if not _same(array, output):
                raise ValueError(f"{output_name} overlaps {name}; it may only be {name} itself")


def _same(a: Array, b: Array) -> bool:
    return (a.ctypes.data, a.strides, a.dtype) == (b.ctypes.data, b.strides, b.dtype)
