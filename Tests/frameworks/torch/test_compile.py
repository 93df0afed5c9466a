"""torch.compile, torch.export and tracing."""

import layernorm.torch as ours
import pytest
import torch
from conftest import DTYPES, assert_close
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

CALLS = {
    "layer_norm": lambda x, r, w, b: ours.layer_norm(x, (64,), w, b),
    "rms_norm": lambda x, r, w, b: ours.rms_norm(x, (64,), w),
    "add_layer_norm": lambda x, r, w, b: sum(ours.add_layer_norm(x, r, (64,), w, b)),
    "add_rms_norm": lambda x, r, w, b: sum(ours.add_rms_norm(x, r, (64,), w)),
}


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()


def inputs(dtype=torch.float32, requires_grad=True):
    shapes = [(6, 5, 64), (6, 5, 64), (64,), (64,)]
    return [torch.randn(s).to(dtype).requires_grad_(requires_grad) for s in shapes]


def gradients(call, tensors):
    """y and the gradients that are there, for a dy that is the same in every dtype."""
    leaves = [each.detach().requires_grad_() for each in tensors]
    y = call(*leaves)
    dy = torch.linspace(-1, 1, y.numel()).reshape(y.shape).bfloat16().to(y.dtype)
    found = torch.autograd.grad(y, leaves, dy, allow_unused=True)
    return {i: each for i, each in enumerate((y.detach(), *found)) if each is not None}


@pytest.mark.parametrize("name", CALLS)
def test_compile(name):
    call = CALLS[name]
    graphs = []

    def backend(graph, example_inputs):
        graphs.append(graph)
        return torch._inductor.compile(graph, example_inputs)

    compiled = torch.compile(call, fullgraph=True, backend=backend)
    for dtype in torch.float32, torch.bfloat16:
        tensors = inputs(dtype)
        with torch.no_grad():
            torch.testing.assert_close(compiled(*tensors), call(*tensors))
    assert any(f"layernorm.{name}" in str(graph.code) for graph in graphs)


@pytest.mark.parametrize("name", CALLS)
def test_compile_with_gradients(name):
    call = CALLS[name]
    compiled = torch.compile(call, fullgraph=True)
    tensors = inputs()
    torch.testing.assert_close(gradients(compiled, tensors), gradients(call, tensors))


def test_compile_with_dynamic_shapes():
    graphs = []

    def backend(graph, example_inputs):
        graphs.append(graph)
        return torch._inductor.compile(graph, example_inputs)

    compiled = torch.compile(CALLS["layer_norm"], fullgraph=True, backend=backend)
    for rows in 3, 7, 11:
        _, _, w, b = inputs(requires_grad=False)
        x = torch.randn(rows, 64)
        torch._dynamo.mark_dynamic(x, 0)
        expected = functional.layer_norm(x, (64,), w, b)
        torch.testing.assert_close(compiled(x, x, w, b), expected)
    assert len(graphs) == 1


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_compile_with_install(name, backend, dtype):
    def call(x, r, w, b):
        params = (w, b) if name == "layer_norm" else (w,)
        return getattr(functional, name)(x, (64,), *params)

    tensors = inputs(dtype)
    with ours.installed():
        compiled = torch.compile(call, fullgraph=True, backend=backend)
        found = gradients(compiled, tensors)
    exact = gradients(call, [each.double() for each in tensors])
    assert found.keys() == exact.keys()
    for each in exact:
        assert_close(found[each], exact[each], dtype)


@pytest.mark.parametrize("name", CALLS)
def test_export(name):
    class Module(torch.nn.Module):
        def forward(self, *tensors):
            return CALLS[name](*tensors)

    tensors = inputs(requires_grad=False)
    program = torch.export.export(Module(), tuple(tensors))
    assert f"layernorm.{name}" in program.graph_module.code
    torch.testing.assert_close(program.module()(*tensors), CALLS[name](*tensors))
    program.run_decompositions()


def test_export_with_install():
    module = torch.nn.Sequential(torch.nn.LayerNorm(64), torch.nn.RMSNorm(64))
    x = torch.randn(3, 64)
    expected = module(x)
    with ours.installed():
        program = torch.export.export(module, (x,)).run_decompositions()
        torch.testing.assert_close(program.module()(x), expected)
    torch.testing.assert_close(program.module()(x), expected)


@pytest.mark.parametrize("name", CALLS)
def test_make_fx(name):
    tensors = inputs(requires_grad=False)
    traced = make_fx(CALLS[name], tracing_mode="fake")(*tensors)
    assert f"layernorm.{name}" in traced.code
    torch.testing.assert_close(traced(*tensors), CALLS[name](*tensors))
