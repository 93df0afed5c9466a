"""What the papers claim, each claim as comparisons of what was measured, and the verdict on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .experiments import BATCHES, LSTM_RATES, RATES, TEXT
from .results import Measure, Results, final, gap, late_error, lowest, reach

BA = "Ba et al. 2016"
XU = "Xu et al. 2019"
XIONG = "Xiong et al. 2020, arXiv:2002.04745"


@dataclass(frozen=True)
class Comparison:
    """Two sets of seeds of which a claim says that the first has less of what is measured."""

    measured: str
    less: str
    more: str
    values: tuple[np.ndarray, np.ndarray]

    def verdict(self) -> str:
        """A difference is one where the ranges over the seeds are apart."""
        less, more = self.values
        if less.max() < more.min():
            return "yes"
        return "the opposite" if less.min() > more.max() else "no difference"


@dataclass(frozen=True)
class Claim:
    experiment: str
    source: str
    sentence: str
    comparisons: list[Comparison]

    def verdict(self) -> str:
        found = [comparison.verdict() for comparison in self.comparisons]
        held, opposite = found.count("yes"), found.count("the opposite")
        if held == len(found):
            return "reproduced"
        verdict = f"reproduced in {held} of {len(found)} comparisons" if held else "not reproduced"
        if opposite == len(found):
            return f"{verdict}: the opposite was seen"
        return f"{verdict}; the opposite was seen in {opposite}" if opposite else verdict


def claims(results: Results) -> list[Claim]:
    return [*_lstm(results), *_transformer(results), *_small_batches(results), *_norms(results)]


def _compare(results, measured, measure: Measure, less, more, **common) -> Comparison:
    """`less` and `more` are a name and the fields of the runs that it stands for."""
    values = tuple(results.values(measure, **common, **fields) for _, fields in (less, more))
    return Comparison(measured, less[0], more[0], values)


def _norm(name: str, norm: str) -> tuple[str, dict]:
    return name, {"norm": norm}


LAYER, BATCH, NONE = (
    _norm("layer norm", "layer"),
    _norm("batch norm", "batch"),
    _norm("no norm", "none"),
)


def _lstm(results):
    tasks = (("text", TEXT), ("digits", "digits"))

    def best(rival, *kinds):
        """Each norm at the learning rate that suits it best."""
        for task, data in tasks:
            common = {"experiment": "lstm", "data": data}
            less, more = (
                (name, fields | {"rate": results.best_rate(**common, **fields)})
                for name, fields in (LAYER, rival)
            )
            # Every seed of both gets there.
            goal = max(
                results.values(lowest, **common, **fields).max() for _, fields in (less, more)
            )
            for kind in kinds:
                if kind == "end":
                    measured, measure = f"{task}: held-out loss at the end", final
                else:
                    measured = f"{task}: {kind} to a held-out loss of {goal:.3f}"
                    measure = reach(goal, kind)
                yield _compare(results, measured, measure, less, more, **common)

    same_rate = [
        _compare(
            results,
            f"{task}: held-out loss at the end, learning rate {rate:g}",
            final,
            LAYER,
            NONE,
            experiment="lstm",
            data=data,
            rate=rate,
        )
        for task, data in tasks
        for rate in LSTM_RATES[data]
    ]
    return [
        Claim(
            "lstm",
            f"{BA}, abstract and section 6",
            "A recurrent network learns in fewer steps with layer norm than without",
            list(best(NONE, "steps")),
        ),
        Claim(
            "lstm",
            f"{BA}, section 6",
            "At the same learning rate a recurrent network learns better with layer norm",
            same_rate,
        ),
        Claim(
            "lstm",
            f"{BA}, abstract",
            "Layer norm reduces the time that training takes",
            list(best(NONE, "seconds")),
        ),
        Claim(
            "lstm",
            f"{BA}, section 6.2",
            "Layer norm trains a recurrent network faster than batch norm does",
            list(best(BATCH, "steps", "seconds")),
        ),
        Claim(
            "lstm",
            f"{BA}, section 6.2",
            "With layer norm a recurrent network also ends with a better held-out result than with "
            "batch norm or none",
            [*best(BATCH, "end"), *best(NONE, "end")],
        ),
    ]


def _transformer(results):
    def compared(less, more):
        return [
            _compare(
                results,
                f"held-out loss at the end, learning rate {rate:g}",
                final,
                less,
                more,
                experiment="transformer",
                rate=rate,
            )
            for rate in RATES
        ]

    pre = _norm("layer norm (pre-norm)", "layer")
    return [
        Claim(
            "transformer",
            f"{XU}, section 1",
            "Layer norm lets a Transformer train faster, and cannot be left out",
            compared(pre, NONE),
        ),
        Claim(
            "transformer",
            XIONG,
            "Pre-norm trains well without a warm-up of the learning rate, which post-norm needs",
            compared(pre, _norm("post-norm", "post")),
        ),
    ]


def _small_batches(results):
    def compared(batches):
        return [
            _compare(
                results,
                f"{name}, batch of {batch}: held-out digits named wrongly in the last epoch, %",
                late_error,
                LAYER,
                BATCH,
                experiment="small batches",
                model=model,
                batch=batch,
            )
            for model, name in (("mlp", "perceptron"), ("lstm", "LSTM"))
            for batch in batches
        ]

    small = [batch for batch in BATCHES if batch <= 4]
    large = [batch for batch in BATCHES if batch > 4]
    return [
        Claim(
            "small batches",
            f"{BA}, sections 1 and 6.6",
            "Batch norm suffers where batches are small, and layer norm does not",
            compared(small),
        ),
        Claim(
            "small batches",
            f"{BA}, section 6.6",
            "Layer norm also converges faster in batches of an ordinary size",
            compared(large),
        ),
    ]


def _norms(results):
    def compared(measured, measure, less, more):
        return _compare(results, measured, measure, less, more, experiment="norms")

    held_out = "lowest held-out loss"
    affine, simple = _norm("LayerNorm", "layer"), _norm("LayerNorm-simple", "simple")
    both = _norm("DetachNorm", "detach both")
    mean, rstd = (_norm(f"DetachNorm, {part} only", f"detach {part}") for part in ("mean", "rstd"))
    return [
        Claim(
            "norms",
            f"{XU}, section 3.1",
            "Without weight and bias, LayerNorm-simple generalizes better",
            [compared(held_out, lowest, simple, affine)],
        ),
        Claim(
            "norms",
            f"{XU}, section 3.1",
            "Weight and bias increase over-fitting",
            [compared("held-out loss minus training loss at the end", gap, simple, affine)],
        ),
        Claim(
            "norms",
            f"{XU}, section 3.2",
            "The derivatives of mean and variance matter more than the normalization of the "
            "forward pass: with it alone (DetachNorm) training is worse, even than with no norm",
            [compared(held_out, lowest, simple, both), compared(held_out, lowest, NONE, both)],
        ),
        Claim(
            "norms",
            f"{XU}, section 3.2",
            "The derivative of the variance matters more than that of the mean",
            [compared(held_out, lowest, mean, rstd)],
        ),
        Claim(
            "norms",
            f"{XU}, section 4",
            "AdaNorm does better than LayerNorm",
            [compared(held_out, lowest, _norm("AdaNorm", "ada"), affine)],
        ),
    ]
