"""What is run of the recurrent cells: the list of cases, their inputs and their exact outputs."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import exact_cells
from distributions import NORMAL, draw
from formats import FORMATS, Format

FORWARD, BACKWARD = "cell_forward", "cell_backward"
OF_PRODUCTS = ("x_gates", "h_gates")
OF_ROWS = ("h_prev", "c_prev", "dh", "dc")
PARAMS = ("x_weight", "x_bias", "h_weight", "h_bias", "c_weight", "c_bias")
PER_GATE = 32
"""The flag of the header: each gate is normalized by itself."""
EPS = 1e-5

# What is there beside the products, and the flags.
EVERYTHING = ("h_prev", "c_prev", "dc", *PARAMS)
VARIANTS = (
    (EVERYTHING, 0),
    ((), PER_GATE),
    ((*EVERYTHING, "mask"), 0),
    (EVERYTHING, PER_GATE),
    (("c_prev", "x_weight", "h_weight", "c_weight", "mask"), PER_GATE),
    (("h_prev", "dc", "x_bias", "h_bias", "c_bias"), 0),
    ((), 0),
)
# What the products are filled with, and eps.
KINDS = {
    "N(0,1)": EPS,
    "mean 1e3": EPS,
    "mean 1e4": EPS,
    "one outlier": EPS,
    "heavy tails": EPS,
    "small": EPS,
    "huge": EPS,
    "tiny": 0.0,
    "saturated": EPS,
}
SCALES = {"small": (1e-3, 1e-3), "huge": (1e30, 1e200), "tiny": (1e-25, 1e-200)}
# The weights of "saturated": most gates are then 0 or 1, or round to it.
STEEP = 20.0


@dataclass(frozen=True)
class CellCase:
    """One step: everything but the data, which follows from it."""

    op: str
    cell: str
    data: str  # the dtype of every tensor, and the files that it is in
    flags: int
    rows: int
    hidden: int
    distribution: str
    eps: float
    optional: tuple[str, ...]

    @property
    def format(self) -> Format:
        return FORMATS[self.data]

    @property
    def rounded_eps(self) -> float:
        return float(self.format.decode(self.format.encode([self.eps]))[0])

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs that are drawn; what the cell does not have is left out."""
        lacks = {
            "rnn_tanh": ("c_prev", "dc", "h_weight", "h_bias", "c_weight", "c_bias"),
            "lstm": (),
            "gru": ("c_prev", "dc", "c_weight", "c_bias"),
        }
        lacking = set(lacks.get(self.cell, lacks["rnn_tanh"]))
        if self.op == FORWARD:
            lacking |= {"dh", "dc"}
        return tuple(n for n in (*OF_PRODUCTS, "dh", *self.optional) if n not in lacking)

    def inputs(self) -> dict[str, np.ndarray]:
        """The bits of each of them."""
        return {name: self._drawn(name) for name in self.names}

    def _drawn(self, name: str) -> np.ndarray:
        if name == "mask":  # any value but 0 is a one
            rows = np.arange(self.rows, dtype=np.uint8)
            return np.where(rows % 3 == 1, 0, rows + 1).astype(np.uint8)
        form, wide = self.format, exact_cells.GATES[self.cell] * self.hidden
        shape = (self.rows, self.hidden) if name in OF_ROWS else (self.rows, wide)
        if name in PARAMS:
            shape = (self.hidden if name.startswith("c") else wide,)
        steep = self.distribution == "saturated" and name in ("x_weight", "h_weight")
        kind = self.distribution if name in OF_PRODUCTS or steep else ""
        key = f"{name} {self.data} {shape} {kind}"
        random = np.random.RandomState(zlib.crc32(key.encode()))
        if name in PARAMS:
            mean, spread = (1.0, 0.5) if "weight" in name else (0.0, 0.5)
            values = mean + spread * random.standard_normal(shape)
            return form.encode(STEEP * values if steep else values)
        if name in OF_ROWS:
            return form.encode(random.standard_normal(shape))
        if kind in SCALES:
            return form.encode(SCALES[kind][self.data == "f64"] * NORMAL(random, *shape, form))
        return draw("x", kind, random, *shape, form)


def _values(case: CellCase, inputs: dict[str, np.ndarray]) -> tuple[list[dict], dict]:
    """The exact rows and parameters; what is absent is zeros, a weight ones."""
    form, wide = case.format, exact_cells.GATES[case.cell] * case.hidden
    decoded = {name: form.decode(bits) for name, bits in inputs.items() if name != "mask"}
    if case.cell.startswith("rnn"):  # the products are added and rounded first
        precision = np.float64 if case.data == "f64" else np.float32
        total = sum(decoded[name].astype(precision) for name in OF_PRODUCTS)
        decoded["x_gates"] = total.astype(np.float64)
    for name in OF_ROWS:
        decoded.setdefault(name, np.zeros((case.rows, case.hidden)))
    for name in PARAMS:
        absent = np.full(case.hidden if name[0] == "c" else wide, float("weight" in name))
        decoded.setdefault(name, absent)
    vectors = {name: exact_cells.exactly(values) for name, values in decoded.items()}
    rows = [
        {name: vectors[name][row] for name in (*OF_PRODUCTS, *OF_ROWS)} for row in range(case.rows)
    ]
    return rows, {name: vectors[name] for name in PARAMS}


Outputs = dict[str, tuple[np.ndarray, np.ndarray]]
"""By name, the exact values beside their sizes: what one unit of an error is that of. A size of 0
says that the value is met exactly."""


