"""AdaNorm and DetachNorm: values, gradients beside a composition with detach(), compiling."""

import layernorm.torch as ours
import pytest
import torch
from conftest import DTYPES, HALVES, assert_close, gradients

EPS = 1e-3
DETACHED = [(mean, rstd) for mean in (False, True) for rstd in (False, True)]
PAIRS = [(dtype, dtype) for dtype in DTYPES] + [(dtype, torch.float32) for dtype in HALVES]
detached = pytest.mark.parametrize(("mean", "rstd"), DETACHED)


def normalized(x, detach_mean, detach_rstd, centers=True):
    mean = x.mean(-1, keepdim=True) if centers else torch.zeros(())
    centered = x - (mean.detach() if detach_mean else mean)
    rstd = (centered.square().mean(-1, keepdim=True) + EPS).rsqrt()
    return centered * (rstd.detach() if detach_rstd else rstd)


def assert_same_gradients(function, composed, inputs, dy):
    y, found = gradients(function, inputs, dy)
    exact, wanted = gradients(composed, [each.double() for each in inputs], dy.double())
    assert_close(y, exact, y.dtype)
    for gradient, want, given in zip(found, wanted, inputs, strict=True):
        assert_close(gradient, want, given.dtype)


@detached
@pytest.mark.parametrize(("dtype", "param_dtype"), PAIRS)
def test_layer_norm(dtype, param_dtype, mean, rstd):
    x, dy = torch.randn(6, 5, 33).to(dtype) + 1, torch.randn(6, 5, 33).to(dtype)
    params = [torch.randn(33).to(param_dtype) for _ in range(2)]

    def function(x, weight=None, bias=None):
        return ours.layer_norm(x, (33,), weight, bias, EPS, detach_mean=mean, detach_rstd=rstd)

    def composed(x, weight, bias):
        return normalized(x, mean, rstd) * weight + bias

    assert_same_gradients(function, composed, [x, *params], dy)
    assert torch.equal(function(x, *params), ours.layer_norm(x, (33,), *params, EPS))
    _, found = gradients(function, [x], dy)
    _, wanted = gradients(lambda x: normalized(x, mean, rstd), [x.double()], dy.double())
    assert_close(found[0], wanted[0], dtype)


@pytest.mark.parametrize(("dtype", "param_dtype"), PAIRS)
def test_rms_norm(dtype, param_dtype):
    x, dy = torch.randn(6, 33).to(dtype), torch.randn(6, 33).to(dtype)
    weight = torch.randn(33).to(param_dtype)
    assert_same_gradients(
        lambda x, weight: ours.rms_norm(x, (33,), weight, EPS, detach_rstd=True),
        lambda x, weight: normalized(x, False, True, centers=False) * weight,
        [x, weight],
        dy,
    )
    y = ours.rms_norm(x, (33,), weight, detach_rstd=True)
    assert torch.equal(y, ours.rms_norm(x, (33,), weight))


def ada(x, scale, slope, mean=False, rstd=False):
    x_hat = normalized(x, mean, rstd)
    return x_hat * (scale * (1 - slope * x_hat)).detach()


@detached
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("scale", "slope"), [(1.0, 0.1), (-1.5, 0.25)])
def test_ada_norm(dtype, scale, slope, mean, rstd):
    x, dy = torch.randn(6, 5, 33).to(dtype) + 1, torch.randn(6, 5, 33).to(dtype)
    flags = {"detach_mean": mean, "detach_rstd": rstd}
    assert_same_gradients(
        lambda x: ours.ada_norm(x, (33,), scale, slope, EPS, **flags),
        lambda x: ada(x, scale, slope, mean, rstd),
        [x],
        dy,
    )


def test_other_cases():
    x = torch.randn(4, 8)
    for empty in torch.empty(0, 8), torch.empty(4, 0):
        assert ours.ada_norm(empty, empty.shape[-1:]).shape == empty.shape
    assert ours.ada_norm(x.to("meta"), (8,)).shape == x.shape
    strided = torch.randn(8, 4).t().requires_grad_()
    ours.ada_norm(strided, (8,), eps=EPS).sum().backward()
    assert_close(ours.ada_norm(strided, (8,), eps=EPS), ada(strided.double(), 1, 0.1), x.dtype)
    assert strided.grad.shape == strided.shape
    for scale, slope in (0.0, 0.1), (float("nan"), 0.1), (1.0, float("inf")):
        with pytest.raises(ValueError, match="scale="):
            ours.ada_norm(x, (8,), scale, slope)
    with pytest.raises(RuntimeError, match="normalized_shape"):
        ours.ada_norm(x, (7,))
    with pytest.raises(RuntimeError, match="weight"):
        ours.layer_norm(x, (8,), torch.ones(4), detach_mean=True)


