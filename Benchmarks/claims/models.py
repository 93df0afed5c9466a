"""The models. Every layer norm in them is liblayernorm's."""

import layernorm.torch
import torch
from layernorm.torch import recurrent
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from .batch_norm import BatchNorm, BatchNormLSTM
from .data import WINDOW, Digits, Text

HEADS = 4


def norm(kind: str, size: int) -> nn.Module:
    """The norm of a hidden layer. What Xu et al. detach, they detach from LayerNorm-simple."""
    simple = {"elementwise_affine": False}
    return {
        "none": lambda: nn.Identity(),
        "batch": lambda: BatchNorm(size),
        "layer": lambda: layernorm.torch.LayerNorm(size),
        "simple": lambda: layernorm.torch.LayerNorm(size, **simple),
        "detach mean": lambda: layernorm.torch.LayerNorm(size, **simple, detach_mean=True),
        "detach rstd": lambda: layernorm.torch.LayerNorm(size, **simple, detach_rstd=True),
        "detach both": lambda: layernorm.torch.LayerNorm(
            size, **simple, detach_mean=True, detach_rstd=True
        ),
        "ada": lambda: layernorm.torch.AdaNorm(size),
    }[kind]()


class MLP(nn.Sequential):
    """Pictures through two hidden layers, each normalized before its ReLU."""

    def __init__(self, data: Digits, kind: str, hidden: int) -> None:
        super().__init__(
            nn.Flatten(),
            *(nn.Linear(64, hidden), norm(kind, hidden), nn.ReLU()),
            *(nn.Linear(hidden, hidden), norm(kind, hidden), nn.ReLU()),
            nn.Linear(hidden, data.classes),
        )


class LSTM(nn.Module):
    """An LSTM that reads a picture row by row and names it, or a text and says what comes next."""

    def __init__(self, data: Digits | Text, kind: str, hidden: int) -> None:
        super().__init__()
        self.reads_text = isinstance(data, Text)
        size = hidden if self.reads_text else data.inputs
        times = WINDOW if self.reads_text else data.inputs
        self.embed = nn.Embedding(data.inputs, size) if self.reads_text else nn.Identity()
        self.lstm = {
            "none": lambda: nn.LSTM(size, hidden, batch_first=True),
            "batch": lambda: BatchNormLSTM(size, hidden, times),
            "layer": lambda: recurrent.LSTM(size, hidden, batch_first=True),
        }[kind]()
        self.read = nn.Linear(hidden, data.classes)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.lstm(self.embed(x))
        return self.read(h if self.reads_text else h[:, -1])


class Block(nn.Module):
    """Attention to what came before, then a feed-forward layer. `kind` is a norm's, which is put
    before each branch, or "post": a LayerNorm after each sum (Vaswani et al. 2017)."""

    def __init__(self, kind: str, size: int) -> None:
        super().__init__()
        self.post = kind == "post"
        self.norms = nn.ModuleList(norm("layer" if self.post else kind, size) for _ in range(2))
        self.qkv = nn.Linear(size, 3 * size)
        self.mix = nn.Linear(size, size)
        self.feed = nn.Sequential(nn.Linear(size, 4 * size), nn.ReLU(), nn.Linear(4 * size, size))

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.mix(mixed.transpose(1, 2).flatten(-2))

    def forward(self, x: Tensor) -> Tensor:
        for norm, branch in zip(self.norms, (self.attend, self.feed)):
            x = norm(x + branch(x)) if self.post else x + branch(norm(x))
        return x


class Transformer(nn.Module):
    """A Transformer that reads a text and foretells each next character."""

    def __init__(self, data: Text, kind: str, size: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(data.inputs, size)
        self.places = nn.Parameter(torch.empty(WINDOW, size))
        self.blocks = nn.Sequential(*(Block(kind, size) for _ in range(depth)))
        self.last = nn.Identity() if kind == "post" else norm(kind, size)
        self.read = nn.Linear(size, data.classes)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.xavier_uniform_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.last(self.blocks(self.embed(x) + self.places)))
