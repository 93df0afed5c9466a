"""One figure an operation: time over the copy limit by size, a line for each library."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from .peers import MEMCPY, STREAM
from .report import Line


def draw(results, folder):
    """Writes the figures; returns their names without the ending."""
    lines = [Line(entry, results) for entry in results["cases"]]
    libraries = [name for name in results["libraries"] if name not in (MEMCPY, STREAM)]
    colors = dict(zip(libraries, plt.get_cmap("tab10").colors))
    names = []
    for op in dict.fromkeys(line.case.op for line in lines):
        here = [line for line in lines if line.case.op == op]
        dtypes = list(dict.fromkeys(line.case.dtype for line in here))
        threads = list(dict.fromkeys(line.case.threads for line in here))
        figure, grid = plt.subplots(
            len(dtypes),
            len(threads),
            figsize=(6.5 * len(threads), 3.6 * len(dtypes)),
            squeeze=False,
            sharey=True,
        )
        for row, dtype in zip(grid, dtypes):
            for axes, count in zip(row, threads):
                some = [
                    line for line in here if (line.case.dtype, line.case.threads) == (dtype, count)
                ]
                panel(
                    axes,
                    sorted(some, key=lambda line: line.case.output_bytes),
                    libraries,
                    colors,
                    results["ours"],
                )
                axes.set_title(f"{op} {dtype}, {count} thread{'s'[: count > 1]}")
        handles = {
            label: handle
            for axes in grid.flat
            for handle, label in zip(*axes.get_legend_handles_labels())
        }
        figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=len(handles))
        figure.tight_layout(rect=(0, 0.3 / (3.6 * len(dtypes)), 1, 1))
        figure.savefig(folder / f"{op}.png", dpi=100)
        plt.close(figure)
        names.append(op)
    return names


def panel(axes, lines, libraries, colors, ours):
    places = range(len(lines))
    for name in libraries:
        points = [
            (place, line.times[name]) for place, line in zip(places, lines) if name in line.times
        ]
        if points:
            own = name == ours
            axes.plot(
                *zip(*points),
                "o-",
                label=name,
                color=colors[name],
                linewidth=3 if own else 1.2,
                zorder=3 if own else 2,
            )
    axes.axhline(1, color="black", linewidth=1, linestyle="--", label="copy limit")
    axes.set_yscale("log")
    axes.set_ylim(top=min(axes.get_ylim()[1], 1000))
    axes.set_xticks(
        places, [f"{line.case.rows}x{line.case.cols}" for line in lines], rotation=30, ha="right"
    )
    axes.set_ylabel("time ÷ copy limit")
    axes.grid(axis="y", which="both", alpha=0.25)
