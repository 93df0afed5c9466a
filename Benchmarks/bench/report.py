"""Results as a Markdown document."""

import math
from statistics import median

from .cases import Case
from .peers import MEMCPY, STREAM

STREAM_FROM = 16 << 20  # bytes of output from which on a streaming copy is a limit
TIE = 1.03
# Of the turns of a library. The least says more on a machine that does other work at the same time.
STATISTICS = {"median": median, "min": min}
TEXT = {"op", "dtype", "dtypes", "best peer", "group", "input", "library", "why", "call"}
ERRORS = ["N(0,1)", "mean 1e3, spread 1", "mean 1e6, spread 1", "around 3e37"]
GROUPS = ["half forward", "half backward", "RMSNorm", "add + norm", "f32 forward", "f32 backward"]


def number(value, digits=3):
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if value >= 10**digits:
        return f"{value:.2g}" if value >= 1e5 else f"{value:.0f}"
    return f"{value:.{digits}g}"


def table(rows):
    """Rows are dictionaries with the same keys, the heads of the columns."""
    rows = [{head: str(cell).replace("|", "\\|") for head, cell in row.items()} for row in rows]
    heads = list(rows[0])
    rules = ["---" if head in TEXT else "---:" for head in heads]
    lines = [[head.replace("|", "\\|") for head in heads], rules, *(row.values() for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def times(entry, results):
    """Nanoseconds a call by library."""
    statistic = STATISTICS[results["statistic"]]
    return {name: statistic(result["ns"]) for name, result in entry["results"].items()}


class Line:
    """One case: times as multiples of the copy limit."""

    def __init__(self, entry, results):
        ours = results["ours"]
        self.case = Case(**entry["case"])
        self.ns = times(entry, results)
        self.turns = {name: sorted(result["ns"]) for name, result in entry["results"].items()}
        copies = [self.ns[MEMCPY]]
        if self.case.output_bytes >= STREAM_FROM and STREAM in self.ns:
            copies.append(self.ns[STREAM])
        self.limit = min(copies)
        self.times = {name: ns / self.limit for name, ns in self.ns.items()}
        self.own = self.times.get(ours)
        peers = {
            n: t
            for n, t in self.times.items()
            if n not in (MEMCPY, STREAM) and not n.startswith(ours)
        }
        self.best = min(peers, key=peers.get, default=None)
        self.ahead = peers[self.best] / self.own if self.best and self.own else None
        self.lost = self.ahead is not None and self.ahead < 1 / TIE

    def spread(self, name):
        """Half of the turns lie within so much of the median, in percent."""
        turns = self.turns[name]
        quarter = len(turns) // 4
        return 50 * (turns[-1 - quarter] - turns[quarter]) / self.ns[name]


def speed_table(lines, libraries, ours):
    rows = []
    for line in lines:
        case = line.case
        row = {"op": case.op, "dtype": case.dtype, "threads": case.threads}
        row |= {"rows x cols": f"{case.rows}x{case.cols}", "limit, µs": number(line.limit / 1e3)}
        row |= {name: number(line.times.get(name)) for name in libraries}
        row |= {"best peer": line.best or "", "best peer ÷ ours": number(line.ahead)}
        rows.append(row | {"± %": f"{line.spread(ours):.0f}" if ours in line.ns else ""})
    return table(rows)


def group_table(lines):
    rows = []
    for group in [*GROUPS, "all"]:
        inside = [line for line in lines if group in (line.case.group, "all")]
        if inside:
            ahead = [line.ahead for line in inside]
            row = {"group": group, "cases": len(inside), "lost": sum(line.lost for line in inside)}
            row |= {"best peer ÷ ours": number(geometric_mean(ahead)), "least": number(min(ahead))}
            own = geometric_mean([line.own for line in inside])
            rows.append(row | {"ours ÷ copy limit": number(own)})
    return table(rows)


def judged_and_lost(lines):
    judged = [line for line in lines if line.ahead]
    return judged, sorted((line for line in judged if line.lost), key=lambda line: line.ahead)


def summary(results):
    """What is printed when a run ends."""
    lines = [Line(entry, results) for entry in results.get("cases", [])]
    judged, lost = judged_and_lost(lines)
    out = [group_table(judged)] if judged else []
    out += [f"behind {line.best}, {line.ahead:.2f}: {line.case}" for line in lost]
    return "\n".join(out)


def overview(results):
    """For each library: how long it takes, for one time of ours, and how far off it is."""
    lines = [Line(entry, results) for entry in results["cases"]]
    ours = results["ours"]
    rows = []
    for name in results["libraries"]:
        if name in (MEMCPY, STREAM) or (name != ours and name.startswith(ours)):
            continue
        row = {"library": name}
        for group in GROUPS:
            ratios = [
                line.ns[name] / line.ns[ours]
                for line in lines
                if line.case.group == group and name in line.ns and ours in line.ns
            ]
            row[group] = f"{geometric_mean(ratios):.1f}" if ratios else ""
        for kind in ERRORS if results.get("accuracy") else []:
            row[f"error, {kind}"] = number(results["accuracy"][kind].get(name))
        rows.append(row)
    return f"""Time for one time of {ours}, geometric means over the cases of a group that a library
took part in, and the largest error of y in float32, in units in the last place:

{table(rows)}"""


def speed(results):
    ours = results["ours"]
    lines = [Line(entry, results) for entry in results["cases"]]
    libraries = [name for name in results["libraries"] if name not in (MEMCPY, STREAM)]
    judged, lost = judged_and_lost(lines)
    out = ["## Speed\n"]
    if judged:
        behind = f"{len(lost)} of {len(judged)} cases are behind the best peer by more than 3 %"
        out.append(behind + (":\n" if lost else ".\n"))
        if lost:
            out.append(speed_table(lost, libraries, ours))
        out.append("By groups, geometric means:\n")
        out.append(group_table(judged))
    out.append(
        f"Every case, the {results['statistic']} of the turns as multiples of the copy limit:\n"
    )
    out.append(speed_table(lines, libraries, ours))
    refused = {}
    for entry in results["cases"]:
        for name, why in entry["refused"].items():
            dtypes = refused.setdefault((name, entry["case"]["op"], why), {})
            dtypes[entry["case"]["dtype"]] = None
    if refused:
        out.append("Left out:\n")
        rows = [
            {"library": name, "op": op, "dtypes": ", ".join(dtypes), "why": why}
            for (name, op, why), dtypes in sorted(refused.items(), key=lambda item: item[0])
        ]
        out.append(table(rows))
    return "\n".join(out)


def accuracy(results):
    rows = []
    for name, errors in results["accuracy"].items():
        shown = {lib: number(error) for lib, error in errors.items() if lib not in (MEMCPY, STREAM)}
        rows.append({"input": name} | shown)
    return f"""## Accuracy

The largest error of y, float32, 32 rows of 1024, weight 1 and bias 0, in units in the last place of
max(|exact y|, root mean square of the exact row):

{table(rows)}"""


def read_after(results):
    rows = []
    for entry in results["read"]:
        case, ns = Case(**entry["case"]), times(entry, results)
        row = {"output, MB": case.output_bytes >> 20, "threads": case.threads}
        row |= {f"{name}, µs": number(time / 1e3) for name, time in ns.items()}
        rows.append(row | {"memcpy ÷ stream": number(ns[MEMCPY] / ns[STREAM])})
    return f"""## A reading of y right after

Layer norm, or a copy with or without streaming stores, and then one reading of its output; float32,
rows of 1024:

{table(rows)}"""


def from_python(results):
    rows = [
        {"call": name, "µs": number(ns / 1e3)}
        for name, ns in times(results["python"], results).items()
    ]
    return f"""## Called from Python

float32, 1x768, one thread:

{table(rows)}"""


def document(results, figures=()):
    machine, missing = results["machine"], results["missing"]
    versions = (f"{n} {v}" if v != n else n for n, v in results["libraries"].items())
    parts = [
        f"""# Benchmark

{machine["cpu"]}, {machine["cpus"]} CPUs, caches {machine["caches"]}; {machine["date"]}.
Load when it began {machine["load"]:.2f}; the host's other guests took {machine["steal"]:.1%}.
[How a number is made](../../Benchmarks/README.md).

{", ".join(versions)}.
"""
    ]
    if results.get("cases"):
        parts.append(overview(results))
    if missing:
        parts.append(f"Missing: {'; '.join(f'{n} ({why})' for n, why in missing.items())}.\n")
    sections = {"cases": speed, "accuracy": accuracy, "read": read_after, "python": from_python}
    parts += [section(results) for key, section in sections.items() if results.get(key)]
    parts += [f"![{name}]({name}.png)\n" for name in figures]
    return "\n".join(parts)
