"""Each operator, beside ONNX Runtime's own and, to the bit, beside liblayernorm's from Python."""

import layernorm
import numpy as np
import pytest
from models import BFLOAT16, DTYPES, make_model, normal, run, same_bits, session
from onnx import helper

F32 = np.dtype(np.float32)
TOLERANCE = {np.dtype(np.float64): 1e-6, F32: 2e-6, np.dtype(np.float16): 2e-3, BFLOAT16: 1.6e-2}


def close(results, expected, dtype):
    for result, correct in zip(results, expected, strict=True):
        assert result.shape == correct.shape
        np.testing.assert_allclose(
            result.astype(np.float64),
            correct.astype(np.float64),
            rtol=TOLERANCE[dtype],
            atol=TOLERANCE[dtype] * 2,
        )


def own(operator, inputs, wanted, domain, **attributes):
    """ONNX Runtime's own operator, in float32 where it has none for bfloat16 or float64."""
    lacks = {BFLOAT16} if operator == "LayerNormalization" else {BFLOAT16, np.dtype(np.float64)}

    def kept(dtype):
        return F32 if dtype in lacks else dtype

    inputs = [None if a is None else a.astype(kept(a.dtype)) for a in inputs]
    wanted = [dtype and kept(dtype) for dtype in wanted]
    return run(operator, inputs, wanted, domain, **attributes)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("axis", [None, 0, 1, 2, 3, -1, -2, -4])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("stats", [(True, True), (True, False), (False, True), (False, False)])
def test_layer_normalization(dtype, axis, with_bias, stats):
    x = normal((3, 2, 5, 7), dtype)
    shape = x.shape[-1 if axis is None else axis :]
    weight = normal(shape, dtype, 1)
    bias = normal(shape, dtype, 2) if with_bias else None
    attributes = {"epsilon": 1e-3} if axis is None else {"epsilon": 1e-3, "axis": axis}
    wanted = [dtype, *(F32 if stat else None for stat in stats)]
    results = run("LayerNormalization", [x, weight, bias], wanted, **attributes)
    close(results, own("LayerNormalization", [x, weight, bias], wanted, "", **attributes), dtype)
    eps = float(np.float32(1e-3))  # as an attribute has it
    y, *statistics = layernorm.layer_norm(x, shape, weight, bias, eps, return_stats=True)
    expected = [y, *(s.astype(F32) for s, stat in zip(statistics, stats) if stat)]
    kept = x.shape[: x.ndim - len(shape)] + (1,) * len(shape)
    for result, correct in zip(results, expected, strict=True):
        shaped = correct if correct.shape == x.shape else correct.reshape(kept)
        assert same_bits(result, shaped)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("stat", [True, False])
