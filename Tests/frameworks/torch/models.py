"""A small Transformer, and its training on a task that it can learn."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.attention_norm = norm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp_norm = norm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        heads = self.qkv(self.attention_norm(x)).view(batch, length, 3, 4, width // 4)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.mlp(self.mlp_norm(x))


class Transformer(nn.Module):
    """Predicts each next symbol of a sequence."""

    def __init__(self, norm: type[nn.Module] = nn.LayerNorm, width: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(16, width)
        self.position = nn.Parameter(0.1 * torch.randn(32, width))
        self.blocks = nn.Sequential(*(Block(width, norm) for _ in range(2)))
        self.norm = norm(width)
        self.head = nn.Linear(width, 16)

    def forward(self, symbols: torch.Tensor) -> torch.Tensor:
        x = self.embedding(symbols) + self.position[: symbols.shape[1]]
        return self.head(self.norm(self.blocks(x)))


def train(model: nn.Module, forward: nn.Module | None = None, steps: int = 50) -> torch.Tensor:
    """The losses of `steps` steps, on sequences in which each symbol is the one before plus 3."""
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(steps):
        first = torch.randint(16, (8, 1), generator=generator)
        symbols = (first + 3 * torch.arange(33)) % 16
        logits = (model if forward is None else forward)(symbols[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), symbols[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)
