"""install(): PyTorch's own operators, and PyTorch's own samples for them."""

import threading
import warnings

import layernorm.torch
import pytest
import torch
from conftest import DTYPES, HALVES, TOLERANCE
from layernorm.torch import installed
from torch.nn import functional
from torch.profiler import profile
from torch.testing._internal.common_methods_invocations import op_db

OPS = [
    op
    for op in op_db
    if op.name in ("nn.functional.layer_norm", "native_layer_norm", "nn.functional.rms_norm")
]
CASES = [
    pytest.param(op, dtype, id=f"{op.name}-{dtype}")
    for op in OPS
    for dtype in sorted(op.supported_dtypes("cpu"), key=str)
]


def test_there_are_samples():
    assert len(OPS) == 3
    for op in OPS:
        assert set(DTYPES) <= set(op.supported_dtypes("cpu"))


def leaves_of(sample):
    values = [sample.input, *sample.args, *sample.kwargs.values()]
    return [v for v in values if isinstance(v, torch.Tensor) and v.requires_grad]


def run(op, sample, backward, dys=None):
    """The results and gradients of one sample, and the gradients that arrived."""
    results = op(sample.input, *sample.args, **sample.kwargs)
    results = results if isinstance(results, tuple) else (results,)
    if not backward:
        return results, None
    if dys is None:
        dys = torch.randn_like(results[0])
    leaves = leaves_of(sample)
    found = torch.autograd.grad(results[0], leaves, dys, allow_unused=True)
    return (*(each.detach() for each in results), *found), dys


def in_double(sample):
    def double(each):
        if not isinstance(each, torch.Tensor):
            return each
        return each.detach().double().requires_grad_(each.requires_grad)

    return sample.transform(double)


def close(actual, pytorch, exact, dtype):
    """Whether `actual` is as close to the exact result as PyTorch's own, or close in units."""
    if actual is None or pytorch is None:
        return actual is None and pytorch is None
    assert (actual.dtype, actual.shape) == (pytorch.dtype, pytorch.shape)
    assert actual.stride() == pytorch.stride()
    if not actual.numel():
        return True
    error = (actual.double() - exact).abs().max()
    own_error = (pytorch.double() - exact).abs().max()
    return bool(error <= max(own_error, TOLERANCE[dtype] * max(1, float(exact.abs().max()))))


@pytest.mark.parametrize(("op", "dtype"), CASES)
def test_opinfo(op, dtype):
    backward = dtype in op.supported_backward_dtypes("cpu")
    samples = list(op.sample_inputs("cpu", dtype, requires_grad=backward))
    samples += list(op.reference_inputs("cpu", dtype, requires_grad=backward))
    assert len(samples) >= 10
    for sample in samples:
        wants_gradients = backward and bool(leaves_of(sample))
        pytorch, dy = run(op, sample, wants_gradients)
        with installed():
            actual, _ = run(op, sample, wants_gradients, dy)
        if dtype.is_complex:
            torch.testing.assert_close(actual, pytorch)
            continue
        kept = dy if dy is None else dy.double()
        # The default eps follows the dtype: what is exact is in float64 with the eps of this one.
        exact_sample = in_double(sample)
        if op.name.endswith("rms_norm") and exact_sample.kwargs.get("eps") is None:
            compute = torch.float64 if dtype == torch.float64 else torch.float32
            exact_sample.kwargs["eps"] = torch.finfo(compute).eps
        exact, _ = run(op, exact_sample, wants_gradients, kept)
        for each in zip(actual, pytorch, exact, strict=True):
            assert close(*each, dtype), sample


@pytest.mark.parametrize(
    "op", [op for op in OPS if op.error_inputs_func is not None], ids=lambda op: op.name
)
def test_opinfo_errors(op):
    for error in op.error_inputs("cpu"):
        sample = error.sample_input
        with installed(), pytest.raises(RuntimeError, match=error.error_regex):
            op(sample.input, *sample.args, **sample.kwargs)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_second_and_forward_derivatives(op):
    for sample in op.sample_inputs("cpu", torch.float64, requires_grad=True):
        leaves = leaves_of(sample)
        # PyTorch's own second derivatives with a bias and no weight are wrong.
        no_weight = op.name == "native_layer_norm" and sample.args[1] is None
        if not sample.input.numel() or (no_weight and sample.args[2] is not None):
            continue

        def call(*values, sample=sample, leaves=leaves):
            given = dict(zip(map(id, leaves), values, strict=True))
            changed = sample.transform(lambda each: given.get(id(each), each))
            results = op(changed.input, *changed.args, **changed.kwargs)
            return results[0] if isinstance(results, tuple) else results

        with installed():
            assert torch.autograd.gradcheck(call, leaves, check_forward_ad=op.supports_forward_ad)
            assert torch.autograd.gradgradcheck(call, leaves)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_transforms(name):
    norm = getattr(functional, name)
    x, w = torch.randn(5, 3, 8), torch.randn(8)

    def loss(w, x):
        return (norm(x, (8,), w) ** 2).sum()

    def transformed():
        primal, tangent = torch.func.jvp(lambda x: norm(x, (8,), w), (x,), (torch.ones_like(x),))
        per_sample = torch.func.vmap(torch.func.grad(loss), (None, 0))(w, x)
        hessian = torch.func.hessian(loss)(w, x[0])
        return primal, tangent, per_sample, hessian

    expected = transformed()
    with installed():
        torch.testing.assert_close(transformed(), expected, rtol=1e-4, atol=1e-4)


