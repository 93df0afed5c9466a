"""What the tests share."""

from collections.abc import Callable, Iterator

import layernorm.torch
import pytest
import torch

HALVES = torch.float16, torch.bfloat16
DTYPES = torch.float32, torch.float64, *HALVES
# Of the largest value of a result: some units in the last place.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 2e-6,
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
}


def assert_close(actual: torch.Tensor, exact: torch.Tensor, dtype: torch.dtype) -> None:
    """Holds `actual`, of `dtype`, against the result in float64."""
    assert (actual.dtype, actual.shape) == (dtype, exact.shape)
    assert actual.is_contiguous()
    error = (actual.double() - exact).abs()
    if error.numel():
        assert error.max() <= TOLERANCE[dtype] * max(1, float(exact.abs().max()))


def gradients(
    function: Callable[..., torch.Tensor], inputs: list[torch.Tensor], dy: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """function(*inputs) and its gradients with respect to all of them."""
    leaves = [each.detach().requires_grad_() for each in inputs]
    y = function(*leaves)
    return y.detach(), list(torch.autograd.grad(y, leaves, dy))


@pytest.fixture(autouse=True)
def seeded_and_not_installed() -> Iterator[None]:
    torch.manual_seed(0)
    yield
    assert not layernorm.torch.is_installed()
