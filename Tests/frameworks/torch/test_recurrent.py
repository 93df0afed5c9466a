"""layernorm.torch.recurrent: results and gradients, against PyTorch's own operators."""

import composition
import layernorm
import pytest
import torch
from layernorm._recurrent import OWN
from layernorm.torch import _recurrent, recurrent
from torch.autograd import forward_ad
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

KINDS = [recurrent.RNN, recurrent.LSTM, recurrent.GRU]
CELLS = [recurrent.RNNCell, recurrent.LSTMCell, recurrent.GRUCell]
TIME, BATCH, INPUT, HIDDEN = 5, 3, 4, 6
MASK = torch.arange(TIME)[:, None] < torch.tensor([5, 2, 4])
# Of the largest value of a result.
TOLERANCE = {torch.float32: 5e-5, torch.float64: 1e-13}
kinds = pytest.mark.parametrize("kind", KINDS)


def randomized(module):
    """`module` with random norms."""
    with torch.no_grad():
        for name, param in module.named_parameters():
            if name.startswith("norm"):
                param.add_(torch.randn_like(param), alpha=0.5)
    return module


def states(kind, *shape, dtype=torch.float64):
    """h_0, and c_0 where there is one, with gradients."""
    count = 2 if "LSTM" in kind.__name__ else 1
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(count)]


def paired(given):
    return tuple(given) if len(given) == 2 else given[0]


def flat(output, hx):
    return [output, *hx] if isinstance(hx, tuple) else [output, hx]


def assert_same_bits(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 2, "bidirectional": True},
        {"per_gate": True, "eps": 1e-2},
        {"bias": False, "batch_first": True},
        {"elementwise_affine": False},
    ],
)
@kinds
def test_composition_of_operators(kind, options, mask, dtype):
    module = randomized(kind(INPUT, HIDDEN, dtype=dtype, **{"eps": 1e-3} | options))
    count = module.num_layers * (1 + module.bidirectional)
    x = torch.randn(TIME, BATCH, INPUT, dtype=dtype, requires_grad=True)
    hx = states(kind, count, BATCH, HIDDEN, dtype=dtype)
    if module.batch_first:
        own_mask = None if mask is None else mask.t()
        y, last = module(x.transpose(0, 1), paired(hx), mask=own_mask)
        y = y.transpose(0, 1)
    else:
        y, last = module(x, paired(hx), mask=mask)
    results = flat(y, last)
    upstream = [torch.randn_like(each) for each in results]
    gradients = torch.autograd.grad(results, [x, *hx, *module.parameters()], upstream)

    module.double()
    x, *hx = (each.detach().double().requires_grad_() for each in (x, *hx))
    found = composition.network(module, x, *hx, *[None] * (2 - len(hx)), mask)
    expected = [each for each in found if each is not None]
    upstream = [each.double() for each in upstream]
    exact = torch.autograd.grad(expected, [x, *hx, *module.parameters()], upstream)
    for actual, wanted in zip([*results, *gradients], [*expected, *exact], strict=True):
        error = (actual - wanted).abs().max()
        assert error <= TOLERANCE[dtype] * max(1, wanted.abs().max())


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"per_gate": True},
        {"num_layers": 2, "bidirectional": True},
        {"bias": False},
        {"elementwise_affine": False},
    ],
)
@kinds
def test_gradcheck(kind, options, mask):
    module = randomized(kind(2, 3, dtype=torch.float64, **options))
    count = module.num_layers * (1 + module.bidirectional)
    x = torch.randn(TIME, BATCH, 2, dtype=torch.float64, requires_grad=True)
    hx = states(kind, count, BATCH, 3)

    def call(x, *others):
        return tuple(flat(*module(x, paired(others[: len(hx)]), mask=mask)))

    assert torch.autograd.gradcheck(call, (x, *hx, *module.parameters()))


