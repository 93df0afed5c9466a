"""The recurrent cells over time by the formulas, one operation after the other in longdouble; and
their gradients by complex steps, which are exact but for rounding: Im f(v + ih) / h."""

import numpy as np

GATES = {"tanh": 1, "relu": 1, "lstm": 4, "gru": 3}
STEP = np.clongdouble(1e-60j)


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def norm(v, params, name, eps, gates, of=slice(None)):
    """LN of the rows of v, `gates` parts by themselves, with the part `of` of its parameters."""
    parts = v.reshape(*v.shape[:-1], gates, -1)
    centered = parts - parts.mean(-1, keepdims=True)
    y = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + eps)
    y = y.reshape(v.shape)
    weight, bias = params.get(f"{name}_weight"), params.get(f"{name}_bias")
    y = y if weight is None else y * weight[of]
    return y if bias is None else y + bias[of]


def step(cell, x, h, c, params, eps, per_gate):
    """h and c after one step."""
    x_gates, h_gates = x @ params["weight_ih"].T, h @ params["weight_hh"].T
    hidden = h.shape[-1]
    if cell in ("tanh", "relu"):
        a = norm(x_gates + h_gates, params, "norm", eps, 1)
        return (np.tanh(a) if cell == "tanh" else np.where(a.real > 0, a, 0)), None
    if cell == "lstm":
        gates = 4 if per_gate else 1
        a = norm(x_gates, params, "norm_ih", eps, gates) + norm(
            h_gates, params, "norm_hh", eps, gates
        )
        f, i, o, g = np.split(a, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(norm(c, params, "norm_c", eps, 1)), c
    zr, n = slice(0, 2 * hidden), slice(2 * hidden, None)
    gates = 2 if per_gate else 1
    a = norm(x_gates[:, zr], params, "norm_ih", eps, gates, zr) + norm(
        h_gates[:, zr], params, "norm_hh", eps, gates, zr
    )
    z, r = np.split(sigmoid(a), 2, axis=-1)
    new = np.tanh(
        norm(x_gates[:, n], params, "norm_ih", eps, 1, n)
        + r * norm(h_gates[:, n], params, "norm_hh", eps, 1, n)
    )
    return (1 - z) * h + z * new, None


def run(cell, values, eps, per_gate, reverse, mask):
    """y and the last h and c, of `values`: x, h0, c0 and the parameters."""
    x, h, c = values["x"], values["h0"], values["c0"]
    y = np.zeros((*x.shape[:2], h.shape[-1]), x.dtype)
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        kept = np.ones(x.shape[1], bool) if mask is None else mask[t]
        new_h, new_c = step(cell, x[t], h, c, values, eps, per_gate)
        h = np.where(kept[:, None], new_h, h)
        c = c if new_c is None else np.where(kept[:, None], new_c, c)
        y[t] = np.where(kept[:, None], h, 0)
    return y, h, c


def results_and_gradients(cell, values, upstream, eps, per_gate=False, reverse=False, mask=None):
    """y, h and c, and the gradients of all `values` for those `upstream` of y, h and c."""
    args = eps, per_gate, reverse, mask
    values = {name: value.astype(np.clongdouble) for name, value in values.items()}

    def scalar():
        return sum((a * b).sum() for a, b in zip(run(cell, values, *args), upstream))

    results = [each.real for each in run(cell, values, *args)]
    gradients = {name: np.zeros(value.shape, np.longdouble) for name, value in values.items()}
    for name, value in values.items():
        for index in np.ndindex(value.shape):
            kept = value[index]
            value[index] += STEP
            gradients[name][index] = scalar().imag / STEP.imag
            value[index] = kept
    return results, gradients
