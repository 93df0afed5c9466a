"""The four experiments: which runs each of them is made of."""

from dataclasses import replace
from itertools import product

from .train import Run

SEEDS = 4
RATES = (1e-3, 3e-3, 1e-2)  # of the Transformers
BATCHES = (1, 2, 4, 32)
TEXT = "text 800000"
LSTM_RATES = {TEXT: (3e-3, 1e-2, 3e-2), "digits": (1e-3, 3e-3, 1e-2, 3e-2)}
SHORT_TEXT = "text 40000"  # so short that a model learns it by heart
XU = ("none", "layer", "simple", "detach mean", "detach rstd", "detach both", "ada")

# Their curves are also drawn by second: these run alone.
TIMED = ("lstm",)


def lstm() -> list[Run]:
    """(a) An LSTM with layer norm, with batch norm and with none, at several learning rates."""
    shapes = {TEXT: ((128,), 200, 15), "digits": ((64,), 400, 20)}
    return [
        Run("lstm", data, "lstm", sizes, norm, 32, rate, steps, points)
        for data, (sizes, steps, points) in shapes.items()
        for rate, norm in product(LSTM_RATES[data], ("none", "batch", "layer"))
    ]


def transformer() -> list[Run]:
    """(b) A Transformer with layer norm before each branch, after each sum, and with none."""
    return [
        Run("transformer", TEXT, "transformer", (64, 6), norm, 16, rate, 300)
        for rate, norm in product(RATES, ("none", "layer", "post"))
    ]


def small_batches() -> list[Run]:
    """(c) Batch norm against layer norm in small batches; a model sees as many pictures in each."""
    return [
        Run(
            "small batches", "digits", *model, norm, batch, 1e-3, epochs * 1437 // batch, 4 * epochs
        )
        for model, epochs in ((("mlp", (128,)), 4), (("lstm", (64,)), 3))
        for batch, norm in product(BATCHES, ("none", "batch", "layer"))
    ]


def norms() -> list[Run]:
    """(d) The norms that Xu et al. compare, on a text that is soon known by heart."""
    return [Run("norms", SHORT_TEXT, "transformer", (64, 6), norm, 16, 3e-3, 500) for norm in XU]


def runs(quick: bool) -> list[Run]:
    """Every run; a quick one has two seeds and a tenth of the steps."""
    every = [*lstm(), *transformer(), *small_batches(), *norms()]
    if quick:
        every = [
            replace(run, steps=max(run.steps // 10, 5), points=min(run.points, 5)) for run in every
        ]
    return [seeded for run in every for seeded in run.seeds(2 if quick else SEEDS)]
