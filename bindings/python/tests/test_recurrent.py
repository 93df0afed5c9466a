"""layernorm.recurrent against the formulas."""

import re
from pathlib import Path

import layernorm
import numpy as np
import pytest
import recurrent_reference as reference
from layernorm import recurrent
from reference import same_bits

PAGE = Path(__file__).resolve().parents[3] / "docs" / "recurrent.md"
CELLS = ["tanh", "relu", "lstm", "gru"]
TIME, BATCH, INPUT, HIDDEN = 4, 3, 3, 5
EPS = 1e-3
MASK = np.arange(TIME)[:, None] < [4, 1, 3]
MASK[0, 2] = False
# Of the largest value of a result.
TOLERANCE = {np.float32: 5e-6, np.float64: 1e-14}


def make(cell, *args, **options):
    if cell in ("tanh", "relu"):
        return recurrent.RNN(*args, cell, **options)
    return {"lstm": recurrent.LSTM, "gru": recurrent.GRU}[cell](*args, **options)


def randomized(layer, seed=0):
    """`layer` with random norms: of the values of float32, whatever its dtype."""
    rng = np.random.default_rng(seed)
    for name, value in layer.params.items():
        center = 1 if name.endswith("weight") and name.startswith("norm") else 0
        values = rng.normal(center, 0.5, value.shape).astype(np.float32)
        layer.params[name] = values.astype(layer.dtype)
    return layer


def normal(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32).astype(dtype)


def pair(cell, h, c):
    return (h, c) if cell == "lstm" else h


def unpaired(cell, state):
    return list(state) if cell == "lstm" else [state]


