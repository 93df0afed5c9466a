"""What is run: the list of cases, and the inputs of each."""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import exact
from distributions import DISTRIBUTIONS, OF_DY, draw, has
from formats import FORMATS, Format

# The shapes of tensors: that of x, [cols], or [rows].
OF_X = ("x", "residual", "dy", "dsum", "sum", "y", "dx")
OF_COLS = ("x_bias", "weight", "bias", "dweight", "dbias")
FORWARD = ("layer_forward", "rms_forward", "layer_add_forward", "rms_add_forward")
BACKWARD = ("layer_backward", "rms_backward")
# C and k of AdaNorm: the defaults, and others.
ADA = {"ada": (1.0, 0.1), "ada_other": (-1.3, 0.45)}

# Flags of the header: 1 + weight is the weight; mean, and rstd, are constants in backward.
WEIGHT_OFFSET, DETACH_MEAN, DETACH_RSTD = 1, 8, 16
DETACHED = (DETACH_MEAN, DETACH_RSTD, DETACH_MEAN | DETACH_RSTD)
EPS = 1e-5
# Where 1e-5 would hide everything, or hides nothing: the values of eps that are run.
EPS_OF = {
    "constant": (EPS, 0.0),
    "subnormal": (EPS, 0.0),
    "1e-25": (0.0, 1e-12),
    "1e-200": (0.0,),
    "1e305": (EPS, 0.0),
}
BY_RULE = ("constant", "nonfinite")

WIDE = ("f32", "f64")
SHORT = (1, 2, 3, 7, 8, 15, 16, 17, 31, 63, 64, 65, 127)
MEDIUM = (384, 768, 1021)
FEW = (1, 2, 3, 8, 17, 63, 65)
NARROW = (1, 2, 3, 8, 15, 17, 33, 65)
LONG = ("N(0,1)", "mean 1e4", "one outlier")
ONLY_RMS = ("infinite", "zero rows")
ADDED = ("N(0,1)", "mean 1e3", "mean 1e4", "one outlier", "constant", "heavy tails", "subnormal")
ADDED += ("nonfinite", "1e30")
TRAINED = ("N(0,1)", "mean 1e3", "mean 1e4", "mean 1e6", "one outlier", "heavy tails", "subnormal")
TRAINED += ("nonfinite", "1e18", "1e30", *OF_DY)
# With values of the size of dx, which can be added to it with effect.
WITH_DSUM = ("N(0,1)", "mean 1e3", "one outlier", "heavy tails")


@dataclass(frozen=True)
class Case:
    """One case: everything but the data, which follows from it."""

    op: str
    data: str  # the files that it is in
    x_dtype: str
    y_dtype: str  # of dy, dsum and dx in a backward pass
    param_dtype: str
    rows: int
    cols: int
    distribution: str
    eps: float = EPS
    optional: tuple[str, ...] = ()  # inputs that may be absent
    flags: int = 0

    @property
    def norm(self) -> str:
        return exact.RMS if self.op.startswith("rms") else exact.LAYER

    @property
    def is_backward(self) -> bool:
        return self.op.endswith("_backward")

    @property
    def ada(self) -> tuple[float, float] | None:
        """C and k of AdaNorm, whose x^ is that of layer norm."""
        return ADA.get(re.sub("(_add)?_(forward|backward)$", "", self.op))

    @property
    def compute(self) -> Format:
        return FORMATS["f64" if self.x_dtype == "f64" else "f32"]

    @property
    def required(self) -> tuple[str, ...]:
        """The inputs that are drawn and always there."""
        return ("x", "dy") if self.is_backward else ("x",)

    def format_of(self, tensor: str) -> Format:
        dtypes = dict.fromkeys(("x", "residual", "x_bias", "sum"), self.x_dtype)
        dtypes |= dict.fromkeys(("y", "dy", "dsum", "dx"), self.y_dtype)
        dtypes |= dict.fromkeys(("weight", "bias", "dweight", "dbias"), self.param_dtype)
        return FORMATS[dtypes.get(tensor, self.compute.name)]

    def random(self, tensor: str) -> np.random.RandomState:
        # RandomState: its streams are frozen. Cases that agree in this key share their data.
        dtype = self.format_of(tensor).name
        shape = (self.rows, self.cols) if tensor in OF_X else (self.cols,)
        named = self.distribution if tensor in ("x", "residual") else ""
        if tensor == "dy" and self.distribution in OF_DY:
            named = self.distribution
        if tensor == "weight" and self.flags & WEIGHT_OFFSET:
            named = "offset"
        return np.random.RandomState(zlib.crc32(f"{tensor} {dtype} {shape} {named}".encode()))

    def inputs(self) -> dict[str, np.ndarray]:
        """The bits of each input that is drawn."""
        bits = {}
        for tensor in self.required + self.optional:
            form, random = self.format_of(tensor), self.random(tensor)
            if tensor in OF_X:
                values = draw(tensor, self.distribution, random, self.rows, self.cols, form)
                bits[tensor] = values
            else:
                mean = 1.0 if tensor == "weight" and not self.flags & WEIGHT_OFFSET else 0.0
                bits[tensor] = form.encode(mean + 0.5 * random.standard_normal(self.cols))
        return bits


