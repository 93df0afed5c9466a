#!/usr/bin/env python3
"""Writes the reference outputs: manifest.tsv and the .bin files beside it.

    python generate.py            write them
    python generate.py --check    compute them again and compare with the files

A line of the manifest is a case. Its tensors are given as byte offsets, or "-" for absent: inputs
in <data>.inputs.bin as the bits of their dtype, outputs in <data>.<op>.bin as the bits of the
nearest value of their dtype, for all elements, followed by one signed byte for each element: what
is left to the exact value, in 1/256 of the last place of the nearest value.
"""

import argparse
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gmpy2 import mpq
from tqdm import tqdm

import exact
from distributions import distributions_of, draw
from exact import FORMATS, Format

HERE = Path(__file__).resolve().parent
INPUTS = ("x", "weight", "bias")
OUTPUTS = ("y", "mean", "rstd")
COLUMNS = ("op", "data", "x_dtype", "y_dtype", "param_dtype", "rows", "cols", "distribution", "eps")

SHORT = (1, 2, 3, 7, 8, 15, 16, 17, 31, 63, 64, 65, 127)
MEDIUM = (384, 768, 1021)
FEW = (1, 2, 3, 8, 17, 63, 65)
LONG = ("N(0,1)", "mean 1e4", "one outlier")
EPS = 1e-5
# Where 1e-5 would hide everything, or hides nothing: the values of eps that are run.
EPS_OF = {
    "constant": (EPS, 0.0),
    "subnormal": (EPS, 0.0),
    "1e-25": (0.0, 1e-12),
    "1e-200": (0.0,),
    "1e305": (EPS, 0.0),
}


@dataclass(frozen=True)
class Case:
    """One case: everything but the data, which follows from it."""

    op: str
    data: str  # the files that it is in
    x_dtype: str
    y_dtype: str
    param_dtype: str
    rows: int
    cols: int
    distribution: str
    eps: float
    weight: bool
    bias: bool

    @property
    def compute(self) -> Format:
        return FORMATS["f64" if self.x_dtype == "f64" else "f32"]

    def format_of(self, tensor: str) -> Format:
        dtypes = {"x": self.x_dtype, "y": self.y_dtype}
        dtypes |= {"weight": self.param_dtype, "bias": self.param_dtype}
        return FORMATS[dtypes.get(tensor, self.compute.name)]

    def random(self, tensor: str) -> np.random.RandomState:
        # RandomState: its streams are frozen. Cases that agree in this key share their data.
        dtype = self.format_of(tensor).name
        shape = (self.rows, self.cols) if tensor == "x" else (self.cols,)
        key = f"{tensor} {dtype} {shape} {self.distribution if tensor == 'x' else ''}"
        return np.random.RandomState(zlib.crc32(key.encode()))

    def inputs(self) -> dict[str, np.ndarray]:
        """The bits of each input."""
        form = self.format_of("x")
        x = draw(self.distribution, self.random("x"), self.rows, self.cols, form)
        bits = {"x": x}
        for tensor, mean, present in (("weight", 1.0, self.weight), ("bias", 0.0, self.bias)):
            if present:
                values = mean + 0.5 * self.random(tensor).standard_normal(self.cols)
                bits[tensor] = self.format_of(tensor).encode(values)
        return bits


def of_dtype(dtype: str) -> list[Case]:
    """The cases of one dtype throughout."""

    def add(distribution, rows, cols, eps=EPS, weight=False, bias=False):
        shape = (rows, cols, distribution, eps, weight, bias)
        cases.append(Case("layer_forward", dtype, dtype, dtype, dtype, *shape))

    cases: list[Case] = []
    for order, distribution in enumerate(distributions_of(FORMATS[dtype])):
        by_rule = distribution in ("constant", "nonfinite")
        rows, short = (8, FEW) if by_rule else (2, SHORT)
        for eps in EPS_OF.get(distribution, (EPS,)):
            for index, cols in enumerate(short):
                variant = 1 + (order + index) % 3
                add(distribution, rows, cols, eps)
                add(distribution, rows, cols, eps, bool(variant & 1), bool(variant & 2))
        if by_rule:
            add(distribution, 8, 384, EPS, True, True)
            continue
        eps = EPS_OF.get(distribution, (EPS,))[0]
        for index, cols in enumerate(MEDIUM):
            this_turn = order % len(MEDIUM) == index
            if this_turn or dtype != "f64":  # float64 takes turns, to keep the files small
                add(distribution, 1, cols, eps)
            if this_turn:
                add(distribution, 1, cols, eps, True, True)
        if distribution in LONG or (dtype == "f32" and order % 2 == 0):
            add(distribution, 1, 4096, eps)
    for cols in (65, 768):
        for eps in (0.0, 1e-12, 1e3):
            add("N(0,1)", 2 if cols == 65 else 1, cols, eps, True, True)
    for cols in (1, 7, 17, 64) if dtype == "f32" else (1, 7, 17):
        add("N(0,1)", 333, cols, EPS, cols != 7, cols != 7)
    for cols in (1, 7, 768):
        add("N(0,1)", 0, cols, EPS, cols == 7, cols == 7)
    add("mean 1e4" if dtype in ("f32", "f64") else "N(0,1)", 1, 65536)
    return cases