def assert_close(actual, exact, dtype):
    assert actual.dtype == dtype
    assert actual.shape == exact.shape
    error = np.abs(actual - exact).max()
    assert error <= TOLERANCE[dtype] * max(1, np.abs(exact).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
@pytest.mark.parametrize(
    "options",
    [{}, {"per_gate": True}, {"bias": False}, {"elementwise_affine": False}],
    ids=["default", "per_gate", "no bias", "simple"],
)
@pytest.mark.parametrize("cell", CELLS)
def test_results_and_gradients(cell, options, mask, reverse, dtype):
    layer = randomized(make(cell, INPUT, HIDDEN, eps=EPS, reverse=reverse, dtype=dtype, **options))
    x = normal(TIME, BATCH, INPUT, seed=1, dtype=dtype)
    h0, c0, dh, dc = (normal(BATCH, HIDDEN, seed=seed, dtype=dtype) for seed in range(2, 6))
    dy = normal(TIME, BATCH, HIDDEN, seed=6, dtype=dtype)
    if cell != "lstm":
        c0, dc = np.zeros_like(c0), np.zeros_like(dc)

    y, state, saved = layer.forward(x, pair(cell, h0, c0), mask=mask)
    dx, dstate, dparams = layer.backward(saved, dy, pair(cell, dh, dc))

    values = {"x": x, "h0": h0, "c0": c0, **layer.params}
    eps = EPS if dtype == np.float64 else np.float32(EPS)
    results, gradients = reference.results_and_gradients(
        cell, values, (dy, dh, dc), eps, options.get("per_gate", False), reverse, mask
    )
    for actual, exact in zip([y, *unpaired(cell, state)], results):
        assert_close(actual, exact, dtype)
    assert dparams.keys() == layer.params.keys()
    found = dict(zip(("h0", "c0"), unpaired(cell, dstate))) | {"x": dx} | dparams
    for name, actual in found.items():
        assert_close(actual, gradients[name], dtype)

    # Without what backward() needs, and without a gradient of the state.
    again, last = layer(x, pair(cell, h0, c0), mask=mask)
    assert same_bits(again, y)
    for actual, expected in zip(unpaired(cell, last), unpaired(cell, state)):
        assert same_bits(actual, expected)


@pytest.mark.parametrize("cell", CELLS)
def test_what_is_left_out_is_zeros(cell):
    layer = randomized(make(cell, INPUT, HIDDEN))
    x = normal(TIME, BATCH, INPUT, dtype=np.float32)
    zeros, zeros_y = np.zeros((BATCH, HIDDEN), np.float32), np.zeros((4, 3, 5), np.float32)
    y, state, saved = layer.forward(x)
    for given in pair(cell, zeros, zeros), pair(cell, zeros, None):
        assert same_bits(layer(x, given)[0], y)
    explicit = layer.backward(saved, y, pair(cell, zeros, zeros))
    implicit = layer.backward(saved, y)
    for name, value in explicit.params.items():
        assert same_bits(implicit.params[name], value)
    of_state = layer.backward(saved, None, state)
    for name, value in layer.backward(saved, zeros_y, state).params.items():
        assert same_bits(of_state.params[name], value)
    assert not any(value.any() for value in layer.backward(saved).params.values())


def exact_products(layer, x):
    """x and `layer` with values whose products with weight_ih have no rounding errors, so that they
    do not depend on how many rows NumPy's BLAS is given."""
    layer.params["weight_ih"] = np.round(8 * layer.params["weight_ih"]) / 8
    return np.round(4 * x) / 4


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_padding_changes_no_bit(cell, reverse):
    layer = randomized(make(cell, INPUT, HIDDEN, reverse=reverse))
    short = exact_products(layer, normal(TIME, BATCH, INPUT, dtype=np.float32))
    padded = np.full((TIME + 3, BATCH, INPUT), np.nan, np.float32)
    padded[:TIME] = short
    mask = np.broadcast_to(np.arange(TIME + 3)[:, None] < TIME, (TIME + 3, BATCH))
    y, state, saved = layer.forward(short)
    padded_y, padded_state, padded_saved = layer.forward(padded, mask=mask)
    assert same_bits(padded_y[:TIME], y)
    assert not padded_y[TIME:].any()
    for actual, expected in zip(unpaired(cell, padded_state), unpaired(cell, state)):
        assert same_bits(actual, expected)

    dy = normal(TIME, BATCH, HIDDEN, seed=1, dtype=np.float32)
    padded_dy = np.full((TIME + 3, BATCH, HIDDEN), np.nan, np.float32)
    padded_dy[:TIME] = dy
    found, expected = layer.backward(padded_saved, padded_dy), layer.backward(saved, dy)
    assert not found.x[TIME:].any()
    # Their products have rounding errors.
    np.testing.assert_allclose(found.x[:TIME], expected.x, 1e-5, 1e-6)
    for name, value in expected.params.items():
        np.testing.assert_allclose(found.params[name], value, 1e-5, 1e-5)
        if name.startswith("norm"):
            assert same_bits(found.params[name], value)


@pytest.mark.parametrize("per_gate", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_threads_change_no_bit(cell, per_gate):
    layer = randomized(make(cell, 16, 256, per_gate=per_gate, rng=np.random.default_rng(0)))
    x = normal(3, 256, 16, dtype=np.float32)
    runs = []
    for threads in 1, 2, 3:
        layernorm.set_num_threads(threads)
        y, _, saved = layer.forward(x)
        gradients = layer.backward(saved, y)
        runs.append([y, gradients.x, *gradients.params.values()])
    for others in runs[1:]:
        assert all(map(same_bits, others, runs[0]))


def test_any_strides():
    layer = randomized(make("lstm", INPUT, HIDDEN))
    x, dy = normal(TIME, BATCH, INPUT, dtype=np.float32), np.ones((4, 3, 5), np.float32)
    y, _, saved = layer.forward(x)
    dx = layer.backward(saved, dy).x
    for name, value in layer.params.items():
        layer.params[name] = (
            np.asfortranarray(value) if value.ndim == 2 else np.repeat(value, 2)[::2]
        )
    mask = np.ones((BATCH, TIME), bool).T
    again, _, saved = layer.forward(np.asfortranarray(x), mask=mask)
    np.testing.assert_allclose(again, y, 1e-5, 1e-6)
    found = layer.backward(saved, np.broadcast_to(np.float32(1), (4, 3, 5))).x
    np.testing.assert_allclose(found, dx, 1e-5, 1e-6)


def test_empty_batch():
    layer = make("gru", INPUT, HIDDEN)
    y, h, saved = layer.forward(np.zeros((TIME, 0, INPUT), np.float32))
    assert y.shape == (TIME, 0, HIDDEN)
    assert h.shape == (0, HIDDEN)
    assert not any(value.any() for value in layer.backward(saved, y).params.values())


def test_first_values():
    layer = make("lstm", INPUT, 100, rng=np.random.default_rng(0))
    same = make("lstm", INPUT, 100, rng=np.random.default_rng(0))
    for name, value in layer.params.items():
        assert same_bits(value, same.params[name])
        if name.startswith("norm"):
            assert (value == name.endswith("weight")).all()
        else:
            assert 0.09 < np.abs(value).max() <= 0.1


X = np.zeros((TIME, BATCH, INPUT), np.float32)
H = np.zeros((BATCH, HIDDEN), np.float32)


@pytest.mark.parametrize(
    ("error", "name", "call"),
    [
        (TypeError, "x", lambda lstm: lstm(X.astype(np.float64))),
        (TypeError, "x", lambda lstm: lstm("text")),
        (ValueError, "x", lambda lstm: lstm(X[0])),
        (ValueError, "x", lambda lstm: lstm(X[:0])),
        (ValueError, "x", lambda lstm: lstm(X[..., :2])),
        (TypeError, "state", lambda lstm: lstm(X, H)),
        (ValueError, "h", lambda lstm: lstm(X, (H[0], H))),
        (TypeError, "c", lambda lstm: lstm(X, (H, H.astype(np.float16)))),
        (TypeError, "mask", lambda lstm: lstm(X, mask=np.ones((TIME, BATCH)))),
        (ValueError, "mask", lambda lstm: lstm(X, mask=np.ones(TIME, bool))),
        (ValueError, "dy", lambda lstm: lstm.backward(lstm.forward(X)[2], X)),
        (TypeError, "dstate", lambda lstm: lstm.backward(lstm.forward(X)[2], None, H)),
        (ValueError, "dc", lambda lstm: lstm.backward(lstm.forward(X)[2], None, (H, H[0]))),
        (TypeError, "saved", lambda lstm: lstm.backward(None)),
        (TypeError, "saved", lambda lstm: lstm.backward(make("gru", 3, 5).forward(X)[2])),
        (ValueError, "input_size", lambda lstm: recurrent.LSTM(0, 5)),
        (ValueError, "hidden_size", lambda lstm: recurrent.GRU(3, -1)),
        (TypeError, "dtype", lambda lstm: recurrent.GRU(3, 5, dtype=np.float16)),
        (TypeError, "eps", lambda lstm: recurrent.GRU(3, 5, eps="small")),
        (ValueError, "eps", lambda lstm: recurrent.LSTM(3, 5, eps=-1.0)(X)),
        (ValueError, "nonlinearity", lambda lstm: recurrent.RNN(3, 5, "sigmoid")),
    ],
)
def test_errors(error, name, call):
    with pytest.raises(error, match=rf"^{name}\b"):
        call(make("lstm", INPUT, HIDDEN))


def test_errors_of_params():
    layer = make("lstm", INPUT, HIDDEN)
    layer.params["norm_c_bias"] = np.zeros(4, np.float32)
    with pytest.raises(ValueError, match=r"^norm_c_bias has shape \(4,\); it must be \(5,\)"):
        layer(X)
    layer.params["norm_c_bias"] = np.zeros(5)
    with pytest.raises(TypeError, match=r"^norm_c_bias has dtype float64"):
        layer(X)
    del layer.params["norm_c_bias"]
    with pytest.raises(ValueError, match=r"^params "):
        layer(X)


def test_program_in_the_docs(capsys):
    programs = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (program,) = (each for each in programs if "import layernorm.recurrent\n" in each)
    exec(compile(program, PAGE, "exec"), {})
    assert capsys.readouterr().out == "(20, 4, 32) (4, 32) (4, 32) (20, 4, 16)\n"
