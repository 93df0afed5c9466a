"""The models that ONNX Runtime and OpenVINO run: a file of each in a case's folder. weight and bias
are constants in them, as in a model that is served."""

from pathlib import Path

from .cases import EPS


def write_onnx(case, inputs, folder):
    import onnx
    from onnx import TensorProto, helper

    kind = {"f32": TensorProto.FLOAT, "f16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}[
        case.dtype
    ]
    matrix, statistic = [case.rows, case.cols], [case.rows, 1]
    parameters = ["weight"] if case.op == "rms_fwd" else ["weight", "bias"]
    given = ["x", "residual"] if case.op == "add_ln" else ["x"]
    made = {"add_ln": ["y", "sum"], "ln_fwd_stats": ["y", "mean", "rstd"]}.get(case.op, ["y"])
    nodes = onnx_nodes(case, helper.make_node)
    outputs = [
        helper.make_tensor_value_info(
            name, *((TensorProto.FLOAT, statistic) if name in ("mean", "rstd") else (kind, matrix))
        )
        for name in made
    ]
    constants = []
    for name in parameters:
        tensor = TensorProto(name=name, data_type=kind, dims=[case.cols])
        tensor.raw_data = inputs[name].tobytes()
        constants.append(tensor)
    graph = helper.make_graph(
        nodes,
        "norm",
        [helper.make_tensor_value_info(name, kind, matrix) for name in given],
        outputs,
        constants,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(
        helper.make_model(graph, opset_imports=opsets, ir_version=8),
        Path(folder, "onnxruntime.onnx"),
    )


def onnx_nodes(case, node):
    """The fastest of the ways in which ONNX Runtime can do it."""
    if case.op == "rms_fwd":  # what the standard RMSNormalization becomes, for every dtype
        return [
            node(
                "SimplifiedLayerNormalization",
                ["x", "weight"],
                ["y"],
                axis=-1,
                epsilon=EPS,
                stash_type=1,
            )
        ]
    if case.op == "add_ln" and case.dtype == "bf16":  # there is no Add for it
        inputs, outputs = ["x", "residual", "weight", "bias"], ["y", "", "", "sum"]
        return [
            node("SkipLayerNormalization", inputs, outputs, domain="com.microsoft", epsilon=EPS)
        ]
    first = [node("Add", ["x", "residual"], ["sum"])] if case.op == "add_ln" else []
    outputs = ["y", "mean", "rstd"] if case.op == "ln_fwd_stats" else ["y"]
    inputs = ["sum" if first else "x", "weight", "bias"]
    return [*first, node("LayerNormalization", inputs, outputs, axis=-1, epsilon=EPS)]


def write_openvino(case, inputs, folder):
    import numpy as np
    import openvino as ov
    from openvino import opset13 as ops

    kind = {"f32": ov.Type.f32, "f16": ov.Type.f16, "bf16": ov.Type.bf16}[case.dtype]

    def constant(name):
        if case.dtype == "bf16":
            return ops.constant(ov.Tensor(inputs[name].view(np.uint16), [case.cols], kind))
        return ops.constant(inputs[name])

    given = [ops.parameter([case.rows, case.cols], kind) for _ in range(1 + (case.op == "add_ln"))]
    x = ops.add(*given) if case.op == "add_ln" else given[0]
    if case.op == "rms_fwd":
        square = ops.power(x, ops.constant(2, kind))
        mean = ops.reduce_mean(square, ops.constant([-1]), keep_dims=True)
        root = ops.sqrt(ops.add(mean, ops.constant(EPS, kind)))
        y = ops.multiply(
            constant("weight"), ops.multiply(x, ops.divide(ops.constant(1, kind), root))
        )
    else:
        norm = ops.mvn(x, ops.constant([-1]), True, EPS, "inside_sqrt")
        y = ops.add(ops.multiply(norm, constant("weight")), constant("bias"))
    results = [y, x] if case.op == "add_ln" else [y]
    ov.save_model(
        ov.Model(results, given, "norm"), Path(folder, "openvino.xml"), compress_to_fp16=False
    )
