"""The functions: values, gradients, and what PyTorch's own test tools say."""

import layernorm.torch as ours
import pytest
import torch
from conftest import DTYPES, HALVES, assert_close, gradients
from torch.nn import functional

SHAPES = [
    ((768,), 1),
    ((1, 768), 1),
    ((5, 7, 33), 1),
    ((4, 3, 8, 5), 2),
    ((64, 1024), 1),
    ((3, 1), 1),
]


def tensors(shape, normalized, dtype, param_dtype):
    x, residual, dy = (torch.randn(shape).to(dtype) for _ in range(3))
    weight, bias = (torch.randn(shape[-normalized:]).to(param_dtype) for _ in range(2))
    return x, residual, dy, weight, bias


PAIRS = [(dtype, dtype) for dtype in DTYPES] + [(dtype, torch.float32) for dtype in HALVES]


@pytest.mark.parametrize(("dtype", "param_dtype"), PAIRS)
@pytest.mark.parametrize(("shape", "normalized"), SHAPES)
def test_layer_norm(shape, normalized, dtype, param_dtype):
    x, _, dy, *params = tensors(shape, normalized, dtype, param_dtype)

    def norm(module):
        return lambda x, weight=None, bias=None: module.layer_norm(
            x, shape[-normalized:], weight, bias, 1e-3
        )

    y, found = gradients(norm(ours), [x, *params], dy)
    inputs = [each.double() for each in (x, *params)]
    exact, wanted = gradients(norm(functional), inputs, dy.double())
    assert_close(y, exact, dtype)
    for gradient, want, given in zip(found, wanted, (x, *params), strict=True):
        assert_close(gradient, want, given.dtype)
    with torch.no_grad():
        assert torch.equal(norm(ours)(x, *params), y)
    assert torch.equal(norm(ours)(x), norm(ours)(x, torch.ones_like(params[0])))


@pytest.mark.parametrize(("dtype", "param_dtype"), PAIRS)
@pytest.mark.parametrize(("shape", "normalized"), SHAPES)
@pytest.mark.parametrize("eps", [1e-3, None])
def test_rms_norm(shape, normalized, dtype, param_dtype, eps):
    x, _, dy, weight, _ = tensors(shape, normalized, dtype, param_dtype)
    exact_eps = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
    normalized_shape = shape[-normalized:]
    y, found = gradients(
        lambda *inputs: ours.rms_norm(inputs[0], normalized_shape, inputs[1], eps), [x, weight], dy
    )
    exact, wanted = gradients(
        lambda *inputs: functional.rms_norm(
            inputs[0], normalized_shape, inputs[1], eps or exact_eps
        ),
        [x.double(), weight.double()],
        dy.double(),
    )
    assert_close(y, exact, dtype)
    assert_close(found[0], wanted[0], dtype)
    assert_close(found[1], wanted[1], param_dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("which", [(0,), (1,), (0, 1)])
def test_add_has_the_bits_of_two_steps(name, dtype, which):
    x, residual, dy, weight, bias = tensors((6, 5, 64), 1, dtype, dtype)
    params = [weight, bias] if name == "layer_norm" else [weight]

    def fused(x, residual, *params):
        results = getattr(ours, f"add_{name}")(x, residual, (64,), *params)
        return torch.cat([results[i].flatten() for i in which])

    def stepwise(x, residual, *params):
        total = x + residual
        results = getattr(ours, name)(total, (64,), *params), total
        return torch.cat([results[i].flatten() for i in which])

    if which == (1,):
        params = []
    dy = torch.cat([dy.flatten(), 2 * dy.flatten()][: len(which)])
    y, found = gradients(fused, [x, residual, *params], dy)
    expected, wanted = gradients(stepwise, [x, residual, *params], dy)
    assert torch.equal(y, expected)
    assert_close(found[0], wanted[0].double(), dtype)
    assert torch.equal(found[0], found[1])
    for gradient, want in zip(found[2:], wanted[2:], strict=True):
        assert torch.equal(gradient, want)
    with torch.no_grad():
        assert torch.equal(fused(x, residual, *params), y)


STRIDED = {
    "rows apart": lambda x: x.transpose(0, 1),
    "channels first": lambda x: x.transpose(1, 3),
    "some rows": lambda x: x[::2, :, 1:3],
    "one row for many": lambda x: x[:1].expand(6, 5, 4, 8),
    "three strides": lambda x: x.permute(2, 1, 0, 3),  # of rows: liblayernorm takes two
}


@pytest.mark.parametrize("view", STRIDED.values(), ids=STRIDED)
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_strides(view, name):
    norm = getattr(ours, name)
    x = view(torch.randn(6, 5, 4, 8))
    shape, weight = x.shape[-1:], torch.randn(x.shape[-1])
    dy = torch.randn(x.shape[1:]).expand(x.shape)
    y, found = gradients(lambda *inputs: norm(inputs[0], shape, inputs[1]), [x, weight], dy)
    expected, wanted = gradients(
        lambda *inputs: norm(inputs[0], shape, inputs[1]), [x.contiguous(), weight], dy.contiguous()
    )
    torch.testing.assert_close([y, *found], [expected, *wanted])


CALLS = {
    "layer_norm": lambda x, r, w, b: ours.layer_norm(x, (4,), w, b),
    "rms_norm": lambda x, r, w, b: ours.rms_norm(x, (4,), w),
    "add_layer_norm": lambda x, r, w, b: ours.add_layer_norm(x, r, (4,), w, b),
    "add_rms_norm": lambda x, r, w, b: ours.add_rms_norm(x, r, (4,), w),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_gradcheck(call):
    inputs = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in [(3, 2, 4), (3, 2, 4), (4,), (4,)]
    ]
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)
    assert torch.autograd.gradcheck(call, inputs, check_forward_ad=True, check_backward_ad=False)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_functorch(call):
    x, r = torch.randn(2, 5, 3, 4)
    w, b = torch.randn(2, 4)
    y = torch.func.vmap(call, (0, 0, None, None))(x, r, w, b)
    torch.testing.assert_close(y, call(x, r, w, b))

    def loss(w, b, x, r):
        y = call(x, r, w, b)
        return sum((each**2).sum() for each in (y if isinstance(y, tuple) else (y,)))

    per_sample = torch.func.vmap(torch.func.grad(loss), (None, None, 0, 0))(w, b, x, r)
    w.requires_grad_()
    (wanted,) = torch.autograd.grad(loss(w, b, x, r), w)
    torch.testing.assert_close(per_sample.sum(0), wanted)


