"""The norms for JAX on the CPU, under jit, vmap and grad; for Flax, the modules linen and nnx."""

from ._functions import add_layer_norm, add_rms_norm, layer_norm, rms_norm

__all__ = ["add_layer_norm", "add_rms_norm", "layer_norm", "rms_norm"]
