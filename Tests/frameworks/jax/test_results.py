"""Results and gradients against Flax in float64, for random shapes, axes, dtypes and arguments."""

import jax
import jax.numpy as jnp
import layernorm.jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import exact
from exact import DTYPES, assert_near


@st.composite
def calls(draw):
    """x, residual, weight, bias, and the keywords of a call."""
    shape = draw(st.lists(st.integers(0, 9), min_size=1, max_size=4))
    axes = draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    axis = tuple(a - draw(st.sampled_from([0, len(shape)])) for a in sorted(axes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def array(shape, dtype):
        return jnp.asarray(rng.normal(draw(st.sampled_from([0, 3])), 1, shape), dtype)

    dtype = draw(st.sampled_from(DTYPES))
    of_params = st.none() | st.sampled_from(DTYPES)
    normalized = [shape[a] for a in sorted(axes)]
    params = [
        None if d is None else array(normalized, d) for d in (draw(of_params), draw(of_params))
    ]
    keywords = {
        "axis": axis[0] if len(axis) == 1 and draw(st.booleans()) else axis,
        "eps": draw(st.sampled_from([1e-6, 1e-5, 1e-2])),
        "dtype": draw(of_params),
    }
    return array(shape, dtype), array(shape, dtype), *params, keywords


def largest(*arrays):
    return max(float(np.abs(np.asarray(a, np.float64)).max(initial=0)) for a in arrays)


def check(ours, theirs, arrays, dtypes, axis=-1, eps=1e-5):
    """Values, and what one backward pass gives, of functions of the arrays, x the first of them."""
    wide = tuple(a.astype(jnp.float64) for a in arrays)
    results, pull_back = jax.vjp(ours, *arrays)
    exact_results, exact_pull_back = jax.vjp(jax.jit(theirs), *wide)
    computed_in = jnp.promote_types(arrays[0].dtype, jnp.float32)
    for result, exact_result, dtype in zip(results, exact_results, dtypes, strict=True):
        assert result.dtype == dtype
        assert_near(result, exact_result, computed_in)

    rng = np.random.default_rng(1)
    cotangents = tuple(jnp.asarray(rng.normal(size=r.shape), r.dtype) for r in results)
    gradients = pull_back(cotangents)
    exact_gradients = exact_pull_back(tuple(c.astype(jnp.float64) for c in cotangents))
    # Of the terms, which cancel in a row of few elements.
    x = np.asarray(results[-1] if len(results) > 1 else arrays[0], np.float64)
    rstd = 1 / np.sqrt(np.var(x, axis) + eps) if x.size else np.ones(1)
    scale = 4 * largest(*cotangents) * max(1, largest(rstd)) * (1 + largest(0, *arrays[1:]))
    for gradient, exact_gradient, array in zip(gradients, exact_gradients, arrays, strict=True):
        assert gradient.dtype == array.dtype
        assert_near(gradient, exact_gradient, computed_in, results[0].dtype, scale=scale)


@settings(max_examples=50, deadline=None)
@given(calls())
def test_layer_norm(call):
    x, _, weight, bias, keywords = call
    given = {n: p for n, p in (("weight", weight), ("bias", bias)) if p is not None}
    exact_keywords = {"axis": keywords["axis"], "eps": keywords["eps"]}

    def ours(x, *params):
        return (layernorm.jax.layer_norm(x, **dict(zip(given, params)), **keywords),)

    def theirs(x, *params):
        return (exact.layer_norm(x, **dict(zip(given, params)), **exact_keywords),)

    check(ours, theirs, [x, *given.values()], [keywords["dtype"] or x.dtype], **exact_keywords)


@settings(max_examples=50, deadline=None)
@given(calls(), st.booleans())
def test_rms_norm(call, weight_offset):
    x, _, weight, _, keywords = call
    given = [] if weight is None else [weight]
    exact_keywords = {"axis": keywords["axis"], "eps": keywords["eps"]}

    def ours(x, *weight):
        return (layernorm.jax.rms_norm(x, *weight, weight_offset=weight_offset, **keywords),)

    def theirs(x, *weight):
        weight = [1 + w if weight_offset else w for w in weight]
        return (exact.rms_norm(x, *weight, **exact_keywords),)

    check(ours, theirs, [x, *given], [keywords["dtype"] or x.dtype], **exact_keywords)


@settings(max_examples=40, deadline=None)
@given(calls(), st.booleans())
def test_add(call, rms):
    x, residual, weight, bias, keywords = call
    params = {"weight": weight} if rms else {"weight": weight, "bias": bias}
    given = {n: p for n, p in params.items() if p is not None}
    exact_keywords = {"axis": keywords["axis"], "eps": keywords["eps"]}
    add, alone, reference = (
        (layernorm.jax.add_rms_norm, layernorm.jax.rms_norm, exact.rms_norm)
        if rms
        else (layernorm.jax.add_layer_norm, layernorm.jax.layer_norm, exact.layer_norm)
    )

    def ours(x, residual, *params):
        return add(x, residual, **dict(zip(given, params)), **keywords)

    y, total = ours(x, residual, *given.values())
    assert jnp.array_equal(total, x + residual)
    assert jnp.array_equal(y, alone(total, **given, **keywords), equal_nan=True)

    def theirs(x, residual, *params):
        # Its sum is rounded as ours is, so that y is the norm of the same numbers.
        total = x + residual
        total += jax.lax.stop_gradient(rounded - total)
        return reference(total, **dict(zip(given, params)), **exact_keywords), total

    rounded = total.astype(jnp.float64)
    dtypes = [keywords["dtype"] or x.dtype, x.dtype]
    check(ours, theirs, [x, residual, *given.values()], dtypes, **exact_keywords)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_transformer_shapes(dtype):
    rng = np.random.default_rng(2)
    for shape in (1, 768), (8, 1024), (2, 300, 384):
        x = jnp.asarray(rng.normal(5, 1, shape), dtype)
        weight, bias = (jnp.asarray(rng.normal(size=shape[-1]), dtype) for _ in range(2))
        ours = lambda *a: (layernorm.jax.layer_norm(*a),)  # noqa: E731
        theirs = lambda *a: (exact.layer_norm(*a),)  # noqa: E731
        check(ours, theirs, [x, weight, bias], [dtype])
        ours = lambda *a: (layernorm.jax.rms_norm(*a),)  # noqa: E731
        theirs = lambda *a: (exact.rms_norm(*a),)  # noqa: E731
        check(ours, theirs, [x, weight], [dtype])


def test_agrees_with_standardize():
    x = jnp.asarray(np.random.default_rng(3).normal(2, 3, (7, 129)), jnp.float32)
    theirs = jax.nn.standardize(x, axis=-1, epsilon=1e-5)
    np.testing.assert_allclose(layernorm.jax.layer_norm(x), theirs, rtol=0, atol=1e-5)


def test_keeps_the_digits_of_a_large_mean():
    x = jnp.asarray(np.random.default_rng(4).normal(1e6, 1, (4, 512)), jnp.float32)
    assert_near(layernorm.jax.layer_norm(x), exact.layer_norm(x))
