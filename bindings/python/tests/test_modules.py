"""The objects that hold weight, bias and eps: the same bits as the functions."""

import copy
import pickle

import numpy as np
import pytest
from layernorm import LayerNorm, RMSNorm, layer_norm, rms_norm
from reference import DTYPES, normal, same_bits
from test_dlpack import Exporter

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@dtypes
@pytest.mark.parametrize("param_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(10,), (6, 10)])
def test_layer_norm(dtype, param_dtype, shape):
    x = normal((4, 6, 10), dtype)
    params = [normal(shape, param_dtype, 1), normal(shape, param_dtype, 2)]
    for weight, bias in params, (params[0], None), (None, params[1]):
        norm = LayerNorm(weight, bias, 1e-3)
        expected = layer_norm(x, shape, weight, bias, 1e-3, return_stats=True)
        assert same_bits(norm(x), expected[0])
        for result, wanted in zip(norm(x, return_stats=True), expected):
            assert same_bits(result, wanted)
        out = np.empty_like(x)
        assert norm(x, out=out) is out
        assert same_bits(out, expected[0])


@dtypes
@pytest.mark.parametrize("weight_offset", [False, True])
def test_rms_norm(dtype, weight_offset):
    x, weight = normal((4, 6, 10), dtype), normal(10, dtype, 1)
    norm = RMSNorm(weight, 1e-3, weight_offset=weight_offset)
    expected = rms_norm(x, 10, weight, 1e-3, weight_offset=weight_offset, return_stats=True)
    results = norm(x, return_stats=True)
    assert len(results) == 2
    for result, wanted in zip(results, expected):
        assert same_bits(result, wanted)
    assert norm(x, out=x) is x
    assert same_bits(x, expected[0])


def test_without_parameters():
    x = normal((4, 6, 10), np.float32)
    assert same_bits(LayerNorm()(x), layer_norm(x))
    assert same_bits(LayerNorm()(x[0, 0, :7]), layer_norm(x[0, 0, :7]))
    assert same_bits(RMSNorm(eps=0.5)(x), rms_norm(x, eps=0.5))


@dtypes
def test_x_of_any_kind(dtype):
    x, weight = normal((4, 10), dtype), normal(20, dtype, 1)[::2]
    norm = LayerNorm(weight.tolist() if dtype == np.float64 else Exporter(weight))
    for kind in x, np.asfortranarray(x), x[::-1, :], x[2], Exporter(x):
        assert same_bits(norm(kind), layer_norm(kind, weight=weight))


def test_weight_is_held():
    x, weight = normal((4, 10), np.float32), normal(10, np.float32, 1)
    expected = layer_norm(x, weight=weight)
    norm = LayerNorm(weight.copy())
    assert same_bits(norm(x), expected)
    norm = LayerNorm(weight)
    weight[3] = 7  # contiguous: not copied
    assert same_bits(norm(x), layer_norm(x, weight=weight))
    assert not same_bits(norm(x), expected)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda norm: pickle.loads(pickle.dumps(norm))])
def test_copies_have_their_own_parameters(copied):
    x, weight, bias = (normal((10,), np.float32, seed) for seed in range(3))
    norms = LayerNorm(weight, bias, 0.5), RMSNorm(weight, weight_offset=True), LayerNorm()
    expected = [norm(x) for norm in norms]
    copies = [copied(norm) for norm in norms]
    weight[:] = bias[:] = np.nan
    for again, wanted in zip(copies, expected):
        assert same_bits(again(x), wanted)


@pytest.mark.parametrize("module", [LayerNorm, RMSNorm])
def test_errors(module):
    x, weight = normal((4, 10), np.float32), normal(9, np.float32)
    with pytest.raises(TypeError, match=r"^weight\b"):
        module("text")
    with pytest.raises(ValueError, match=r"^weight\b"):
        module(1.5)
    with pytest.raises(ValueError, match=r"^weight\b"):
        module(x, axis=1)
    with pytest.raises(ValueError, match=r"^normalized_shape is \(9,\)"):
        module(weight)(x)
    with pytest.raises(ValueError, match=r"^eps\b"):
        module(eps=-1.0)(x)
    with pytest.raises(ValueError, match=r"^out\b"):
        module()(x, out=x[::-1])
    with pytest.raises(ValueError, match=r"^bias\b"):
        LayerNorm(normal(10, np.float32), weight)
