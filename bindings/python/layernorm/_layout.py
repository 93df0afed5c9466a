"""Arrays of one shape as the library takes them: [batch][rows][cols], with three strides each."""

from collections.abc import Sequence
from ctypes import addressof, c_int64
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, TypeAlias

import numpy as np

from ._arrays import Array, contiguous, is_contiguous

Steps: TypeAlias = tuple[int, ...]
# batch, rows, cols, and strides of each array, or none.
Geometry: TypeAlias = tuple[int, int, int, tuple[Any, ...]]


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
    arrays = inputs | outputs
    found = _as_they_lie(arrays, axes)
    if found is None:
        inputs = {name: _axes_last(array, axes) for name, array in inputs.items()}
        outputs = {name: _axes_last(array, axes) for name, array in outputs.items()}
        arrays = _replaced(inputs, outputs, len(axes))
        _refuse_overlap(inputs, outputs, arrays)
        ndim = next(iter(arrays.values())).ndim
        found = _as_they_lie(arrays, range(ndim - len(axes), ndim))
        assert found is not None
    batch, rows, cols, strides = found
    named = dict(zip(arrays, strides, strict=True)) if strides else {}
    return Layout(batch, rows, cols, arrays, named, outputs)


def _as_they_lie(arrays: dict[str, Array], axes: range) -> Geometry | None:
    """Sizes and strides; None where some array has to be replaced."""
    if not all(array.flags.aligned for array in arrays.values()):
        return None
    shape = next(iter(arrays.values())).shape
    steps = tuple((array.itemsize, array.strides) for array in arrays.values())
    return _geometry(shape, axes.start, axes.stop, steps)


@lru_cache(maxsize=1024)
def _geometry(
    shape: Steps, begin: int, end: int, arrays: tuple[tuple[int, Steps], ...]
) -> Geometry | None:
    def split(of_axes: Steps) -> tuple[Steps, Steps]:
        return of_axes[:begin] + of_axes[end:], of_axes[begin:end]

    lead, inner = split(shape)
    steps = [split(strides) for _, strides in arrays]
    if all(_are_contiguous(lead + inner, a + b, size) for (size, _), (a, b) in zip(arrays, steps)):
        return 1, prod(lead), prod(inner), ()
    merged = _merged(lead, [lead_steps for lead_steps, _ in steps])
    cols = [_merged(inner, [inner_steps]) for _, inner_steps in steps]
    if len(merged) > 2 or any(len(each) > 1 for each in cols):
        return None
    unused = (1, (0,) * len(steps))
    (batch, batch_steps), (rows, row_steps) = [unused, unused, *merged][-2:]
    strides = []
    for (size, _), batch_step, row_step, each in zip(arrays, batch_steps, row_steps, cols):
        col_step = each[0][1][0] if each else size
        strides.append((c_int64 * 3)(batch_step // size, row_step // size, col_step // size))
    return batch, rows, prod(inner), tuple(strides)


def _are_contiguous(shape: Steps, steps: Steps, itemsize: int) -> bool:
    for size, step in zip(reversed(shape), reversed(steps)):
        if size != 1 and step != itemsize:
            return 0 in shape
        itemsize *= size
    return True


def _replaced(inputs: dict[str, Array], outputs: dict[str, Array], dims: int) -> dict[str, Array]:
    """The arrays, contiguous ones in place of those that three strides cannot express."""
    arrays = inputs | outputs
    shape = next(iter(arrays.values())).shape
    lead, inner = shape[:-dims], shape[-dims:]
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
    return taken


def _axes_last(array: Array, axes: range) -> Array:
    if axes.stop == array.ndim:
        return array
    return np.moveaxis(array, axes, range(-len(axes), 0))


def _merged(shape: Steps, steps: Sequence[Steps]) -> list[tuple[int, Steps]]:
    """The sizes and strides that are left when neighbouring dimensions through which every array
    steps as through one are made one."""
    merged: list[tuple[int, Steps]] = []
    if 0 in shape:
        return [(0, (0,) * len(steps))]
    for size, *inner in zip(shape, *steps):
        if size == 1:
            continue
        if merged and all(o == size * i for o, i in zip(merged[-1][1], inner)):
            size *= merged.pop()[0]
        merged.append((size, tuple(inner)))
    return merged


def _contiguous(array: Array, written_only: bool) -> Array:
    if written_only and not is_contiguous(array):
        return np.empty(array.shape, array.dtype)
    return contiguous(array)


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
