"""jit, vmap and grad, and what they give one inside the other."""

import threading
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import layernorm.jax
import numpy as np
import pytest

import exact
from exact import DTYPES, assert_near

RNG = np.random.default_rng(0)


def normal(*shape, dtype=jnp.float64):
    return jnp.asarray(RNG.normal(size=shape), dtype)


def gradients(norm):
    """Of a loss in which every element has its own weight."""

    def loss(*arrays):
        y = norm(*arrays)
        return (y * y * jnp.arange(1, y.size + 1).reshape(y.shape)).sum()

    return jax.grad(loss, argnums=(0, 1, 2))


def assert_all_near(ours, theirs, scale):
    jax.tree.map(partial(assert_near, scale=scale), ours, theirs)


@pytest.mark.parametrize(
    ("x_axis", "weight_axis", "bias_axis"),
    [
        axes
        for axes in product([0, 1, None], [0, None], [0, None])
        if any(a is not None for a in axes)
    ],
)
def test_vmap_of_grad(x_axis, weight_axis, bias_axis):
    axes = x_axis, weight_axis, bias_axis
    shapes = (4, 6), (6,), (6,)
    arrays = [normal(*s) if a is None else normal(*s[:a], 3, *s[a:]) for s, a in zip(shapes, axes)]

    def mapped(norm):
        return jax.jit(jax.vmap(gradients(norm), in_axes=axes))(*arrays)

    assert_all_near(mapped(layernorm.jax.layer_norm), mapped(exact.layer_norm), 1e3)

    def forward(norm):
        return jax.vmap(norm, in_axes=axes)(*arrays)

    assert_near(forward(layernorm.jax.layer_norm), forward(exact.layer_norm))


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_gradient_for_each_example(name):
    """Of one parameter alone."""
    x, param = normal(3, 4, 6), normal(6)

    def of_each(norm):
        grad = jax.grad(lambda param, x: (norm(x, **{name: param}) ** 2 * jnp.arange(6)).sum())
        return jax.vmap(grad, in_axes=(None, 0))(param, x)

    theirs = of_each(exact.layer_norm)
    assert_near(of_each(layernorm.jax.layer_norm), theirs, scale=100)


def test_vmap_in_vmap():
    """Each operand has another subset of the mapped dimensions."""
    x, weight, bias = normal(2, 4, 6), normal(3, 6), normal(2, 3, 6)

    def mapped(norm):
        inner = jax.vmap(gradients(norm), in_axes=(None, 0, 0))
        return jax.jit(jax.vmap(inner, in_axes=(0, None, 0)))(x, weight, bias)

    assert_all_near(mapped(layernorm.jax.layer_norm), mapped(exact.layer_norm), 1e3)


def test_grad_of_vmap():
    x, weight, bias = normal(3, 4, 6), normal(6), normal(6)

    def mapped(norm):
        return jax.jit(gradients(jax.vmap(norm, in_axes=(0, None, None))))(x, weight, bias)

    assert_all_near(mapped(layernorm.jax.layer_norm), mapped(exact.layer_norm), 1e4)


def test_vmap_over_channels_first():
    x, weight = normal(3, 2, 5, 7), normal(5)

    def mapped(norm):
        return jax.jit(jax.vmap(partial(norm, axis=1), in_axes=(0, None)))(x, weight)

    assert_near(mapped(layernorm.jax.rms_norm), mapped(exact.rms_norm))


def test_vmap_of_nothing():
    x, weight = normal(0, 4, 6), normal(0, 6)
    assert jax.vmap(layernorm.jax.layer_norm)(x, weight).shape == (0, 4, 6)
    dx, dweight = jax.vmap(jax.grad(lambda *a: layernorm.jax.rms_norm(*a).sum(), (0, 1)))(x, weight)
    assert dx.shape == (0, 4, 6)
    assert dweight.shape == (0, 6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_same_bits(dtype):
    """However the call is made."""
    x, weight, bias = (
        normal(5, 4, 33, dtype=dtype),
        normal(33, dtype=dtype),
        normal(33, dtype=dtype),
    )
    norm = layernorm.jax.layer_norm
    y = norm(x, weight, bias)
    assert y.dtype == dtype
    for other in (
        jax.jit(norm)(x, weight, bias),
        jax.vmap(norm, in_axes=(0, None, None))(x, weight, bias),
        jnp.stack([norm(row, weight, bias) for row in x]),
        jax.lax.map(lambda row: norm(row, weight, bias), x),
        jnp.asarray(layernorm.layer_norm(np.asarray(x), 33, np.asarray(weight), np.asarray(bias))),
    ):
        assert jnp.array_equal(y, other)


def test_second_and_third_derivatives():
    arrays = normal(3, 5), normal(5), normal(5)

    def second(norm):
        return jax.grad(lambda *a: sum((g**2).sum() for g in gradients(norm)(*a)), (0, 1, 2))

    def third(norm):
        return jax.grad(lambda *a: sum((g**2).sum() for g in second(norm)(*a)), (0, 1, 2))

    for derivative in second, third:
        ours = derivative(layernorm.jax.layer_norm)(*arrays)
        theirs = jax.jit(derivative(exact.layer_norm))(*arrays)
        scale = max(float(abs(t).max()) for t in theirs)
        assert_all_near(ours, theirs, 100 * scale)


def test_second_derivative_of_add():
    arrays = normal(3, 5), normal(3, 5), normal(5)

    def second(norm):
        def loss(*arrays):
            y, total = norm(*arrays)
            return (y**2 * jnp.arange(15).reshape(3, 5) + total**3).sum()

        return jax.grad(lambda *a: (jax.grad(loss)(*a) ** 2).sum(), (0, 1, 2))(*arrays)

    def reference(x, residual, weight):
        return exact.rms_norm(x + residual, weight), x + residual

    assert_all_near(second(layernorm.jax.add_rms_norm), second(reference), 1e5)


def test_rematerialization_in_scan():
    x, weights, biases = normal(4, 6), normal(5, 6), normal(5, 6)

    def loss(norm, x, *params):
        layer = jax.checkpoint(lambda x, p: (jnp.tanh(norm(x, *p)) + x, None))
        return (jax.lax.scan(layer, x, params)[0] ** 2).sum()

    ours, theirs = (
        jax.jit(jax.grad(partial(loss, norm), argnums=(0, 1, 2)))(x, weights, biases)
        for norm in (layernorm.jax.layer_norm, exact.layer_norm)
    )
    assert_all_near(ours, theirs, 1e3)


def test_forward_mode_is_refused():
    x = normal(4, 6)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(layernorm.jax.layer_norm, (x,), (x,))


def test_many_at_once():
    """Calls large enough to be shared between threads, from several threads, several in each."""
    x, weight, bias = (normal(*s, dtype=jnp.float32) for s in ((3, 4096, 512), (512,), (512,)))
    step = jax.jit(
        lambda x: [gradients(layernorm.jax.layer_norm)(part, weight, bias) for part in x]
    )
    expected = [np.asarray(a) for a in jax.tree.leaves(step(x))]
    same = []

    def work():
        for _ in range(3):
            got = jax.tree.leaves(step(x))
            same.append(all(np.array_equal(a, b) for a, b in zip(expected, got, strict=True)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert same == [True] * 12
