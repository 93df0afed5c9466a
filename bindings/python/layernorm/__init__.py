"""Layer normalization on the CPU, by liblayernorm."""

from os import fspath

from . import _library
from ._functions import layer_norm
from ._threads import get_num_threads, isa, set_num_threads

__all__ = [
    "get_num_threads",
    "isa",
    "layer_norm",
    "library_path",
    "set_num_threads",
]

__version__ = _library.version


def library_path() -> str:
    """The path of the liblayernorm.so that is loaded."""
    return fspath(_library.path)
