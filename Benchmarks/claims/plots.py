"""The figures: lines are means over the seeds, bands reach from the least to the greatest."""

import io
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from .experiments import BATCHES, LSTM_RATES, RATES, SHORT_TEXT, TEXT, XU
from .results import Results, final, gap, lowest

# Okabe and Ito's colours, which can be told apart by the colour-blind too, each with its own dash.
STYLES = {
    "none": ("no norm", "#666666", (0, (1, 1))),
    "batch": ("batch norm", "#D55E00", (0, (5, 2))),
    "layer": ("layer norm", "#0072B2", "-"),
    "post": ("layer norm after each sum (post-norm)", "#CC79A7", (0, (5, 1, 1, 1))),
    "simple": ("LayerNorm-simple", "#009E73", (0, (5, 1))),
    "detach mean": ("DetachNorm, mean only", "#E69F00", (0, (3, 1, 1, 1))),
    "detach rstd": ("DetachNorm, rstd only", "#CC79A7", (0, (5, 1, 1, 1))),
    "detach both": ("DetachNorm, both", "#D55E00", (0, (5, 2))),
    "ada": ("AdaNorm", "#56B4E9", (0, (2, 1))),
}
HELD_OUT = "held-out loss, nats"
PER_CHARACTER = "held-out loss, nats per character"
WORST = 3.4  # the frequencies of the characters alone give 2.9: above, nothing has been learned

plt.rcParams.update(
    {
        "figure.dpi": 100,
        "figure.constrained_layout.use": True,
        "font.size": 10,
        "axes.titlesize": 10.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "figure.titlesize": 12.5,
    }
)


def line(axes, norm, x, y, label=None):
    """A curve: x [points] or [seeds][points], y [seeds][points]."""
    name, color, dash = STYLES[norm]
    x, y = np.mean(np.atleast_2d(x), 0), np.array(y)
    axes.plot(x, y.mean(0), color=color, linestyle=dash, linewidth=2, label=label or name)
    axes.fill_between(x, y.min(0), y.max(0), color=color, alpha=0.18, linewidth=0)


def field(curves, name):
    """A field of the curves: [seeds][points]."""
    return [getattr(curve, name) for curve in curves]


def finish(figure, axes, title, path, seeds):
    """The title, and under the panels one legend for all of them."""
    handles = {}
    for panel in np.ravel(axes):
        for handle, label in zip(*panel.get_legend_handles_labels()):
            handles.setdefault(label, handle)
    figure.suptitle(title, fontweight="bold")
    figure.legend(
        handles.values(),
        handles.keys(),
        title=f"lines: mean over {seeds} seeds; bands: from the least of them to the greatest",
        loc="outside lower center",
        ncols=4,
        frameon=False,
    )
    drawn = io.BytesIO()
    figure.savefig(drawn)
    plt.close(figure)
    Image.open(drawn).convert("RGB").quantize(256, kmeans=2).save(
        path, optimize=True
    )  # a third of the size


def draw_lstm(results, path):
    figure, grid = plt.subplots(2, 3, figsize=(12, 7))
    tasks = ((TEXT, "Text, character by character"), ("digits", "Digits, row by row"))
    for row, (data, task) in zip(grid, tasks):
        for norm in ("none", "batch", "layer"):
            of_norm = {"experiment": "lstm", "data": data, "norm": norm}
            curves = results.curves(**of_norm, rate=results.best_rate(**of_norm))
            for axes, axis in zip(row, ("steps", "seconds")):
                line(axes, norm, field(curves, axis), field(curves, "valid"))
            ends = [results.values(final, **of_norm, rate=rate) for rate in LSTM_RATES[data]]
            line(row[2], norm, LSTM_RATES[data], np.transpose(ends))
        if data == "digits":
            for axes in row:
                axes.set_yscale("log")
                axes.set_yticks(ticks := (0.05, 0.1, 0.2, 0.5, 1, 2), map(str, ticks))
                axes.minorticks_off()
        for axes, ending in zip(row, ("loss by step", "loss by second", "loss at the end")):
            axes.set_title(f"{task}: {ending}")
            axes.set_ylabel(PER_CHARACTER if data == TEXT else HELD_OUT)
        row[2].set_xscale("log")
        row[2].set_xticks(LSTM_RATES[data], [f"{rate:g}" for rate in LSTM_RATES[data]])
        row[2].minorticks_off()  # of its logarithmic scale
        labels = ("steps of training", "seconds of training, 1 thread", "learning rate")
        for axes, label in zip(row, labels):
            axes.set_xlabel(label)
    title = "An LSTM with layer norm, with batch norm and with none (curves: each at its best rate)"
    finish(figure, grid, title, path, results.seeds)


