"""The norms of ONNX models by liblayernorm, in ONNX Runtime.

model, count = layernorm.onnx.replace("model.onnx")
session = onnxruntime.InferenceSession(
    model.SerializeToString(), layernorm.onnx.session_options()
)
"""

from collections.abc import Iterable, Iterator
from os import PathLike, fspath
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import onnx

from . import _library

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["DOMAIN", "library_path", "replace", "session_options"]

DOMAIN: Final = "liblayernorm"
"""The domain of the operators LayerNormalization, RMSNormalization, SkipLayerNormalization and
SkipSimplifiedLayerNormalization, with the inputs, outputs and attributes of ONNX's and
com.microsoft's."""

# What stands for a norm, and the operator that takes its place.
_ONNX: Final = {
    "LayerNormalization": "LayerNormalization",
    "RMSNormalization": "RMSNormalization",
    "SimplifiedLayerNormalization": "RMSNormalization",
}
_RESIDUAL: Final = ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
_REPLACED: Final = {
    "": _ONNX,
    "ai.onnx": _ONNX,
    "com.microsoft": _ONNX | {name: name for name in _RESIDUAL},
}


def library_path() -> str:
    """The path of the library with the operators, for onnxruntime's
    SessionOptions.register_custom_ops_library() and its like in other languages."""
    path = _library.adapter("onnxruntime")
    if not path.exists():
        raise ImportError(f"the operators for ONNX Runtime are not at {path}")
    return fspath(path)


def session_options(
    options: "onnxruntime.SessionOptions | None" = None,
) -> "onnxruntime.SessionOptions":
    """`options`, or new ones, with the operators registered: for InferenceSession()."""
    if options is None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(library_path())
    return options


def replace(
    model: "onnx.ModelProto | str | PathLike[str]", *, fuse: bool = True
) -> tuple[onnx.ModelProto, int]:
    """The model with its norms replaced by the operators of liblayernorm, and how many they are.

    `model` is a ModelProto, which stays as it is, or a path. Replaced are LayerNormalization,
    RMSNormalization, SimplifiedLayerNormalization, SkipLayerNormalization and
    SkipSimplifiedLayerNormalization, also in subgraphs and functions.

    With `fuse`, ONNX Runtime first optimizes the model for the CPU, as it else would when it loads
    it: that finds norms that are spelled out in simpler operators, and joins a residual's addition
    with the norm after it, neither of which it can do once the norms are replaced. Where it cannot
    load the model, or itself spells out norms for which it has no kernel, the model is taken as it
    is.
    """
    path = None
    if isinstance(model, onnx.ModelProto):
        plain = onnx.ModelProto()
        plain.CopyFrom(model)
    elif isinstance(model, (str, PathLike)):
        path = fspath(model)
        plain = onnx.load(path, load_external_data=False)
    else:
        raise TypeError(f"model is {type(model).__name__}, not a ModelProto or a path")
    fused = _fused(path or plain.SerializeToString()) if fuse else None
    count = _replace_in(plain)
    if fused is not None:
        fused_count = _replace_in(fused)
        if fused_count >= count:
            return fused, fused_count
    if path is not None:
        onnx.load_external_data_for_model(plain, fspath(Path(path).parent))
    return plain, count


def _fused(model: bytes | str) -> onnx.ModelProto | None:
    """What ONNX Runtime makes of a model for any CPU; None if it cannot load it."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    with TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        options = session_options()
        options.log_severity_level = 4  # the caller's session says it if something is wrong
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = fspath(path)
        # Beside it, since a ModelProto's file has a limit of 2 GiB.
        prefix = "session.optimized_model_external_initializers_"
        options.add_session_config_entry(prefix + "file_name", "weights")
        options.add_session_config_entry(prefix + "min_size_in_bytes", "1024")
        try:
            onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except (errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.NotImplemented):
            return None
        return onnx.load(path)


def _replace_in(model: onnx.ModelProto) -> int:
    count = 0
    owners: list[tuple[Any, Any]] = [(model, model.graph), *((f, f) for f in model.functions)]
    for owner, graph in owners:
        before = count
        for node in _all_nodes(graph.node):
            operator = _REPLACED.get(node.domain, {}).get(node.op_type)
            if operator is not None and _is_covered(node):
                node.op_type = operator
                node.domain = DOMAIN
                count += 1
        if count > before and all(opset.domain != DOMAIN for opset in owner.opset_import):
            owner.opset_import.add(domain=DOMAIN, version=1)
    return count


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes and those of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _all_nodes(graph.node)


def _is_covered(node: onnx.NodeProto) -> bool:
    for attribute in node.attribute:
        # Statistics in another type than float32, or in one that the caller of a function chooses.
        if attribute.name == "stash_type" and (attribute.ref_attr_name or attribute.i != 1):
            return False
    # RMSNorm has no mean.
    return node.op_type != "SkipSimplifiedLayerNormalization" or not any(node.output[1:2])
