"""Layer normalization and RMSNorm of PyTorch's tensors on the CPU, by liblayernorm.

install() puts it under every model as it is; replace() under one; layer_norm(), rms_norm(),
ada_norm(), add_layer_norm() and add_rms_norm(), LayerNorm, RMSNorm and AdaNorm are for a model's
own code."""

from ._functions import ada_norm, add_layer_norm, add_rms_norm, layer_norm, rms_norm
from ._install import install, installed, is_installed, uninstall
from ._modules import AdaNorm, LayerNorm, RMSNorm, replace

__all__ = [
    "AdaNorm",
    "LayerNorm",
    "RMSNorm",
    "ada_norm",
    "add_layer_norm",
    "add_rms_norm",
    "install",
    "installed",
    "is_installed",
    "layer_norm",
    "replace",
    "rms_norm",
    "uninstall",
]
