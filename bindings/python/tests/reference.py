"""Layer norm by NumPy in longdouble, and the error of a result in units in the last place."""

import ml_dtypes
import numpy as np

DTYPES = [np.dtype(t) for t in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)]
EPS = 1e-5

# The largest error in units: correctly rounded but for near ties where the computation is wider.
UNITS = {dtype: 3.0 if dtype in (np.float32, np.float64) else 0.51 for dtype in DTYPES}


def layer_norm(x, dims=1, weight=None, bias=None, eps=EPS):
    """y, mean and rstd of the very values of x, in longdouble."""
    if x.dtype != np.float64:
        eps = np.float32(eps)  # as every call for these dtypes takes it
    axes = tuple(range(-dims, 0))
    # bfloat16 goes to longdouble by way of float32 only.
    wide = x.astype(np.float64).astype(np.longdouble)
    first = wide[(..., *(slice(1),) * dims)]  # sums around it are exactly 0 for a constant row
    shift = (wide - first).mean(axes, keepdims=True)
    mean = first + shift
    centered = wide - first - shift
    rstd = 1 / np.sqrt(np.square(centered).mean(axes, keepdims=True) + np.longdouble(eps))
    y = centered * rstd
    if weight is not None:
        y = y * weight.astype(np.float64)
    if bias is not None:
        y = y + bias.astype(np.float64)
    return y, np.squeeze(mean, axes), np.squeeze(rstd, axes)


def units(y, exact, dims=1):
    """The largest |y - exact| in units in the last place, of the dtype of y, of
    max(|exact|, root mean square of the exact row)."""
    if y.size == 0:
        return 0.0
    finfo = ml_dtypes.finfo(y.dtype)
    axes = tuple(range(-dims, 0))
    scale = np.maximum(np.abs(exact), np.sqrt(np.square(exact).mean(axes, keepdims=True)))
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
