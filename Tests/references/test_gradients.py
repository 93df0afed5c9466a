#!/usr/bin/env python3
"""Checks the exact gradients against central differences of y at 50 digits.

y is written down here anew, in mpmath; the loss is the sum of dy * y, whose derivatives are dx,
dweight and dbias. With a step of 1e-15 the differences are off by about 1e-30.
"""

import itertools

import mpmath
import numpy as np
from gmpy2 import mpq

import exact

mpmath.mp.dps = 50
STEP = mpmath.mpf("1e-15")
TOLERANCE = mpmath.mpf("1e-24")


def to_mp(value: mpq) -> mpmath.mpf:
    return mpmath.mpf(int(value.numerator)) / int(value.denominator)


def statistics(norm: str, row: list, eps) -> tuple[mpmath.mpf, mpmath.mpf]:
    mean = mpmath.fsum(row) / len(row) if norm == exact.LAYER else mpmath.mpf(0)
    variance = mpmath.fsum((value - mean) ** 2 for value in row) / len(row)
    return mean, 1 / mpmath.sqrt(variance + eps)


def loss(norm: str, x: list, weight: list, bias: list, dy: list, eps) -> mpmath.mpf:
    total = mpmath.mpf(0)
    for row, gradients in zip(x, dy):
        mean, rstd = statistics(norm, row, eps)
        for value, factor, shift, gradient in zip(row, weight, bias, gradients):
            total += gradient * ((value - mean) * rstd * factor + shift)
    return total


def detached_loss(
    row: list, constants: tuple, factors: list, dy: list, eps, detached: tuple[bool, bool]
) -> mpmath.mpf:
    """Of one row, where the mean, rstd or both stay what they are in `constants`. An rstd that does
    not is that of the row around that mean."""
    mean, rstd = statistics(exact.LAYER, row, eps)
    if detached[0]:
        mean = constants[0]
        variance = mpmath.fsum((value - mean) ** 2 for value in row) / len(row)
        rstd = 1 / mpmath.sqrt(variance + eps)
    if detached[1]:
        rstd = constants[1]
    return mpmath.fsum(g * f * (v - mean) * rstd for g, f, v in zip(dy, factors, row))


def check_detached(random: np.random.RandomState) -> int:
    """dx of DetachNorm and of AdaNorm, whose factors are constants; counts what it compares."""
    compared = 0
    for cols, eps, scale, *detached in itertools.product(
        (1, 2, 7), (1e-3, 1.0), (None, 1.5), (False, True), (False, True)
    ):
        x, dy = random.standard_normal((2, cols))
        normalized, _, rstd = exact.normalize(exact.LAYER, x, eps)
        factors = [mpq(value) for value in (1 + random.standard_normal(cols)).tolist()]
        if scale is not None:
            factors = exact.ada_factors(normalized, mpq(scale), mpq(0.3))
        gradients = [mpq(value) for value in dy.tolist()]
        found = exact.row_gradient(exact.LAYER, normalized, rstd, gradients, factors, *detached)
        row = [mpmath.mpf(value) for value in x.tolist()]
        constants = statistics(exact.LAYER, row, eps)
        others = [to_mp(value) for value in factors], [to_mp(value) for value in gradients]
        for index, value in enumerate(found):
            difference = central_difference(
                lambda v, c=constants, o=others, e=eps, d=tuple(detached): detached_loss(
                    v, c, *o, e, d
                ),
                row,
                index,
            )
            if abs(to_mp(value) - difference) > TOLERANCE:
                where = f"{cols} columns, eps {eps}, C {scale}, detached {detached}: dx[{index}]"
                raise SystemExit(f"{where} is {to_mp(value)}, not {difference}")
            compared += 1
    return compared


def central_difference(function, numbers: list, index: int) -> mpmath.mpf:
    above, below = list(numbers), list(numbers)
    above[index] += STEP
    below[index] -= STEP
    return (function(above) - function(below)) / (2 * STEP)


def differences(norm: str, x, weight, bias, dy, eps) -> dict[str, list]:
    rows, cols = len(x), len(weight)
    flat = [value for row in x for value in row]

    def reshaped(values):
        return [values[row * cols : (row + 1) * cols] for row in range(rows)]

    losses = {
        "dx": (lambda v: loss(norm, reshaped(v), weight, bias, dy, eps), flat),
        "dweight": (lambda v: loss(norm, x, v, bias, dy, eps), weight),
        "dbias": (lambda v: loss(norm, x, weight, v, dy, eps), bias),
    }
    return {
        name: [central_difference(function, at, index) for index in range(len(at))]
        for name, (function, at) in losses.items()
    }


def gradients(norm: str, x, weight, dy, eps) -> dict[str, list]:
    statistics = [exact.normalize(norm, row, eps) for row in x]
    normalized = [x_hat for x_hat, _, _ in statistics]
    dx = [
        exact.row_gradient(norm, x_hat, rstd, row, weight)
        for (x_hat, _, rstd), row in zip(statistics, dy)
    ]
    dweight, dbias = exact.parameter_gradients(normalized, dy, len(weight))
    return {"dx": [value for row in dx for value in row], "dweight": dweight, "dbias": dbias}


def main() -> None:
    random = np.random.RandomState(1)
    shapes = ((1, 1), (1, 2), (2, 3), (3, 7))
    compared = 0
    for norm, (rows, cols), mean, eps in itertools.product(
        (exact.LAYER, exact.RMS), shapes, (0.0, 1e3), (1e-5, 1.0)
    ):
        x = mean + random.standard_normal((rows, cols))
        weight, bias = 1 + random.standard_normal(cols), random.standard_normal(cols)
        dy = random.standard_normal((rows, cols))
        found = gradients(
            norm,
            x,
            [mpq(value) for value in weight.tolist()],
            [[mpq(value) for value in row] for row in dy.tolist()],
            eps,
        )
        numbers = [
            [[mpmath.mpf(value) for value in row] for row in matrix.tolist()] for matrix in (x, dy)
        ]
        vectors = [[mpmath.mpf(value) for value in vector.tolist()] for vector in (weight, bias)]
        expected = differences(norm, numbers[0], *vectors, numbers[1], mpmath.mpf(eps))
        for name, values in expected.items():
            for index, (value, difference) in enumerate(zip(found[name], values)):
                error = abs(to_mp(value) - difference)
                if error > TOLERANCE:
                    where = f"{norm} {rows} x {cols}, mean {mean}, eps {eps}: {name}[{index}]"
                    raise SystemExit(f"{where} is {to_mp(value)}, not {difference}")
                compared += 1
    compared += check_detached(random)
    print(f"{compared} gradients agree with central differences")


if __name__ == "__main__":
    main()
