"""AdaNorm and DetachNorm (Xu et al. 2019), against the formulas in longdouble."""

import layernorm
import numpy as np
import pytest
import reference
from layernorm import ada_norm, ada_norm_backward, layer_norm
from reference import DTYPES, normal, same_bits

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
constants = pytest.mark.parametrize(("scale", "slope"), [(1.0, 0.1), (-1.3, 0.45)])
detached = pytest.mark.parametrize("mean", [False, True])
# Of dx. That of AdaNorm has two roundings more, of the factor and of the x^ in it.
UNITS = {dtype: 4.0 if dtype in (np.float32, np.float64) else 0.52 for dtype in DTYPES}


def rounded(x, *values):
    """Numbers as the computation has them."""
    kind = np.float64 if x.dtype == np.float64 else np.float32
    return [np.longdouble(kind(value)) for value in values]


def factor(x, scale, slope):
    x_hat, _, _ = reference.normalized(x, 1, reference.EPS)
    scale, slope = rounded(x, scale, slope)
    return scale * (1 - slope * x_hat), x_hat, np.abs(scale * x_hat * (1 - 2 * slope * x_hat))


def gradient(g, x, detach_mean=False, detach_rstd=False, rms=False):
    """dx by the formula, without the terms of what is a constant, and the size of its terms."""
    x_hat, _, rstd = reference.normalized(x, 1, reference.EPS, rms)
    dx = g.copy()
    if not rms and not detach_mean:
        dx -= g.mean(-1, keepdims=True)
    if not detach_rstd:
        dx -= x_hat * (g * x_hat).mean(-1, keepdims=True)
    return rstd * dx, rstd * np.sqrt(np.square(g).mean(-1, keepdims=True))


@dtypes
@constants
@pytest.mark.parametrize("shape", [(1, 1), (5, 17), (3, 4, 130)])
def test_ada_norm(dtype, scale, slope, shape):
    x = normal(shape, dtype)
    y, mean, rstd = ada_norm(x, None, scale, slope, return_stats=True)
    exact, x_hat, sensitivity = factor(x, scale, slope)
    assert reference.units(y, exact * x_hat, scale=sensitivity) <= reference.UNITS[x.dtype]
    _, *stats = layer_norm(x, return_stats=True)
    assert same_bits(mean, stats[0])
    assert same_bits(rstd, stats[1])


@dtypes
def test_without_slope_it_is_layer_norm(dtype):
    x = normal((4, 33), dtype)
    assert same_bits(ada_norm(x, slope=0), layer_norm(x))


@dtypes
def test_layouts(dtype):
    x = normal((2, 6, 5), dtype)
    expected = np.moveaxis(ada_norm(np.ascontiguousarray(np.moveaxis(x, 1, -1))), -1, 1)
    assert same_bits(ada_norm(x, axis=1), np.ascontiguousarray(expected))
    flat = ada_norm(x.reshape(2, 30)).reshape(x.shape)
    out = np.empty_like(x)
    assert ada_norm(x, (6, 5), out=out) is out
    assert same_bits(out, flat)
    dy = normal(x.shape, dtype, 1)
    expected = ada_norm_backward(dy.reshape(2, 30), x.reshape(2, 30)).reshape(x.shape)
    assert same_bits(ada_norm_backward(dy, x, (6, 5)), expected)
    assert ada_norm_backward(dy, x, (6, 5), dx=out) is out
    assert same_bits(out, expected)


@dtypes
@constants
@detached
@pytest.mark.parametrize("rstd", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (5, 17), (33, 130)])
def test_ada_norm_backward(dtype, scale, slope, mean, rstd, shape):
    x, dy, dsum = (normal(shape, dtype, seed) for seed in range(3))
    ada, x_hat, _ = factor(x, scale, slope)
    exact, terms = gradient(reference.wide(dy) * ada, x, mean, rstd)
    # Where the factor is near 0, what the last place of x^ makes in it.
    _, _, row_rstd = reference.normalized(x, 1, reference.EPS)
    terms = np.maximum(terms, np.abs(row_rstd * reference.wide(dy) * scale * slope * x_hat))
    bound = UNITS[x.dtype] + (1 if x.itemsize > 2 else 0)
    flags = {"detach_mean": mean, "detach_rstd": rstd}
    _, *stats = ada_norm(x, return_stats=True)
    for args in (None, None), stats:
        # eps serves only where there are no statistics.
        eps = reference.EPS if args[0] is None else 7.0
        dx = ada_norm_backward(dy, x, None, scale, slope, *args, eps, **flags)
        assert reference.units(dx, exact, scale=terms) <= bound
    dx = ada_norm_backward(dy, x, None, scale, slope, dsum=dsum, **flags)
    wide = exact + reference.wide(dsum)
    assert reference.units(dx, wide, scale=terms) <= bound


@dtypes
@pytest.mark.parametrize("rstd", [False, True])
@pytest.mark.parametrize(("norm", "mean"), [("layer", False), ("layer", True), ("rms", False)])
def test_detached(dtype, mean, rstd, norm):
    x, dy, weight = normal((9, 65), dtype), normal((9, 65), dtype, 1), normal(65, dtype, 2)
    exact, terms = gradient(
        reference.wide(dy) * reference.wide(weight), x, mean, rstd, norm == "rms"
    )
    flags = {"detach_rstd": rstd} | ({"detach_mean": mean} if norm == "layer" else {})
    backward = getattr(layernorm, f"{norm}_norm_backward")
    dx, *params = backward(dy, x, weight=weight, **flags)
    assert reference.units(dx, exact, scale=terms) <= UNITS[x.dtype]
    for got, plain in zip(params, backward(dy, x, weight=weight)[1:], strict=True):
        assert same_bits(got, plain)


def test_nothing_comes_from_a_detached_term():
    x, dy = normal((2, 40), np.float32), normal((2, 40), np.float32, 1)
    dy[0, 3] = np.inf
    dx, _, _ = layernorm.layer_norm_backward(dy, x, detach_mean=True, detach_rstd=True)
    assert dx[0, 3] == np.inf
    assert np.isfinite(np.delete(dx[0], 3)).all()
    assert np.isnan(layernorm.layer_norm_backward(dy, x)[0][0]).all()
    x[1, 5] = np.inf  # so that rstd is 0, and x^ is not a number there
    dx, _ = layernorm.rms_norm_backward(dy, x, detach_rstd=True)
    assert (dx[1] == 0).all()


def test_errors():
    x = normal((2, 3), np.float32)
    for scale, slope, name in (0, 0.1, "scale"), (np.inf, 0.1, "scale"), (1, np.nan, "slope"):
        with pytest.raises(ValueError, match=rf"^{name} "):
            ada_norm(x, None, scale, slope)
        with pytest.raises(ValueError, match=rf"^{name} "):
            ada_norm_backward(x, x, None, scale, slope)
    with pytest.raises(TypeError, match=r"^scale must be a number, not str"):
        ada_norm(x, None, "1.5x")
    with pytest.raises(TypeError, match=r"^slope must be a number, not list"):
        ada_norm_backward(x, x, None, 1, [1])
