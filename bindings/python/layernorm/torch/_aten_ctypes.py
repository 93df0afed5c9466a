"""install() and uninstall() where the native adapter cannot be loaded."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from .._library import LAYER, RMS
from . import _ctypes, _pytorch
from ._pytorch import Optional, Shape

_library: torch.library.Library | None = None


def _native_layer_norm(
    x: Tensor, normalized_shape: Shape, weight: Optional, bias: Optional, eps: float
) -> Any:
    found = _ctypes._forward(LAYER, x, None, normalized_shape, weight, bias, eps)
    if found is None:
        return _originals["native_layer_norm"](x, normalized_shape, weight, bias, eps)
    y, mean, rstd = found
    param = weight if weight is not None else bias
    dtype = x.dtype if param is None else param.dtype
    return y, mean.to(dtype), rstd.to(dtype)


def _native_layer_norm_backward(
    dy: Tensor,
    x: Tensor,
    normalized_shape: Shape,
    mean: Tensor,
    rstd: Tensor,
    weight: Optional,
    bias: Optional,
    wanted: list[bool],
) -> Any:
    args = dy, x, normalized_shape, mean, rstd, weight
    found = _ctypes._backward(LAYER, dy, None, *args[1:], wanted)
    return found or _originals["native_layer_norm_backward"](*args, bias, wanted)


def _fused_rms_norm(x: Tensor, normalized_shape: Shape, weight: Optional, eps: float | None) -> Any:
    found = _ctypes._forward(RMS, x, None, normalized_shape, weight, None, eps)
    return found or _originals["_fused_rms_norm"](x, normalized_shape, weight, eps)


def _fused_rms_norm_backward(
    dy: Tensor,
    x: Tensor,
    normalized_shape: Shape,
    rstd: Tensor,
    weight: Optional,
    wanted: list[bool],
) -> Any:
    args = x, normalized_shape
    found = _ctypes._backward(RMS, dy, None, *args, None, rstd, weight, wanted)
    return found or _originals["_fused_rms_norm_backward"](dy, *args, rstd, weight, wanted)


_KERNELS = {
    "native_layer_norm": _native_layer_norm,
    "native_layer_norm_backward": _native_layer_norm_backward,
    "_fused_rms_norm": _fused_rms_norm,
    "_fused_rms_norm_backward": _fused_rms_norm_backward,
}
_originals: dict[str, Any] = {}


def install() -> None:
    """Puts kernels that call liblayernorm in the place of PyTorch's own."""
    global _library
    if not hasattr(torch.library, "get_kernel"):
        raise RuntimeError(f"install() needs PyTorch 2.10 or later; this is {torch.__version__}")
    if not _originals:
        _originals.update({name: _pytorch.original(name) for name in _KERNELS})
    _library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():  # that there has been another kernel
        warnings.simplefilter("ignore")
        for name, kernel in _KERNELS.items():
            _library.impl(name, kernel, "CPU")


def uninstall() -> None:
    """Takes them away again."""
    global _library
    assert _library is not None
    _library._destroy()
    _library = None
