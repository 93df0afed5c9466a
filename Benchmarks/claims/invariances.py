#!/usr/bin/env python3
"""The invariances of normalized networks: table 1 of Ba, Kiros, Hinton 2016 (arXiv:1607.06450).

One layer of units, h = tanh(gain / sigma * (a - mu) + bias) with a = W x, is evaluated before and
after each of six changes of W or x. A normalization is invariant where no output moves:

    batch norm    mu and sigma of a unit over the cases
    weight norm   mu = 0, sigma the length of the unit's incoming weights
    layer norm    mu and sigma of a case over the units; by liblayernorm

    python invariances.py     prints the table
"""

from pathlib import Path

import layernorm
import numpy as np

UNITS = 64
ACTIVATIONS = Path(__file__).resolve().parents[2] / "examples/data/minilm"

PAPER = {
    "batch norm": (True, False, True, True, True, False),
    "weight norm": (True, False, True, False, False, False),
    "layer norm": (True, True, False, True, False, True),
}
"""The table: whether the output stays, for each of CHANGES."""

# What stays moves by the rounding of float64 alone, what does not is seen at once.
STAYS, MOVES = 1e-12, 1e-2


def batch_norm(w, x, gain, bias):
    a = x @ w.T
    return gain * (a - a.mean(0)) / a.std(0) + bias


def weight_norm(w, x, gain, bias):
    return gain * (x @ w.T) / np.linalg.norm(w, axis=1) + bias


def layer_norm(w, x, gain, bias):
    return layernorm.layer_norm(x @ w.T, weight=gain, bias=bias, eps=0.0)


NORMS = {"batch norm": batch_norm, "weight norm": weight_norm, "layer norm": layer_norm}


def _one(matrix, row, factor):
    changed = matrix.copy()
    changed[row] *= factor
    return changed


# What each makes of the weights w [units, inputs], the dataset x [cases, inputs], and a vector of
# inputs: the paper's gamma. The factors are no powers of two, which would leave every bit.
CHANGES = {
    "weight matrix re-scaling": lambda w, x, gamma: (3.7 * w, x),
    "weight matrix re-centering": lambda w, x, gamma: (w + gamma, x),
    "weight vector re-scaling": lambda w, x, gamma: (_one(w, 5, 3.7), x),
    "dataset re-scaling": lambda w, x, gamma: (w, 0.3 * x),
    "dataset re-centering": lambda w, x, gamma: (w, x + gamma),
    "single case re-scaling": lambda w, x, gamma: (w, _one(x, 5, 3.7)),
}


def activations() -> np.ndarray:
    """What enters a layer norm of all-MiniLM-L6-v2, a row for each token of some sentences."""
    rows, cols = map(int, (ACTIVATIONS / "sentences.txt").read_text().split()[:2])
    return np.fromfile(ACTIVATIONS / "x.f32", "<f4").reshape(rows, cols).astype(np.float64)


def measure(x: np.ndarray | None = None, seed: int = 0) -> dict[str, dict[str, float]]:
    """By norm and change, the most that an output of the layer moves, which is in (-1, 1).

    x: the dataset [cases, inputs], float64; None: activations()."""
    x = activations() if x is None else x
    random = np.random.default_rng(seed)
    w = random.normal(0, x.shape[1] ** -0.5, (UNITS, x.shape[1]))
    gain, bias = random.normal(1, 0.3, UNITS), random.normal(0, 0.3, UNITS)
    gamma = random.normal(0, x.shape[1] ** -0.5, x.shape[1])
    return {
        name: {
            change: float(
                np.abs(
                    np.tanh(norm(*changed(w, x, gamma), gain, bias))
                    - np.tanh(norm(w, x, gain, bias))
                ).max()
            )
            for change, changed in CHANGES.items()
        }
        for name, norm in NORMS.items()
    }


def verdicts(moved: dict[str, dict[str, float]]) -> dict[str, tuple[bool | None, ...]]:
    """The table that was measured: whether each output stays; None where it is neither."""

    def stays(most):
        return True if most < STAYS else False if most > MOVES else None

    return {norm: tuple(stays(most) for most in row.values()) for norm, row in moved.items()}


def markdown(moved: dict[str, dict[str, float]]) -> str:
    """The table as text: the verdicts, and how far the outputs moved."""
    words = {True: "yes", False: "no", None: "?"}
    lines = ["| stays the same? | " + " | ".join(CHANGES) + " |", "|---" * (1 + len(CHANGES)) + "|"]
    for norm, stay in verdicts(moved).items():
        cells = [f"{words[s]} ({most:.0e})" for s, most in zip(stay, moved[norm].values())]
        lines.append(f"| {norm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    moved = measure()
    print(markdown(moved))
    if verdicts(moved) != PAPER:
        raise SystemExit("which is not table 1 of Ba et al.")
    print("\nAll 18 entries are those of table 1 of Ba et al. In parentheses: the most that an")
    print("output in (-1, 1) moved.")


if __name__ == "__main__":
    main()
