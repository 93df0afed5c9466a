"""The native adapter, liblayernorm_torch.so."""

from __future__ import annotations

import os
import warnings
from ctypes import CDLL, c_char_p
from typing import TYPE_CHECKING, Any

from .. import _library

if TYPE_CHECKING:
    import torch

_adapter: Any = None


def load(own: torch.library.Library) -> str | None:
    """Registers the adapter's kernels for the operators of `own`. Returns None, or why not."""
    global _adapter
    path = _library.adapter("torch")
    try:
        adapter = CDLL(os.fspath(path))
    except OSError as error:
        return str(error)
    for name in "start", "install":
        function = getattr(adapter, f"layernorm_torch_{name}")
        function.argtypes, function.restype = [], c_char_p
    adapter.layernorm_torch_uninstall.argtypes = []
    adapter.layernorm_torch_uninstall.restype = None
    adapter.layernorm_torch_set_error.argtypes = [c_char_p]
    adapter.layernorm_torch_set_error.restype = None
    refusal = adapter.layernorm_torch_start()
    if refusal:
        return f"{path}: {refusal.decode()}"
    _spend_warning(own)
    _adapter = adapter
    return None


def _spend_warning(own: torch.library.Library) -> None:
    """Has PyTorch give, unseen, the warning that it gives once when a kernel replaces another."""
    own.define("_replaced() -> ()")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            own.impl("_replaced", lambda: None, "CPU", allow_override=True)


def set_error(sentence: str) -> None:
    """Has the adapter raise RuntimeError(sentence) when the running call is back in it."""
    _adapter.layernorm_torch_set_error(sentence.encode())


def install() -> None:
    """Puts the adapter's kernels in the place of PyTorch's own."""
    error = _adapter.layernorm_torch_install()
    if error:
        raise RuntimeError(f"PyTorch does not take the kernel for {error.decode()}")


def uninstall() -> None:
    """Takes them away again."""
    _adapter.layernorm_torch_uninstall()