def draw_transformer(results, path):
    figure, row = plt.subplots(1, len(RATES), figsize=(10.5, 4.2), sharey=True)
    for axes, rate in zip(row, RATES):
        for norm in ("none", "layer", "post"):
            curves = results.curves(experiment="transformer", norm=norm, rate=rate)
            label = "layer norm before each branch (pre-norm)" if norm == "layer" else None
            line(axes, norm, field(curves, "steps"), field(curves, "valid"), label)
        axes.set_title(f"learning rate {rate:g}")
        axes.set_xlabel("steps of training")
    row[0].set_ylim(top=WORST)
    row[0].set_ylabel(PER_CHARACTER)
    finish(
        figure,
        row,
        "A Transformer of 6 blocks on English text: where its layer norms are",
        path,
        results.seeds,
    )


def draw_small_batches(results, path):
    models = (("mlp", "perceptron"), ("lstm", "LSTM"))
    figure, grid = plt.subplots(2, len(BATCHES), figsize=(11, 6), sharey=True)
    for row, (model, name) in zip(grid, models):
        for axes, batch in zip(row, BATCHES):
            for norm in ("none", "batch", "layer"):
                curves = results.curves(
                    experiment="small batches", model=model, batch=batch, norm=norm
                )
                pictures = batch * np.array(field(curves, "steps"))
                line(axes, norm, pictures / 1000, 100 * np.array(field(curves, "error")))
            axes.set_title(f"{name}, batch of {batch}")
            axes.set_yscale("log")
            axes.set_ylim(1, 100)
            axes.set_yticks(ticks := (1, 2, 5, 10, 20, 50, 100), map(str, ticks))
            axes.minorticks_off()
        row[0].set_ylabel("held-out digits\nnamed wrongly, %")
    for axes in grid[-1]:
        axes.set_xlabel("pictures seen, thousands")
    finish(figure, grid, "Batch norm and layer norm where batches are small", path, results.seeds)


def dots(axes, results, measure, title, label):
    """A row for each norm: a dot for each seed, a bar at their mean; a number if it is far off."""
    values = [results.values(measure, experiment="norms", norm=norm) for norm in XU]
    means = np.array([some.mean() for some in values])
    typical = np.nanmedian(means)
    near = np.abs(means - typical) < 0.1  # those alone that have learned as most have
    shown = np.stack(values)[near]
    low, high = shown.min(), shown.max()
    margin = 0.15 * (high - low)
    for place, norm in enumerate(XU):
        color = STYLES[norm][1]
        if near[place]:
            axes.plot(values[place], [place] * len(values[place]), "o", color=color, alpha=0.6)
            axes.plot(means[place], place, "|", color=color, markersize=22, markeredgewidth=2.5)
        elif means[place] < typical:
            axes.text(low - margin, place, f"← {means[place]:.2f}", va="center", color=color)
        else:
            text = f"{means[place]:.2f} →"
            axes.text(high + margin, place, text, ha="right", va="center", color=color)
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(len(XU) - 0.4, -0.6)
    axes.set_yticks(range(len(XU)), [STYLES[norm][0] for norm in XU])
    axes.set_title(title)
    axes.set_xlabel(label)


def draw_norms(results, path):
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(12, 4.6), gridspec_kw={"width_ratios": (1.3, 1, 1)}
    )
    for norm in XU:
        curves = results.curves(experiment="norms", norm=norm)
        line(left, norm, field(curves, "steps"), field(curves, "valid"))
    left.set_title("Held-out loss by step")
    left.set_xlabel("steps of training")
    left.set_ylabel(PER_CHARACTER)
    dots(
        middle,
        results,
        lowest,
        "Lowest held-out loss\n(dots: seeds, bar: their mean)",
        "nats per character; less is better",
    )
    dots(
        right,
        results,
        gap,
        "Over-fitting at the end\n(dots: seeds, bar: their mean)",
        "held-out loss minus training loss, nats",
    )
    right.set_yticklabels([])
    characters = int(SHORT_TEXT.split()[1])
    title = f"The norms of Xu et al. in a Transformer on {characters:,} characters of English text"
    finish(figure, left, title, path, results.seeds)


FIGURES = {
    "lstm": draw_lstm,
    "transformer": draw_transformer,
    "small_batches": draw_small_batches,
    "norms": draw_norms,
}


def draw(results: Results, folder: Path) -> None:
    for name, figure in FIGURES.items():
        figure(results, folder / f"{name}.png")
