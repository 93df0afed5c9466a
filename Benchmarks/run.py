#!/usr/bin/env python3
"""Times liblayernorm beside other libraries; writes JSON, a Markdown document and plots.

Without options everything is measured, into docs/benchmarks. With any that leaves something out,
the results go to build/benchmarks, so that a part does not take the place of the whole."""

import argparse
import json
import os
import platform
import re
import sys
import time
from pathlib import Path

from bench import accuracy, peers, plots, report
from bench.cases import DTYPES, TIMED_OPS, Case, all_cases
from bench.measure import Session
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

SECTIONS = ["speed", "accuracy", "read", "python"]
READ_MEGABYTES = [1, 2, 4, 8, 16, 32, 64, 128]


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def names(allowed):
        def parse(text):
            found = text.split(",")
            for name in found:
                if name not in allowed:
                    raise argparse.ArgumentTypeError(f"'{name}' is none of {', '.join(allowed)}")
            return found

        return {"type": parse, "metavar": "A,B", "help": f"of {', '.join(allowed)}"}

    add = parser.add_argument
    add("--quick", action="store_true", help="fewer shapes and turns: under 3 minutes")
    add("--sections", default=SECTIONS, **names(SECTIONS))
    add("--ops", default=TIMED_OPS, **names(TIMED_OPS))
    add("--dtypes", default=list(DTYPES), **names(DTYPES))
    add(
        "--threads",
        default=[1, 2],
        type=lambda text: [int(n) for n in text.split(",")],
        metavar="1,2",
    )
    add(
        "--shapes",
        type=lambda text: text.split(","),
        metavar="1x768,…",
        help="in place of each operation's own",
    )
    add("--peers", default=peers.PEERS, **names([*peers.PEERS, "none"]))
    add(
        "--library",
        default=os.environ.get("LAYERNORM_LIBRARY") or peers.ROOT / "build/liblayernorm.so",
        metavar="PATH",
    )
    add(
        "--also",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="another build of ours, beside the first",
    )
    add(
        "--isa",
        action="append",
        default=[],
        metavar="ISA",
        help="ours under this LAYERNORM_ISA too",
    )
    add("--turns", type=int, help="turns of each library in a case (25; quick: 9)")
    add("--turn-ms", type=float, help="how long a turn should take (10; quick: 6)")
    add("--statistic", choices=report.STATISTICS, default="median", help="of the turns")
    add("--output", type=Path, help="the folder of the results")
    add(
        "--report",
        type=Path,
        metavar="JSON",
        help="measure nothing: write the document and plots of these results",
    )
    options = parser.parse_args()
    options.turns = options.turns or (9 if options.quick else 25)
    options.turn_ms = options.turn_ms or (6 if options.quick else 10)
    partial = options.quick or any(
        getattr(options, n) != parser.get_default(n)
        for n in ("sections", "ops", "dtypes", "threads", "shapes", "peers")
    )
    options.output = options.output or (peers.BUILD if partial else peers.ROOT / "docs/benchmarks")
    return options


def steal():
    """Time that the host gave to other guests, and all time, so far."""
    with open("/proc/stat") as stat:
        times = [int(word) for word in stat.readline().split()[1:9]]
    return times[7], sum(times)


def machine():
    models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    caches = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (
            (index / name).read_text().strip() for name in ("level", "type", "size")
        )
        if kind != "Instruction":
            caches.append(f"L{level} {size}")
    date = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    return {
        "cpu": models[0] if models else platform.machine(),
        "cpus": os.cpu_count(),
        "caches": ", ".join(caches),
        "date": date,
        "load": os.getloadavg()[0],
    }


def libraries(options):
    """Ours, the copies and the peers that there are; and why the others are not."""
    found = [peers.ours(library=options.library)]
    found += [peers.ours(f"{peers.OURS} {isa}", options.library, isa) for isa in options.isa]
    for name, path in (also.split("=", 1) for also in options.also):
        found.append(peers.ours(f"{peers.OURS} {name}", path))
    found += [peers.copy(peers.MEMCPY), peers.copy(peers.STREAM)]
    missing = {}
    for name in options.peers:
        if name != "none":
            try:
                found.append(peers.peer(name))
            except peers.MissingError as error:
                missing[name] = str(error)
    return found, missing


