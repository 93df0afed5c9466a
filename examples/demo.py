"""The layer norm of demo.c from Python, beside NumPy's own formula."""

import statistics
import time
from pathlib import Path

import layernorm
import numpy as np

FOLDER = Path(__file__).resolve().parent / "data" / "minilm"
CALLS = 501
ALLOWED_ERROR = 3


def by_numpy(x, weight, bias, eps):
    centered = x - x.mean(axis=-1, keepdims=True)
    return centered / np.sqrt(x.var(axis=-1, keepdims=True) + eps) * weight + bias


def hard_rows():
    """What each input is, with 32 rows of it."""
    normal = np.random.default_rng(1).standard_normal((32, 1024))
    yield "mean 0, spread 1", normal
    yield "mean 1e3, spread 1", 1e3 + normal
    yield "mean 1e6, spread 1", 1e6 + normal
    yield "around 1e30", 1e30 * (1 + normal)


def largest_error(y, exact):
    """In units in the last place of float32 of max(|exact|, root mean square of exact's row)."""
    rms = np.sqrt((exact**2).mean(axis=-1, keepdims=True))
    _, exponent = np.frexp(np.maximum(np.abs(exact), rms))
    return (np.abs(y - exact) / np.ldexp(1.0, exponent - 24)).max()


def checked(error):
    if not error <= ALLOWED_ERROR:
        raise SystemExit(f"liblayernorm is {error:.2f} units off, more than {ALLOWED_ERROR}")
    return error


def microseconds(call):
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1000


def print_times(x, weight, bias, eps, exact):
    out = np.empty_like(x)
    ways = {
        "liblayernorm": lambda: layernorm.layer_norm(x, weight=weight, bias=bias, eps=eps),
        "liblayernorm, out=y": lambda: layernorm.layer_norm(
            x, weight=weight, bias=bias, eps=eps, out=out
        ),
        f"NumPy {np.__version__}": lambda: by_numpy(x, weight, bias, eps),
    }
    # Alternated, so that all meet the same state of the machine.
    times = [[microseconds(way) for way in ways.values()] for _ in range(CALLS)]
    medians = [statistics.median(t) for t in zip(*times)]
    ours, ours_into_y, numpy = (largest_error(way(), exact) for way in ways.values())
    print(f"{'':24}{'us per call':>14}{'largest error *':>18}")
    for name, median, error in zip(ways, medians, [checked(ours), checked(ours_into_y), numpy]):
        print(f"{name:24}{median:14.1f}{error:18.2f}")


def print_hard_rows():
    print(f"{'error * on 32 x 1024':24}{'liblayernorm':>14}{'NumPy':>18}")
    for name, rows in hard_rows():
        x = rows.astype(np.float32)
        exact = by_numpy(x.astype(np.float64), 1, 0, 1e-5)
        with np.errstate(over="ignore"):
            numpy = largest_error(by_numpy(x, 1, 0, 1e-5), exact)
        ours = checked(largest_error(layernorm.layer_norm(x), exact))
        print(f"{name:24}{ours:14.2f}{numpy:18,.2f}")


def main():
    header, *_ = (FOLDER / "sentences.txt").read_text().splitlines()
    rows, cols, eps = (float(number) for number in header.split())
    shape = int(rows), int(cols)
    x = np.fromfile(FOLDER / "x.f32", "<f4").reshape(shape)
    weight = np.fromfile(FOLDER / "weight.f32", "<f4")
    bias = np.fromfile(FOLDER / "bias.f32", "<f4")
    exact = np.fromfile(FOLDER / "y.f64", "<f8").reshape(shape)

    print(f"The same {shape[0]} x {shape[1]} from Python")
    print_times(x, weight, bias, eps, exact)
    print()
    print_hard_rows()


if __name__ == "__main__":
    main()
