"""Exact norms and their gradients: rationals on the very bits of the input.

Only the square root of rstd is not rational; it is taken to ROOT_BITS bits, which is 100 digits.
Sequences hold rationals; where IEEE arithmetic gives an infinity or NaN, they hold that.
"""

import gmpy2
import numpy as np
from gmpy2 import mpq, mpz

ROOT_BITS = 340
LAYER, RMS = "layer", "rms"


def root_of_inverse(value: mpq):
    """1/sqrt(value) of a rational, or infinity for zero."""
    if value == 0:
        return np.inf
    shift = ROOT_BITS + value.numerator.bit_length() // 2
    root = gmpy2.isqrt((value.denominator << (2 * shift)) // value.numerator)
    return mpq(root, mpz(1) << shift)


def normalize(norm: str, row: np.ndarray, eps: float):
    """One row without weight and bias, x^, and its statistics: (x^, mean, rstd)."""
    cols = len(row)
    if cols == 0:
        return [], np.nan, np.nan
    if not np.isfinite(row).all():
        return _normalize_nonfinite(norm, row)
    x = [mpq(value) for value in row.tolist()]
    mean = sum(x, mpq(0)) / cols if norm == LAYER else mpq(0)
    centered = [value - mean for value in x]
    variance = sum((value * value for value in centered), mpq(0)) / cols
    rstd = root_of_inverse(variance + mpq(eps))
    # A row of zeros with eps = 0 is 0/0 in the formula: the contract says exactly bias.
    return (centered if rstd == np.inf else [value * rstd for value in centered]), mean, rstd


def _normalize_nonfinite(norm: str, row: np.ndarray):
    """What IEEE arithmetic gives: the mean is infinite if all infinities agree, an infinite mean
    square has rstd 0, and the rest is NaN."""
    if norm == RMS and not np.isnan(row).any():
        return [np.nan if np.isinf(value) else mpq(0) for value in row.tolist()], np.nan, mpq(0)
    with np.errstate(invalid="ignore"):
        mean = float(np.sum(np.where(np.isfinite(row), 0.0, row)))
    return [np.nan] * len(row), mean, np.nan


def affine(normalized: list, weight, bias) -> list:
    """y of one row; weight and bias are sequences of rationals or None."""
    y = normalized
    if weight is not None:
        y = [value * factor for value, factor in zip(y, weight)]
    if bias is not None:
        y = [value + shift for value, shift in zip(y, bias)]
    return y


def ada_factors(normalized: list, scale, slope) -> list:
    """What AdaNorm multiplies x^ by: constants in its gradient."""
    return [scale * (1 - slope * value) for value in normalized]


def row_gradient(
    norm: str,
    normalized: list,
    rstd,
    dy: list,
    weight,
    detach_mean: bool = False,
    detach_rstd: bool = False,
) -> list:
    """dx of one row; the mean and rstd are constants where they are detached."""
    cols = len(normalized)
    g = dy if weight is None else [value * factor for value, factor in zip(dy, weight)]
    if cols == 1 and norm == LAYER and normalized == [0] and not detach_mean:
        return [0 * g[0]]  # also where eps = 0 makes rstd infinite
    has_mean = norm == LAYER and not detach_mean
    mean = sum(g, mpq(0)) / cols if has_mean else mpq(0)
    if detach_rstd:
        return [rstd * (a - mean) for a in g]
    projection = sum((a * b for a, b in zip(g, normalized)), mpq(0)) / cols
    return [rstd * (a - mean - b * projection) for a, b in zip(g, normalized)]


def column_sums(rows: list[list], cols: int) -> list:
    return [sum((row[column] for row in rows), mpq(0)) for column in range(cols)]


def parameter_gradients(normalized: list[list], dy: list[list], cols: int) -> tuple[list, list]:
    """dweight and dbias of all rows."""
    products = [[a * b for a, b in zip(*rows)] for rows in zip(dy, normalized)]
    return column_sums(products, cols), column_sums(dy, cols)