def results(case: CellCase, inputs: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Outputs]:
    """The bits of what a backward step is given by the forward one, and the outputs."""
    rows, params = _values(case, inputs)
    mask = inputs.get("mask", np.ones(case.rows))
    per_gate, eps = case.flags == PER_GATE, case.rounded_eps
    steps = [exact_cells.forward(case.cell, row, params, per_gate, eps) for row in rows]
    if case.op == FORWARD:
        each = [_forward_row(case, *of) for of in zip(rows, steps, mask)]
        return {}, {name: _stacked([row[name] for row in each]) for name in each[0]}
    given: dict[str, list[np.ndarray]] = {}
    gradients, terms = [], []
    for row, step, there in zip(rows, steps, mask):
        saved, statistics = _saved_row(case, row, step, params, there)
        for name, values in (saved | statistics).items():
            given.setdefault(name, []).append(values)
        exact = {name: exact_cells.exactly(values) for name, values in saved.items()}
        of_row = exact_cells.backward(case.cell, row, exact, params, per_gate, eps)
        copied = {"dh_prev": row["dh"], "dc_prev": row["dc"]}
        gradients.append(_sized(of_row) if there else _masked(of_row, copied))
        if there:
            terms.append(of_row)
    outputs: Outputs = {}
    for name in gradients[0]:
        if name in ("dx_gates", "dh_gates", "dh_prev", "dc_prev"):
            outputs[name] = _stacked([row[name] for row in gradients])
        else:
            outputs |= _sized({name: sum(row[name] for row in terms)})
    return {name: case.format.encode(np.concatenate(v)) for name, v in given.items()}, outputs


def _forward_row(case: CellCase, row: dict, step: exact_cells.Step, there) -> Outputs:
    values = {"h": step.h, "c": step.c, "gates": step.gates}
    if case.cell != "lstm":
        del values["c"]
    if case.cell.startswith("rnn"):
        del values["gates"]  # they are h
    statistics = {
        "mean": np.array([mean for norm in step.norms for mean in norm.mean], object),
        "rstd": np.array([rstd for norm in step.norms for rstd in norm.rstd], object),
    }
    if not there:
        return _masked(values | statistics, {"h": row["h_prev"], "c": row["c_prev"]})
    return _sized(values) | {name: (of, abs(of)) for name, of in statistics.items()}


def _sized(values: dict[str, np.ndarray]) -> Outputs:
    """The size of each is |value| or the root mean square of the row, or of the gradient of a
    parameter, whichever is larger; of the gradient of a norm over two elements, which its
    projection all but takes away, at least that of what it is taken from."""
    sized: Outputs = {}
    for name, row in values.items():
        if not name.endswith(" size"):
            size = np.maximum(abs(row), exact_cells.root_mean_square(row))
            sized[name] = (row, np.maximum(size, values.get(f"{name} size", size)))
    return sized


def _masked(values: dict[str, np.ndarray], copied: dict[str, np.ndarray]) -> Outputs:
    """What is copied, and zeros."""
    return {
        name: (copied.get(name, 0 * of), 0 * of)
        for name, of in values.items()
        if not name.endswith(" size")
    }


def _saved_row(case: CellCase, row: dict, step: exact_cells.Step, params: dict, there):
    """The nearest values of what a forward step leaves: gates and c; mean and rstd. Those of c are
    of the c that is given."""

    def nearest(values):
        return np.array([case.format.split(exact_cells.rational(v))[0] for v in values])

    rnn = case.cell.startswith("rnn")
    saved = {"gates": nearest(step.gates if there else row["h_prev"] if rnn else 0 * step.gates)}
    norms = step.norms
    if case.cell == "lstm":
        saved["c"] = nearest(step.c if there else row["c_prev"])
        of_c = exact_cells.of_state(exact_cells.exactly(saved["c"]), params, case.rounded_eps)
        norms = [*norms[:2], of_c]
    statistics = {
        "mean": nearest([mean for norm in norms for mean in norm.mean]),
        "rstd": nearest([rstd for norm in norms for rstd in norm.rstd]),
    }
    return saved, {name: values * bool(there) for name, values in statistics.items()}


def _stacked(rows: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([values for values, _ in rows]), np.concatenate([s for _, s in rows])


def _steps(data: str) -> Iterator[tuple]:
    """All but op and cell: (data, flags, rows, hidden, distribution, eps, optional)."""
    turn = 0
    for order, (kind, eps) in enumerate(KINDS.items()):
        for index, hidden in enumerate((1, 2, 5, 17)):
            turn += 1
            every_second = data == "f64" and (order + index) % 2  # which keeps the files small
            if every_second or (eps == 0 and hidden < 5):
                continue
            optional, flags = VARIANTS[turn % len(VARIANTS)]
            yield data, flags, 3, hidden, kind, eps, optional
    yield data, 0, 20, 3, "N(0,1)", EPS, (*EVERYTHING, "mask")
    yield data, PER_GATE, 1, 64, "mean 1e3", EPS, EVERYTHING
    if data == "f32":
        yield data, 0, 1, 256, "N(0,1)", EPS, EVERYTHING


def all_cases() -> list[CellCase]:
    return [
        CellCase(op, cell, *step)
        for op in (FORWARD, BACKWARD)
        for cell in exact_cells.GATES
        for data in ("f32", "f64")
        for step in _steps(data)
    ]
