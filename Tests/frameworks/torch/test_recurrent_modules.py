"""The modules of layernorm.torch.recurrent in the places of torch.nn's, and what they refuse."""

import copy
import io

import pytest
import torch
from layernorm.torch import recurrent
from torch import nn

PAIRS = [
    (nn.RNN, recurrent.RNN),
    (nn.LSTM, recurrent.LSTM),
    (nn.GRU, recurrent.GRU),
]
CELL_PAIRS = [
    (nn.RNNCell, recurrent.RNNCell),
    (nn.LSTMCell, recurrent.LSTMCell),
    (nn.GRUCell, recurrent.GRUCell),
]
KINDS = [own for _, own in PAIRS]
TIME, BATCH, INPUT, HIDDEN = 5, 3, 4, 6


def shapes(result):
    return [shapes(each) for each in result] if isinstance(result, tuple) else result.shape


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("theirs", "own"), PAIRS)
def test_in_the_place_of_torch_nn(theirs, own, batch_first, bidirectional):
    arguments = {"batch_first": batch_first, "bidirectional": bidirectional, "dropout": 0.5}
    modules = [kind(INPUT, HIDDEN, 2, **arguments) for kind in (theirs, own)]
    assert repr(modules[1]) == repr(modules[0])
    params = [dict(module.named_parameters()) for module in modules]
    weights = {name for name in params[0] if name.startswith("weight")}
    assert weights == {name for name in params[1] if not name.startswith("norm")}
    assert all(params[1][name].shape == params[0][name].shape for name in weights)
    inputs = torch.randn(BATCH, TIME, INPUT), torch.randn(TIME, INPUT)
    for input in inputs if batch_first else (inputs[0].transpose(0, 1), inputs[1]):
        expected, result = (module(input) for module in modules)
        assert shapes(result) == shapes(expected)
        again = modules[1](input, expected[1])
        assert shapes(again) == shapes(expected)
    modules[1].flatten_parameters()


@pytest.mark.parametrize(("theirs", "own"), CELL_PAIRS)
def test_cells_in_the_place_of_torch_nn(theirs, own):
    modules = [kind(INPUT, HIDDEN) for kind in (theirs, own)]
    assert repr(modules[1]) == repr(modules[0])
    for input in torch.randn(BATCH, INPUT), torch.randn(INPUT):
        expected, result = (module(input) for module in modules)
        assert shapes(result) == shapes(expected)
        assert shapes(modules[1](input, expected)) == shapes(expected)


def test_repr():
    options = {"bias": False, "per_gate": True, "eps": 1e-3, "elementwise_affine": False}
    module = recurrent.RNN(4, 6, 2, "relu", **options)
    text = "bias=False, elementwise_affine=False, per_gate=True, eps=0.001, nonlinearity=relu"
    assert repr(module) == f"RNN(4, 6, num_layers=2, {text})"


@pytest.mark.parametrize("kind", KINDS)
def test_state_dict(kind):
    module = kind(INPUT, HIDDEN, 2, bidirectional=True)
    with torch.no_grad():
        for param in module.parameters():
            param.copy_(torch.randn_like(param))
    x = torch.randn(TIME, BATCH, INPUT)
    expected, _ = module(x)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = kind(INPUT, HIDDEN, 2, bidirectional=True)
    assert not torch.equal(other(x)[0], expected)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(x)[0], expected)

    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    for copied in torch.load(file, weights_only=False), copy.deepcopy(module):
        assert type(copied) is kind
        assert torch.equal(copied(x)[0], expected)


def test_norms_begin_as_ones_and_zeros():
    module = recurrent.LSTM(INPUT, 100)
    for name, param in module.named_parameters():
        if name.startswith("norm"):
            assert (param == ("_weight" in name)).all()
        else:
            assert 0.09 < param.abs().max() <= 0.1


