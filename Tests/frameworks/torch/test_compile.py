"""torch.compile, torch.export and tracing."""

import pytest
import torch
from conftest import DTYPES
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

import layernorm.torch as ours

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


def with_gradients(call, tensors):
    y = call(*tensors)
    return y, *torch.autograd.grad(y.float().sin().sum(), tensors, allow_unused=True)


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
    expected = with_gradients(call, tensors)
    torch.testing.assert_close(with_gradients(compiled, tensors), expected)


def test_compile_with_dynamic_shapes():
    compiled = torch.compile(CALLS["layer_norm"], fullgraph=True, dynamic=True)
    for rows in 3, 7, 11:
        _, _, w, b = inputs()
        x = torch.randn(rows, 64, requires_grad=True)
        expected = functional.layer_norm(x, (64,), w, b)
        torch.testing.assert_close(compiled(x, x, w, b), expected)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_compile_with_install(name, backend, dtype):
    def call(x, r, w, b):
        params = (w, b) if name == "layer_norm" else (w,)
        return getattr(functional, name)(x, (64,), *params)

    tensors = inputs(dtype)
    expected = with_gradients(call, tensors)
    with ours.installed():
        compiled = torch.compile(call, fullgraph=True, backend=backend)
        torch.testing.assert_close(with_gradients(compiled, tensors), expected)


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
