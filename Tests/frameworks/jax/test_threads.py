"""Whose threads do the work: XLA's, and no others."""

import subprocess
import sys

PROGRAM = """
import os

import jax
import jax.numpy as jnp

import layernorm.jax

layernorm.set_num_threads(4)
x = jnp.ones((4096, 768))
jax.block_until_ready(layernorm.jax.layer_norm(x[:1]))
jax.block_until_ready(jax.jit(lambda x: x @ x.T)(x))
before = set(os.listdir("/proc/self/task"))
norm = jax.jit(jax.value_and_grad(lambda x: layernorm.jax.layer_norm(x, x[0]).sum()))
jax.block_until_ready(norm(x))
new = set(os.listdir("/proc/self/task")) - before
print("after JAX:", len(new))
layernorm.layer_norm(__import__("numpy").asarray(x))
print("after NumPy:", len(set(os.listdir("/proc/self/task")) - before - new))
"""


def test_no_threads_are_started():
    """By a call from JAX; and one from elsewhere in the process has the library's own as ever."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.stdout == "after JAX: 0\nafter NumPy: 3\n", done.stderr
