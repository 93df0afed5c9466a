"""layernorm.jax beside what JAX compiles for the same, each under jax.jit, in float32."""

import flax.linen as nn
import interleaved
import jax
import jax.numpy as jnp
import layernorm.jax
import numpy as np


def standardize(x, weight, bias):
    return jax.nn.standardize(x, axis=-1, epsilon=1e-5) * weight + bias


def flax_layer_norm(x, weight, bias):
    module = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False)
    return module.apply({"params": {"scale": weight, "bias": bias}}, x)


NORMS = {
    "layernorm.jax": layernorm.jax.layer_norm,
    "jax.nn.standardize": standardize,
    "flax.linen.LayerNorm": flax_layer_norm,
}


def forward(norm):
    return jax.jit(norm)


def forward_backward(norm):
    def both(dy, *arrays):
        y, pull_back = jax.vjp(norm, *arrays)
        return y, *pull_back(dy)

    return jax.jit(both)


def call(function, arrays):
    return lambda: jax.block_until_ready(function(*arrays))


def main():
    tables = {"forward": {}, "forward and backward": {}}
    for rows, cols in interleaved.SHAPES:
        rng = np.random.default_rng(0)
        dy, x = jnp.asarray(rng.normal(size=(2, rows, cols)), jnp.float32)
        arrays = x, jnp.ones(cols), jnp.zeros(cols)
        for title, direction, given in (
            ("forward", forward, arrays),
            ("forward and backward", forward_backward, (dy, *arrays)),
        ):
            calls = {name: call(direction(norm), given) for name, norm in NORMS.items()}
            tables[title][f"{rows} x {cols}"] = interleaved.microseconds(calls)
    for title, rows in tables.items():
        interleaved.table(f"JAX {jax.__version__}, {title}", rows)


if __name__ == "__main__":
    main()