def test_gradcheck_relu():
    module = recurrent.RNN(2, 3, 1, "relu", dtype=torch.float64)
    x = torch.randn(TIME, BATCH, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, *_: module(x)[0] + module(x)[1].sum(), (x, *module.parameters())
    )


@pytest.mark.parametrize("kind", CELLS)
def test_cells(kind):
    module = randomized(kind(INPUT, HIDDEN, dtype=torch.float64))
    x = torch.randn(BATCH, INPUT, dtype=torch.float64, requires_grad=True)
    hx = states(kind, BATCH, HIDDEN)
    found = module(x, paired(hx))
    own = list(found) if len(hx) == 2 else [found]
    c0 = hx[1] if len(hx) == 2 else None
    _, *expected = composition.layer(module, x[None], hx[0], c0)
    torch.testing.assert_close(own, expected[: len(own)])
    alone = module(x[1], paired([each[1] for each in hx]))
    torch.testing.assert_close(alone[0] if len(hx) == 2 else alone, own[0][1])
    zeros = module(x, paired([torch.zeros_like(each) for each in hx]))
    torch.testing.assert_close(module(x), zeros)

    def call(x, *others):
        return module(x, paired(others[: len(hx)]))

    assert torch.autograd.gradcheck(call, (x, *hx, *module.parameters()))


@kinds
def test_gradients_of_any_strides(kind):
    module = kind(INPUT, HIDDEN)
    x = torch.randn(INPUT, BATCH, TIME, requires_grad=True)
    results = flat(*module(x.permute(2, 1, 0)))
    upstream = [torch.randn(each.shape[::-1]).permute(2, 1, 0) for each in results]
    assert not any(each.is_contiguous() for each in upstream)
    inputs = [x, *module.parameters()]
    found = torch.autograd.grad(results, inputs, upstream, retain_graph=True)
    upstream = [each.contiguous() for each in upstream]
    torch.testing.assert_close(found, torch.autograd.grad(results, inputs, upstream))


@kinds
def test_results_may_be_changed_in_place(kind):
    module = kind(INPUT, HIDDEN)
    x = torch.randn(TIME, BATCH, INPUT)
    inputs = list(module.parameters())
    expected = torch.autograd.grad([each.relu().sum() for each in flat(*module(x))], inputs)
    found = torch.autograd.grad([each.relu_().sum() for each in flat(*module(x))], inputs)
    assert_same_bits(found, expected)
    with torch.no_grad():
        y, *last = flat(*module(x))
        expected = [each.clone() for each in last]
        y.zero_()
        assert_same_bits(last, expected)


@kinds
def test_gradients_that_are_not_wanted(kind):
    module = kind(INPUT, HIDDEN)
    module.weight_hh_l0.requires_grad_(False)
    x = torch.randn(TIME, BATCH, INPUT)
    y, last = module(x)
    y.sum().backward()
    assert module.weight_hh_l0.grad is None
    assert x.grad is None
    expected = module.weight_ih_l0.grad.clone()
    module.zero_grad()
    module.weight_hh_l0.requires_grad_(True)
    module(x)[0].sum().backward()
    assert torch.equal(module.weight_ih_l0.grad, expected)
    assert module.weight_hh_l0.grad.any()
    # The last state alone.
    y, last = module(x)
    module.zero_grad()
    flat(y, last)[-1].sum().backward()
    assert all(param.grad is not None for param in module.parameters())
    with torch.no_grad():
        assert_same_bits(flat(*module(x)), flat(y, last))


@kinds
def test_gradients_are_not_differentiated_again(kind):
    module = kind(INPUT, HIDDEN)
    x = torch.randn(TIME, BATCH, INPUT, requires_grad=True)
    (dx,) = torch.autograd.grad(module(x)[0].sum(), x, create_graph=True)
    (expected,) = torch.autograd.grad(module(x)[0].sum(), x)
    assert torch.equal(dx, expected)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        (module(x)[0].sum() + dx.square().sum()).backward()


