"""Exact steps of the layer-normalized recurrent cells and their gradients, to PRECISION bits.

Vectors are NumPy arrays of gmpy2's mpfr, one row of a batch each; the row of a product holds its
gates one after the other, in the order f, i, o, g or z, r, n. An absent parameter is a vector of
ones or zeros.
"""

from dataclasses import dataclass

import gmpy2
import numpy as np
from gmpy2 import mpfr, mpq

PRECISION = 400
GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3}

gmpy2.get_context().precision = PRECISION
tanh = np.frompyfunc(gmpy2.tanh, 1, 1)
logistic = np.frompyfunc(lambda value: 1 / (1 + gmpy2.exp(-value)), 1, 1)


def exactly(values) -> np.ndarray:
    """The very values of floats."""
    values = np.asarray(values, dtype=np.float64)
    return np.array([mpfr(value) for value in values.ravel().tolist()], object).reshape(
        values.shape
    )


def rational(value: mpfr) -> mpq:
    return mpq(*value.as_integer_ratio())


def root_mean_square(values: np.ndarray) -> mpfr:
    return gmpy2.sqrt((values * values).sum() / len(values))


def spans(cell: str, hidden: int, per_gate: bool) -> list[slice]:
    """What the norms of one product range over."""
    gates = [slice(gate * hidden, (gate + 1) * hidden) for gate in range(GATES[cell])]
    if per_gate:
        return gates
    return [slice(0, 2 * hidden), gates[2]] if cell == "gru" else [slice(0, GATES[cell] * hidden)]


@dataclass
class Normalized:
    """The norms of one row of a product."""

    spans: list[slice]
    x_hat: np.ndarray
    mean: list[mpfr]
    rstd: list[mpfr]
    weight: np.ndarray
    y: np.ndarray

    def gradient(self, dy: np.ndarray) -> np.ndarray:
        """That of what was normalized, from that of y."""
        dx = dy.copy()
        for span, rstd in zip(self.spans, self.rstd):
            x_hat, g = self.x_hat[span], dy[span] * self.weight[span]
            count = len(g)
            dx[span] = rstd * (g - g.sum() / count - x_hat * ((g * x_hat).sum() / count))
        return dx

    def left_by_projection(self, dy: np.ndarray) -> np.ndarray:
        """The root mean square of rstd * g in norms over two elements; 0 in others."""
        sizes = 0 * dy
        for span, rstd in zip(self.spans, self.rstd):
            if len(dy[span]) == 2:
                sizes[span] = root_mean_square(rstd * dy[span] * self.weight[span])
        return sizes


def normalize(row: np.ndarray, ranges: list[slice], weight, bias, eps) -> Normalized:
    x_hat, means, rstds = row.copy(), [], []
    for span in ranges:
        x = row[span]
        mean = x.sum() / len(x)
        centered = x - mean
        rstd = 1 / gmpy2.sqrt((centered * centered).sum() / len(x) + mpfr(eps))
        x_hat[span] = centered * rstd
        means.append(mean)
        rstds.append(rstd)
    return Normalized(ranges, x_hat, means, rstds, weight, x_hat * weight + bias)


@dataclass
class Step:
    """What a cell makes of one row."""

    h: np.ndarray
    c: np.ndarray | None
    gates: np.ndarray
    norms: list[Normalized]  # of x_gates, h_gates and c, as far as the cell has them


def products(cell: str, row: dict, params: dict, per_gate: bool, eps) -> list[Normalized]:
    """The norms of x_gates, for the RNN of the sum of both products, and of h_gates."""
    ranges = spans(cell, len(row["h_prev"]), per_gate)
    return [
        normalize(row[f"{of}_gates"], ranges, params[f"{of}_weight"], params[f"{of}_bias"], eps)
        for of in ("x" if cell.startswith("rnn") else "xh")
    ]


def of_state(c: np.ndarray, params: dict, eps) -> Normalized:
    return normalize(c, [slice(0, len(c))], params["c_weight"], params["c_bias"], eps)


