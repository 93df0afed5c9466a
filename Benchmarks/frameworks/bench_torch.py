"""PyTorch's layer norm and RMSNorm, as they are, with install(), and those of layernorm.torch."""

import statistics
from collections.abc import Callable

import interleaved
import layernorm.torch
import torch

OWN, INSTALLED, FUNCTION = "PyTorch", "PyTorch, installed", "layernorm.torch"
FUNCTIONS = {
    "layer_norm": (torch.nn.functional.layer_norm, layernorm.torch.layer_norm, 2),
    "rms_norm": (torch.nn.functional.rms_norm, layernorm.torch.rms_norm, 1),
}


def forward(norm: Callable, x: torch.Tensor, params: list[torch.Tensor]) -> Callable[[], object]:
    shape = x.shape[-1:]
    return lambda: norm(x, shape, *params)


def both(norm: Callable, x: torch.Tensor, params: list[torch.Tensor]) -> Callable[[], object]:
    shape = x.shape[-1:]
    leaves = [each.clone().requires_grad_() for each in (x, *params)]
    dy = torch.randn_like(x)

    def call() -> object:
        return torch.autograd.grad(norm(leaves[0], shape, *leaves[1:]), leaves, dy)

    return call


def times(own: Callable[[], object], ours: Callable[[], object]) -> dict[str, float]:
    """One after the other, three times, since install() holds for all calls or none."""
    measured: dict[str, list[float]] = {OWN: [], INSTALLED: [], FUNCTION: []}
    for _ in range(3):
        found = interleaved.microseconds({OWN: own, FUNCTION: ours})
        with layernorm.torch.installed():
            found |= interleaved.microseconds({INSTALLED: own})
        for name, time in found.items():
            measured[name].append(time)
    return {name: statistics.median(each) for name, each in measured.items()}


def main() -> None:
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    for dtype in torch.float32, torch.bfloat16:
        for name, (own, ours, params) in FUNCTIONS.items():
            for title, make in ("forward", forward), ("forward + backward", both):
                rows = {}
                for shape in interleaved.SHAPES:
                    x = torch.randn(shape).to(dtype)
                    weights = [torch.randn(shape[-1]).to(dtype) for _ in range(params)]
                    case = f"{shape[0]} × {shape[1]}"  # noqa: RUF001
                    rows[case] = times(make(own, x, weights), make(ours, x, weights))
                interleaved.table(f"{name}, {str(dtype)[6:]}, {title}", rows)


if __name__ == "__main__":
    main()
