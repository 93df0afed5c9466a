"""References: Flax's norms in float64, and how far a result may be from them."""

import jax.numpy as jnp
import numpy as np
from flax import linen
from jax.lax import stop_gradient

DTYPES = [jnp.dtype(dtype) for dtype in ("float32", "float64", "float16", "bfloat16")]


def _wide(array):
    return None if array is None else array.astype(jnp.float64)


def _centered(x, axis):
    """x without its mean, which layer norm takes away in any case: float64's rounding of the mean,
    which is of the size of x and not of what is left of it, stays out of the reference."""
    x = _wide(x)
    return x - stop_gradient(x.mean(axis, keepdims=True))


def layer_norm(x, weight=None, bias=None, *, axis=-1, eps=1e-5):
    params = {"scale": _wide(weight), "bias": _wide(bias)}
    module = linen.LayerNorm(
        epsilon=eps,
        use_scale=weight is not None,
        use_bias=bias is not None,
        reduction_axes=axis,
        feature_axes=axis,
        use_fast_variance=False,
    )
    given = {name: param for name, param in params.items() if param is not None}
    return module.apply({"params": given}, _centered(x, axis))


def rms_norm(x, weight=None, *, axis=-1, eps=1e-5):
    module = linen.RMSNorm(
        epsilon=eps, use_scale=weight is not None, reduction_axes=axis, feature_axes=axis
    )
    return module.apply({} if weight is None else {"params": {"scale": _wide(weight)}}, _wide(x))


def assert_near(result, exact, *dtypes, scale=1.0):
    """Within 4 units in the last place of the coarsest of `dtypes`, which took part, and its own,
    for numbers of the size of `scale` or larger."""
    assert result.shape == exact.shape
    unit = max(float(jnp.finfo(dtype).eps) for dtype in (result.dtype, *dtypes))
    if result.size:
        result, exact = np.asarray(result, np.float64), np.asarray(exact, np.float64)
        allowed = 4 * unit * max(scale, np.abs(exact).max())
        np.testing.assert_allclose(result, exact, rtol=0, atol=allowed)
