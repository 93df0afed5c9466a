"""Layer-normalized recurrent cells over a sequence, on NumPy's arrays or PyTorch's tensors: what
layernorm.recurrent and layernorm.torch.recurrent have in common.

The products with the weight matrices are the arrays' own; everything else of a step is one call of
the library. The argument structs of all steps are laid out before the first one, so that a step
takes two calls and no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ctypes import CDLL, PyDLL, addressof, c_int, c_void_p, sizeof
from itertools import repeat
from os import fspath
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from ._library import (
    Cell,
    CellBackwardArgs,
    CellForwardArgs,
    DType,
    Flag,
    check,
    path,
)

GATES: Final = {Cell.RNN_TANH: 1, Cell.RNN_RELU: 1, Cell.LSTM: 4, Cell.GRU: 3}

# The norms of each cell, and what their parameters begin with in the library's structs.
NORMS: Final = {
    Cell.RNN_TANH: {"norm": "x"},
    Cell.RNN_RELU: {"norm": "x"},
    Cell.LSTM: {"norm_ih": "x", "norm_hh": "h", "norm_c": "c"},
    Cell.GRU: {"norm_ih": "x", "norm_hh": "h"},
}

# The norms' parameters, and what they are in the structs.
_FIELDS: Final = {
    cell: [
        (f"{name}_{kind}", f"{field}_{kind}")
        for name, field in norms.items()
        for kind in ("weight", "bias")
    ]
    for cell, norms in NORMS.items()
}

# How many norms a row goes through: with the gates of a product together, and gate by gate.
_STATISTICS: Final = {
    Cell.RNN_TANH: (1, 1),
    Cell.RNN_RELU: (1, 1),
    Cell.LSTM: (3, 9),
    Cell.GRU: (4, 6),
}


# Steps that take less time than to give away Python's lock and have it back keep it.
_LARGEST_HOLDING_LOCK: Final = 16 << 10  # bytes of x_gates


class Calls:
    """The calls of a step, of the library itself or of an adapter that makes them on other threads:
    the functions of a shared object whose names begin with `prefix`."""

    def __init__(self, path: Path, prefix: str) -> None:
        # Not the library's attributes: they are everybody's, and take the structs as bytes.
        loaded = CDLL(fspath(path)), PyDLL(fspath(path))
        self._releasing_lock, self._holding_lock = (
            {
                CellForwardArgs: _function(each, f"{prefix}_cell_forward"),
                CellBackwardArgs: _function(each, f"{prefix}_cell_backward"),
            }
            for each in loaded
        )

    def of(self, args: type[CellForwardArgs] | type[CellBackwardArgs], size: int) -> Any:
        """The function for `args` whose x_gates has `size` bytes. It takes an address."""
        return (self._holding_lock if size <= _LARGEST_HOLDING_LOCK else self._releasing_lock)[args]


def _function(loaded: CDLL, name: str) -> Any:
    function = loaded[name]
    function.argtypes, function.restype = [c_void_p], c_int
    return function


OWN: Final = Calls(path, "layernorm")


class Layer(NamedTuple):
    """What a layer in one direction is, apart from its arrays."""

    cell: Cell
    eps: float
    per_gate: bool
    reverse: bool = False


class Arrays(Protocol):
    """What there is to do with arrays of one dtype, of NumPy or of PyTorch."""

    dtype: DType
    calls: Calls
    product: Callable[..., Any]  # of a and b, into out

    def empty(self, *shape: int) -> Any: ...
    def zeros(self, *shape: int) -> Any: ...
    def copy(self, array: Any) -> Any: ...  # contiguous
    def steps(self, array: Any) -> Sequence[Any]: ...  # array[0], array[1], ...
    def address(self, array: Any) -> int: ...
    def add_product(self, total: Any, a: Any, b: Any, scratch: Any) -> None: ...


def parameter_shapes(
    cell: Cell, input_size: int, hidden_size: int, weight: bool, bias: bool
) -> dict[str, tuple[int, ...]]:
    """The parameters of a layer, and their shapes; its norms have weight and bias or not."""
    width = GATES[cell] * hidden_size
    shapes: dict[str, tuple[int, ...]] = {
        "weight_ih": (width, input_size),
        "weight_hh": (width, hidden_size),
    }
    for name, prefix in NORMS[cell].items():
        size = hidden_size if prefix == "c" else width
        shapes |= {f"{name}_weight": (size,)} if weight else {}
        shapes |= {f"{name}_bias": (size,)} if bias else {}
    return shapes


class _Time:
    """The steps of a sequence in the order of computation, and where its states lie.

    States are [time + 1][batch][hidden], as arrays or step by step: the first one, before there is
    input, and those after each input; in reverse, it stands behind them."""

    def __init__(self, layer: Layer, length: int) -> None:
        self.reverse = layer.reverse
        self.first, self.last = (length, 0) if layer.reverse else (0, length)

    def before(self, states: Any) -> Any:
        """For each input the state before it."""
        return states[1:] if self.reverse else states[:-1]

    def after(self, states: Any) -> Any:
        return states[:-1] if self.reverse else states[1:]

    def ordered(self, *arrays: Any, backward: bool = False) -> Any:
        """What belongs to a step, step by step."""
        steps = list(zip(*arrays))
        return reversed(steps) if self.reverse != backward else steps


def _calls(
    args: type[CellForwardArgs] | type[CellBackwardArgs],
    arrays: Arrays,
    length: int,
    plain: Mapping[str, Any],
    fixed: Mapping[str, Any],
    stepping: Mapping[str, Any],
) -> tuple[Any, Any, Sequence[int]]:
    """The function for `args`, their array of one struct for each step, and its addresses.

    `plain` are numbers, `fixed` arrays that all steps share, and `stepping` arrays by step; None is
    left out."""
    first = args(struct_size=sizeof(args), dtype=arrays.dtype, **plain)
    growth = args()
    for name, array in fixed.items():
        if array is not None:
            setattr(first, name, arrays.address(array))
    for name, array in stepping.items():
        if array is not None:
            setattr(first, name, arrays.address(array))
            setattr(growth, name, array.nbytes // length)
    function = arrays.calls.of(args, growth.x_gates or 0)
    if length == 1:  # in half the time
        return function, first, [addressof(first)]
    words = [np.frombuffer(bytes(each), np.int64) for each in (first, growth)]
    table = words[0] + np.arange(length)[:, None] * words[1]
    start = table.ctypes.data
    return function, table, range(start, start + table.nbytes, sizeof(args))


def _plain(layer: Layer, rows: int, hidden: int, flags: int = 0) -> dict[str, Any]:
    flags |= int(Flag.PER_GATE) if layer.per_gate else 0
    return {
        "cell": layer.cell,
        "eps": layer.eps,
        "flags": flags,
        "rows": rows,
        "hidden": hidden,
    }


def _norm_params(cell: Cell, params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The norms' parameters by the structs' names; with the prefix "d", the gradients."""
    return {prefix + field: params.get(name) for name, field in _FIELDS[cell]}


