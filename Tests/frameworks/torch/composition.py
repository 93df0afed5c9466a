"""The layer-normalized cells composed of PyTorch's own operators, one after the other."""

import torch
from torch.nn.functional import layer_norm


def norm(v, params, name, eps, gates, of=slice(None)):
    """LN of the rows of v, `gates` parts by themselves, with the part `of` of its parameters."""
    weight, bias = params.get(f"{name}_weight"), params.get(f"{name}_bias")
    if gates == 1:
        weight = None if weight is None else weight[of]
        bias = None if bias is None else bias[of]
        return layer_norm(v, v.shape[-1:], weight, bias, eps)
    parts = v.unflatten(-1, (gates, -1))
    y = layer_norm(parts, parts.shape[-1:], eps=eps).flatten(-2)
    y = y if weight is None else y * weight[of]
    return y if bias is None else y + bias[of]


def step(module, h, c, x_gates, params):
    """h and c after one step of `module`, a cell or a layer."""
    h_gates, hidden = h @ params["weight_hh"].T, h.shape[-1]
    kind, eps, per_gate = type(module).__name__[:3], module.eps, module.per_gate
    if kind == "RNN":
        return torch.tanh(norm(x_gates + h_gates, params, "norm", eps, 1)), None
    if kind == "LST":
        gates = 4 if per_gate else 1
        a = norm(x_gates, params, "norm_ih", eps, gates)
        a = a + norm(h_gates, params, "norm_hh", eps, gates)
        f, i, o, g = a.chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(norm(c, params, "norm_c", eps, 1)), c
    gates, zr, n = 2 if per_gate else 1, slice(0, 2 * hidden), slice(2 * hidden, None)
    a = norm(x_gates[..., zr], params, "norm_ih", eps, gates, zr)
    a = a + norm(h_gates[..., zr], params, "norm_hh", eps, gates, zr)
    z, r = torch.sigmoid(a).chunk(2, -1)
    new = norm(x_gates[..., n], params, "norm_ih", eps, 1, n)
    new = torch.tanh(new + r * norm(h_gates[..., n], params, "norm_hh", eps, 1, n))
    return (1 - z) * h + z * new, None


def layer(module, x, h, c, suffix="", mask=None):
    """y and the last h and c of one layer of `module` in one direction, for x[time][batch][:]."""
    params = {
        name.removesuffix(suffix): param
        for name, param in module.named_parameters()
        if name.endswith(suffix)
    }
    x_gates = x @ params["weight_ih"].T
    y = [torch.zeros_like(h)] * len(x)
    order = range(len(x))
    for t in reversed(order) if suffix.endswith("reverse") else order:
        new_h, new_c = step(module, h, c, x_gates[t], params)
        if mask is None:
            h, c = new_h, new_c
            y[t] = h
        else:
            kept = mask[t, :, None]
            h = torch.where(kept, new_h, h)
            c = None if new_c is None else torch.where(kept, new_c, c)
            y[t] = torch.where(kept, h, 0)
    return torch.stack(y), h, c


def network(module, x, h0, c0, mask=None):
    """What `module` gives for batches that come second, without dropout."""
    last = []
    for number in range(module.num_layers):
        outputs = []
        for suffix in [f"_l{number}", f"_l{number}_reverse"][: 1 + module.bidirectional]:
            h, c = h0[len(last)], None if c0 is None else c0[len(last)]
            y, h, c = layer(module, x, h, c, suffix, mask)
            outputs.append(y)
            last.append((h, c))
        x = torch.cat(outputs, -1)
    h_n, c_n = zip(*last, strict=True)
    return x, torch.stack(h_n), None if c_n[0] is None else torch.stack(c_n)