def test_dropout_between_layers():
    module = recurrent.GRU(INPUT, HIDDEN, 2, dropout=1.0)
    x = torch.randn(TIME, BATCH, INPUT)
    # Nothing of the first layer arrives, so the batch entries are alike, and its own state is not.
    y, h = module(x)
    assert torch.equal(y[:, 0], y[:, 1])
    assert not torch.equal(h[0, 0], h[0, 1])
    module.eval()
    y, _ = module(x)
    assert not torch.equal(y[:, 0], y[:, 1])


def test_moved_to_another_dtype():
    module = recurrent.LSTM(INPUT, HIDDEN)
    x = torch.randn(TIME, BATCH, INPUT)
    y, _ = module(x)
    torch.testing.assert_close(module.double()(x.double())[0].float(), y)


X = torch.randn(TIME, BATCH, INPUT)
H = torch.zeros(1, BATCH, HIDDEN)


@pytest.mark.parametrize(
    ("error", "name", "call"),
    [
        (TypeError, "input", lambda lstm: lstm(X.double())),
        (TypeError, "input", lambda lstm: lstm(X.numpy())),
        (ValueError, "input", lambda lstm: lstm(X.to("meta"))),
        (ValueError, "input", lambda lstm: lstm(X[0, 0])),
        (ValueError, "input", lambda lstm: lstm(X[:0])),
        (ValueError, "input", lambda lstm: lstm(X[..., :3])),
        (TypeError, "hx", lambda lstm: lstm(X, H)),
        (ValueError, "h_0", lambda lstm: lstm(X, (H[0], H))),
        (TypeError, "c_0", lambda lstm: lstm(X, (H, H.bfloat16()))),
        (TypeError, "c_0", lambda lstm: lstm(X, (H, None))),
        (ValueError, "hx", lambda lstm: recurrent.GRU(INPUT, HIDDEN)(X, H[..., 1:])),
        (TypeError, "mask", lambda lstm: lstm(X, mask=torch.ones(TIME, BATCH))),
        (ValueError, "mask", lambda lstm: lstm(X, mask=torch.ones(BATCH, TIME) > 0)),
        (TypeError, "the weights", lambda lstm: lstm.half()(X.half())),
        (
            TypeError,
            "norm_c_bias_l0",
            lambda lstm: with_parameter(lstm, torch.zeros(6).double())(X),
        ),
        (ValueError, "norm_c_bias_l0", lambda lstm: with_parameter(lstm, torch.zeros(5))(X)),
        (ValueError, "eps", lambda lstm: recurrent.LSTM(INPUT, HIDDEN, eps=-1.0)(X)),
        (ValueError, "input_size", lambda lstm: recurrent.LSTM(0, HIDDEN)),
        (ValueError, "hidden_size", lambda lstm: recurrent.LSTM(INPUT, 0)),
        (ValueError, "num_layers", lambda lstm: recurrent.LSTM(INPUT, HIDDEN, 0)),
        (ValueError, "dropout", lambda lstm: recurrent.LSTM(INPUT, HIDDEN, dropout=2)),
        (ValueError, "nonlinearity", lambda lstm: recurrent.RNN(INPUT, HIDDEN, 1, "gelu")),
        (ValueError, "nonlinearity", lambda lstm: recurrent.RNNCell(INPUT, HIDDEN, True, "gelu")),
        (ValueError, "input", lambda lstm: recurrent.LSTMCell(INPUT, HIDDEN)(X)),
        (TypeError, "input", lambda lstm: recurrent.GRUCell(INPUT, HIDDEN)(X[0].double())),
        (ValueError, "hx", lambda lstm: recurrent.GRUCell(INPUT, HIDDEN)(X[0], H)),
    ],
)
def test_errors(error, name, call):
    with pytest.raises(error, match=rf"^{name}\b"):
        call(recurrent.LSTM(INPUT, HIDDEN))


def with_parameter(lstm, value):
    lstm.norm_c_bias_l0 = nn.Parameter(value)
    return lstm


def test_mask_with_a_packed_sequence():
    packed = nn.utils.rnn.pack_sequence([X[:, 0], X[:3, 1]])
    with pytest.raises(ValueError, match=r"^mask must be None"):
        recurrent.LSTM(INPUT, HIDDEN)(packed, mask=torch.ones(TIME, 2) > 0)
