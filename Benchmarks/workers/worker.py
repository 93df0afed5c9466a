"""The Python twin of worker.c: talks to the benchmark, takes the time of a library's calls."""

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np

WARM_UP = 1_000_000  # ns, as in worker.c
DTYPES = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}


class NotSupportedError(Exception):
    """The library cannot do a case; the message says why."""


def load(folder, op, dtype, rows, cols):
    """The case with the inputs that are in its folder, as arrays."""
    job = SimpleNamespace(op=op, dtype=DTYPES[dtype], rows=rows, cols=cols)
    shapes = {"x": (rows, cols), "residual": (rows, cols), "dy": (rows, cols)}
    shapes |= {"weight": (cols,), "bias": (cols,), "mean": (rows, 1), "rstd": (rows, 1)}
    for name, shape in shapes.items():
        path = Path(folder, name)
        if path.exists():
            kind = np.float32 if name in ("mean", "rstd") else job.dtype
            setattr(job, name, np.fromfile(path, kind).reshape(shape))
    return job


def time_calls(run, calls):
    clock = time.perf_counter_ns
    warm = clock()
    run()
    while clock() - warm < WARM_UP:
        run()
    repeat = range(calls)
    start = clock()
    for _ in repeat:
        run()
    return (clock() - start) / calls


def serve(version, prepare):
    """Answers the benchmark's commands. prepare(job, threads) returns the function to be timed and
    one that gives a dictionary of its last outputs; it raises NotSupportedError."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not come between the answers
    print("ok", version, file=answers)
    run = None
    for line in sys.stdin:
        match line.split():
            case ["prepare", op, dtype, threads, rows, cols, inputs, outputs]:
                try:
                    job = load(inputs, op, dtype, int(rows), int(cols))
                    run, outputs_of = prepare(job, int(threads))
                    run()
                    for name, array in outputs_of().items():
                        np.asarray(array).tofile(Path(outputs, name))
                    print("ok", file=answers)
                except NotSupportedError as error:
                    print("no", error, file=answers)
            case ["time", calls]:
                print("ok", time_calls(run, int(calls)), file=answers)
            case ["finish"]:
                run = outputs_of = None
                print("ok", file=answers)
            case _:
                raise SystemExit(f"unknown command: {line}")
