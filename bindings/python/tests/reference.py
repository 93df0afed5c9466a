"""The norms and their gradients by NumPy in longdouble, and errors in units in the last place."""

import ml_dtypes
import numpy as np

DTYPES = [np.dtype(t) for t in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)]
EPS = 1e-5

# The largest error in units: correctly rounded but for near ties where the computation is wider.
UNITS = {dtype: 3.0 if dtype in (np.float32, np.float64) else 0.51 for dtype in DTYPES}


def wide(array):
    # bfloat16 goes to longdouble by way of float64 only.
    return np.asarray(array).astype(np.float64).astype(np.longdouble)


def normalized(x, dims, eps, rms=False):
    """x^, mean and rstd of the very values of x, in longdouble, with all dimensions kept."""
    if x.dtype != np.float64:
        eps = np.float32(eps)  # as every call for these dtypes takes it
    axes = tuple(range(-dims, 0))
    centered, mean = wide(x), np.longdouble(0)
    if not rms:
        first = centered[(..., *(slice(1),) * dims)]  # sums around it are 0 for a constant row
        shift = (centered - first).mean(axes, keepdims=True)
        mean = first + shift
        centered = centered - first - shift
    rstd = 1 / np.sqrt(np.square(centered).mean(axes, keepdims=True) + np.longdouble(eps))
    return centered * rstd, mean, rstd


def layer_norm(x, dims=1, weight=None, bias=None, eps=EPS):
    """y, mean and rstd."""
    y, mean, rstd = normalized(x, dims, eps)
    y = y * _factor(weight) + (0 if bias is None else wide(bias))
    axes = tuple(range(-dims, 0))
    return y, np.squeeze(mean, axes), np.squeeze(rstd, axes)


def rms_norm(x, dims=1, weight=None, eps=EPS, weight_offset=False):
    """y and rstd."""
    y, _, rstd = normalized(x, dims, eps, rms=True)
    return y * _factor(weight, weight_offset), np.squeeze(rstd, tuple(range(-dims, 0)))


def backward(dy, x, dims=1, weight=None, eps=EPS, dsum=None, rms=False, weight_offset=False):
    """dx, dweight and dbias, by the formulas; and the size of the terms of dx, by row, which cancel
    where there are few columns: at two, all but for eps."""
    axes, lead = tuple(range(-dims, 0)), tuple(range(x.ndim - dims))
    normal, _, rstd = normalized(x, dims, eps, rms)
    g = wide(dy) * _factor(weight, weight_offset)
    dx = g - normal * (g * normal).mean(axes, keepdims=True)
    if not rms:
        dx -= g.mean(axes, keepdims=True)
    dx = rstd * dx + (0 if dsum is None else wide(dsum))
    terms = rstd * np.sqrt(np.square(g).mean(axes, keepdims=True))
    return dx, (wide(dy) * normal).sum(lead), wide(dy).sum(lead), terms


def _factor(weight, weight_offset=False):
    return 1 if weight is None else wide(weight) + (1 if weight_offset else 0)


def units(y, exact, dims=1, scale=0):
    """The largest |y - exact| in units in the last place, of the dtype of y, of
    max(|exact|, root mean square of the exact row, scale)."""
    if y.size == 0:
        return 0.0
    finfo = ml_dtypes.finfo(y.dtype)
    axes = tuple(range(-dims, 0))
    rms = np.sqrt(np.square(exact).mean(axes, keepdims=True))
    scale = np.maximum(np.maximum(np.abs(exact), rms), scale)
    scale = np.maximum(scale, np.longdouble(float(finfo.smallest_normal)))
    unit = np.ldexp(np.longdouble(float(finfo.eps)), np.frexp(scale)[1] - 1)
    return float((np.abs(y.astype(np.float64) - exact) / unit).max())


def normal(shape, dtype, seed=0):
    """Normally distributed numbers, as NumPy makes them without a view of anything."""
    return np.random.default_rng(seed).normal(0.5, 2, shape).astype(dtype)


def bits(array):
    """The bits of a float array, for comparisons in which -0 is not 0, nor a NaN another NaN."""
    return np.ascontiguousarray(array).view(f"u{array.itemsize}")


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(bits(a), bits(b))
