"""Models of one node, and what they give."""

import os
import subprocess
import sys

import layernorm.onnx
import ml_dtypes
import numpy as np
import onnxruntime
from onnx import TensorProto, ValueInfoProto, helper

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [np.dtype(t) for t in (np.float32, np.float64, np.float16)] + [BFLOAT16]

OPSETS = {"": 23, "com.microsoft": 1, layernorm.onnx.DOMAIN: 1}


def onnx_type(dtype):
    return TensorProto.BFLOAT16 if dtype == BFLOAT16 else helper.np_dtype_to_tensor_dtype(dtype)


def cast(dtype, source, target):
    return helper.make_node("Cast", [source], [target], to=onnx_type(dtype))


def make_model(nodes, inputs, outputs):
    """Of the nodes, with inputs {name: (dtype, shape)} and outputs {name: dtype}."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(n, onnx_type(d), s) for n, (d, s) in inputs.items()],
        [
            helper.make_tensor_value_info(n, onnx_type(d), None) if d else ValueInfoProto(name=n)
            for n, d in outputs.items()
        ],
    )
    opsets = [helper.make_opsetid(*opset) for opset in OPSETS.items()]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return model


def session(model, threads=1, ours=True):
    options = layernorm.onnx.session_options() if ours else onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def node_model(operator, inputs, wanted, domain=layernorm.onnx.DOMAIN, **attributes):
    """A model of one node. An input that is None is left out, as is an output that is not wanted.
    NumPy cannot pass bfloat16 to ONNX Runtime, so it goes in and comes out as float32."""
    while inputs[-1] is None:
        inputs = inputs[:-1]
    given = {f"in{i}": array for i, array in enumerate(inputs) if array is not None}
    names = [f"in{i}" if array is not None else "" for i, array in enumerate(inputs)]
    results = [f"out{i}" if want else "" for i, want in enumerate(wanted)]
    node = helper.make_node(operator, names, results, domain=domain, **attributes)
    nodes, described = [node], {}
    for name, array in given.items():
        described[name] = (array.dtype, array.shape)
        if array.dtype == BFLOAT16:
            described[name] = (np.dtype(np.float32), array.shape)
            node.input[names.index(name)] = f"{name}_bf16"
            nodes.insert(0, cast(BFLOAT16, name, f"{name}_bf16"))
    outputs = {}
    for i, want in enumerate(wanted):
        if want == BFLOAT16:
            node.output[i] = f"out{i}_bf16"
            nodes.append(cast(np.dtype(np.float32), f"out{i}_bf16", f"out{i}"))
            outputs[f"out{i}"] = np.dtype(np.float32)
        elif want:
            outputs[f"out{i}"] = want
    return make_model(nodes, described, outputs)


def run(operator, inputs, wanted, domain=layernorm.onnx.DOMAIN, threads=1, **attributes):
    """The outputs that are wanted: each by its dtype, others by None."""
    ours = domain == layernorm.onnx.DOMAIN
    model = node_model(operator, inputs, wanted, domain, **attributes)
    feed = {
        f"in{i}": array.astype(np.float32) if array.dtype == BFLOAT16 else array
        for i, array in enumerate(inputs)
        if array is not None
    }
    results = session(model, threads, ours).run(None, feed)
    dtypes = [want for want in wanted if want]
    for result, dtype in zip(results, dtypes, strict=True):
        assert result.dtype == (np.float32 if dtype == BFLOAT16 else dtype)
    return [result.astype(dtype) for result, dtype in zip(results, dtypes, strict=True)]


def normal(shape, dtype, seed=0):
    return np.random.default_rng(seed).normal(0.5, 2, shape).astype(dtype)


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def run_python(code, cwd=None, **environment):
    """What a new interpreter prints, which imports from where this one does."""
    environment["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    return done.stdout
