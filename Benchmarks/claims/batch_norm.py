"""The rival: batch normalization, also inside an LSTM (Cooijmans et al. 2016, arXiv:1603.09025).

It is computed by PyTorch's own operators."""

import math

import torch
from torch import Tensor, nn


class BatchNorm(nn.Module):
    """Batch normalization of [batch, size] with its own statistics for each of `times` steps.

    torch.nn.BatchNorm1d refuses a batch of one in training. Here its formula is followed: the
    output is the bias, and no gradient reaches the input. Running variances are biased ones."""

    def __init__(self, size: int, times: int = 1, weight: float = 1.0, bias: bool = True) -> None:
        super().__init__()
        self.eps, self.momentum = 1e-5, 0.1
        self.weight = nn.Parameter(torch.full((size,), weight))
        self.bias = nn.Parameter(torch.zeros(size)) if bias else None
        self.register_buffer("mean", torch.zeros(times, size))
        self.register_buffer("var", torch.ones(times, size))

    def forward(self, x: Tensor, time: int = 0) -> Tensor:
        mean, var = self.mean[time], self.var[time]
        if not self.training:
            y, _, _ = torch.native_batch_norm(
                x, self.weight, self.bias, mean, var, False, 0.0, self.eps
            )
            return y
        y, center, rstd = torch.native_batch_norm(
            x, self.weight, self.bias, None, None, True, 0.0, self.eps
        )
        with torch.no_grad():
            mean.lerp_(center, self.momentum)
            var.lerp_(rstd.square().reciprocal_().sub_(self.eps), self.momentum)
        return y


class BatchNormLSTM(nn.Module):
    """An LSTM over [batch, times, inputs] with batch norms of W_x x, W_h h and the cell's state.

    As in the paper the weights of the norms begin at 0.1, the statistics are kept for each time
    step, and the two norms of the products share the LSTM's bias."""

    def __init__(self, inputs: int, hidden: int, times: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(hidden)
        self.w_x = nn.Parameter(torch.empty(4 * hidden, inputs).uniform_(-bound, bound))
        self.w_h = nn.Parameter(torch.empty(4 * hidden, hidden).uniform_(-bound, bound))
        self.norm_x = BatchNorm(4 * hidden, times, 0.1)
        self.norm_h = BatchNorm(4 * hidden, times, 0.1, bias=False)
        self.norm_c = BatchNorm(hidden, times, 0.1)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h = c = x.new_zeros(len(x), self.w_h.shape[1])
        outputs = []
        for time, x_gates in enumerate((x @ self.w_x.T).unbind(1)):
            gates = self.norm_x(x_gates, time) + self.norm_h(h @ self.w_h.T, time)
            f, i, o, g = gates.chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * self.norm_c(c, time).tanh()
            outputs.append(h)
        return torch.stack(outputs, 1), (h, c)
