"""Layer normalization and RMSNorm on the CPU, by liblayernorm."""

from os import fspath

from . import _library
from ._ada import ada_norm, ada_norm_backward
from ._functions import add_layer_norm, add_rms_norm, layer_norm, rms_norm
from ._gradients import layer_norm_backward, rms_norm_backward
from ._modules import LayerNorm, RMSNorm
from ._threads import get_num_threads, isa, set_num_threads

__all__ = [
    "LayerNorm",
    "RMSNorm",
    "ada_norm",
    "ada_norm_backward",
    "add_layer_norm",
    "add_rms_norm",
    "get_num_threads",
    "isa",
    "layer_norm",
    "layer_norm_backward",
    "library_path",
    "rms_norm",
    "rms_norm_backward",
    "set_num_threads",
]

__version__ = _library.version


def library_path() -> str:
    """The path of the liblayernorm.so that is loaded."""
    return fspath(_library.path)
