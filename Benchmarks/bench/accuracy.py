"""The largest error of layer norm's y in float32, for inputs that are hard in one way each."""

import numpy as np

from .cases import Case, expected_outputs

ROWS, COLS = 32, 1024
CASE = Case("ln_fwd", "f32", 1, ROWS, COLS)
CONSTANT = "constant rows, |y - bias|"


def inputs():
    random = np.random.default_rng(0)

    def normal():
        return random.standard_normal((ROWS, COLS))

    channel = normal()
    channel[:, 17] = 1e4
    named = {
        "N(0,1)": normal(),
        "mean 1e3, spread 1": 1e3 + normal(),
        "mean 1e4, spread 0.1": 1e4 + normal() / 10,
        "mean 1e6, spread 1": 1e6 + normal(),
        "one channel at 1e4": channel,
        CONSTANT: np.tile(random.standard_normal((ROWS, 1)) * 1e4, (1, COLS)),
        "around 1e18": normal() * 1e18,
        "around 3e37": normal() * 3e37,
    }
    return {name: x.astype(np.float32) for name, x in named.items()}


def error(name, y, exact):
    """In units in the last place of max(|exact y|, root mean square of the exact row); for constant
    rows as it is. A word where it is no number."""
    if not np.isfinite(y).all():
        return "NaN"
    if name == CONSTANT:
        return float(np.abs(y).max())
    if not y.any():
        return "all zeros"
    row = np.sqrt(np.square(exact).mean(axis=1, keepdims=True))
    unit = np.spacing(np.maximum(np.abs(exact), row).astype(np.float32))
    return float((np.abs(y.astype(exact.dtype) - exact) / unit).max())


def measure(session, progress):
    """Errors by input and library."""
    results = {}
    for name, x in inputs().items():
        given = {"x": x, "weight": np.ones(COLS, np.float32), "bias": np.zeros(COLS, np.float32)}
        exact = expected_outputs(CASE.op, given, np.longdouble)["y"]
        ready, _ = session.prepare(CASE, given)
        results[name] = {lib: error(name, session.outputs(CASE, lib)["y"], exact) for lib in ready}
        session.finish(ready)
        progress()
    return results
