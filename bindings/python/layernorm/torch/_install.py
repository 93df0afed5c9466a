"""PyTorch's own operators, computed by liblayernorm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from . import _aten_ctypes, _native
from ._operators import native_error

_backend = _native if native_error is None else _aten_ctypes
_lock = Lock()
_installed = False


def install() -> None:
    """Has liblayernorm compute PyTorch's layer norm and RMSNorm on the CPU from here on, in the
    whole process: torch.nn.functional.layer_norm and rms_norm, torch.nn.LayerNorm and RMSNorm, and
    whatever else calls aten::native_layer_norm, its backward, or aten::_fused_rms_norm.

    Autograd, autocast, torch.func and torch.export are PyTorch's as before. What liblayernorm does
    not cover is computed by PyTorch's own code. Installing twice is the same as once."""
    _set(True)


def uninstall() -> None:
    """Undoes install()."""
    _set(False)


def is_installed() -> bool:
    """Whether install() is in effect."""
    return _installed


@contextmanager
def installed() -> Iterator[None]:
    """install() for the duration of a `with` block, whichever thread computes."""
    before = _set(True)
    try:
        yield
    finally:
        _set(before)


def _set(wanted: bool) -> bool:
    global _installed
    with _lock:
        before = _installed
        if wanted and not before:
            _backend.install()
        elif before and not wanted:
            _backend.uninstall()
        _installed = wanted
    return before