def forward(cell: str, row: dict, params: dict, per_gate: bool, eps) -> Step:
    hidden = len(row["h_prev"])
    norms = products(cell, row, params, per_gate, eps)
    if cell == "rnn_tanh":
        h = tanh(norms[0].y)
        return Step(h, None, h, norms)
    if cell == "rnn_relu":
        h = np.maximum(norms[0].y, mpfr(0))
        return Step(h, None, h, norms)
    if cell == "lstm":
        f, i, o, g = (norms[0].y + norms[1].y).reshape(4, hidden)
        f, i, o, g = logistic(f), logistic(i), logistic(o), tanh(g)
        c = f * row["c_prev"] + i * g
        norms.append(of_state(c, params, eps))
        return Step(o * tanh(norms[2].y), c, np.concatenate([f, i, o, g]), norms)
    x, y = (norm.y.reshape(3, hidden) for norm in norms)
    z, r = logistic(x[0] + y[0]), logistic(x[1] + y[1])
    n = tanh(x[2] + r * y[2])
    h = (1 - z) * row["h_prev"] + z * n
    return Step(h, None, np.concatenate([z, r, n]), norms)


def backward(cell: str, row: dict, saved: dict, params: dict, per_gate: bool, eps) -> dict:
    """The gradients of one row; those of parameters are the row's terms. Beside those of products:
    what their errors are at least counted in.

    saved: the gates, and c of the LSTM, as the forward call gave them. They are taken as they are;
    the statistics are the exact ones of x_gates, h_gates and that c."""
    gates, dh = saved["gates"], row["dh"]
    norms = products(cell, row, params, per_gate, eps)
    if cell.startswith("rnn"):
        return _rnn(cell, norms[0], gates, dh)
    hidden = len(dh)
    if cell == "lstm":
        norms.append(of_state(saved["c"], params, eps))
        return _lstm(row, norms, gates.reshape(4, hidden), dh)
    return _gru(row, norms, gates.reshape(3, hidden), dh)


def _rnn(cell: str, norm: Normalized, h: np.ndarray, dh: np.ndarray) -> dict:
    slope = 1 - h * h if cell == "rnn_tanh" else np.where(h > 0, mpfr(1), mpfr(0))
    return {"dh_prev": 0 * dh, **_of_norm("x", norm, dh * slope)}


def _lstm(row: dict, norms: list[Normalized], gates: np.ndarray, dh: np.ndarray) -> dict:
    f, i, o, g = gates
    t = tanh(norms[2].y)
    of_c = _of_norm("c", norms[2], dh * o * (1 - t * t))
    dc = row["dc"] + of_c.pop("dc_gates")
    del of_c["dc_gates size"]
    da_f, da_i = dc * f * (1 - f) * row["c_prev"], dc * i * (1 - i) * g
    da = np.concatenate([da_f, da_i, dh * t * o * (1 - o), dc * i * (1 - g * g)])
    return {
        "dh_prev": 0 * dh,
        "dc_prev": dc * f,
        **_of_norm("x", norms[0], da),
        **_of_norm("h", norms[1], da),
        **of_c,
    }


def _gru(row: dict, norms: list[Normalized], gates: np.ndarray, dh: np.ndarray) -> dict:
    z, r, n = gates
    da_n = dh * z * (1 - n * n)
    da_z = dh * (n - row["h_prev"]) * z * (1 - z)
    da_r = da_n * norms[1].y.reshape(3, -1)[2] * r * (1 - r)
    return {
        "dh_prev": dh * (1 - z),
        **_of_norm("x", norms[0], np.concatenate([da_z, da_r, da_n])),
        **_of_norm("h", norms[1], np.concatenate([da_z, da_r, da_n * r])),
    }


def _of_norm(of: str, norm: Normalized, dy: np.ndarray) -> dict:
    return {
        f"d{of}_gates": norm.gradient(dy),
        f"d{of}_gates size": norm.left_by_projection(dy),
        f"d{of}_weight": dy * norm.x_hat,
        f"d{of}_bias": dy,
    }