def uniform(op: str, dtype: str, rows: int, cols: int, distribution: str, *rest) -> Case:
    """A case of one dtype throughout."""
    return Case(op, dtype, dtype, dtype, dtype, rows, cols, distribution, *rest)


def _params(weight: bool, bias: bool) -> tuple[str, ...]:
    return ("weight",) * weight + ("bias",) * bias


def layer_forward(dtype: str) -> Iterator[Case]:
    names = [name for name in DISTRIBUTIONS if name not in ONLY_RMS and has(FORMATS[dtype], name)]

    def case(distribution, rows, cols, eps=EPS, weight=False, bias=False):
        params = _params(weight, bias)
        return uniform("layer_forward", dtype, rows, cols, distribution, eps, params)

    for order, distribution in enumerate(names):
        by_rule = distribution in BY_RULE
        rows, short = (8, FEW) if by_rule else (2, SHORT)
        for eps in EPS_OF.get(distribution, (EPS,)):
            for index, cols in enumerate(short):
                variant = 1 + (order + index) % 3
                yield case(distribution, rows, cols, eps)
                yield case(distribution, rows, cols, eps, bool(variant & 1), bool(variant & 2))
        if by_rule:
            yield case(distribution, 8, 384, EPS, True, True)
            continue
        eps = EPS_OF.get(distribution, (EPS,))[0]
        for index, cols in enumerate(MEDIUM):
            this_turn = order % len(MEDIUM) == index
            if this_turn or dtype != "f64":  # float64 takes turns, to keep the files small
                yield case(distribution, 1, cols, eps)
            if this_turn:
                yield case(distribution, 1, cols, eps, True, True)
        if distribution in LONG or (dtype == "f32" and order % 2 == 0):
            yield case(distribution, 1, 4096, eps)
    for cols in (65, 768):
        for eps in (0.0, 1e-12, 1e3):
            yield case("N(0,1)", 2 if cols == 65 else 1, cols, eps, True, True)
    for cols in (1, 7, 17, 64) if dtype == "f32" else (1, 7, 17):
        yield case("N(0,1)", 333, cols, EPS, cols != 7, cols != 7)
    for cols in (1, 7, 768):
        yield case("N(0,1)", 0, cols, EPS, cols == 7, cols == 7)
    # float64 stays shorter, to keep the files small
    yield case("mean 1e4" if dtype in WIDE else "N(0,1)", 1, 16384 if dtype == "f64" else 65536)