def kernels_of(call):
    with profile() as profiled:
        call()
    return [event.name for event in profiled.events()]


def test_rms_norm_is_one_kernel():
    x = torch.randn(3, 8)
    assert "aten::rsqrt" in kernels_of(lambda: functional.rms_norm(x, (8,)))
    with installed():
        assert "aten::rsqrt" not in kernels_of(lambda: functional.rms_norm(x, (8,)))


def test_computes_what_pytorch_cannot():
    x = (torch.randn(4, 64) + torch.tensor([0, 1, 2, 3.0])[:, None]) * 1e30
    exact = functional.layer_norm(x.double(), (64,)).float()
    assert not torch.allclose(functional.layer_norm(x, (64,)), exact)
    with installed():
        torch.testing.assert_close(functional.layer_norm(x, (64,)), exact)
    assert not torch.allclose(functional.layer_norm(x, (64,)), exact)


def test_what_is_not_covered_is_pytorchs():
    weight = torch.randn(8).to(torch.complex64)
    calls = [
        lambda: functional.rms_norm(torch.ones(3, 8, dtype=torch.complex64), (8,), weight),
        lambda: functional.rms_norm(torch.ones(3, 8), (8,), torch.ones(8, dtype=torch.float64)),
        lambda: functional.layer_norm(torch.ones(0, 8), (8,)),
        lambda: functional.layer_norm(torch.ones(3, 0), (0,)),
        lambda: functional.layer_norm(torch.ones(3, 8), (8,), eps=-1.0),
        lambda: functional.layer_norm(torch.ones(3, 8, device="meta"), (8,)),
        lambda: functional.layer_norm(torch.ones(8, 3).expand(2, 8, 3).permute(0, 2, 1), (3, 8)),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for call in calls:
            expected = call()
            with installed():
                actual = call()
            assert actual.device == expected.device
            if actual.device.type == "cpu":
                torch.testing.assert_close(actual, expected, equal_nan=True)
            else:
                assert actual.shape == expected.shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mask", [(True, False, False), (False, True, False), (False, False, True)])
def test_gradients_that_are_not_wanted(mask, dtype):
    x, dy = torch.randn(2, 5, 8).to(dtype)
    w, b = torch.randn(2, 8).to(dtype)
    _, mean, rstd = torch.native_layer_norm(x, (8,), w, b, 1e-5)
    for layout in torch.Tensor.contiguous, lambda t: t.double():  # the other goes to PyTorch
        args = layout(dy), layout(x), (8,), layout(mean), layout(rstd), layout(w), layout(b), mask
        expected = torch.ops.aten.native_layer_norm_backward(*args)
        with installed():
            actual = torch.ops.aten.native_layer_norm_backward(*args)
        for got, want in zip(actual, expected, strict=True):
            assert (got is None) == (want is None)
            if got is not None:
                tolerance = 3e-2 if dtype in HALVES else 1e-5
                torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


def test_install_and_uninstall():
    x = torch.randn(4, 64) * 1e30
    exact = functional.layer_norm(x.double(), (64,)).float()

    def is_ours():
        ours = torch.allclose(functional.layer_norm(x, (64,)), exact)
        assert ours == layernorm.torch.is_installed()
        return ours

    assert not is_ours()
    layernorm.torch.install()
    layernorm.torch.install()
    assert is_ours()
    with installed():
        assert is_ours()
    assert is_ours()
    layernorm.torch.uninstall()
    layernorm.torch.uninstall()
    assert not is_ours()


def test_uninstalled_after_an_exception():
    def fail():
        raise KeyError

    with pytest.raises(KeyError), installed():
        fail()
    assert not layernorm.torch.is_installed()


def test_from_many_threads():
    x, w = torch.randn(300, 768), torch.randn(768)
    expected = functional.layer_norm(x, (768,), w)
    wrong = []

    def work():
        for _ in range(50):
            if not torch.allclose(functional.layer_norm(x, (768,), w), expected, atol=1e-5):
                wrong.append(threading.get_ident())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):  # meanwhile
        with installed():
            functional.layer_norm(x, (768,), w)
    for thread in threads:
        thread.join()
    assert not wrong
