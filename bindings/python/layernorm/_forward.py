"""layernorm_forward() on arrays: either norm, alone or after what is added."""

from collections.abc import Callable
from ctypes import PyDLL, addressof, c_float, sizeof
from functools import lru_cache
from math import prod
from operator import index
from os import fspath
from typing import Any, Final

import numpy as np
from numpy import empty, ndarray

from ._arrays import (
    DTYPES,
    Array,
    as_input,
    as_input_like,
    as_output,
    as_params,
    as_vector,
    check_dtype,
    from_buffer,
    normalized_axes,
    pointer,
    rounded_eps,
    stats_dtype,
)
from ._layout import lay_out
from ._library import (
    ADA,
    ADA_DEFAULTS,
    RMS,
    DType,
    ForwardArgs,
    Status,
    check,
    library,
    packer,
    path,
)

_forward: Final = library.layernorm_forward
# The same with Python's lock held, for calls that take less time than to give it away and have it
# back, which is a fifth of a microsecond, or milliseconds while another thread computes.
_forward_holding_lock: Final = PyDLL(fspath(path)).layernorm_forward
_LARGEST_HOLDING_LOCK: Final = 16 << 10  # bytes of x: done in a microsecond
_pack_head: Final = packer(ForwardArgs, "struct_size", "cols").pack
_pack_addresses: Final = packer(ForwardArgs, "x", "ada_slope").pack
_PLAIN: Final = {"x", "weight", "bias", "y"}
_ADDED: Final = {"residual", "x_bias", "sum"}
_pack_plain: Final = packer(ForwardArgs, "x", "ada_slope", _PLAIN).pack
_pack_plain_added: Final = packer(ForwardArgs, "x", "ada_slope", _PLAIN | _ADDED).pack
_SIZE: Final = sizeof(ForwardArgs)
_SUCCESS: Final = int(Status.SUCCESS)
_PLAIN_DTYPES: Final = dict(DTYPES)  # without bfloat16, which is not in it yet


class Pinned:
    """weight and bias, of one dtype and contiguous, with their addresses."""

    def __init__(self, weight: Array | None, bias: Array | None, dtype: DType) -> None:
        self.arrays = weight, bias
        self.plain = int(dtype), pointer(weight), pointer(bias)

    def __reduce__(self) -> Any:  # a copy's arrays are elsewhere
        return Pinned, (*self.arrays, DType(self.plain[0]))


def forward(
    norm: int,
    flags: int,
    normalized_shape: Any,
    axis: Any,
    weight: Any,
    bias: Any,
    pinned: Pinned | None,
    eps: Any,
    x: Any,
    out: Any,
    return_stats: bool,
    added: tuple[Any, Any, Any] | None = None,
    ada: tuple[Any, Any] = ADA_DEFAULTS,
) -> Any:
    """y; in a tuple, if there are more: the sum if something is `added`, which is residual, x_bias
    and sum_out; mean, which RMSNorm does not have, and rstd. `pinned`, if given, is of weight and
    bias; `ada` are C and k of AdaNorm."""
    plain = axis is None and isinstance(eps, float) and not return_stats and norm != ADA
    if type(x) is ndarray and plain:
        # Contiguous writable arrays of one dtype, over the last dimensions, are done in a fifth of
        # the time that it takes to look at everything that the arguments may be. Whatever is not
        # that, or is wrong, raises or has a status, with nothing written, and goes the general
        # way, which says what is wrong.
        try:
            dtype = x.dtype
            shape = x.shape
            if pinned is not None:
                param_dtype, weight_at, bias_at = pinned.plain
            else:
                param_dtype = weight_at = bias_at = 0
                if normalized_shape is not None and type(normalized_shape) is not int:
                    normalized_shape = tuple(map(index, normalized_shape))
            call, head, inner = _plain_head(
                norm, flags, dtype, param_dtype, shape, normalized_shape, eps
            )
            if pinned is None:
                if weight is not None:
                    weight_at = _address(weight, dtype, inner)
                if bias is not None:
                    bias_at = _address(bias, dtype, inner)
            y = empty(shape, dtype) if out is None else out
            if type(y) is not ndarray or y.dtype != dtype or y.shape != shape:
                raise TypeError
            x_at, y_at = addressof(from_buffer(x)), addressof(from_buffer(y))
            if added is None:
                if call(head + _pack_plain(x_at, weight_at, bias_at, y_at)) == _SUCCESS:
                    return y
            else:
                residual, x_bias, total = added
                residual_at = _address(residual, dtype, shape)
                x_bias_at = 0 if x_bias is None else _address(x_bias, dtype, inner)
                if total is None:
                    total = empty(shape, dtype)
                sum_at = _address(total, dtype, shape)
                addresses = _pack_plain_added(
                    x_at, weight_at, bias_at, y_at, residual_at, x_bias_at, sum_at
                )
                if call(head + addresses) == _SUCCESS:
                    return y, total
        except Exception:
            pass
    return _any_forward(
        norm, flags, normalized_shape, axis, weight, bias, eps, x, out, return_stats, added, ada
    )


