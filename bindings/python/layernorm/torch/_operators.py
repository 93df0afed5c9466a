"""The operators layernorm::*, and which code computes them.

Each operator has a kernel for the CPU: of the native adapter, liblayernorm_torch.so, or where that
cannot be loaded, of _ctypes. What liblayernorm does not cover, and every other device, is computed
by PyTorch's own operators, in _pytorch."""

from collections.abc import Callable
from typing import Any, Final

import torch

from . import _ctypes, _native, _pytorch

SCHEMAS: Final = {
    "layer_norm": "(Tensor x, SymInt[] normalized_shape, Tensor? weight, Tensor? bias, float eps)"
    " -> (Tensor y, Tensor mean, Tensor rstd)",
    "rms_norm": "(Tensor x, SymInt[] normalized_shape, Tensor? weight, float? eps)"
    " -> (Tensor y, Tensor rstd)",
    "add_layer_norm": "(Tensor x, Tensor residual, SymInt[] normalized_shape, Tensor? weight,"
    " Tensor? bias, float eps) -> (Tensor y, Tensor sum, Tensor mean, Tensor rstd)",
    "add_rms_norm": "(Tensor x, Tensor residual, SymInt[] normalized_shape, Tensor? weight,"
    " float? eps) -> (Tensor y, Tensor sum, Tensor rstd)",
    "layer_norm_backward": "(Tensor dy, Tensor? dsum, Tensor x, SymInt[] normalized_shape,"
    " Tensor mean, Tensor rstd, Tensor? weight, Tensor? bias, bool[3] wanted)"
    " -> (Tensor dx, Tensor dweight, Tensor dbias)",
    "rms_norm_backward": "(Tensor dy, Tensor? dsum, Tensor x, SymInt[] normalized_shape,"
    " Tensor rstd, Tensor? weight, bool[2] wanted) -> (Tensor dx, Tensor dweight)",
}

# PyTorch's operators that install() replaces, as pytorch_* by the name that they have in aten.
ATEN: Final = (
    "native_layer_norm",
    "native_layer_norm_backward",
    "_fused_rms_norm",
    "_fused_rms_norm_backward",
)

library: Final = torch.library.Library("layernorm", "DEF")


def _define(name: str, schema: str, *tags: torch.Tag) -> None:
    library.define(name + schema, tags=(torch.Tag.pt2_compliant_tag, *tags))


def _reporting(function: Callable[..., Any], results: int) -> Callable[..., Any]:
    """`function`, whose exceptions the native adapter raises."""

    def call(*args: Any) -> Any:
        try:
            return function(*args)
        except Exception as error:
            _native.set_error(str(error))
            return tuple(torch.empty(0) for _ in range(results))

    return call


for _name, _schema in SCHEMAS.items():
    _define(_name, _schema)
    _own = getattr(_pytorch, _name)
    library.impl(_name, _own, "CompositeExplicitAutograd")
    torch.library.register_fake(f"layernorm::{_name}", _own, lib=library)

native_error: Final = _native.load(library)
"""Why the native adapter is not in use, or None."""

if native_error is None:
    for _name, _schema in SCHEMAS.items():
        _define(f"pytorch_{_name}", _schema)
        _results = _schema.split("->")[1].count("Tensor")
        library.impl(
            f"pytorch_{_name}",
            _reporting(getattr(_pytorch, _name), _results),
            "CompositeExplicitAutograd",
        )
    for _name in ATEN:
        _operator = getattr(torch.ops.aten, _name).default
        _arguments = str(_operator._schema).partition(_name)[2]
        _define(f"pytorch_{_name}", _arguments)
        library.impl(
            f"pytorch_{_name}",
            _reporting(_pytorch.original(_name), len(_operator._schema.returns)),
            "CPU",
        )
else:
    for _name in SCHEMAS:
        library.impl(_name, getattr(_ctypes, _name), "CPU")
