#!/usr/bin/env python3
"""Checks the exact gradients of the recurrent cells against central differences at 50 digits.

A step of a batch is written down here anew, in mpmath, by the formulas of Ba et al.; the loss is
the sum of dh * h and dc * c. With a step of 1e-15 the differences are off by about 1e-28.
"""

import itertools

import mpmath
import numpy as np

import exact_cells

mpmath.mp.dps = 50
STEP = mpmath.mpf("1e-15")
TOLERANCE = mpmath.mpf("1e-23")
EPS = 0.01
OF_ROW = ("x_gates", "h_gates", "h_prev", "c_prev", "dh", "dc")
OF_STATE = ("h_prev", "c_prev", "dh", "dc", "c_weight", "c_bias")
GRADIENTS = {
    "x_gates": "dx_gates",
    "h_gates": "dh_gates",
    "h_prev": "dh_prev",
    "c_prev": "dc_prev",
    **{f"{of}_{kind}": f"d{of}_{kind}" for of in "xhc" for kind in ("weight", "bias")},
}


def sigma(value):
    return 1 / (1 + mpmath.exp(-value))


def layer_norm(values, weight, bias):
    mean = mpmath.fsum(values) / len(values)
    variance = mpmath.fsum((value - mean) ** 2 for value in values) / len(values)
    deviation = mpmath.sqrt(variance + mpmath.mpf(EPS))
    return [(v - mean) / deviation * w + b for v, w, b in zip(values, weight, bias)]


def by_parts(values, weight, bias, lengths):
    """Layer norms of one part after the other."""
    ends = list(itertools.accumulate(lengths))
    parts = [slice(end - length, end) for end, length in zip(ends, lengths)]
    return [y for part in parts for y in layer_norm(values[part], weight[part], bias[part])]


def loss_of_row(cell, per_gate, n, v):
    """v: the vectors of one row, by name."""
    gates = exact_cells.GATES[cell]
    lengths = [n] * gates if per_gate else [2 * n, n] if cell == "gru" else [gates * n]
    a = by_parts(v["x_gates"], v["x_weight"], v["x_bias"], lengths)
    if cell == "rnn_tanh":
        return mpmath.fsum(d * mpmath.tanh(s) for d, s in zip(v["dh"], a))
    if cell == "rnn_relu":
        return mpmath.fsum(d * max(s, 0) for d, s in zip(v["dh"], a))
    b = by_parts(v["h_gates"], v["h_weight"], v["h_bias"], lengths)
    total = mpmath.mpf(0)
    if cell == "gru":
        for k in range(n):
            update, reset = sigma(a[k] + b[k]), sigma(a[n + k] + b[n + k])
            candidate = mpmath.tanh(a[2 * n + k] + reset * b[2 * n + k])
            total += v["dh"][k] * ((1 - update) * v["h_prev"][k] + update * candidate)
        return total
    s = [left + right for left, right in zip(a, b)]
    c = [
        sigma(s[k]) * v["c_prev"][k] + sigma(s[n + k]) * mpmath.tanh(s[3 * n + k]) for k in range(n)
    ]
    normal = layer_norm(c, v["c_weight"], v["c_bias"])
    for k in range(n):
        h = sigma(s[2 * n + k]) * mpmath.tanh(normal[k])
        total += v["dh"][k] * h + v["dc"][k] * c[k]
    return total


def drawn(cell: str, rows: int, hidden: int) -> dict[str, np.ndarray]:
    """Every input, of rows or one for all of them."""
    random = np.random.RandomState(rows * 10 + hidden)
    wide = exact_cells.GATES[cell] * hidden
    names = (*OF_ROW, *(f"{of}_{kind}" for of in "xhc" for kind in ("weight", "bias")))
    vectors = {}
    for name in names:
        cols = hidden if name in OF_STATE else wide
        vectors[name] = random.standard_normal((rows, cols) if name in OF_ROW else cols)
    return vectors


def exact_gradients(cell, per_gate, given) -> dict[str, np.ndarray]:
    vectors = {name: exact_cells.exactly(values) for name, values in given.items()}
    rows = [{name: vectors[name][row] for name in OF_ROW} for row in range(len(given["dh"]))]
    steps = [exact_cells.forward(cell, row, vectors, per_gate, EPS) for row in rows]
    found = [
        exact_cells.backward(cell, row, {"gates": s.gates, "c": s.c}, vectors, per_gate, EPS)
        for row, s in zip(rows, steps)
    ]
    return {
        name: np.concatenate([row[name] for row in found])
        if name in ("dx_gates", "dh_gates", "dh_prev", "dc_prev")
        else sum(row[name] for row in found)
        for name in GRADIENTS.values()
        if name in found[0]
    }


def differences(cell, per_gate, given, name) -> list:
    """The derivative of the loss by each element of an input."""
    rows, hidden = given["dh"].shape

    def loss(values):
        total = mpmath.mpf(0)
        for row in range(rows):
            vectors = {key: of[row] if key in OF_ROW else of for key, of in values.items()}
            total += loss_of_row(cell, per_gate, hidden, vectors)
        return total

    def to_mp(array):
        return np.array([mpmath.mpf(v) for v in array.ravel().tolist()], object)

    values = {key: to_mp(array).reshape(array.shape) for key, array in given.items()}
    found = []
    for index in np.ndindex(given[name].shape):
        at = values[name][index]
        values[name][index] = at + STEP
        above = loss(values)
        values[name][index] = at - STEP
        found.append((above - loss(values)) / (2 * STEP))
        values[name][index] = at
    return found


def main() -> None:
    compared = 0
    for cell, per_gate, (rows, hidden) in itertools.product(
        exact_cells.GATES, (False, True), ((1, 1), (2, 2), (2, 5))
    ):
        given = drawn(cell, rows, hidden)
        found = exact_gradients(cell, per_gate, given)
        for name, gradient in GRADIENTS.items():
            if gradient not in found:
                continue
            expected = differences(cell, per_gate, given, name)
            for index, (value, difference) in enumerate(zip(found[gradient], expected)):
                ratio = value.as_integer_ratio()
                value = mpmath.mpf(int(ratio[0])) / int(ratio[1])
                if abs(value - difference) > TOLERANCE:
                    where = f"{cell} {rows} x {hidden}, per gate {per_gate}: {gradient}[{index}]"
                    raise SystemExit(f"{where} is {value}, not {difference}")
                compared += 1
    print(f"{compared} gradients of cells agree with central differences")


if __name__ == "__main__":
    main()