def test_rms_normalization(dtype, axis, stat):
    x = normal((3, 5, 7), dtype)
    shape = x.shape[-1 if axis is None else axis :]
    weight = normal(shape, dtype, 1)
    attributes = {} if axis is None else {"axis": axis}
    wanted = [dtype, F32 if stat else None]
    results = run("RMSNormalization", [x, weight], wanted, **attributes)
    theirs = own("SimplifiedLayerNormalization", [x, weight], wanted, "", **attributes)
    close(results, theirs, dtype)
    if dtype != BFLOAT16:
        close(results[:1], run("RMSNormalization", [x, weight], [dtype], "", **attributes), dtype)
    eps = float(np.float32(1e-5))
    y, rstd = layernorm.rms_norm(x, shape, weight, eps, return_stats=True)
    assert same_bits(results[0], y)
    if stat:
        kept = x.shape[: x.ndim - len(shape)] + (1,) * len(shape)
        assert same_bits(results[1], rstd.astype(F32).reshape(kept))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("operator", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
@pytest.mark.parametrize("optional", range(4))
@pytest.mark.parametrize("residual_shape", [(3, 5, 64), (5, 64), (1, 5, 64)])
@pytest.mark.parametrize("wants_sum", [True, False])
def test_skip(dtype, operator, optional, residual_shape, wants_sum):
    simplified = "Simplified" in operator
    x = normal((3, 5, 64), dtype)
    residual, weight = normal(residual_shape, dtype, 1), normal(64, dtype, 2)
    bias = normal(64, dtype, 3) if optional & 1 and not simplified else None
    x_bias = normal(64, dtype, 4) if optional & 2 else None
    inputs = [x, residual, weight] + ([x_bias] if simplified else [bias, x_bias])
    wanted = [dtype, None, None, dtype if wants_sum else None]
    results = run(operator, inputs, wanted)
    close(results, own(operator, inputs, wanted, "com.microsoft"), dtype)
    wide = np.float64 if dtype == np.float64 else np.float32
    total = x.astype(wide) + (0 if x_bias is None else x_bias.astype(wide))
    total = (total + residual.astype(wide)).astype(dtype)
    eps = float(np.float32(1e-12))
    if simplified:
        y = layernorm.rms_norm(total, weight=weight, eps=eps)
    else:
        y = layernorm.layer_norm(total, weight=weight, bias=bias, eps=eps)
    assert same_bits(results[0], y)
    if wants_sum:
        assert same_bits(results[1], total)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_skip_statistics(dtype):
    x, residual = normal((2, 3, 64), dtype), normal((2, 3, 64), dtype, 1)
    weight, bias = normal(64, dtype, 2), normal(64, dtype, 3)
    wanted = [dtype, F32, F32, dtype]
    y, mean, rstd, total = run("SkipLayerNormalization", [x, residual, weight, bias], wanted)
    eps = float(np.float32(1e-12))
    correct = layernorm.layer_norm(total, weight=weight, bias=bias, eps=eps, return_stats=True)
    assert same_bits(y, correct[0])
    assert same_bits(mean, correct[1].astype(F32)[..., None])
    assert same_bits(rstd, correct[2].astype(F32)[..., None])
    wanted = [dtype, None, F32, dtype]
    _, rstd, total = run("SkipSimplifiedLayerNormalization", [x, residual, weight], wanted)
    _, correct = layernorm.rms_norm(total, weight=weight, eps=eps, return_stats=True)
    assert same_bits(rstd, correct.astype(F32)[..., None])


@pytest.mark.parametrize("x_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("y_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("operator", ["LayerNormalization", "RMSNormalization"])
def test_two_dtypes(x_dtype, y_dtype, operator):
    """scale, B and Y may have another dtype than X."""
    x, weight = normal((6, 64), x_dtype), normal(64, y_dtype, 1)
    (y,) = run(operator, [x, weight], [y_dtype])
    norm = layernorm.layer_norm if operator == "LayerNormalization" else layernorm.rms_norm
    wide = np.float64 if x_dtype == np.float64 else np.float32
    correct = norm(x.astype(wide), weight=weight.astype(wide))
    close([y], [correct], max((x_dtype, y_dtype), key=TOLERANCE.get))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("axis", "weight_shape", "bias_shape"),
    [
        (-1, (1,), (1,)),
        (-1, (), (7,)),
        (1, (7,), (5, 1)),
        (1, (1, 1, 7), (2, 5, 7)),
        (2, (1, 1, 5, 7), (1, 7)),
        (-1, (3, 1, 1, 7), (7,)),
        (-1, (7,), (2, 5, 1)),
        (2, (3, 2, 5, 7), (2, 1, 7)),
        (0, (2, 1, 1), (7,)),
    ],
)
def test_broadcast(dtype, axis, weight_shape, bias_shape):
    x = normal((3, 2, 5, 7), dtype)
    inputs = [x, normal(weight_shape, dtype, 1), normal(bias_shape, dtype, 2)]
    results = run("LayerNormalization", inputs, [dtype], axis=axis)
    close(results, own("LayerNormalization", inputs, [dtype], "", axis=axis), dtype)


@pytest.mark.parametrize("shape", [(0, 4), (2, 0, 4), (2, 3, 0)])
def test_empty(shape):
    x, weight = np.zeros(shape, F32), np.ones(shape[-1], F32)
    y, mean, rstd = run("LayerNormalization", [x, weight], [F32, F32, F32])
    assert y.shape == shape
    assert mean.shape == rstd.shape == (*shape[:-1], 1)
    assert np.isnan(mean).all()
    assert np.isnan(rstd).all()


def test_shapes_are_known_where_the_model_is_loaded():
    norm = helper.make_node(
        "LayerNormalization", ["x", "w"], ["y", "mean", "rstd"], domain="liblayernorm", axis=1
    )
    skip = helper.make_node(
        "SkipLayerNormalization", ["y", "x", "v"], ["z", "", "", "sum"], domain="liblayernorm"
    )
    names = ["y", "mean", "rstd", "z", "sum"]
    inputs = {"x": (F32, ["batch", "tokens", 8]), "w": (F32, ["tokens", 8]), "v": (F32, [8])}
    outputs = session(make_model([norm, skip], inputs, dict.fromkeys(names))).get_outputs()
    full = ["batch", "tokens", 8]
    assert [output.shape for output in outputs] == [
        full,
        ["batch", 1, 1],
        ["batch", 1, 1],
        full,
        full,
    ]
    assert {output.type for output in outputs} == {"tensor(float)"}


@pytest.mark.parametrize("rows", [4, 2048])
def test_in_the_middle_of_a_model(rows):
    """Where ONNX Runtime may have y written over x."""
    x, weight = normal((rows, 768), F32), normal(768, F32, 1)
    chain = [
        helper.make_node("Neg", ["x"], ["a"]),
        helper.make_node("LayerNormalization", ["a", "w"], ["b"], domain="liblayernorm"),
        helper.make_node("RMSNormalization", ["b", "w"], ["c"], domain="liblayernorm"),
        helper.make_node("Neg", ["c"], ["y"]),
    ]
    model = make_model(chain, {"x": (F32, x.shape), "w": (F32, weight.shape)}, {"y": F32})
    (y,) = session(model, threads=2).run(None, {"x": x, "w": weight})
    correct = layernorm.rms_norm(layernorm.layer_norm(-x, weight=weight), weight=weight)
    assert same_bits(y, -correct)