def operator_calls():
    x, r = torch.randn(2, 3, 5, 8)
    w, b = torch.randn(2, 8)
    y, mean, rstd = torch.ops.layernorm.layer_norm(x, (8,), w, b, 1e-5)
    yield "layer_norm", (x, (8,), w, b, 1e-5)
    yield "layer_norm", (x.half(), (5, 8), None, None, 1e-5)
    yield "layer_norm", (x.bfloat16().transpose(0, 1), (8,), w, None, 1e-5)
    yield "rms_norm", (x, (8,), w, None)
    yield "rms_norm", (x.bfloat16(), (8,), w, 1e-5)
    yield "add_layer_norm", (x, r, (8,), w, b, 1e-5)
    yield "add_rms_norm", (x, r, (8,), w, None)
    yield "layer_norm_backward", (y, r, x, (8,), mean, rstd, w, b, (True, True, True))
    yield "layer_norm_backward", (y, None, x, (8,), mean, rstd, w, b, (False, True, False))
    yield "rms_norm_backward", (y, r, x, (8,), rstd, w, (True, True))
    yield "rms_norm_backward", (y, None, x, (8,), rstd, None, (True, False))


@pytest.mark.parametrize(("name", "args"), list(operator_calls()))
def test_opcheck(name, args):
    operator = getattr(torch.ops.layernorm, name).default
    torch.library.opcheck(operator, args)
    if not name.endswith("backward"):

        def leaf(each):
            return each.clone().requires_grad_() if isinstance(each, torch.Tensor) else each

        torch.library.opcheck(operator, tuple(map(leaf, args)))


def test_autocast():
    linear = torch.nn.Linear(16, 16)
    norm = ours.LayerNorm(16)
    x = torch.randn(4, 16)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = linear(x)
        y = norm(hidden)
        expected = functional.layer_norm(hidden, (16,), norm.weight, norm.bias)
    assert hidden.dtype == torch.bfloat16
    torch.testing.assert_close(y, expected)
    y.float().sum().backward()
    assert norm.weight.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ours.layer_norm(torch.ones(3, 4), (5,)), r"normalized_shape=\[5\]"),
        (lambda: ours.layer_norm(torch.ones(3, 4), ()), "normalized_shape"),
        (lambda: ours.layer_norm(torch.ones(3, 4), (4,), torch.ones(3)), "weight"),
        (lambda: ours.layer_norm(torch.ones(3, 4), (4,), None, torch.ones(3)), "bias"),
        (lambda: ours.layer_norm(torch.ones(3, 4, dtype=torch.int32), (4,)), "not implemented"),
        (lambda: ours.layer_norm(torch.ones(3, 4), (4,), torch.ones(4).double()), "dtype|type"),
        (lambda: ours.rms_norm(torch.ones(3, 4), (3,)), r"normalized_shape=\[3\]"),
        (lambda: ours.rms_norm(torch.ones(3, 4), (4,), torch.ones(3)), "weight"),
        (lambda: ours.add_rms_norm(torch.ones(3, 4), torch.ones(4), (4,)), "^residual is"),
        (lambda: ours.add_layer_norm(torch.ones(4), torch.ones(4).half(), (4,)), "^residual is"),
    ],
)
def test_errors(call, sentence):
    with pytest.raises(RuntimeError, match=sentence):
        call()
    with ours.installed(), pytest.raises(RuntimeError, match=sentence):
        call()


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda array: ours.layer_norm(array, (2,)), "input"),
        (lambda array: ours.layer_norm(torch.ones(2), (2,), None, array), "bias"),
        (lambda array: ours.add_rms_norm(torch.ones(2), array, (2,)), "residual"),
        (lambda array: ours.add_rms_norm(torch.ones(2), torch.ones(2), (2,), array), "weight"),
    ],
)
def test_what_is_no_tensor(call, name):
    with pytest.raises(TypeError, match=rf"^{name} must be a torch\.Tensor, not list"):
        call([1.0, 2.0])


def test_device_without_kernel():
    x = torch.ones(3, 4, device="meta")
    y, total = ours.add_layer_norm(x, x, (4,))
    assert y.device.type == total.device.type == "meta"
    assert y.shape == total.shape == x.shape
    assert ours.rms_norm(x, (4,)).shape == x.shape
