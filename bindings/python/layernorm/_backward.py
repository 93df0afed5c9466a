"""layernorm_backward() on arrays: either norm."""

from ctypes import sizeof
from typing import Any, Final

import numpy as np
from numpy import empty

from ._arrays import (
    DTYPES,
    Array,
    as_input,
    as_input_like,
    as_output,
    as_vector,
    check_dtype,
    check_shape,
    normalized_axes,
    pointer,
    rounded_eps,
    stats_dtype,
)
from ._layout import lay_out
from ._library import BackwardArgs, Flag, check, library, packers

_head, _addresses = packers(BackwardArgs)
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
) -> tuple[Any, Any, Any]:
    """dx, dweight and dbias: each as it was given, or a new array for True, or None for False."""
    x = as_input(x, "x")
    axes = normalized_axes(x, normalized_shape, axis)
    inner = x.shape[axes.start : axes.stop]
    lead = x.shape[: axes.start] + x.shape[axes.stop :]
    dy = as_input(dy, "dy")
    check_shape(dy, "dy", x.shape)
    inputs = {"dy": dy, "x": x}
    if dsum is not None:
        inputs["dsum"] = as_input_like(dsum, "dsum", dy, "dy")
    mean = _as_stats(mean, "mean", lead, x)
    rstd = _as_stats(rstd, "rstd", lead, x)

    outputs = {}
    dx_array = _as_gradient(dx, "dx", x.shape, accumulate_dx and "accumulate_dx")
    ...
