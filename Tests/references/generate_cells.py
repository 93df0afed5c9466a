"""The references of the recurrent cells: cells.tsv and its .bin files.

As those of the norms, with two bytes more for each element of an output: the exponent of the unit
that its error is counted in, little-endian, or EXACTLY where no error is allowed. What a backward
step is given by the forward one are inputs: the nearest values to the exact gates and c, and to the
mean and rstd of x_gates, h_gates and that c. Its outputs are the exact gradients there: of these
gates and this c as they are, and of the exact statistics.
"""

import numpy as np
from tqdm import tqdm

from cell_cases import all_cases, results
from exact_cells import rational
from formats import Format
from store import Files, encoded

EXACTLY = -(2**15)
COLUMNS = ("op", "cell", "data", "flags", "rows", "hidden", "distribution", "eps")
TENSORS = ("x_gates", "h_gates", "h_prev", "c_prev", "mask", "x_weight", "x_bias", "h_weight")
TENSORS += ("h_bias", "c_weight", "c_bias", "dh", "dc", "h", "c", "gates", "mean", "rstd")
TENSORS += ("dx_gates", "dh_gates", "dh_prev", "dc_prev", "dx_weight", "dx_bias", "dh_weight")
TENSORS += ("dh_bias", "dc_weight", "dc_bias")


def units(sizes: np.ndarray, form: Format) -> bytes:
    places = [form.last_place(rational(size)) if size else EXACTLY for size in sizes.tolist()]
    return np.array(places, dtype="<i2").tobytes()


def add_cells(files: Files) -> None:
    lines = ["\t".join(COLUMNS + TENSORS)]
    for case in tqdm(all_cases(), unit="cell"):
        inputs = case.inputs()
        given, outputs = results(case, inputs)
        stem = f"cells.{case.data}"
        offsets = {
            tensor: files.add(f"{stem}.inputs.bin", bits.tobytes())
            for tensor, bits in (inputs | given).items()
        }
        for tensor, (values, sizes) in outputs.items():
            exact = [rational(value) for value in values.tolist()]
            blob = encoded(exact, case.format) + units(sizes, case.format)
            offsets[tensor] = files.add(f"{stem}.{case.op}.bin", blob)
        fields = [getattr(case, column) for column in COLUMNS]
        fields += [offsets.get(tensor, "-") for tensor in TENSORS]
        lines.append("\t".join(str(field) for field in fields))
    files.contents["cells.tsv"] = bytearray(("\n".join(lines) + "\n").encode())