def _product(arrays: Arrays, a: Any, b: Any) -> Any:
    # Into an array that there is: PyTorch's autocast would make another of another dtype.
    out = arrays.empty(a.shape[0], b.shape[1])
    arrays.product(a, b, out=out)
    return out


def forward(
    layer: Layer,
    arrays: Arrays,
    x: Any,
    h0: Any,
    c0: Any,
    mask: Any,
    params: Mapping[str, Any],
    save: bool,
) -> tuple[Any, Any, Any, dict[str, Any]]:
    """y[time][batch][hidden], the last h and c, and with `save` what backward() needs.

    x is [time][batch][input_size], h0 and c0 are [batch][hidden] or None for zeros, and mask is
    [time][batch] of uint8, or None. Where it is 0, the states stay, and y is 0. c is None but for
    the LSTM."""
    weight_ih, weight_hh = params["weight_ih"], params["weight_hh"]
    (length, batch, input_size), (width, hidden) = x.shape, weight_hh.shape
    time = _Time(layer, length)
    if mask is not None:  # whatever there is, weight_ih's gradient must not see it
        x = arrays.copy(x)
        x[mask == 0] = 0
    x = x.reshape(length * batch, input_size)
    x_gates = _product(arrays, x, weight_ih.T).reshape(length, batch, width)

    h = arrays.empty(length + 1, batch, hidden)
    h[time.first] = 0 if h0 is None else h0
    states, y = arrays.steps(h), time.after(h)
    c = None
    if layer.cell == Cell.LSTM:
        # Without `save` each step takes the place of the one before.
        c = arrays.empty(length + 1 if save else 1, batch, hidden)
        c[time.first if save else 0] = 0 if c0 is None else c0
    fixed = _norm_params(layer.cell, params)
    stepping = {"x_gates": x_gates, "h_prev": time.before(h), "h": y, "mask": mask}
    saved: dict[str, Any] = {}
    if save:
        h_gates = arrays.empty(length, batch, width)
        statistics = _STATISTICS[layer.cell][layer.per_gate]
        saved = {
            "gates": arrays.empty(length, batch, width) if GATES[layer.cell] > 1 else None,
            "mean": arrays.empty(length, batch, statistics),
            "rstd": arrays.empty(length, batch, statistics),
        }
        stepping |= {"h_gates": h_gates, **saved}
        if c is not None:
            stepping |= {"c_prev": time.before(c), "c": time.after(c)}
        saved |= {"x": x, "x_gates": x_gates, "h_gates": h_gates, "h": h, "c": c, "mask": mask}
    else:
        of_one_step = arrays.empty(batch, width)
        h_gates = repeat(of_one_step, length)
        fixed |= {"h_gates": of_one_step, "c_prev": c, "c": c}
    call, table, addresses = _calls(
        CellForwardArgs, arrays, length, _plain(layer, batch, hidden), fixed, stepping
    )
    product, transposed = arrays.product, weight_hh.T
    for h_prev, products, address in time.ordered(time.before(states), h_gates, addresses):
        product(h_prev, transposed, out=products)
        status = call(address)
        if status:
            check(status)
    del table  # not before the last step

    h_n = arrays.copy(states[time.last])
    c_n = None if c is None else c[time.last if save else 0]
    if save:  # what the caller may change
        y, c_n = arrays.copy(y), None if c is None else arrays.copy(c_n)
    if mask is not None:
        y[mask == 0] = 0
    return y, h_n, c_n, saved


