"""One training run: a model, a seed, and the losses on the way."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from itertools import islice

import layernorm
import torch
from torch.nn.functional import cross_entropy

from .data import dataset
from .models import LSTM, MLP, Transformer

MODELS = {"lstm": LSTM, "mlp": MLP, "transformer": Transformer}


@dataclass(frozen=True)
class Run:
    """What a run depends on. The same run gives the same losses on the same machine."""

    experiment: str  # whose figures it goes into
    data: str  # see dataset()
    model: str  # of MODELS
    sizes: tuple[int, ...]  # the model's
    norm: str  # see models
    batch: int
    rate: float  # Adam's learning rate
    steps: int
    points: int = 20  # of the curve
    seed: int = 0

    def seeds(self, count: int) -> list[Run]:
        return [replace(self, seed=seed) for seed in range(count)]


@dataclass(frozen=True)
class Curve:
    """The losses at some steps; seconds count training only. Where the training loss is not finite
    the run has diverged: training ends, and the losses from there on are not finite."""

    steps: list[int]
    seconds: list[float]
    train: list[float]  # the mean since the point before, in nats
    valid: list[float]  # on what is held out, in nats
    error: list[float]  # the part of what is held out that is named or foretold wrongly


def train(run: Run) -> Curve:
    torch.set_num_threads(1)
    layernorm.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(run.seed)
    data = dataset(run.data)
    model = MODELS[run.model](data, run.norm, *run.sizes)
    optimizer = torch.optim.Adam(model.parameters(), lr=run.rate, fused=True)
    batches = data.batches(run.batch, run.seed)
    curve = Curve([], [], [], [], [])
    seconds, done, loss = 0.0, 0, 0.0
    for point in range(1, run.points + 1):
        until = round(run.steps * point / run.points)
        valid, error = math.inf, 1.0
        if math.isfinite(loss):
            begin = time.perf_counter()
            losses = [_step(model, optimizer, *batch) for batch in islice(batches, until - done)]
            seconds += time.perf_counter() - begin
            loss = sum(losses) / len(losses)
        if math.isfinite(loss):
            valid, error = evaluate(model, *data.valid)
        done = until
        for values, value in zip(vars(curve).values(), (done, seconds, loss, valid, error)):
            values.append(value)
    return curve


def _step(model, optimizer, x, y) -> float:
    optimizer.zero_grad()
    loss = cross_entropy(model(x).flatten(0, -2), y.flatten())
    loss.backward()
    optimizer.step()
    return loss.item()


def evaluate(model, x, y) -> tuple[float, float]:
    """The loss and the error of the model as it is used, by running statistics if it has any."""
    model.eval()
    with torch.no_grad():
        logits = model(x).flatten(0, -2)
    model.train()
    wrong = logits.argmax(1) != y.flatten()
    return cross_entropy(logits, y.flatten()).item(), wrong.double().mean().item()
