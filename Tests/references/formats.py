"""Binary floating-point formats, and how far an exact value is from the nearest of theirs."""

from dataclasses import dataclass

import gmpy2
import numpy as np
from gmpy2 import mpq, mpz

RESIDUE_STEPS = 256
"""A residue counts 1/256 of the last place of the rounded value beside it."""


@dataclass(frozen=True)
class Format:
    """A binary floating-point format, stored as little-endian bits."""

    name: str
    precision: int  # significand bits, the hidden one included
    min_exponent: int  # of the last place of a subnormal
    max_exponent: int  # of the leading bit of the largest finite value
    bits: type  # the unsigned integer of its size

    @property
    def largest(self) -> float:
        return float((2 - mpq(2) ** (1 - self.precision)) * mpq(2) ** self.max_exponent)

    @property
    def smallest(self) -> float:
        return float(mpq(2) ** self.min_exponent)

    def encode(self, values) -> np.ndarray:
        """The bits of the values, each rounded to nearest even."""
        values = np.asarray(values, dtype=np.float64)
        if self.name != "bf16":
            float_type = {"f16": np.float16, "f32": np.float32, "f64": np.float64}[self.name]
            with np.errstate(over="ignore", under="ignore"):
                return values.astype(float_type).view(self.bits)
        # Rounding to float32 first could round twice: no value here is that close to a midpoint,
        # and an input is whatever it has become.
        wide = values.astype(np.float32).view(np.uint32)
        rounded = (wide + 0x7FFF + ((wide >> 16) & 1)) >> 16
        return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)

    def decode(self, bits: np.ndarray) -> np.ndarray:
        """The values of the bits, exactly, in float64."""
        if self.name == "bf16":
            return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        float_type = {"f16": np.float16, "f32": np.float32, "f64": np.float64}[self.name]
        return bits.view(float_type).astype(np.float64)

    def last_place(self, value: mpq) -> int:
        """The exponent of the last place of a value: what one unit of it is."""
        if value == 0:
            return self.min_exponent
        value = abs(value)
        exponent = value.numerator.bit_length() - value.denominator.bit_length()
        if value < mpq(2) ** exponent:
            exponent -= 1
        return max(exponent - self.precision + 1, self.min_exponent)

    def split(self, value) -> tuple[float, int]:
        """The nearest value of the format, and what is left in steps of 1/256 of its last place."""
        if not isinstance(value, mpq):
            return (np.nan if np.isnan(float(value)) else value), 0
        place = self.last_place(value)
        scaled = value / mpq(2) ** place
        whole = _round_half_even(scaled)
        try:
            nearest = float(mpq(whole) * mpq(2) ** place)
        except OverflowError:
            nearest = np.inf
        if abs(nearest) > self.largest:
            return (np.inf if whole > 0 else -np.inf), 0
        # The last place is that of the rounded value: one step up in exponent halves the count.
        residue_place = self.last_place(mpq(nearest))
        left = (value - mpq(nearest)) / mpq(2) ** residue_place * RESIDUE_STEPS
        return nearest, max(-128, min(127, int(_round_half_even(left))))


def _round_half_even(value: mpq) -> mpz:
    below = gmpy2.f_div(value.numerator, value.denominator)
    rest = value - below
    if rest > mpq(1, 2) or (rest == mpq(1, 2) and below % 2 == 1):
        below += 1
    return below


F32 = Format("f32", 24, -149, 127, np.uint32)
F64 = Format("f64", 53, -1074, 1023, np.uint64)
F16 = Format("f16", 11, -24, 15, np.uint16)
BF16 = Format("bf16", 8, -133, 127, np.uint16)
FORMATS = {f.name: f for f in (F32, F64, F16, BF16)}