def rms_forward(dtype: str) -> Iterator[Case]:
    names = [name for name in DISTRIBUTIONS if has(FORMATS[dtype], name)]
    # Weight absent, there, added to 1, and with a bias, which only the general call takes.
    variants = (((), 0), (("weight",), 0), (("weight",), WEIGHT_OFFSET), (("weight", "bias"), 0))
    for order, distribution in enumerate(names):
        rows = 8 if distribution in BY_RULE else 2
        for eps in EPS_OF.get(distribution, (EPS,)) if distribution != "constant" else (EPS,):
            for index, cols in enumerate(FEW):
                variant = variants[(order + index) % len(variants)]
                yield uniform("rms_forward", dtype, rows, cols, distribution, eps, *variant)
        cols = 65 if distribution in BY_RULE else MEDIUM[order % len(MEDIUM)]
        if dtype == "f32" or order % 3 == 0:
            yield uniform("rms_forward", dtype, rows, cols, distribution, eps, *variants[order % 2])
        if distribution in LONG and dtype == "f32":
            yield uniform("rms_forward", dtype, 1, 4096, distribution)
    for cols in (1, 7):
        yield uniform("rms_forward", dtype, 0, cols, "N(0,1)", EPS, ("weight",))


def add_forward(dtype: str) -> Iterator[Case]:
    names = [name for name in ADDED if has(FORMATS[dtype], name)]
    for op in ("layer_add_forward", "rms_add_forward"):
        params = ("weight", "bias") if op.startswith("layer") else ("weight",)
        for order, distribution in enumerate(names):
            by_rule = distribution in BY_RULE
            for index, cols in enumerate((1, 3, 17, 65)):
                optional = ("residual",) + params * ((order + index) % 2)
                if index % 2 and not by_rule:
                    optional = ("x_bias", *optional)
                rows = 8 if by_rule else 2
                yield uniform(op, dtype, rows, cols, distribution, EPS, optional)
        yield uniform(op, dtype, 1, 768, "N(0,1)", EPS, ("residual", *params))
        yield uniform(op, dtype, 1, 768, "mean 1e3", EPS, ("residual", "x_bias", *params))
        yield uniform(op, dtype, 2, 130, "N(0,1)", EPS, ("x_bias", *params))
        yield uniform(op, dtype, 0, 7, "N(0,1)", EPS, ("residual",))


def backward(dtype: str) -> Iterator[Case]:
    for op in BACKWARD:
        names = (*TRAINED, "constant") if op == "layer_backward" else (*TRAINED, *ONLY_RMS)
        variants = (((), 0), (("weight",), 0), (("weight",), WEIGHT_OFFSET))

        def case(distribution, rows, cols, eps, turn, op=op, variants=variants):
            optional, flags = variants[turn % 3]
            if distribution in WITH_DSUM and turn % 2:
                optional = (*optional, "dsum")
            return uniform(op, dtype, rows, cols, distribution, eps, optional, flags)

        for order, distribution in enumerate(name for name in names if has(FORMATS[dtype], name)):
            by_rule = distribution in BY_RULE or distribution in ONLY_RMS
            # With eps = 0 a constant row has a gradient only in one column.
            for eps in EPS_OF.get(distribution, (EPS,)):
                for index, cols in enumerate(NARROW):
                    rows = 8 if by_rule else (1, 2, 3, 5)[(order + index) % 4]
                    if not (distribution == "constant" and eps == 0 and cols > 1):
                        yield case(distribution, rows, cols, eps, order + index)
            if not by_rule and (dtype == "f32" or order % 3 == 0):
                eps = EPS_OF.get(distribution, (EPS,))[0]
                yield case(distribution, 1, MEDIUM[order % len(MEDIUM)], eps, order)
            if distribution in LONG:
                yield case(distribution, 17, 63, EPS, order + 1)
        yield case("N(0,1)", 1, 4096, EPS, 1)
        if dtype != "f64":
            yield case("mean 1e4" if dtype == "f32" else "one outlier", 1, 4096, EPS, 2)
        for rows, cols in ((17, 1), (64, 2), (64, 16), (0, 1), (0, 7), (0, 768)):
            yield case("N(0,1)", rows, cols, EPS, cols)
        yield case("mean 1e4", 333, 3, EPS, 1)
        for eps in (0.0, 1e3):
            yield case("N(0,1)", 3, 130, eps, 2)


