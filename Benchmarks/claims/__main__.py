"""Trains every model of the experiments and writes what was seen: curves, figures, and the page.

    python -m claims [--quick] FOLDER

FOLDER/claims.md is the page, FOLDER/claims/ has its figures and results.json. --quick trains a
tenth as long, which shows that everything works, and nothing about the claims."""

import argparse
import multiprocessing
import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import layernorm
import torch
from tqdm import tqdm

from .experiments import TIMED, runs
from .page import write_page
from .plots import draw
from .results import Results
from .train import train

CPUS = len(os.sched_getaffinity(0))


def train_all(every):
    """The curves of all runs, in their order: the timed ones alone, then one on each CPU."""
    curves = {}
    spawn = multiprocessing.get_context("spawn")
    timed = [run for run in every if run.experiment in TIMED]
    others = [run for run in every if run.experiment not in TIMED]
    with tqdm(total=len(every), unit="run", smoothing=0) as bar:
        for some, workers in ((timed, 1), (others, CPUS)):
            with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
                started = {pool.submit(train, run): run for run in some}
                try:
                    for future in as_completed(started):
                        run = started[future]
                        curves[run] = future.result()
                        bar.set_description(run.experiment, refresh=False)
                        bar.update()
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
    return [(run, curves[run]) for run in every]


def check(trained):
    """Raises unless every model with layer norm has learned and a run can be repeated."""
    for run, curve in trained:
        if run.norm == "layer" and not curve.valid[-1] < curve.valid[0]:
            raise RuntimeError(f"{run} has learned nothing: its held-out losses are {curve.valid}")
    run, curve = next((run, curve) for run, curve in trained if run.experiment == "norms")
    again = train(run)
    if (again.train, again.valid) != (curve.train, curve.valid):
        raise RuntimeError(f"{run} gave {curve} first, and then {again}")


def machine():
    names = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cpus": CPUS,
        "layernorm": f"{layernorm.__version__} {layernorm.isa()}",
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where claims.md and claims/ go")
    parser.add_argument("--quick", action="store_true", help="train a tenth as long")
    parser.add_argument("--redraw", action="store_true", help="train nothing: read results.json")
    args = parser.parse_args()
    folder = args.folder / "claims"
    folder.mkdir(parents=True, exist_ok=True)
    curves = folder / "results.json"
    if not args.redraw:
        begin = time.monotonic()
        trained = train_all(runs(args.quick))
        minutes = (time.monotonic() - begin) / 60
        run_on = machine() | {"minutes": round(minutes, 1), "quick": args.quick}
        Results(run_on, trained).save(curves)
        if args.quick:
            check(trained)
    results = Results.load(curves)  # so that what is redrawn is the same
    draw(results, folder)
    write_page(results, args.folder / "claims.md")
    print(f"{args.folder / 'claims.md'} is written")


if __name__ == "__main__":
    main()
