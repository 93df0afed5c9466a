#!/usr/bin/env python3
"""Writes the reference outputs: manifest.tsv and the .bin files beside it; and those of the cells,
which generate_cells.py describes.

    python generate.py            write them
    python generate.py --check    compute them again and compare with the files

A line of the manifest is a case. Its tensors are given as byte offsets, or "-" for absent: inputs
in <data>.inputs.bin as the bits of their dtype, outputs in <data>.<op>.bin as the bits of the
nearest value of their dtype, for all elements, followed by one signed byte for each element: what
is left to the exact value, in 1/256 of the last place of the nearest value.

The mean and rstd that a backward pass is given are inputs: the nearest values to the exact ones.
Its outputs are the gradients of the exact statistics nevertheless.
"""

import argparse
from pathlib import Path

import numpy as np
from gmpy2 import mpq
from tqdm import tqdm

import exact
from cases import DETACH_MEAN, DETACH_RSTD, WEIGHT_OFFSET, Case, all_cases
from formats import Format
from generate_cells import add_cells
from store import Files, encoded

HERE = Path(__file__).resolve().parent
COLUMNS = ("op", "data", "x_dtype", "y_dtype", "param_dtype", "flags", "rows", "cols")
COLUMNS += ("distribution", "eps")
TENSORS = ("x", "residual", "x_bias", "dy", "dsum", "weight", "bias")
TENSORS += ("mean", "rstd", "sum", "y", "dx", "dweight", "dbias")


def rationals(values, compute: Format) -> list:
    """Values as the computation sees them: rounded to its own precision."""
    rounded = compute.decode(compute.encode(values)).tolist()
    return [mpq(value) if np.isfinite(value) else value for value in rounded]


def rounded_sum(case: Case, values: dict[str, np.ndarray]) -> np.ndarray:
    """(x + x_bias) + residual in the arithmetic of the computation, rounded to the dtype of x."""
    precision = np.float64 if case.compute.name == "f64" else np.float32
    total = values["x"].astype(precision)
    with np.errstate(invalid="ignore"):
        for name in ("x_bias", "residual"):
            if name in values:
                total = total + values[name].astype(precision)
    form = case.format_of("sum")
    return form.decode(form.encode(total))


def results(case: Case, inputs: dict[str, np.ndarray]) -> dict[str, list]:
    """The exact values of every output, and of the mean and rstd that a backward pass is given."""
    values = {name: case.format_of(name).decode(bits) for name, bits in inputs.items()}
    for name in ("x", "residual", "dy", "dsum"):
        if name in values:
            values[name] = values[name].reshape(case.rows, case.cols)
    weight, bias = (
        rationals(values[name], case.compute) if name in values else None
        for name in ("weight", "bias")
    )
    if weight is not None and case.flags & WEIGHT_OFFSET:
        weight = [1 + value for value in weight]
    eps = float(case.compute.decode(case.compute.encode([case.eps]))[0])
    columns: dict[str, list] = {}
    x = values["x"]
    if "add" in case.op:
        x = rounded_sum(case, values)
        columns["sum"] = [mpq(v) if np.isfinite(v) else v for v in x.ravel().tolist()]
    normalized, mean, rstd = [], [], []
    for row in x:
        for column, value in zip((normalized, mean, rstd), exact.normalize(case.norm, row, eps)):
            column.append(value)
    factors = None
    if case.ada is not None:
        scale, slope = rationals(case.ada, case.compute)
        factors = [exact.ada_factors(row, scale, slope) for row in normalized]
    if not case.is_backward:
        columns["y"] = [
            v
            for index, row in enumerate(normalized)
            for v in exact.affine(row, factors[index] if factors else weight, bias)
        ]
    if case.norm == exact.LAYER:
        columns["mean"] = mean
    columns["rstd"] = rstd
    if not case.is_backward:
        return columns
    dy = [rationals(row, case.compute) for row in values["dy"]]
    columns["dx"] = []
    for row in range(case.rows):
        dx = exact.row_gradient(
            case.norm,
            normalized[row],
            rstd[row],
            dy[row],
            factors[row] if factors else weight,
            bool(case.flags & DETACH_MEAN),
            bool(case.flags & DETACH_RSTD),
        )
        if "dsum" in values:
            dx = [a + b for a, b in zip(dx, rationals(values["dsum"][row], case.compute))]
        columns["dx"] += dx
    if case.ada is None:
        columns["dweight"], columns["dbias"] = exact.parameter_gradients(normalized, dy, case.cols)
    return columns


def generate() -> dict[str, bytes]:
    cases = all_cases()
    files = Files()
    lines = ["\t".join(COLUMNS + TENSORS)]
    elements = sum(case.rows * case.cols for case in cases)
    with tqdm(total=elements, unit="element", unit_scale=True) as progress:
        for case in cases:
            inputs = case.inputs()
            offsets: dict[str, int] = {}
            given = f"{case.data}.inputs.bin"
            for tensor, bits in inputs.items():
                offsets[tensor] = files.add(given, bits.tobytes())
            for tensor, values in results(case, inputs).items():
                form = case.format_of(tensor)
                if case.is_backward and tensor in ("mean", "rstd"):
                    nearest = form.encode([form.split(value)[0] for value in values])
                    offsets[tensor] = files.add(given, nearest.tobytes())
                else:
                    blob = encoded(values, form)
                    offsets[tensor] = files.add(f"{case.data}.{case.op}.bin", blob)
            fields = [getattr(case, column) for column in COLUMNS]
            fields += [offsets.get(tensor, "-") for tensor in TENSORS]
            lines.append("\t".join(str(field) for field in fields))
            progress.update(case.rows * case.cols)
    files.contents["manifest.tsv"] = bytearray(("\n".join(lines) + "\n").encode())
    add_cells(files)
    return {name: bytes(content) for name, content in files.contents.items()}


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