def function_of(kind):
    if kind == "ada":
        return lambda x, w: ours.ada_norm(x * w, (8,), -1.5, 0.25, EPS)
    return lambda x, w: ours.layer_norm(x, (8,), w, None, EPS, detach_mean=kind == "mean",
                                        detach_rstd=kind == "rstd")  # fmt: skip


def composed_of(kind):
    if kind == "ada":
        return lambda x, w: ada(x * w, -1.5, 0.25)
    return lambda x, w: normalized(x, kind == "mean", kind == "rstd") * w


@pytest.mark.parametrize("kind", ["ada", "mean", "rstd"])
def test_second_derivatives_and_transforms(kind):
    # Of what autograd takes for constants no finite difference knows: beside a composition.
    found = []
    for function in function_of(kind), composed_of(kind):
        torch.manual_seed(1)
        x, w = torch.randn(3, 8).double().requires_grad_(), torch.randn(8).double().requires_grad_()
        first = torch.autograd.grad(function(x, w).square().sum(), (x, w), create_graph=True)
        second = torch.autograd.grad(sum(each.square().sum() for each in first), (x, w))
        rows = torch.vmap(lambda r, f=function, w=w: f(r[None], w)[0])(x)
        tangent = torch.func.jvp(lambda x, f=function, w=w: f(x, w), (x,), (x * 2,))[1]
        found.append([*first, *second, rows, tangent])
    for ours_, wanted in zip(*found, strict=True):
        torch.testing.assert_close(ours_, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["ada", "mean", "rstd"])
def test_compile(kind):
    x, w, dy = torch.randn(5, 8), torch.randn(8), torch.randn(5, 8)
    eager, wanted = gradients(function_of(kind), [x, w], dy)
    compiled = torch.compile(function_of(kind), fullgraph=True, backend="aot_eager")
    y, found = gradients(compiled, [x, w], dy)
    assert torch.equal(y, eager)
    for gradient, want in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient, want)
    x = torch.randn(5, 8, requires_grad=True)
    torch.library.opcheck(
        torch.ops.layernorm.general_norm.default,
        (x, [8], w, None, EPS, 0, 8, 1.0, 0.1),
    )


def test_modules():
    plain = torch.nn.LayerNorm(8)
    module = ours.LayerNorm(8, detach_mean=True, detach_rstd=True)
    module.load_state_dict(plain.state_dict())
    assert module.state_dict().keys() == plain.state_dict().keys()
    assert repr(ours.LayerNorm(8)) == repr(plain)
    assert repr(module).endswith("detach_mean=True, detach_rstd=True)")
    x = torch.randn(3, 8, requires_grad=True)
    module(x).sum().backward()
    # dx = rstd * g with g = 1
    rstd = (x.var(-1, correction=0) + module.eps).rsqrt()
    torch.testing.assert_close(x.grad, rstd.detach()[:, None].expand(3, 8))

    rms = ours.RMSNorm(8, eps=EPS, detach_rstd=True)
    assert rms.state_dict().keys() == torch.nn.RMSNorm(8).state_dict().keys()
    x = torch.randn(3, 8, requires_grad=True)
    rms(x).sum().backward()
    torch.testing.assert_close(
        x.grad, (x.square().mean(-1) + EPS).rsqrt().detach()[:, None].expand(3, 8)
    )

    module = ours.AdaNorm(8, slope=0.2, detach_rstd=True)
    assert not module.state_dict()
    assert "slope=0.2" in repr(module)
    assert torch.equal(module(x), ours.ada_norm(x, (8,), slope=0.2))
    replaced = ours.replace(torch.nn.LayerNorm(8))
    assert torch.equal(replaced(x), ours.layer_norm(x, (8,), replaced.weight, replaced.bias))
