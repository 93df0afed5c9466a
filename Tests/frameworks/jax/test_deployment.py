"""Several devices, and exported programs."""

import os
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import layernorm.jax

X = jnp.arange(24, dtype=jnp.float32).reshape(4, 6) ** 1.5

DEVICES = """
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import layernorm.jax

mesh = Mesh(jax.devices(), "i")
rows = PartitionSpec("i", None)
x = jnp.arange(24, dtype=jnp.float32).reshape(4, 6) ** 1.5
grad = jax.grad(lambda x: (layernorm.jax.rms_norm(x) * x).sum())
expected = grad(x)
assert jnp.array_equal(jax.jit(grad)(jax.device_put(x, NamedSharding(mesh, rows))), expected)
mapped = jax.jit(jax.shard_map(grad, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False))
result = mapped(x)
assert jnp.array_equal(result, expected)
print(len(result.sharding.device_set), "devices")
"""


def test_two_devices():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-c", DEVICES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "2 devices\n", done.stderr


def test_export():
    names = "layernorm_jax_forward", "layernorm_jax_backward"
    known = [jax.export.DisabledSafetyCheck.custom_call(name) for name in names]
    grad = jax.jit(jax.grad(lambda x: (layernorm.jax.rms_norm(x) * x).sum()))
    exported = jax.export.export(grad, disabled_checks=known)(X)
    assert jnp.array_equal(exported.call(X), grad(X))