def backward(
    layer: Layer,
    arrays: Arrays,
    params: Mapping[str, Any],
    saved: Mapping[str, Any],
    dy: Any,
    dh_n: Any,
    dc_n: Any,
    wanted: frozenset[str],
) -> dict[str, Any]:
    """The gradients that are wanted of "x", "h0", "c0" and the parameters by their names, for those
    of forward()'s results, where None is zeros."""
    cell, mask, h, c = layer.cell, saved["mask"], saved["h"], saved["c"]
    weight_ih, weight_hh = params["weight_ih"], params["weight_hh"]
    (length, batch, width), hidden = saved["x_gates"].shape, weight_hh.shape[1]
    time = _Time(layer, length)

    # dh lies as h does. What arrives at a state by way of y and what by the next step are added up.
    dh = arrays.empty(length + 1, batch, hidden)
    states, arriving = arrays.steps(dh), time.after(dh)
    states[time.first][...] = 0
    arriving[...] = 0 if dy is None else dy
    if mask is not None:
        arriving[mask == 0] = 0
    if dh_n is not None:
        last = states[time.last]
        last += dh_n
    dc = None
    if cell == Cell.LSTM:
        dc = arrays.zeros(batch, hidden) if dc_n is None else arrays.copy(dc_n)
    dx_gates = arrays.empty(length, batch, width)
    one_product = GATES[cell] == 1
    dh_gates = dx_gates if one_product else arrays.empty(length, batch, width)
    # Elsewhere the next step has h from its h_gates alone.
    keeps = cell == Cell.GRU or mask is not None
    gradients = {
        name: arrays.zeros(*param.shape)
        for name, param in params.items()
        if name in wanted and name.startswith("norm")
    }
    h_prev = time.before(h)
    stepping = {
        "x_gates": saved["x_gates"],
        "h_gates": saved["h_gates"],
        "h_prev": h_prev,
        "mask": mask,
        "gates": time.after(h) if one_product else saved["gates"],
        "mean": saved["mean"],
        "rstd": saved["rstd"],
        "dh": arriving,
        "dh_prev": arriving if keeps else None,
        "dx_gates": dx_gates,
        "dh_gates": None if one_product else dh_gates,
    }
    if c is not None:
        stepping |= {"c_prev": time.before(c), "c": time.after(c)}
    call, table, addresses = _calls(
        CellBackwardArgs,
        arrays,
        length,
        _plain(layer, batch, hidden, int(Flag.ACCUMULATE_PARAMS)),
        _norm_params(cell, params) | _norm_params(cell, gradients, "d") | {"dc": dc, "dc_prev": dc},
        stepping,
    )
    add_product, scratch = arrays.add_product, arrays.empty(batch, hidden)
    unwanted = None if "h0" in wanted else states[time.first]
    for dh_prev, dh_next, products, address in time.ordered(
        time.before(states), time.after(states), dh_gates, addresses, backward=True
    ):
        status = call(address)
        if status:
            check(status)
        if dh_prev is unwanted:
            break
        if keeps:
            dh_prev += dh_next
        add_product(dh_prev, products, weight_hh, scratch)
    del table  # not before the last step

    def matrix(array: Any) -> Any:
        return array.reshape(length * batch, array.shape[-1])

    if "x" in wanted:
        dx = _product(arrays, matrix(dx_gates), weight_ih)
        gradients["x"] = dx.reshape(length, batch, dx.shape[1])
    if "weight_ih" in wanted:
        gradients["weight_ih"] = _product(arrays, matrix(dx_gates).T, saved["x"])
    if "weight_hh" in wanted:
        gradients["weight_hh"] = _product(arrays, matrix(dh_gates).T, matrix(h_prev))
    if "h0" in wanted:
        gradients["h0"] = arrays.copy(states[time.first])
    if dc is not None and "c0" in wanted:
        gradients["c0"] = dc
    return gradients
