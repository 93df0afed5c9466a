"""Exact steps of the layer-normalized recurrent cells and their gradients, to PRECISION bits.

Vectors are NumPy arrays of gmpy2's mpfr, one row of a batch each; the row of a product holds its
gates one after the other, in the order f, i, o, g or z, r, n. An absent parameter is a vector of
ones or zeros.

Beside a value goes its size: what one unit of its error is that of. It is |value|, the root mean
square of the row, or what the derivative of the value makes of the sizes of what it is made from,
whichever is largest: a layer norm that is off by one unit of its own moves what follows from it by
that. For the gradient of a norm, which a projection leaves, both are those of the terms. A size of
0 says that the value is met exactly.
"""

from dataclasses import dataclass

import gmpy2
import numpy as np
from gmpy2 import mpfr, mpq

PRECISION = 400
FEW_ROWS = 16
"""Of fewer, terms of a sum may cancel: its size is also the root of the sum of their squares."""
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

    def sizes(self) -> np.ndarray:
        """Those of y."""
        return np.concatenate([own_size(self.y[span]) for span in self.spans])

    def gradient(self, dy: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """That of what was normalized, and its size, from those of y."""
        dx, dx_size = dy.copy(), dy.copy()
        for span, rstd in zip(self.spans, self.rstd):
            x_hat, g = self.x_hat[span], dy[span] * self.weight[span]
            count = len(g)
            dx[span] = rstd * (g - g.sum() / count - x_hat * ((g * x_hat).sum() / count))
            if count == 1:
                dx_size[span] = 0
                continue
            terms = rstd * abs(size[span] * self.weight[span])
            dx_size[span] = np.maximum(own_size(terms), abs(dx[span]))
        return dx, dx_size


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


def own_size(values: np.ndarray) -> np.ndarray:
    return np.maximum(abs(values), root_mean_square(values))


def largest(*sizes: np.ndarray) -> np.ndarray:
    return np.maximum.reduce(sizes)


def forward_sizes(cell: str, row: dict, step: Step) -> dict[str, np.ndarray]:
    """The sizes of h, c, gates, mean and rstd of one row."""
    sizes = [_statistics_sizes(norm, row[f"{of}_gates"]) for norm, of in zip(step.norms, "xh")]
    if cell.startswith("rnn"):
        slope = 1 - step.h * step.h if cell == "rnn_tanh" else 1
        h = largest(own_size(step.h), slope * step.norms[0].sizes())
        return {"h": h, "gates": h, **_joined(sizes)}
    hidden = len(step.h)
    x, y = (norm.sizes().reshape(-1, hidden) for norm in step.norms[:2])
    gates = step.gates.reshape(-1, hidden)
    if cell == "gru":
        z, r, n = gates
        of_h = step.norms[1].y.reshape(3, hidden)[2]
        z_size, r_size = _gate(z, z * (1 - z), x[0] + y[0]), _gate(r, r * (1 - r), x[1] + y[1])
        n_size = _gate(n, 1 - n * n, x[2] + r * y[2] + r_size * abs(of_h))
        change = abs(n - row["h_prev"])
        h = largest(own_size(step.h), (1 - z) * abs(row["h_prev"]), z * n_size, z_size * change)
        return {"h": h, "gates": np.concatenate([z_size, r_size, n_size]), **_joined(sizes)}
    slopes = [gates[0] * (1 - gates[0]), gates[1] * (1 - gates[1]), gates[2] * (1 - gates[2])]
    slopes.append(1 - gates[3] * gates[3])
    f, i, o, g = (_gate(*gate) for gate in zip(gates, slopes, x + y))
    c = largest(own_size(step.c), f * abs(row["c_prev"]), i * abs(gates[3]), gates[1] * g)
    state = step.norms[2]
    normal, t = state.sizes(), tanh(state.y)
    if hidden > 1:
        normal = largest(normal, state.rstd[0] * abs(state.weight) * c)
    h = largest(own_size(step.h), o * abs(t), gates[2] * (1 - t * t) * normal)
    rstd = state.rstd[0] * (abs(state.x_hat) * c).sum() / hidden
    sizes.append(([root_mean_square(c)], [state.rstd[0] * max(mpfr(1), rstd)]))
    return {"h": h, "c": c, "gates": np.concatenate([f, i, o, g]), **_joined(sizes)}


def _gate(gate: np.ndarray, slope: np.ndarray, size: np.ndarray) -> np.ndarray:
    return largest(own_size(gate), slope * size)


def _statistics_sizes(norm: Normalized, x: np.ndarray) -> tuple[list, list]:
    """A mean near zero is the difference of large numbers: at least the spread around it."""
    spreads = [root_mean_square(x[s] - mean) for s, mean in zip(norm.spans, norm.mean)]
    return [max(abs(mean), spread) for mean, spread in zip(norm.mean, spreads)], norm.rstd


def _joined(sizes: list[tuple[list, list]]) -> dict[str, list]:
    return {
        "mean": [m for means, _ in sizes for m in means],
        "rstd": [r for _, rs in sizes for r in rs],
    }


def nothing(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return exactly(np.zeros(len(values))), exactly(np.zeros(len(values)))


def backward(cell: str, row: dict, saved: dict, params: dict, per_gate: bool, eps) -> dict:
    """Each gradient of one row beside its size; those of parameters are the row's terms.

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
    da = dh * slope
    return {"dh_prev": nothing(dh), **_of_product("x", norm, da, abs(da))}


def _lstm(row: dict, norms: list[Normalized], gates: np.ndarray, dh: np.ndarray) -> dict:
    f, i, o, g = gates
    t = tanh(norms[2].y)
    slope = 1 - t * t
    t_size = largest(abs(t), slope * norms[2].sizes())
    dy = dh * o * slope
    dy_size = abs(dh * o) * largest(slope, 2 * abs(t) * t_size)
    through, size = norms[2].gradient(dy, dy_size)
    dc = row["dc"] + through
    size = largest(own_size(dc), size + abs(row["dc"]))
    slopes = [f * (1 - f) * row["c_prev"], i * (1 - i) * g, o * (1 - o) * dh, (1 - g * g) * i]
    terms, sizes = [dc, dc, t, dc], [size, size, t_size, size]
    da = np.concatenate([slope * term for slope, term in zip(slopes, terms)])
    da_size = np.concatenate([abs(slope) * size for slope, size in zip(slopes, sizes)])
    return {
        "dh_prev": nothing(dh),
        "dc_prev": (dc * f, largest(own_size(dc * f), size * f)),
        **_of_product("x", norms[0], da, da_size),
        **_of_product("h", norms[1], da, da_size),
        "dc_weight": (dy * norms[2].x_hat, dy_size * abs(norms[2].x_hat)),
        "dc_bias": (dy, dy_size),
    }


def _gru(row: dict, norms: list[Normalized], gates: np.ndarray, dh: np.ndarray) -> dict:
    z, r, n = gates
    da_n = dh * z * (1 - n * n)
    da_z = dh * (n - row["h_prev"]) * z * (1 - z)
    of_h = norms[1].y.reshape(3, -1)[2]
    da_r, slope = da_n * of_h * r * (1 - r), abs(da_n) * r * (1 - r)
    r_size = slope * largest(abs(of_h), norms[1].sizes().reshape(3, -1)[2])
    of_x, of_h = np.concatenate([da_z, da_r, da_n]), np.concatenate([da_z, da_r, da_n * r])
    x_size = np.concatenate([abs(da_z), r_size, abs(da_n)])
    h_size = np.concatenate([abs(da_z), r_size, abs(da_n * r)])
    dh_prev = dh * (1 - z)
    return {
        "dh_prev": (dh_prev, own_size(dh_prev)),
        **_of_product("x", norms[0], of_x, x_size),
        **_of_product("h", norms[1], of_h, h_size),
    }


def _of_product(of: str, norm: Normalized, dy: np.ndarray, size: np.ndarray) -> dict:
    return {
        f"d{of}_gates": norm.gradient(dy, size),
        f"d{of}_weight": (dy * norm.x_hat, size * abs(norm.x_hat)),
        f"d{of}_bias": (dy, size),
    }


def sum_of_rows(terms: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The gradient of a parameter and its size, from the terms of all rows."""
    total = sum(values for values, _ in terms)
    size = own_size(total)
    if len(terms) < FEW_ROWS:
        squares = sum(size * size for _, size in terms)
        size = np.maximum(size, np.frompyfunc(gmpy2.sqrt, 1, 1)(squares))
        size = np.where(squares == 0, mpfr(0), size)
    return total, size
