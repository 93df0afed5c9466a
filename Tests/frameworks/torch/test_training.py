"""A Transformer learns the same with and without liblayernorm, in eager mode and compiled."""

import copy

import layernorm.torch
import pytest
import torch
from models import Transformer, train
from torch import nn


def assert_same_curve(losses: torch.Tensor, expected: torch.Tensor) -> None:
    assert expected[-1] < expected[0] / 4  # it has learnt something
    # Steps of training carry the noise of float32 on, and make it larger.
    torch.testing.assert_close(losses, expected, rtol=2e-3, atol=1e-4)
    torch.testing.assert_close(losses[:5], expected[:5], rtol=1e-5, atol=1e-6)


@pytest.fixture(params=[nn.LayerNorm, nn.RMSNorm], ids=lambda norm: norm.__name__)
def model(request):
    return Transformer(request.param)


def test_install(model):
    expected = train(copy.deepcopy(model))
    with layernorm.torch.installed():
        losses = train(model)
    assert_same_curve(losses, expected)
    assert not torch.equal(losses, expected)  # it was another kernel


def test_replace(model):
    expected = train(copy.deepcopy(model))
    assert_same_curve(train(layernorm.torch.replace(model)), expected)


def test_compiled_with_install(model):
    expected = train(copy.deepcopy(model))
    with layernorm.torch.installed():
        losses = train(model, torch.compile(model, fullgraph=True))
    assert_same_curve(losses, expected)


def test_compiled_with_replace(model):
    expected = train(copy.deepcopy(model))
    layernorm.torch.replace(model)
    assert_same_curve(train(model, torch.compile(model, fullgraph=True)), expected)
