"""The layer norm of demo.c from Python, beside NumPy's own formula."""

import statistics
import time
from pathlib import Path

import layernorm
import numpy as np

FOLDER = Path(__file__).resolve().parent / "data" / "minilm"
CALLS = 501
PROMISED_ERROR = 3


def by_numpy(x, weight, bias, eps):
    centered = x - x.mean(axis=-1, keepdims=True)
    return centered / np.sqrt(x.var(axis=-1, keepdims=True) + eps) * weight + bias


def largest_error(y, exact):
    """In units in the last place of float32 of max(|exact|, root mean square of exact's row)."""
    rms = np.sqrt((exact**2).mean(axis=-1, keepdims=True))
    _, exponent = np.frexp(np.maximum(np.abs(exact), rms))
    return (np.abs(y - exact) / np.ldexp(1.0, exponent - 24)).max()


def microseconds(call):
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1000


def main():
    header, *_ = (FOLDER / "sentences.txt").read_text().splitlines()
    rows, cols, eps = int(header.split()[0]), int(header.split()[1]), float(header.split()[2])
    x = np.fromfile(FOLDER / "x.f32", "<f4").reshape(rows, cols)
    weight = np.fromfile(FOLDER / "weight.f32", "<f4")
    bias = np.fromfile(FOLDER / "bias.f32", "<f4")
    exact = np.fromfile(FOLDER / "y.f64", "<f8").reshape(rows, cols)
    out = np.empty_like(x)

    ways = {
        "liblayernorm": lambda: layernorm.layer_norm(x, weight=weight, bias=bias, eps=eps),
        "liblayernorm, out=y": lambda: layernorm.layer_norm(
            x, weight=weight, bias=bias, eps=eps, out=out
        ),
        f"NumPy {np.__version__}": lambda: by_numpy(x, weight, bias, np.float32(eps)),
    }
    errors = {name: largest_error(way(), exact) for name, way in ways.items()}
    # Alternated, so that all meet the same state of the machine.
    times = [[microseconds(way) for way in ways.values()] for _ in range(CALLS)]
    medians = dict(zip(ways, (statistics.median(t) for t in zip(*times, strict=True)), strict=True))

    print(f"The same {rows} x {cols} from Python")
    print(f"{'':24}{'us per call':>12}{'largest error *':>18}")
    for name in ways:
        print(f"{name:24}{medians[name]:12.1f}{errors[name]:18.2f}")
    if not max(errors["liblayernorm"], errors["liblayernorm, out=y"]) <= PROMISED_ERROR:
        raise SystemExit("liblayernorm is further from the reference than it promises")


if __name__ == "__main__":
    main()
