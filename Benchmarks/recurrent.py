"""Times a step of the layer-normalized LSTM, its two products with it: layernorm.recurrent and
layernorm.torch.recurrent beside the same formulas in NumPy and in PyTorch, one operation after the
other. Below them, since nothing else is a peer, torch.nn.LSTM, which has no norms.

    PYTHONPATH=bindings/python python Benchmarks/recurrent.py
"""

import layernorm
import numpy as np
import torch
from frameworks import interleaved
from layernorm import recurrent
from layernorm.torch import recurrent as torch_recurrent

HIDDEN = 256, 512, 1024
BATCHES = 1, 32, 128
TIME = 16  # steps of a call
EPS = 1e-5
NUMPY, PYTORCH, NN = "NumPy, unfused", "PyTorch, composed", "(torch.nn.LSTM, no norms)"
OURS, OURS_TORCH = "layernorm.recurrent", "layernorm.torch.recurrent"
# Timed beside each other. The threads of NumPy's BLAS and those of PyTorch would wait actively for
# their next call where the other's are timed.
GROUPS = (OURS, NUMPY), (OURS_TORCH, PYTORCH, NN)


def norm(v, weight, bias):
    centered = v - v.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt((centered * centered).mean(-1, keepdims=True) + EPS)
    normal = centered * rstd
    return normal * weight + bias, (normal, rstd)


def norm_backward(dy, kept, weight):
    normal, rstd = kept
    g = dy * weight
    dv = g - g.mean(-1, keepdims=True) - normal * (g * normal).mean(-1, keepdims=True)
    outer = tuple(range(dy.ndim - 1))
    return dv * rstd, (dy * normal).sum(outer), dy.sum(outer)


def numpy_forward(x, params):
    """y, and what numpy_backward() needs. The products and norms of x are done for all steps at
    once."""
    weight_ih, weight_hh, ih_weight, ih_bias, hh_weight, hh_bias, c_weight, c_bias = params.values()
    hidden = weight_hh.shape[1]
    time, batch, _ = x.shape
    x_gates, x_kept = norm(x @ weight_ih.T, ih_weight, ih_bias)
    h = c = np.zeros((batch, hidden), x.dtype)
    y, steps = np.empty((time, batch, hidden), x.dtype), []
    for t in range(time):
        h_gates, h_kept = norm(h @ weight_hh.T, hh_weight, hh_bias)
        a = x_gates[t] + h_gates
        fio = 1 / (1 + np.exp(-a[:, : 3 * hidden]))
        g = np.tanh(a[:, 3 * hidden :])
        f, i, o = fio[:, :hidden], fio[:, hidden : 2 * hidden], fio[:, 2 * hidden :]
        c_prev, c = c, f * c + i * g
        normal, c_kept = norm(c, c_weight, c_bias)
        tanh = np.tanh(normal)
        h = y[t] = o * tanh
        steps.append((h_kept, fio, g, c_prev, c_kept, tanh))
    return y, (x_kept, steps)


def numpy_backward(x, y, params, kept, dy):
    """The gradients of x and the parameters."""
    weight_ih, weight_hh, ih_weight, _, hh_weight, _, c_weight, _ = params.values()
    hidden = weight_hh.shape[1]
    x_kept, steps = kept
    da, dh_gates = (np.empty((*y.shape[:2], 4 * hidden), x.dtype) for _ in range(2))
    dhh_weight, dhh_bias = np.zeros_like(hh_weight), np.zeros_like(hh_weight)
    dc_weight, dc_bias = np.zeros_like(c_weight), np.zeros_like(c_weight)
    dh = dc = 0
    for t in reversed(range(len(x))):
        h_kept, fio, g, c_prev, c_kept, tanh = steps[t]
        f, i, o = fio[:, :hidden], fio[:, hidden : 2 * hidden], fio[:, 2 * hidden :]
        dh = dh + dy[t]
        d, dweight, dbias = norm_backward(dh * o * (1 - tanh * tanh), c_kept, c_weight)
        dc = dc + d
        dc_weight += dweight
        dc_bias += dbias
        dfio = np.concatenate([dc * c_prev, dc * g, dh * tanh], -1) * fio * (1 - fio)
        da[t] = np.concatenate([dfio, dc * i * (1 - g * g)], -1)
        dh_gates[t], dweight, dbias = norm_backward(da[t], h_kept, hh_weight)
        dhh_weight += dweight
        dhh_bias += dbias
        dc = dc * f
        dh = dh_gates[t] @ weight_hh
    dx_gates, dih_weight, dih_bias = norm_backward(da, x_kept, ih_weight)
    rows = dx_gates.reshape(-1, 4 * hidden)
    dweight_hh = dh_gates[1:].reshape(-1, 4 * hidden).T @ y[:-1].reshape(-1, hidden)
    dweight_ih = rows.T @ x.reshape(len(rows), -1)
    norms = dih_weight, dih_bias, dhh_weight, dhh_bias, dc_weight, dc_bias
    return dx_gates @ weight_ih, dweight_ih, dweight_hh, *norms