@kinds
def test_forward_mode_is_refused(kind):
    module = kind(INPUT, HIDDEN)
    with forward_ad.dual_level(), torch.no_grad():
        x = forward_ad.make_dual(*(torch.randn(TIME, BATCH, INPUT) for _ in range(2)))
        with pytest.raises(RuntimeError, match="jvp"):
            module(x)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("enforce_sorted", [False, True])
@kinds
def test_packed_sequences(kind, enforce_sorted, batch_first):
    module = randomized(
        kind(INPUT, HIDDEN, 2, bidirectional=True, batch_first=batch_first, dtype=torch.float64)
    )
    lengths = (5, 4, 2) if enforce_sorted else (2, 5, 4)
    sequences = [torch.randn(length, INPUT, dtype=torch.float64) for length in lengths]
    hx = states(kind, 4, 3, HIDDEN)
    packed = pack_sequence(sequences, enforce_sorted)
    output, last = module(packed, paired(hx))
    for before, after in zip(packed, output, strict=True):
        assert (before is None) == (after is None)
    padded, found = pad_packed_sequence(output, batch_first)
    assert tuple(found) == lengths
    for index, sequence in enumerate(sequences):
        y, alone = module(
            sequence[None] if batch_first else sequence[:, None],
            paired([each[:, index : index + 1] for each in hx]),
        )
        both = padded[index, : len(sequence)] if batch_first else padded[: len(sequence), index]
        torch.testing.assert_close(both, y.squeeze(0 if batch_first else 1))
        for a, b in zip(flat(output, last)[1:], flat(y, alone)[1:], strict=True):
            torch.testing.assert_close(a[:, index : index + 1], b)


@kinds
def test_padding_changes_no_bit(kind):
    module = randomized(kind(INPUT, HIDDEN, bidirectional=True))
    # Products that have no rounding errors do not depend on how many rows there are.
    with torch.no_grad():
        for param in module.weight_ih_l0, module.weight_ih_l0_reverse:
            param.copy_(torch.round(8 * param) / 8)
    x = torch.round(4 * torch.randn(TIME, BATCH, INPUT)) / 4
    padded = torch.cat([x, torch.full((2, BATCH, INPUT), torch.nan)])
    mask = (torch.arange(TIME + 2) < TIME)[:, None].expand(TIME + 2, BATCH)
    y, last = module(x)
    padded_y, padded_last = module(padded, mask=mask)
    assert not padded_y[TIME:].any()
    assert_same_bits(flat(padded_y[:TIME], padded_last), flat(y, last))
    module.zero_grad()
    padded_y.square().sum().backward()
    assert all(param.grad.isfinite().all() for param in module.parameters())


@kinds
def test_threads_change_no_bit(kind, monkeypatch):
    module = randomized(kind(16, 256))
    x = torch.randn(3, 256, 16)

    def run(threads):
        layernorm.set_num_threads(threads)
        y, last = module(x)
        gradients = torch.autograd.grad(y.sum(), module.parameters())
        layernorm.set_num_threads(0)
        return [*flat(y, last), *gradients]

    expected = run(1)
    assert_same_bits(run(2), expected)
    # On the library's own threads, as without the adapter.
    monkeypatch.setattr(_recurrent._Arrays, "calls", OWN)
    assert_same_bits(run(2), expected)


@kinds
def test_torch_compile(kind):
    module = kind(INPUT, HIDDEN)
    x = torch.randn(TIME, BATCH, INPUT)
    compiled = torch.compile(lambda x: torch.relu(module(x)[0]) + 1, backend="aot_eager")
    assert torch.equal(compiled(x), torch.relu(module(x)[0]) + 1)


@kinds
def test_autocast(kind):
    module = kind(INPUT, HIDDEN)
    x = torch.randn(TIME, BATCH, INPUT).bfloat16()
    expected = module(x.float())[0]
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = module(x)
    assert torch.equal(y, expected)
    y.sum().backward()
