"""The modules of Flax: what they give beside Flax's own, with the same variables."""

import jax
import jax.numpy as jnp
import layernorm.jax.linen
import layernorm.jax.nnx
import numpy as np
import pytest
from flax import linen, nnx

CALL = "layernorm_jax_forward"
X = jnp.asarray(np.random.default_rng(0).normal(1, 2, (3, 4, 6)), jnp.float32)


def assert_same(ours, theirs):
    assert ours.dtype == theirs.dtype
    near = {"float32": 1e-5, "float64": 1e-12, "bfloat16": 1e-1, "float16": 1e-2}[str(ours.dtype)]
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=near)


class Block(linen.Module):
    features: int = 6

    @linen.compact
    def __call__(self, x):
        y = linen.Dense(self.features)(linen.LayerNorm()(x))
        return linen.RMSNorm(dtype=jnp.bfloat16, use_scale=False)(x + y)


def noisy(variables):
    """With other parameters than ones and zeros."""
    leaves, tree = jax.tree.flatten(variables)
    rng = np.random.default_rng(1)
    return tree.unflatten(
        [leaf + rng.normal(size=leaf.shape).astype(leaf.dtype) for leaf in leaves]
    )


def test_linen_model():
    model = Block()
    variables = noisy(model.init(jax.random.key(0), X))
    theirs = model.apply(variables, X)
    with layernorm.jax.linen.replaced():
        assert str(jax.make_jaxpr(model.apply)(variables, X)).count(CALL) == 2
        ours = jax.jit(model.apply)(variables, X)
        again = model.init(jax.random.key(0), X)
    assert_same(ours, theirs)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, again, model.init(jax.random.key(0), X)))
    assert CALL not in str(jax.make_jaxpr(lambda x: model.apply(variables, x))(X))


LINEN = [
    {},
    {"epsilon": 1e-3, "dtype": jnp.float16},
    {"param_dtype": jnp.bfloat16},
    {"dtype": jnp.float64, "use_scale": False},
    {"reduction_axes": (1, -1), "feature_axes": (1, -1)},
    {"reduction_axes": 1, "feature_axes": 1},
]
# These go to Flax's own.
LINEN_OWN = [
    {"reduction_axes": (1, 2), "feature_axes": -1},
    {"feature_axes": (2, 1), "reduction_axes": (2, 1), "use_scale": False},
    {"force_float32_reductions": False},
]


@pytest.mark.parametrize("fields", LINEN + LINEN_OWN, ids=str)
@pytest.mark.parametrize("name", ["LayerNorm", "RMSNorm"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_linen_module(name, fields, dtype):
    covered = fields in LINEN
    if "use_scale" in fields and name == "LayerNorm":
        fields = {**fields, "use_bias": False}
    x = X.astype(dtype)
    theirs, ours = getattr(linen, name)(**fields), getattr(layernorm.jax.linen, name)(**fields)
    variables = theirs.init(jax.random.key(0), x)
    again = ours.init(jax.random.key(0), x)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, variables, again))
    variables = noisy(variables)
    assert_same(ours.apply(variables, x), theirs.apply(variables, x))
    assert (CALL in str(jax.make_jaxpr(ours.apply)(variables, x))) == covered


def test_linen_mask():
    mask = jnp.arange(6) < 4
    module = layernorm.jax.linen.LayerNorm()
    variables = module.init(jax.random.key(0), X)
    theirs = linen.LayerNorm().apply(variables, X, mask=mask)
    assert_same(module.apply(variables, X, mask=mask), theirs)
    with layernorm.jax.linen.replaced():
        assert_same(linen.LayerNorm().apply(variables, X, mask=mask), theirs)


class Model(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(6, rngs=rngs, bias_init=nnx.initializers.normal())
        self.layers = nnx.Sequential(
            nnx.Linear(6, 6, rngs=rngs), nnx.RMSNorm(6, rngs=rngs, dtype=jnp.bfloat16)
        )
        self.shared = self.norm

    def __call__(self, x):
        return self.shared(self.layers(self.norm(x)))


def test_nnx_model():
    model = Model(nnx.Rngs(0))
    theirs = model(X)
    state = jax.tree.leaves(nnx.state(model))
    their_gradient = jax.tree.leaves(nnx.grad(lambda m: (m(X) ** 2).sum())(model))
    assert layernorm.jax.nnx.replace(model) == 2
    assert layernorm.jax.nnx.replace(model) == 0
    assert isinstance(model.norm, nnx.LayerNorm)
    assert all(map(jnp.array_equal, state, jax.tree.leaves(nnx.state(model))))
    assert_same(nnx.jit(lambda m, x: m(x))(model, X), theirs)
    gradient = jax.tree.leaves(nnx.grad(lambda m: (m(X) ** 2).sum())(model))
    for ours, theirs in zip(gradient, their_gradient, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0.1, atol=1)
    merged = nnx.merge(*nnx.split(model))
    assert type(merged.shared) is layernorm.jax.nnx.LayerNorm
    assert type(merged.layers.layers[1]) is layernorm.jax.nnx.RMSNorm


NNX = [{}, {"dtype": jnp.float16}, {"use_scale": False}, {"feature_axes": 1, "reduction_axes": 1}]
NNX_OWN = [{"reduction_axes": (1, 2)}]


@pytest.mark.parametrize("arguments", NNX + NNX_OWN, ids=str)
@pytest.mark.parametrize("name", ["LayerNorm", "RMSNorm"])
def test_nnx_module(name, arguments):
    size = 4 if "feature_axes" in arguments else 6
    theirs = getattr(nnx, name)(size, rngs=nnx.Rngs(0), **arguments)
    ours = getattr(layernorm.jax.nnx, name)(size, rngs=nnx.Rngs(0), **arguments)
    assert_same(ours(X), theirs(X))
    assert (CALL in str(jax.make_jaxpr(ours)(X))) == (arguments in NNX)


def test_nnx_mask():
    mask = jnp.arange(6) < 4
    ours = layernorm.jax.nnx.LayerNorm(6, rngs=nnx.Rngs(0))
    assert_same(ours(X, mask=mask), nnx.LayerNorm(6, rngs=nnx.Rngs(0))(X, mask=mask))