def composed(x, params):
    """y by PyTorch's own operators."""
    weight_ih, weight_hh, ih_weight, ih_bias, hh_weight, hh_bias, c_weight, c_bias = params
    layer_norm, hidden = torch.nn.functional.layer_norm, weight_hh.shape[1]
    x_gates = layer_norm(x @ weight_ih.T, (4 * hidden,), ih_weight, ih_bias, EPS)
    h = c = x.new_zeros(x.shape[1], hidden)
    y = []
    for gates in x_gates.unbind():
        h_gates = layer_norm(h @ weight_hh.T, (4 * hidden,), hh_weight, hh_bias, EPS)
        fio, g = (gates + h_gates).split((3 * hidden, hidden), -1)
        f, i, o = fio.sigmoid().chunk(3, -1)
        c = f * c + i * g.tanh()
        h = o * layer_norm(c, (hidden,), c_weight, c_bias, EPS).tanh()
        y.append(h)
    return torch.stack(y)


def calls(hidden, batch):
    """The forward calls and those with gradients, which give the same results."""
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((TIME, batch, hidden), np.float32) for _ in range(2))
    lstm = recurrent.LSTM(hidden, hidden, eps=EPS, rng=rng)
    module = torch_recurrent.LSTM(hidden, hidden, eps=EPS)
    module.load_state_dict({f"{k}_l0": torch.from_numpy(v) for k, v in lstm.params.items()})
    plain = torch.nn.LSTM(hidden, hidden)
    tensor, upstream = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy)
    leaves, plain_leaves = [tensor, *module.parameters()], [tensor, *plain.parameters()]

    def without_gradients(function):
        def call():
            with torch.no_grad():
                return function()

        return call

    def of_tensors(function, leaves):
        return lambda: torch.autograd.grad(function(), leaves, upstream)

    def ours():
        _, _, saved = lstm.forward(x)
        found = lstm.backward(saved, dy)
        return found.x, *found.params.values()

    def by_numpy():
        y, kept = numpy_forward(x, lstm.params)
        return numpy_backward(x, y, lstm.params, kept, dy)

    by_torch = {
        OURS_TORCH: (lambda: module(tensor)[0], leaves),
        PYTORCH: (lambda: composed(tensor, leaves[1:]), leaves),
        NN: (lambda: plain(tensor)[0], plain_leaves),
    }
    forward = {OURS: lambda: lstm(x)[0], NUMPY: lambda: numpy_forward(x, lstm.params)[0]}
    forward |= {name: without_gradients(function) for name, (function, _) in by_torch.items()}
    both = {OURS: ours, NUMPY: by_numpy}
    both |= {name: of_tensors(*each) for name, each in by_torch.items()}
    for name in NUMPY, OURS_TORCH, PYTORCH:
        np.testing.assert_allclose(forward[name](), forward[OURS](), 1e-3, 1e-4)
        for actual, expected in zip(both[name](), ours(), strict=True):
            scale = np.abs(expected).max()
            np.testing.assert_allclose(actual, expected, 1e-3, 1e-3 * scale)
    return forward, both


def main():
    layernorm.set_num_threads(torch.get_num_threads())
    print(f"NumPy {np.__version__}, PyTorch {torch.__version__}, {layernorm.isa()}, ", end="")
    print(f"{torch.get_num_threads()} threads")
    rows = {"forward": {}, "forward + backward": {}}
    for hidden in HIDDEN:
        for batch in BATCHES:
            for title, table in zip(rows, calls(hidden, batch), strict=True):
                case = rows[title].setdefault(f"hidden {hidden}, batch {batch}", {})
                for group in GROUPS:
                    times = interleaved.microseconds({name: table[name] for name in group})
                    case |= {name: time / TIME for name, time in times.items()}
    for title, cases in rows.items():
        interleaved.table(f"LSTM step, float32, {title}", cases)


if __name__ == "__main__":
    main()
