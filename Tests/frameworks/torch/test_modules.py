"""The modules and replace()."""

import io

import layernorm.torch as ours
import pytest
import torch
from torch import nn

PAIRS = [(nn.LayerNorm, ours.LayerNorm), (nn.RMSNorm, ours.RMSNorm)]
ARGUMENTS = [
    ((8,), {}),
    (((4, 8),), {"eps": 1e-3}),
    (([8],), {"elementwise_affine": False}),
    ((8, 1e-2, True), {"dtype": torch.float64}),
    ((8,), {"dtype": torch.bfloat16, "device": "cpu"}),
]


@pytest.mark.parametrize(("theirs", "own"), PAIRS)
@pytest.mark.parametrize(("args", "kwargs"), ARGUMENTS)
def test_same_as_torch_nn(theirs, own, args, kwargs):
    expected, module = theirs(*args, **kwargs), own(*args, **kwargs)
    assert repr(module) == repr(expected)
    assert list(module.state_dict()) == list(expected.state_dict())
    with torch.no_grad():
        for param in expected.parameters():
            param.copy_(torch.randn_like(param))
    module.load_state_dict(expected.state_dict())
    for name, value in expected.state_dict().items():
        assert torch.equal(module.state_dict()[name], value)
        assert module.state_dict()[name].dtype == value.dtype
    x = torch.randn(3, 4, 8).to(kwargs.get("dtype", torch.float32))
    torch.testing.assert_close(module(x), expected(x))
    expected.load_state_dict(module.state_dict())


def test_layer_norm_without_bias():
    expected, module = nn.LayerNorm(8, bias=False), ours.LayerNorm(8, bias=False)
    assert module.state_dict().keys() == expected.state_dict().keys() == {"weight"}
    x = torch.randn(3, 8)
    torch.testing.assert_close(module(x), expected(x))


def test_saved_and_loaded():
    module = ours.LayerNorm(8)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert type(loaded) is ours.LayerNorm
    assert repr(loaded) == repr(module)


class Scaled(nn.LayerNorm):
    def forward(self, input):
        return 2 * super().forward(input)


def model():
    shared = nn.LayerNorm(8)
    return nn.Sequential(
        nn.TransformerEncoderLayer(8, 2, batch_first=True, dropout=0),
        nn.ModuleDict({"norm": nn.RMSNorm(8)})["norm"],
        shared,
        nn.Sequential(shared, Scaled(8)),
    )


def test_replace():
    given = model()
    x = torch.randn(2, 5, 8)
    calls = []
    given[2].register_forward_hook(lambda *_: calls.append(1))
    expected, state, text = given(x), given.state_dict(), repr(given)
    params = list(given.parameters())
    assert ours.replace(given) is given
    kinds = [type(module) for module in given.modules()]
    assert [kinds.count(kind) for kind in (ours.LayerNorm, ours.RMSNorm, Scaled)] == [3, 1, 1]
    assert not {nn.LayerNorm, nn.RMSNorm} & set(kinds)
    assert given[2] is given[3][0]
    assert all(a is b for a, b in zip(params, given.parameters(), strict=True))
    assert repr(given) == text
    given.load_state_dict(state)
    torch.testing.assert_close(given(x), expected)
    assert len(calls) == 4  # twice in each call of the model
    assert type(ours.replace(nn.LayerNorm(3))) is ours.LayerNorm


def test_replaced_modules_use_liblayernorm():
    x = torch.randn(4, 64) * 1e30
    module = nn.LayerNorm(64)
    exact = nn.functional.layer_norm(x.double(), (64,)).float()
    assert not torch.allclose(module(x), exact)
    torch.testing.assert_close(ours.replace(module)(x), exact)


def test_replace_takes_modules_only():
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, not list"):
        ours.replace([nn.LayerNorm(3)])
