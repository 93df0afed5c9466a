"""Sessions of one norm, by liblayernorm's operators and by ONNX Runtime's own, with IOBinding."""

import layernorm.onnx
import numpy as np
import onnxruntime
from interleaved import SHAPES, microseconds, table
from onnx import ValueInfoProto, helper

# ONNX Runtime's operator, its domain, its inputs, and ours where it has another name.
NORMS = [
    ("LayerNormalization", "", ["x", "weight", "bias"], "LayerNormalization"),
    ("SimplifiedLayerNormalization", "", ["x", "weight"], "RMSNormalization"),
    ("SkipLayerNormalization", "com.microsoft", ["x", "skip", "weight", "bias"], None),
    ("SkipSimplifiedLayerNormalization", "com.microsoft", ["x", "skip", "weight"], None),
]


def bound(operator, domain, arrays):
    """A call of a session with one node, its inputs and its output bound."""
    node = helper.make_node(operator, list(arrays), ["y"], domain=domain)
    described = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for name, a in arrays.items()
    ]
    graph = helper.make_graph([node], "norm", described, [ValueInfoProto(name="y")])
    opsets = [("", 17), ("com.microsoft", 1), (layernorm.onnx.DOMAIN, 1)]
    imports = [helper.make_opsetid(*opset) for opset in opsets]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(),
        layernorm.onnx.session_options(),
        providers=["CPUExecutionProvider"],
    )
    binding = session.io_binding()
    for name, array in arrays.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    y = onnxruntime.OrtValue.ortvalue_from_numpy(np.empty_like(arrays["x"]))
    binding.bind_ortvalue_output("y", y)
    return lambda: session.run_with_iobinding(binding)


def main():
    print(f"ONNX Runtime {onnxruntime.__version__}, liblayernorm on {layernorm.isa()}")
    rng = np.random.default_rng(0)
    for operator, domain, names, replacement in NORMS:
        rows = {}
        for dtype in np.float32, np.float16:
            for shape in SHAPES:
                shapes = {"x": shape, "skip": shape, "weight": shape[1:], "bias": shape[1:]}
                arrays = {name: rng.normal(size=shapes[name]).astype(dtype) for name in names}
                ours = bound(replacement or operator, layernorm.onnx.DOMAIN, arrays)
                case = f"{shape[0]} x {shape[1]}, {np.dtype(dtype)}"
                rows[case] = microseconds(
                    {"liblayernorm": ours, "ONNX Runtime": bound(operator, domain, arrays)}
                )
        table(operator, rows)


if __name__ == "__main__":
    main()
