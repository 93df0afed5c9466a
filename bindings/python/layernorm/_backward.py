"""layernorm_backward() on arrays: either norm."""

from collections.abc import Callable
from ctypes import sizeof
from typing import Any, Final

import numpy as np

from ._arrays import (
    DTYPES,
    Array,
    as_input,
    as_input_like,
    as_output,
    as_output_vector,
    as_vector,
    check_dtype,
    check_shape,
    normalized_axes,
    pointer,
    rounded_eps,
    stats_dtype,
)
from ._layout import lay_out
from ._library import ADA_DEFAULTS, BackwardArgs, Flag, check, library, packer

_pack_head: Final = packer(BackwardArgs, "struct_size", "cols").pack
_pack_addresses: Final = packer(BackwardArgs, "dy", "ada_slope").pack
_SIZE: Final = sizeof(BackwardArgs)


def backward(
    norm: int,
    flags: int,
    dy: Any,
    x: Any,
    normalized_shape: Any,
    axis: Any,
    weight: Any,
    mean: Any,
    rstd: Any,
    eps: Any,
    dsum: Any,
    dx: Any,
    dweight: Any,
    dbias: Any,
    accumulate_dx: bool,
    accumulate_params: bool,
    ada: tuple[Any, Any] = ADA_DEFAULTS,
) -> tuple[Any, Any, Any]:
    """dx, dweight and dbias: each what was given, a new array for True, or None for False."""
    x = as_input(x, "x")
    axes = normalized_axes(x.shape, normalized_shape, axis)
    inner, lead = x.shape[axes.start : axes.stop], x.shape[: axes.start] + x.shape[axes.stop :]
    dy = as_input(dy, "dy")
    check_shape(dy, "dy", x.shape)
    inputs = {"dy": dy, "x": x}
    if dsum is not None:
        inputs["dsum"] = as_input_like(dsum, "dsum", dy, "dy")
    mean, rstd = _as_stats(mean, "mean", lead, x), _as_stats(rstd, "rstd", lead, x)

    given = dx, dweight, dbias
    dx = _as_target(dx, "dx", as_output, x.shape, accumulate_dx)
    dweight = _as_target(dweight, "dweight", as_output_vector, inner, accumulate_params)
    dbias = _as_target(dbias, "dbias", as_output_vector, inner, accumulate_params)
    if weight is not None:
        weight = as_vector(weight, "weight", inner)
    params = [array for array in (dweight, dbias, weight) if isinstance(array, np.ndarray)]
    param_dtype = params[0].dtype if params else x.dtype
    weight = _widened(weight, param_dtype)
    dx = _target(dx, "dx", x.shape, dy.dtype, "dy")
    dweight = _target(dweight, "dweight", inner, param_dtype, "dweight")
    dbias = _target(dbias, "dbias", inner, param_dtype, "dweight")

    outputs = {} if dx is None else {"dx": dx}
    if accumulate_dx:
        inputs |= outputs
    layout = lay_out(inputs, outputs, axes)
    flags |= Flag.ACCUMULATE_DX if accumulate_dx else 0
    flags |= Flag.ACCUMULATE_PARAMS if accumulate_params else 0
    head = _pack_head(
        _SIZE,
        rounded_eps(eps, x),
        flags,
        norm,
        DTYPES[x.dtype],
        DTYPES[dy.dtype],
        DTYPES[param_dtype],
        layout.batch,
        layout.rows,
        layout.cols,
    )
    addresses = _pack_addresses(
        *layout.pointers("dy"),
        *layout.pointers("x"),
        pointer(weight),
        pointer(mean),
        pointer(rstd),
        *layout.pointers("dsum"),
        *layout.pointers("dx"),
        pointer(dweight),
        pointer(dbias),
        *ada,
    )
    check(library.layernorm_backward(head + addresses))
    layout.store()
    made = dx, dweight, dbias
    results = [m if isinstance(g, bool) else g for g, m in zip(given, made)]
    return results[0], results[1], results[2]


def _as_stats(value: Any, name: str, shape: tuple[int, ...], x: Array) -> Array | None:
    if value is None:
        return None
    array = as_vector(value, name, shape)
    if array.dtype != stats_dtype(x):
        raise TypeError(f"{name} has dtype {array.dtype}; with this x it must be {stats_dtype(x)}")
    return array


def _as_target(
    value: Any,
    name: str,
    as_array: Callable[[Any, str, tuple[int, ...]], Array],
    shape: tuple[int, ...],
    accumulate: bool,
) -> Array | bool:
    """`value`, as an array where it is one; else whether the gradient is wanted."""
    if not isinstance(value, bool):
        return as_array(value, name, shape)
    if value and accumulate:
        raise ValueError(f"{name} must be an array: there is nothing to accumulate to in a new one")
    return value


def _target(
    target: Array | bool, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], whose: str
) -> Array | None:
    if isinstance(target, bool):
        return np.empty(shape, dtype) if target else None
    check_dtype(target, name, dtype, whose)
    return target


def _widened(weight: Array | None, dtype: np.dtype[Any]) -> Array | None:
    if weight is None or weight.dtype == dtype:
        return weight
    if not np.can_cast(weight.dtype, dtype):
        raise TypeError(f"weight has dtype {weight.dtype}, whose values {dtype} does not hold")
    return weight.astype(dtype)