def _address(array: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    if type(array) is not ndarray or array.dtype != dtype or array.shape != shape:
        raise TypeError
    return addressof(from_buffer(array))


@lru_cache(maxsize=256)
def _plain_head(
    norm: int,
    flags: int,
    dtype: np.dtype[Any],
    param_dtype: int,
    shape: tuple[int, ...],
    normalized_shape: int | tuple[int, ...] | None,
    eps: float,
) -> tuple[Callable[[bytes], int], bytes, tuple[int, ...]]:
    """The function for a call with contiguous arrays of one dtype, what its arguments begin with,
    and the shape of weight."""
    code = _PLAIN_DTYPES[dtype]
    dims = len(normalized_axes(shape, normalized_shape, None))
    rows, cols = prod(shape[:-dims]), prod(shape[-dims:])
    eps = eps if code == DType.F64 else c_float(eps).value
    head = _pack_head(_SIZE, eps, flags, norm, code, code, param_dtype, 1, rows, cols)
    small = rows * cols * dtype.itemsize <= _LARGEST_HOLDING_LOCK
    return _forward_holding_lock if small else _forward, head, shape[-dims:]


def _any_forward(
    norm: int,
    flags: int,
    normalized_shape: Any,
    axis: Any,
    weight: Any,
    bias: Any,
    eps: Any,
    x: Any,
    out: Any,
    return_stats: bool,
    added: tuple[Any, Any, Any] | None,
    ada: tuple[Any, Any],
) -> Any:
    x = as_input(x, "x")
    axes = normalized_axes(x.shape, normalized_shape, axis)
    inner = x.shape[axes.start : axes.stop]
    weight, bias, param_dtype = as_params(inner, weight, bias)
    y = empty(x.shape, x.dtype) if out is None else as_output(out, "out", x.shape)
    inputs, outputs = {"x": x}, {"out": y}
    results = [y if out is None else out]
    x_bias = mean = rstd = None
    if added is not None:
        residual, x_bias, sum_out = added
        inputs["residual"] = as_input_like(residual, "residual", x, "x")
        if x_bias is not None:
            x_bias = as_vector(x_bias, "x_bias", inner)
            check_dtype(x_bias, "x_bias", x.dtype, "x")
        total = empty(x.shape, x.dtype)
        if sum_out is not None:
            total = as_output(sum_out, "sum_out", x.shape)
            check_dtype(total, "sum_out", x.dtype, "x")
        outputs["sum_out"] = total
        results.append(total if sum_out is None else sum_out)
    if return_stats:
        lead = x.shape[: axes.start] + x.shape[axes.stop :]
        if norm != RMS:
            mean = empty(lead, stats_dtype(x))
            results.append(mean)
        rstd = empty(lead, stats_dtype(x))
        results.append(rstd)
    layout = lay_out(inputs, outputs, axes)
    head = _pack_head(
        _SIZE,
        rounded_eps(eps, x),
        flags,
        norm,
        DTYPES[x.dtype],
        DTYPES[y.dtype],
        param_dtype,
        layout.batch,
        layout.rows,
        layout.cols,
    )
    addresses = _pack_addresses(
        *layout.pointers("x"),
        pointer(weight),
        pointer(bias),
        *layout.pointers("out"),
        pointer(mean),
        pointer(rstd),
        *layout.pointers("residual"),
        pointer(x_bias),
        *layout.pointers("sum_out"),
        *ada,
    )
    check(_forward(head + addresses))
    layout.store()
    return results[0] if len(results) == 1 else tuple(results)
