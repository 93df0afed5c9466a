"""The norm as JAX sees it: two calls to XLA's foreign functions, and how they differentiate.

Arrays have the shapes of the adapter's handlers (bindings/jax): x [outer, cols, inner], of which
cols is normalized, weight and bias [cols], mean and rstd [outer, inner].
"""

from __future__ import annotations

import ctypes
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import _library

_PREFIX = "layernorm_jax_"


def _register() -> None:
    path = _library.adapter("jax")
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise ImportError(f"cannot load the adapter for JAX: {error}") from error
    for name in _PREFIX + "forward", _PREFIX + "backward":
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(loaded, name)), platform="cpu")


_register()


class Options(NamedTuple):
    """What is known of a call when it is traced, besides shapes and dtypes."""

    rms: bool
    eps: float
    weight_offset: bool
    dtype: np.dtype[Any]  # of y
    stats: bool = False  # whether mean and rstd are wanted


def _ffi_call(name: str, results: list[Any], operands: list[Any], **attributes: Any) -> list[Any]:
    """One call, with the results in the place of their shapes; None stands for what is absent."""
    call = jax.ffi.ffi_call(
        _PREFIX + name,
        [result for result in results if result is not None],
        vmap_method="expand_dims",
    )
    returned = iter(call(*(o for o in operands if o is not None), **attributes))
    return [None if result is None else next(returned) for result in results]


def _like(array: jax.Array | None, dtype: Any = None) -> jax.ShapeDtypeStruct | None:
    return None if array is None else jax.ShapeDtypeStruct(array.shape, dtype or array.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def norm(options: Options, x: Any, residual: Any, weight: Any, bias: Any) -> tuple[Any, ...]:
    """(y, sum, mean, rstd), of which sum is None without a residual, and the last two are if they
    are not wanted, and mean for RMSNorm."""
    outer, _, inner = x.shape
    wide = np.float64 if x.dtype == np.float64 else np.float32
    stats = jax.ShapeDtypeStruct((outer, inner), wide) if options.stats else None
    return tuple(
        _ffi_call(
            "forward",
            [_like(x, options.dtype), _like(residual), None if options.rms else stats, stats],
            [x, residual, weight, bias],
            eps=np.float64(options.eps),
            rms=np.bool_(options.rms),
            weight_offset=np.bool_(options.weight_offset),
            residual=np.bool_(residual is not None),
            weight=np.bool_(weight is not None),
            bias=np.bool_(bias is not None),
        )
    )


def _norm_fwd(options: Options, x: Any, residual: Any, weight: Any, bias: Any) -> Any:
    # By norm() itself and not by its foreign function, so that this can be differentiated again.
    y, total, mean, rstd = norm(options._replace(stats=True), x, residual, weight, bias)
    returned = (y, total, mean, rstd) if options.stats else (y, total, None, None)
    return returned, (x if total is None else total, weight, bias, mean, rstd)


def _norm_bwd(options: Options, saved: Any, cotangents: Any) -> Any:
    # mean and rstd go to backward() only, which takes them for functions of x and gives them no
    # cotangents of their own.
    dy, dsum, _, _ = cotangents
    dx, dweight, dbias = backward(options, dy, dsum, *saved)
    return dx, None if dsum is None else dx, dweight, dbias


norm.defvjp(_norm_fwd, _norm_bwd)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def backward(
    options: Options, dy: Any, dsum: Any, x: Any, weight: Any, bias: Any, mean: Any, rstd: Any
) -> tuple[Any, ...]:
    """(dx, dweight, dbias), of which the last two are None where weight and bias are."""
    if dsum is not None:
        dsum = dsum.astype(dy.dtype)
    dx, dweight, dbias = _ffi_call(
        "backward",
        [_like(dy), _like(weight), _like(bias)],
        [x, dy, dsum, weight, mean, rstd],
        rms=np.bool_(options.rms),
        weight_offset=np.bool_(options.weight_offset),
        dsum=np.bool_(dsum is not None),
        weight=np.bool_(weight is not None),
        bias=np.bool_(bias is not None),
    )
    return dx.astype(x.dtype), dweight, dbias


def _backward_fwd(options: Options, *operands: Any) -> Any:
    return backward(options, *operands), operands


def _backward_bwd(options: Options, operands: Any, cotangents: Any) -> Any:
    *differentiable, mean, rstd = operands
    _, pull_back = jax.vjp(partial(_backward_formula, options), *differentiable)
    return *pull_back(cotangents), *jax.tree.map(jnp.zeros_like, (mean, rstd))


backward.defvjp(_backward_fwd, _backward_bwd)


def _formula(options: Options, x: Any, weight: Any, bias: Any) -> Any:
    """y by JAX's own operations."""
    wide = jnp.promote_types(x.dtype, np.float32)
    x = x.astype(wide)
    if not options.rms:
        x -= x.mean(1, keepdims=True)
    y = x * jax.lax.rsqrt((x * x).mean(1, keepdims=True) + options.eps)
    if weight is not None:
        weight = weight.astype(wide)
        y *= (1 + weight if options.weight_offset else weight)[:, None]
    if bias is not None:
        y += bias.astype(wide)[:, None]
    return y.astype(options.dtype)


def _backward_formula(
    options: Options, dy: Any, dsum: Any, x: Any, weight: Any, bias: Any
) -> tuple[Any, ...]:
    """backward() by JAX's own operations, which can be differentiated any number of times."""
    _, pull_back = jax.vjp(partial(_formula, options), x, weight, bias)
    dx, dweight, dbias = pull_back(dy)
    return dx if dsum is None else dx + dsum, dweight, dbias
