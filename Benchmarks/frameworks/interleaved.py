"""Times calls beside each other: in turn, many times, so that other work meets them alike."""

import statistics
from collections.abc import Callable
from timeit import Timer

ROUNDS = 15
SECONDS = 0.02  # of one measurement

SHAPES = [(1, 768), (8, 1024), (2048, 768)]


def microseconds(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median time of one call of each."""
    timers = {name: Timer(call) for name, call in calls.items()}
    repeats = {}
    for name, timer in timers.items():
        timer.timeit(3)
        count, seconds = timer.autorange()
        repeats[name] = max(1, round(count * SECONDS / seconds))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, timer in timers.items():
            times[name].append(timer.timeit(repeats[name]) / repeats[name] * 1e6)
    return {name: statistics.median(measured) for name, measured in times.items()}


def table(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Prints a Markdown table: a line for each case, a column for each call."""
    names = list(next(iter(rows.values())))
    print(f"\n| {title}, µs a call | " + " | ".join(names) + " |")
    print("|---|" + "---:|" * len(names))
    for case, times in rows.items():
        print(f"| {case} | " + " | ".join(f"{times[name]:.2f}" for name in names) + " |")
