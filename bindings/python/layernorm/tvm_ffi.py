"""The norms for tvm-ffi, which calls them with tensors of any framework, without copies."""

from __future__ import annotations

from typing import Any

import tvm_ffi

from . import _library


def load() -> Any:
    """The tvm_ffi.Module of the norms, the functions of which docs/tvm-ffi.md lists."""
    return tvm_ffi.load_module(str(_library.adapter("tvm_ffi")))