def detach(dtype: str) -> Iterator[Case]:
    """Gradients with mean and rstd as constants."""
    names = ("N(0,1)", "mean 1e4", "nonfinite", "1e30", "1e305", next(iter(OF_DY)))
    for order, distribution in enumerate(name for name in names if has(FORMATS[dtype], name)):
        rows = 8 if distribution in BY_RULE else 3
        for index, cols in enumerate((1, 3, 33)):
            optional = (("weight",), ("weight", "dsum"), ())[(order + index) % 3]
            if distribution not in WITH_DSUM:
                optional = optional[:1]
            flags = DETACHED[(order + index + order // 3) % 3]
            case = rows, cols, distribution, EPS, optional
            yield uniform("layer_backward", dtype, *case, flags)
            if index % 2:
                yield uniform("rms_backward", dtype, *case, DETACH_RSTD)
    for flags in DETACHED:
        yield uniform("layer_backward", dtype, 9, 17, "N(0,1)", EPS, ("weight",), flags)
    yield uniform("rms_backward", dtype, 9, 17, "N(0,1)", EPS, ("weight",), DETACH_RSTD)


def ada(dtype: str) -> Iterator[Case]:
    """AdaNorm, which has neither weight nor bias."""
    names = ("N(0,1)", "mean 1e4", "one outlier", "constant", "subnormal", "nonfinite", "1e30")
    for order, distribution in enumerate(name for name in names if has(FORMATS[dtype], name)):
        rows = 8 if distribution in BY_RULE else 2
        for index, cols in enumerate((1, 3, 33)):
            turn = order + index
            op = tuple(ADA)[turn % 2]
            yield uniform(f"{op}_forward", dtype, rows, cols, distribution)
            if turn % 3 == 0:
                added = ("residual", "x_bias") if distribution not in BY_RULE else ("residual",)
                yield uniform("ada_add_forward", dtype, rows, cols, distribution, EPS, added)
            if distribution != "constant":
                optional = ("dsum",) if distribution in WITH_DSUM and turn % 2 else ()
                flags = (0, *DETACHED)[turn % 4]
                case = rows, cols, distribution, EPS, optional, flags
                yield uniform(f"{op}_backward", dtype, *case)
    for op in ADA:
        yield uniform(f"{op}_forward", dtype, 1, 384, "one outlier")
        for eps in (0.0, 1e3):
            yield uniform(f"{op}_backward", dtype, 3, 130, "N(0,1)", eps)
    yield uniform("ada_forward", dtype, 0, 7, "N(0,1)")
    yield uniform("ada_backward", dtype, 0, 7, "N(0,1)")


def mixed() -> Iterator[Case]:
    """Every x, y and parameter dtype."""
    combinations = [(x, y, param) for x in FORMATS for y in FORMATS for param in FORMATS]
    for dtypes in combinations:
        for cols, distribution in ((37, "N(0,1)"), (130, "mean 1e3")):
            params = ("weight", "bias")
            yield Case("layer_forward", "mixed", *dtypes, 2, cols, distribution, EPS, params)
    for turn, dtypes in enumerate(combinations):
        optional = ("weight", "dsum") if turn % 2 else ("weight",)
        op = BACKWARD[turn // 2 % 2]
        yield Case(op, "mixed", *dtypes, 3, 37, "mean 1e3", EPS, optional, turn % 3 % 2)
        if dtypes[2] == dtypes[0]:
            yield Case("ada_other_backward", "mixed", *dtypes, 3, 37, "mean 1e3")
            yield Case("ada_other_forward", "mixed", *dtypes, 2, 37, "N(0,1)")
        op = FORWARD[1 + turn % 3]
        optional = ("weight", "bias") + ("residual", "x_bias") * ("add" in op)
        yield Case(op, "mixed", *dtypes, 2, 37, "N(0,1)", EPS, optional, turn % 3 % 2)


def all_cases() -> list[Case]:
    kinds = (layer_forward, rms_forward, add_forward, backward, detach, ada)
    return [case for kind in kinds for dtype in FORMATS for case in kind(dtype)] + list(mixed())