def python_callers(options):
    script, path = peers.SOURCES / "from_python.py", peers.ROOT / "bindings/python"
    environment = {
        "LAYERNORM_LIBRARY": str(Path(options.library).resolve()),
        "PYTHONPATH": str(path),
    }
    named = {
        "layernorm.layer_norm(x, …, out=y)": "call",
        "layernorm.LayerNorm(…)(x, out=y)": "prepared",
        "torch.nn.functional.layer_norm(x, …)": "torch",
        "NumPy": "numpy",
    }
    return [
        peers.Peer(name, [sys.executable, script, kind], environment)
        for name, kind in named.items()
    ]


def measure(options):
    found, missing = libraries(options)
    for name, why in missing.items():
        print(f"{name} is left out: {why}")
    local = [
        peer for peer in found if peer.name.startswith((peers.OURS, peers.MEMCPY, peers.STREAM))
    ]
    results = {
        "machine": machine(),
        "ours": peers.OURS,
        "statistic": options.statistic,
        "libraries": {},
        "missing": missing,
    }
    cases = all_cases(options.ops, options.dtypes, options.threads, options.shapes, options.quick)
    cases = cases if "speed" in options.sections else []
    sizes = [size for size in READ_MEGABYTES if not options.quick or size <= 32]
    reads = [
        Case("ln_fwd_read", "f32", threads, size * 256, 1024)
        for threads in options.threads
        for size in sizes
    ]
    reads = reads if "read" in options.sections else []
    total = (
        len(cases)
        + len(reads)
        + 8 * ("accuracy" in options.sections)
        + ("python" in options.sections)
    )
    columns = [
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    ]
    stolen, so_far = steal()
    # Drawn between cases only: a timer would wake up while a library is measured.
    with Progress(*columns, auto_refresh=False) as progress:
        task = progress.add_task("", total=total)

        def step(text=""):
            progress.advance(task)
            progress.update(task, description=str(text))
            progress.refresh()

        def run(session, cases, key):
            results["missing"] |= session.missing
            results["libraries"] |= session.versions() if key != "python" else {}
            for case in cases:
                progress.update(task, description=str(case))
                progress.refresh()
                measured = session.measure(case, options.turns, options.turn_ms * 1e6)
                results.setdefault(key, []).append({"case": vars(case)} | measured)
                step(case)

        for threads in options.threads:
            with Session(found, threads) as session:
                run(session, [case for case in cases if case.threads == threads], "cases")
                if threads == 1 and "accuracy" in options.sections:
                    results["accuracy"] = accuracy.measure(session, lambda: step("accuracy"))
            with Session(local, threads) as session:
                run(session, [case for case in reads if case.threads == threads], "read")
        if "python" in options.sections:
            with Session(python_callers(options), 1) as session:
                run(session, [Case("ln_fwd", "f32", 1, 1, 768)], "python")
            results["python"] = results["python"][0]
    stolen, so_far = (after - before for after, before in zip(steal(), (stolen, so_far)))
    results["machine"]["steal"] = stolen / so_far
    return results


def main():
    options = arguments()
    if options.report:
        results = json.loads(options.report.read_text())
        results["statistic"] = options.statistic
        options.output = options.report.parent
    else:
        results = measure(options)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "results.json").write_text(json.dumps(results, separators=(",", ":")) + "\n")
    figures = plots.draw(results, options.output) if results.get("cases") else []
    (options.output / "README.md").write_text(report.document(results, figures))
    print(report.summary(results))
    print(f"all of it: {options.output / 'README.md'}")


if __name__ == "__main__":
    try:
        main()
    except peers.MissingError as error:
        sys.exit(f"error: {error}")
