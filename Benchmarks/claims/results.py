"""Curves of many runs, and what is measured on them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from .train import Curve, Run

Measure = Callable[[Curve], float]


def final(curve: Curve) -> float:
    """The held-out loss at the end."""
    return curve.valid[-1]


def lowest(curve: Curve) -> float:
    """The lowest held-out loss on the way."""
    return min(curve.valid)


def late_error(curve: Curve) -> float:
    """The part of what is held out that is named wrongly, in percent, the mean of the last four."""
    return 100 * float(np.mean(curve.error[-4:]))


def gap(curve: Curve) -> float:
    """How much the held-out loss is above the training loss at the end."""
    return curve.valid[-1] - curve.train[-1]


def reach(loss: float, axis: str) -> Measure:
    """The steps or seconds until the held-out loss is first down at `loss`, on the line between two
    points; infinite if it never is."""

    def measure(curve: Curve) -> float:
        places = [0, *getattr(curve, axis)]
        for index, valid in enumerate(curve.valid):
            if valid <= loss:
                before = curve.valid[index - 1] if index else math.inf
                part = (before - loss) / (before - valid) if math.isfinite(before) else 1.0
                return places[index] + part * (places[index + 1] - places[index])
        return math.inf

    return measure


class Results:
    """The runs with their curves, and the machine that they ran on."""

    def __init__(self, machine: dict, runs: list[tuple[Run, Curve]]) -> None:
        self.machine = machine
        self.runs = runs
        self.seeds = 1 + max(run.seed for run, _ in runs)

    def curves(self, **wanted) -> list[Curve]:
        """The curves of the runs whose fields are as wanted, one for each seed."""
        chosen = [
            (run, curve)
            for run, curve in self.runs
            if all(getattr(run, field) == value for field, value in wanted.items())
        ]
        seeds = [run.seed for run, _ in chosen]
        if not chosen or len(set(seeds)) < len(seeds):
            raise LookupError(f"{wanted} names {len(chosen)} runs with {len(set(seeds))} seeds")
        return [curve for _, curve in chosen]

    def values(self, measure: Measure, **wanted) -> np.ndarray:
        return np.array([measure(curve) for curve in self.curves(**wanted)])

    def best_rate(self, **wanted) -> float:
        """The learning rate at which the mean over the seeds of the last held-out loss is least."""
        rates = {
            run.rate
            for run, _ in self.runs
            if all(getattr(run, field) == value for field, value in wanted.items())
        }
        return min(rates, key=lambda rate: self.values(final, **wanted, rate=rate).mean())

    def save(self, path: Path) -> None:
        """Writes JSON with a line for each run. An infinite loss is null."""

        def number(value: float) -> float | None:
            return float(f"{value:.5g}") if math.isfinite(value) else None

        lines = (
            {
                "run": asdict(run),
                "curve": {name: list(map(number, values)) for name, values in vars(curve).items()},
            }
            for run, curve in self.runs
        )
        text = ",\n".join(map(json.dumps, lines))
        path.write_text(f'{{"machine": {json.dumps(self.machine)},\n"runs": [\n{text}\n]}}\n')

    @classmethod
    def load(cls, path: Path) -> Results:
        """What save() wrote."""

        def curve(read: dict) -> Curve:
            return Curve(
                **{
                    name: [math.inf if value is None else value for value in values]
                    for name, values in read.items()
                }
            )

        read = json.loads(path.read_text())
        runs = [
            (Run(**line["run"] | {"sizes": tuple(line["run"]["sizes"])}), curve(line["curve"]))
            for line in read["runs"]
        ]
        return cls(read["machine"], runs)