def mixed() -> list[Case]:
    """Every x, y and parameter dtype."""
    return [
        Case("layer_forward", "mixed", x, y, param, 2, cols, distribution, EPS, True, True)
        for x in FORMATS
        for y in FORMATS
        for param in FORMATS
        for cols, distribution in ((37, "N(0,1)"), (130, "mean 1e3"))
    ]


def rationals(bits: np.ndarray, form: Format, compute: Format) -> list[mpq]:
    """The values as the computation sees them: rounded to its own precision."""
    return [mpq(v) for v in compute.decode(compute.encode(form.decode(bits))).tolist()]


def outputs(case: Case, inputs: dict[str, np.ndarray]) -> dict[str, list]:
    x = case.format_of("x").decode(inputs["x"])
    weight, bias = (
        rationals(inputs[name], case.format_of(name), case.compute) if name in inputs else None
        for name in ("weight", "bias")
    )
    eps = float(case.compute.decode(case.compute.encode([case.eps]))[0])
    columns: dict[str, list] = {tensor: [] for tensor in OUTPUTS}
    for row in x:
        y, mean, rstd = exact.layer_forward(row, weight, bias, eps)
        columns["y"] += y
        columns["mean"].append(mean)
        columns["rstd"].append(rstd)
    return columns


class Files:
    """The binary files in the making. Equal blobs are stored once."""

    def __init__(self):
        self.contents: dict[str, bytearray] = {}
        self.known: dict[tuple[str, bytes], int] = {}

    def add(self, name: str, blob: bytes) -> int:
        content = self.contents.setdefault(name, bytearray())
        if (name, blob) not in self.known:
            self.known[name, blob] = len(content)
            content += blob
        return self.known[name, blob]


def encoded(values: list, form: Format) -> bytes:
    pairs = [form.split(value) for value in values]
    nearest = form.encode([pair[0] for pair in pairs])
    residues = np.array([pair[1] for pair in pairs], dtype=np.int8)
    return nearest.tobytes() + residues.tobytes()


def generate() -> dict[str, bytes]:
    cases = [case for dtype in FORMATS for case in of_dtype(dtype)] + mixed()
    files = Files()
    lines = ["\t".join(COLUMNS + INPUTS + OUTPUTS)]
    elements = sum(case.rows * case.cols for case in cases)
    with tqdm(total=elements, unit="element", unit_scale=True) as progress:
        for case in cases:
            inputs = case.inputs()
            offsets: dict[str, int] = {}
            for tensor, bits in inputs.items():
                offsets[tensor] = files.add(f"{case.data}.inputs.bin", bits.tobytes())
            for tensor, values in outputs(case, inputs).items():
                blob = encoded(values, case.format_of(tensor))
                offsets[tensor] = files.add(f"{case.data}.{case.op}.bin", blob)
            fields = [getattr(case, column) for column in COLUMNS]
            fields += [offsets.get(tensor, "-") for tensor in INPUTS + OUTPUTS]
            lines.append("\t".join(str(field) for field in fields))
            progress.update(case.rows * case.cols)
    contents = {name: bytes(content) for name, content in files.contents.items()}
    contents["manifest.tsv"] = ("\n".join(lines) + "\n").encode()
    return contents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the files, write none")
    check = parser.parse_args().check
    contents = generate()
    for name, content in contents.items():
        if check and (HERE / name).read_bytes() != content:
            raise SystemExit(f"{name} is not what the generator makes")
        if not check:
            (HERE / name).write_bytes(content)
        print(f"{name}: {len(content)} bytes")
    print(f"all files: {sum(map(len, contents.values()))} bytes")


if __name__ == "__main__":
    main()
