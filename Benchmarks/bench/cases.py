"""What is measured: operations, dtypes, threads and shapes, and the inputs of each."""

from dataclasses import dataclass

import ml_dtypes
import numpy as np

DTYPES = {
    "f32": np.dtype(np.float32),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
}
EPS = 1e-5

# Each operation with its outputs.
OPS = {
    "ln_fwd": ["y"],
    "ln_fwd_stats": ["y", "mean", "rstd"],
    "ln_bwd": ["dx", "dweight", "dbias"],
    "rms_fwd": ["y"],
    "add_ln": ["y", "sum"],
    "ln_fwd_read": ["y"],  # ln_fwd, then one reading of y
}
TIMED_OPS = [op for op in OPS if op != "ln_fwd_read"]

_LONG = ["1x768", "128x768", "2048x768", "2048x4096", "65536x64", "64x65536", "333x1021"]
_SHORT = ["128x768", "2048x768", "2048x4096"]
SHAPES = {
    ("ln_fwd", "f32"): ["1x768", "8x1024", *_LONG[1:]],
    ("ln_bwd", "f32"): _LONG,
    ("rms_fwd", "f32"): _LONG,
    ("add_ln", "f32"): _LONG,
    ("ln_fwd_stats", "f32"): _LONG,
    ("ln_fwd", "half"): ["1x768", *_SHORT, "65536x64", "333x1021"],
    ("ln_bwd", "half"): _SHORT,
    ("rms_fwd", "half"): _SHORT,
    ("add_ln", "half"): _SHORT,
}
QUICK_SHAPES = {"1x768", "128x768", "2048x768", "65536x64"}


def plural(count, word):
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


@dataclass(frozen=True)
class Case:
    op: str
    dtype: str
    threads: int
    rows: int
    cols: int

    def __str__(self):
        return f"{self.op} {self.dtype} {self.rows}x{self.cols}, {plural(self.threads, 'thread')}"

    @property
    def output_bytes(self):
        """The size of the largest output."""
        return self.rows * self.cols * DTYPES[self.dtype].itemsize

    @property
    def group(self):
        """The group that the case is summed up in."""
        if self.op in ("rms_fwd", "add_ln"):
            return {"rms_fwd": "RMSNorm", "add_ln": "add + norm"}[self.op]
        kind = "f32" if self.dtype == "f32" else "half"
        return f"{kind} {'backward' if self.op == 'ln_bwd' else 'forward'}"


def all_cases(ops, dtypes, threads, shapes=None, quick=False):
    """The cases of the named operations; `shapes` takes the place of each operation's own."""
    found = []
    for count in threads:
        for op in ops:
            for dtype in dtypes:
                for shape in shapes or SHAPES.get((op, dtype if dtype == "f32" else "half"), []):
                    if quick and not shapes and shape not in QUICK_SHAPES:
                        continue
                    rows, cols = map(int, shape.split("x"))
                    found.append(Case(op, dtype, count, rows, cols))
    return found


def make_inputs(case):
    """The inputs of a case, the same in every run."""
    random = np.random.default_rng(case.rows * 1_000_003 + case.cols)
    kind, shape = DTYPES[case.dtype], (case.rows, case.cols)
    normal = lambda size: random.standard_normal(size, np.float32)  # noqa: E731
    inputs = {
        "x": (normal(shape) * np.float32(1.5) + np.float32(0.25)).astype(kind),
        "weight": (1 + normal(case.cols) / 8).astype(kind),
        "bias": (normal(case.cols) / 8).astype(kind),
    }
    if case.op == "add_ln":
        inputs["residual"] = normal(shape).astype(kind)
    if case.op == "ln_bwd":
        inputs["dy"] = normal(shape).astype(kind)
        mean, rstd = statistics(inputs["x"].astype(np.float64))
        inputs |= {"mean": mean.astype(np.float32), "rstd": rstd.astype(np.float32)}
    return inputs


def statistics(x):
    mean = x.mean(axis=1, keepdims=True)
    variance = np.square(x - mean).mean(axis=1, keepdims=True)
    return mean, 1 / np.sqrt(variance + x.dtype.type(EPS))


def expected_outputs(op, inputs, kind=np.float64):
    """The exact outputs, computed in `kind`."""
    wide = {name: array.astype(kind) for name, array in inputs.items()}
    x, weight = wide["x"], wide["weight"]
    if op == "rms_fwd":
        return {"y": x / np.sqrt(np.square(x).mean(axis=1, keepdims=True) + kind(EPS)) * weight}
    if op == "ln_bwd":
        x_hat = (x - wide["mean"]) * wide["rstd"]
        scaled = wide["dy"] * weight
        along = (scaled * x_hat).mean(axis=1, keepdims=True)
        dx = wide["rstd"] * (scaled - scaled.mean(axis=1, keepdims=True) - x_hat * along)
        return {
            "dx": dx,
            "dweight": (wide["dy"] * x_hat).sum(axis=0),
            "dbias": wide["dy"].sum(axis=0),
        }
    outputs = {}
    if op == "add_ln":
        # The sum is rounded to the dtype, and that is what is normalized.
        rounded = (inputs["x"] + inputs["residual"]).astype(inputs["x"].dtype)
        x = outputs["sum"] = rounded.astype(kind)
    mean, rstd = statistics(x)
    outputs["y"] = (x - mean) * rstd * weight + wide["bias"]
    return outputs | ({"mean": mean, "rstd": rstd} if op == "ln_fwd_stats" else {})
