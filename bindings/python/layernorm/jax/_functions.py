"""The norms as functions of JAX arrays."""

from __future__ import annotations

import math
from inspect import signature
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._norm import Options, norm

DTYPES = [np.dtype(dtype) for dtype in (np.float32, np.float64, np.float16, jnp.bfloat16)]


def _jit(function: Any) -> Any:
    static = {"axis", "eps", "dtype", "weight_offset"} & {*signature(function).parameters}
    return jax.jit(function, static_argnames=sorted(static), inline=True)


def _check_dtype(name: str, dtype: Any) -> None:
    if dtype not in DTYPES:
        raise TypeError(f"{name} is {dtype}; it must be float32, float64, float16 or bfloat16")


def _check_array(name: str, array: Any, shape: tuple[int, ...] | None = None) -> None:
    if not isinstance(array, jax.Array):
        raise TypeError(f"{name} is of type {type(array).__name__}; it must be an array")
    _check_dtype(f"the dtype of {name}", array.dtype)
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; it must be {shape}")


def _check_axes(axis: int | tuple[int, ...], ndim: int) -> list[int]:
    axes = sorted(
        a + ndim if -ndim <= a < 0 else a for a in (axis if isinstance(axis, tuple) else (axis,))
    )
    if not axes or len(set(axes)) < len(axes) or not 0 <= axes[0] <= axes[-1] < ndim:
        raise ValueError(f"axis is {axis}; it must name dimensions of x, which has {ndim}")
    return axes


def _apply(
    rms: bool,
    x: Any,
    residual: Any,
    weight: Any,
    bias: Any,
    axis: int | tuple[int, ...],
    eps: float,
    dtype: Any,
    weight_offset: bool = False,
) -> tuple[Any, Any]:
    """(y, sum), of which sum is None without a residual."""
    _check_array("x", x)
    axes = _check_axes(axis, x.ndim)
    shape = tuple(x.shape[a] for a in axes)
    if residual is not None:
        _check_array("residual", residual, x.shape)
        if residual.dtype != x.dtype:
            raise TypeError(f"residual is {residual.dtype} and x is {x.dtype}; they must agree")
    params = {"weight": weight, "bias": bias}
    for name, param in params.items():
        if param is not None:
            _check_array(name, param, shape)
    if not (eps >= 0 and math.isfinite(eps)):
        raise ValueError(f"eps is {eps}; it must be 0 or more, and finite")
    dtype = x.dtype if dtype is None else np.dtype(dtype)
    _check_dtype("dtype", dtype)

    # Axes side by side are normalized as they lie; others are brought to the end.
    last = [*range(x.ndim - len(axes), x.ndim)]
    at = axes[0] if axes == [*range(axes[0], axes[-1] + 1)] else last[0]
    moved = at != axes[0]

    def to_matrix(array: Any) -> Any:
        if moved:
            array = jnp.moveaxis(array, axes, last)
        sizes = array.shape[:at], shape, array.shape[at + len(axes) :]
        return array.reshape([math.prod(part) for part in sizes])

    def from_matrix(array: Any) -> Any:
        if not moved:
            return array.reshape(x.shape)
        others = [size for a, size in enumerate(x.shape) if a not in axes]
        return jnp.moveaxis(array.reshape(*others, *shape), last, axes)

    given = [param.dtype for param in params.values() if param is not None]
    vectors = [
        None if param is None else param.reshape(-1).astype(jnp.result_type(*given))
        for param in params.values()
    ]
    matrices = [None if array is None else to_matrix(array) for array in (x, residual)]
    options = Options(rms, float(eps), weight_offset, dtype)
    y, total, _, _ = norm(options, *matrices, *vectors)
    return from_matrix(y), None if total is None else from_matrix(total)


@_jit
def layer_norm(
    x: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-5,
    dtype: Any = None,
) -> jax.Array:
    """Layer norm of x over the dimensions `axis` (Ba, Kiros, Hinton 2016, arXiv:1607.06450):

        y = (x - mean) / sqrt(var + eps) * weight + bias

    Arrays are float32, float64, float16 or bfloat16, and need not agree; float16 and bfloat16 are
    computed in float32.

    Parameters
    ----------
    x
        Of any shape.
    weight, bias
        gamma and beta, of the shape that x has in the dimensions `axis`; None for ones and zeros.
    axis
        The dimension to normalize over, or a tuple of them. Any will do without a copy, if those of
        a tuple stand side by side.
    eps
        0 or more, finite.
    dtype
        Of y; None is that of x.

    Returns
    -------
    y, of the shape of x.

    Raises
    ------
    TypeError
        A dtype or type that is not supported.
    ValueError
        A shape or an axis that does not fit, an eps that is out of range.

    All but x, weight and bias are static under jax.jit. Derivatives are of reverse mode, of any
    order: jax.grad, jax.vjp, jax.jacrev. jax.jvp and jax.jacfwd raise TypeError.
    """
    return _apply(False, x, None, weight, bias, axis, eps, dtype)[0]


@_jit
def rms_norm(
    x: Any,
    weight: Any = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-5,
    weight_offset: bool = False,
    dtype: Any = None,
) -> jax.Array:
    """RMSNorm of x over the dimensions `axis` (Zhang, Sennrich 2019, arXiv:1910.07467):

        y = x / sqrt(mean(x**2) + eps) * weight

    With weight_offset, 1 + weight takes the place of weight, as in Gemma. All else is as in
    layer_norm().
    """
    return _apply(True, x, None, weight, None, axis, eps, dtype, weight_offset)[0]


@_jit
def add_layer_norm(
    x: Any,
    residual: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-5,
    dtype: Any = None,
) -> tuple[jax.Array, jax.Array]:
    """Residual addition and layer norm in one pass: the tuple (y, sum), where

        sum = x + residual
        y   = layer_norm(sum, weight, bias)

    with the bits of the two steps one after the other. residual has the shape and dtype of x, and
    so has sum. All else is as in layer_norm().
    """
    return _apply(False, x, residual, weight, bias, axis, eps, dtype)


@_jit
def add_rms_norm(
    x: Any,
    residual: Any,
    weight: Any = None,
    *,
    axis: int | tuple[int, ...] = -1,
    eps: float = 1e-5,
    weight_offset: bool = False,
    dtype: Any = None,
) -> tuple[jax.Array, jax.Array]:
    """Residual addition and RMSNorm in one pass: the tuple (y, sum), as add_layer_norm() with
    rms_norm() in the place of layer_norm()."""
    return _apply(True, x, residual, weight, None, axis, eps, dtype, weight_offset)
