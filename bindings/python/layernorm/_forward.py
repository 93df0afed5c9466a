"""layernorm_forward() on arrays: either norm, alone or after what is added."""

from ctypes import addressof, c_float, sizeof
from functools import lru_cache
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np
from numpy import empty, ndarray

from ._arrays import (
    DTYPES,
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
from ._library import DType, ForwardArgs, Norm, Status, check, library, packers

_forward: Final = library.layernorm_forward
_head, _addresses = packers(ForwardArgs)
_pack_head: Final = _head.pack
_pack_addresses: Final = _addresses.pack
_SIZE: Final = sizeof(ForwardArgs)
# Plain ints: an enum's member takes a tenth of a microsecond to look up.
_SUCCESS: Final = int(Status.SUCCESS)
_F64: Final = int(DType.F64)
_PLAIN: Final = {dtype: int(code) for dtype, code in DTYPES.items()}


class Pinned(NamedTuple):
    """weight and bias of one shape, with their addresses."""

    shape: tuple[int, ...]
    dtype: int
    weight: int
    bias: int


def forward(
    norm: int,
    flags: int,
    x: Any,
    normalized_shape: Any,
    axis: Any,
    weight: Any,
    bias: Any,
    eps: Any,
    out: Any,
    return_stats: bool,
    added: tuple[Any, Any, Any] | None = None,
    pinned: Pinned | None = None,
) -> Any:
    """y; in a tuple, if there are more: the sum if something is `added`, which is residual, x_bias
    and sum_out; mean, which RMSNorm does not have, and rstd. `pinned`, if given, is of weight and
    bias."""
    if type(x) is ndarray and axis is None and not return_stats:
        # Contiguous writable arrays of one dtype, over the last dimensions, are done in a fifth of
        # the time that it takes to look at everything that the arguments may be. Whatever is not
        # that, or is wrong, raises or has a status, with nothing written, and goes the general
        # way, which says what is wrong.
        try:
            dtype = x.dtype
            shape = x.shape
            weight_at = bias_at = residual_at = x_bias_at = sum_at = param_dtype = 0
            if pinned is not None:
                inner, param_dtype, weight_at, bias_at = pinned
                if shape[-len(inner) :] != inner:
                    raise ValueError
            else:
                dims = 1
                if normalized_shape is not None:
                    dims = len(normalized_axes(x, normalized_shape, None))
                inner = shape[-dims:]
                if weight is not None:
                    weight_at = _address(weight, dtype, inner)
                if bias is not None:
                    bias_at = _address(bias, dtype, inner)
            if out is None:
                y = empty(shape, dtype)
                y_at = addressof(from_buffer(y))
            else:
                y = out
                y_at = _address(out, dtype, shape)
            if added is not None:
                residual, x_bias, total = added
                residual_at = _address(residual, dtype, shape)
                if x_bias is not None:
                    x_bias_at = _address(x_bias, dtype, inner)
                if total is None:
                    total = empty(shape, dtype)
                sum_at = _address(total, dtype, shape)
            # fmt: off
            status = _forward(
                _plain_head(norm, flags, dtype, param_dtype, shape, len(inner), eps)
                + _pack_addresses(
                    addressof(from_buffer(x)), 0, weight_at, bias_at, y_at, 0, 0, 0,
                    residual_at, 0, x_bias_at, sum_at, 0,
                )
            )
            # fmt: on
            if status == _SUCCESS:
                return y if added is None else (y, total)
        except Exception:
            pass
    return _any_forward(
        norm, flags, x, normalized_shape, axis, weight, bias, eps, out, return_stats, added
    )


def _address(array: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    if type(array) is not ndarray or array.dtype != dtype or array.shape != shape:
        raise TypeError
    return addressof(from_buffer(array))


@lru_cache(maxsize=256, typed=True)
def _plain_head(
    norm: int,
    flags: int,
    dtype: np.dtype[Any],
    param_dtype: int,
    shape: tuple[int, ...],
    dims: int,
    eps: Any,
) -> bytes:
    code = _PLAIN[dtype]
    eps = eps if code == _F64 else c_float(eps).value
    rows, cols = prod(shape[:-dims]), prod(shape[-dims:])
    return _pack_head(_SIZE, eps, flags, norm, code, code, param_dtype, 1, rows, cols)


def _any_forward(
    norm: int,
    flags: int,
    x: Any,
    normalized_shape: Any,
    axis: Any,
    weight: Any,
    bias: Any,
    eps: Any,
    out: Any,
    return_stats: bool,
    added: tuple[Any, Any, Any] | None,
) -> Any:
    x = as_input(x, "x")
    axes = normalized_axes(x, normalized_shape, axis)
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
        if norm != Norm.RMS:
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
    )
    check(_forward(head + addresses))
    layout.store()
    return results[0] if len(results) == 1 else tuple(results)
