"""Layer-normalized recurrent networks on NumPy's arrays, forward and backward (Ba, Kiros, Hinton
2016, arXiv:1607.06450, section 3.1): RNN, LSTM and GRU, each one layer in one direction.

With LN a layer norm with weight and bias of its own, s the logistic function and * by element:

    RNN    h = f(LN(W_ih x + W_hh h_prev)), f = tanh or max(0, .)

    LSTM   (f, i, o, g) = LN_ih(W_ih x) + LN_hh(W_hh h_prev)
           c = s(f) * c_prev + s(i) * tanh(g)
           h = s(o) * tanh(LN_c(c))

    GRU    (z, r) = LN_ih(W_ih[z, r] x) + LN_hh(W_hh[z, r] h_prev)
           n = tanh(LN_ih(W_ih[n] x) + s(r) * LN_hh(W_hh[n] h_prev))
           h = (1 - s(z)) * h_prev + s(z) * n

The products are NumPy's, by its BLAS; the norms, the gates and the state are one call of the
library for each step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from ._arrays import (
    DTYPES,
    Array,
    as_input,
    check_dtype,
    check_shape,
    rounded_eps,
)
from ._library import Cell, DType
from ._recurrent import OWN, Layer, backward, forward, parameter_shapes
from ._types import Input

__all__ = ["GRU", "LSTM", "RNN", "Gradients", "Saved"]

_State = TypeVar("_State", Array, tuple[Array, Array])
Pair: TypeAlias = tuple[Array, Array]


class _Arrays:
    """NumPy's, of one dtype, for _recurrent."""

    calls = OWN
    product = staticmethod(np.matmul)

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = DTYPES[dtype]
        self._dtype = dtype

    def empty(self, *shape: int) -> Array:
        return np.empty(shape, self._dtype)

    def zeros(self, *shape: int) -> Array:
        return np.zeros(shape, self._dtype)

    def copy(self, array: Array) -> Array:
        return array.copy()

    def steps(self, array: Array) -> list[Array]:
        return list(array)

    def address(self, array: Array) -> int:
        return array.ctypes.data

    def add_product(self, total: Array, a: Array, b: Array, scratch: Array) -> None:
        np.matmul(a, b, out=scratch)
        total += scratch


class Saved:
    """What backward() needs of one forward(): for the LSTM, 14 times as much as y."""

    def __init__(
        self, layer: Layer, params: Mapping[str, Array], arrays: Mapping[str, Any]
    ) -> None:
        self._layer = layer
        self._params = params
        self._arrays = arrays


class Gradients(NamedTuple, Generic[_State]):
    """What backward() returns: the gradients of x, of the first state and of `params`."""

    x: Array
    state: _State
    params: dict[str, Array]


class _Recurrent(Generic[_State]):
    _cell: Cell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        elementwise_affine: bool = True,
        bias: bool = True,
        per_gate: bool = False,
        eps: float = 1e-5,
        reverse: bool = False,
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.dtype: Final = np.dtype(dtype)
        if DTYPES.get(self.dtype) not in (DType.F32, DType.F64):
            raise TypeError(f"dtype is {self.dtype}; it must be float32 or float64")
        for name, size in ("input_size", input_size), ("hidden_size", hidden_size):
            if size < 1:
                raise ValueError(f"{name} is {size}; it must be 1 or more")
        self.input_size: Final = input_size
        self.hidden_size: Final = hidden_size
        rounded = rounded_eps(eps, np.empty(0, self.dtype))
        self._layer: Final = Layer(self._cell, rounded, per_gate, reverse)
        self._shapes: Final = parameter_shapes(
            self._cell, input_size, hidden_size, elementwise_affine, elementwise_affine and bias
        )
        rng = np.random.default_rng() if rng is None else rng
        bound = hidden_size**-0.5
        self.params: dict[str, Array] = {}
        for name, shape in self._shapes.items():
            if name.startswith("norm"):
                value = np.full(shape, float(name.endswith("weight")), self.dtype)
            else:
                value = rng.uniform(-bound, bound, shape).astype(self.dtype)
            self.params[name] = value

    def __call__(
        self, x: Input, state: Any = None, *, mask: Input | None = None
    ) -> tuple[Array, _State]:
        """forward() without `saved`, in less memory: the tuple (y, state)."""
        y, state, _ = self._forward(x, state, mask, save=False)
        return y, state

    def forward(
        self, x: Input, state: Any = None, *, mask: Input | None = None
    ) -> tuple[Array, _State, Saved]:
        """y, the last state, and what backward() needs.

        Parameters
        ----------
        x
            [time][batch][input_size], of the layer's dtype.
        state
            The state before the first step: h[batch][hidden_size], for the LSTM the tuple (h, c).
            None is zeros.
        mask
            bool [time][batch], or None for all true: at which times there is input. Where there is
            none, the state stays as it is, y is 0, and no gradient arises. So sequences of
            different lengths go together: mask = np.arange(time)[:, None] < lengths.

        Returns
        -------
        The tuple (y[time][batch][hidden_size], state, saved).
        """
        return self._forward(x, state, mask, save=True)

    def backward(
        self, saved: Saved, dy: Input | None = None, dstate: Any = None
    ) -> Gradients[_State]:
        """The gradients of x, the first state and the parameters, for those of y and of the last
        state, of which None is zeros. The parameters must be as they were in forward()."""
        if not isinstance(saved, Saved) or saved._layer.cell != self._cell:
            raise TypeError("saved must be what forward() of this layer has returned")
        time, batch, _ = saved._arrays["x_gates"].shape
        if dy is not None:
            dy = self._array(dy, "dy", (time, batch, self.hidden_size))
        dh, dc = self._state(dstate, batch, "d")
        wanted = frozenset({"x", "h0", "c0", *saved._params})
        arrays = _Arrays(self.dtype)
        found = backward(saved._layer, arrays, saved._params, saved._arrays, dy, dh, dc, wanted)
        dx, dstate = found.pop("x"), found.pop("h0")
        if "c0" in found:
            dstate = dstate, found["c0"]
        return Gradients(dx, dstate, {name: found[name] for name in self._shapes})

    def _forward(self, x: Input, state: Any, mask: Any, save: bool) -> tuple[Array, Any, Saved]:
        x = as_input(x, "x")
        if x.ndim != 3:
            raise ValueError(f"x has {x.ndim} dimensions; it must have [time][batch][input_size]")
        time, batch, _ = x.shape
        x = self._array(x, "x", (time, batch, self.input_size))
        if time == 0:
            raise ValueError("x has no time steps; it must have one at least")
        h, c = self._state(state, batch)
        if mask is not None:
            mask = np.asarray(mask)
            if mask.dtype != np.bool_:
                raise TypeError(f"mask has dtype {mask.dtype}; it must be bool")
            check_shape(mask, "mask", (time, batch))
            mask = np.ascontiguousarray(mask).view(np.uint8)
        if self.params.keys() != self._shapes.keys():
            raise ValueError(
                f"params has {sorted(self.params)}; it must have {sorted(self._shapes)}"
            )
        params = {
            name: np.require(self._array(self.params[name], name, shape), requirements=["C", "A"])
            for name, shape in self._shapes.items()
        }
        arrays = _Arrays(self.dtype)
        y, h, c, kept = forward(self._layer, arrays, x, h, c, mask, params, save)
        return y, h if c is None else (h, c), Saved(self._layer, params, kept)

    def _array(self, value: Any, name: str, shape: tuple[int, ...]) -> Array:
        array = as_input(value, name)
        check_shape(array, name, shape)
        check_dtype(array, name, self.dtype, "the layer")
        return array

    def _state(self, state: Any, batch: int, prefix: str = "") -> tuple[Array | None, Array | None]:
        """h and c of `state`, or their gradients."""
        h, c = state, None
        if self._cell == Cell.LSTM and state is not None:
            if not isinstance(state, tuple) or len(state) != 2:
                raise TypeError(f"{prefix}state must be the tuple ({prefix}h, {prefix}c)")
            h, c = state
        shape = batch, self.hidden_size
        h = None if h is None else self._array(h, f"{prefix}h", shape)
        c = None if c is None else self._array(c, f"{prefix}c", shape)
        return h, c


class RNN(_Recurrent[Array]):
    """h = f(LN(W_ih x + W_hh h_prev)) over time, with f = tanh or relu.

    `params`, which may be assigned, are weight_ih[hidden_size][input_size],
    weight_hh[hidden_size][hidden_size], norm_weight and norm_bias[hidden_size]; the other arguments
    are those of the LSTM."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        **options: Any,
    ) -> None:
        cells = {"tanh": Cell.RNN_TANH, "relu": Cell.RNN_RELU}
        if nonlinearity not in cells:
            raise ValueError(f"nonlinearity is {nonlinearity!r}; it must be 'tanh' or 'relu'")
        self._cell = cells[nonlinearity]
        super().__init__(input_size, hidden_size, **options)


class LSTM(_Recurrent[Pair]):
    """The layer-normalized LSTM. Its gates lie in the order f, i, o, g; torch.nn has i, f, g, o.

    `params`, which may be assigned, are weight_ih[4 * hidden_size][input_size],
    weight_hh[4 * hidden_size][hidden_size], norm_ih_weight, norm_ih_bias, norm_hh_weight and
    norm_hh_bias[4 * hidden_size], norm_c_weight and norm_c_bias[hidden_size].

    Parameters
    ----------
    input_size, hidden_size
        The number of features of x and of y.
    elementwise_affine, bias
        Whether the norms have weight and bias; with bias=False, weight alone.
    per_gate
        Whether each gate is normalized by itself, and not all gates of a product together.
    eps
        Of every norm; 0 or more, finite.
    reverse
        Whether time runs from the last step to the first.
    dtype
        float32 or float64: of the parameters and of all arrays that are passed.
    rng
        For the first values of the weight matrices, which are uniform within 1 / sqrt(hidden_size).
        The norms begin with weights of 1 and biases of 0.
    """

    _cell = Cell.LSTM


class GRU(_Recurrent[Array]):
    """The layer-normalized GRU. Its gates lie in the order z, r, n, and z weighs n; torch.nn has
    r, z, n, and z weighs h_prev.

    `params`, which may be assigned, are weight_ih[3 * hidden_size][input_size],
    weight_hh[3 * hidden_size][hidden_size], norm_ih_weight, norm_ih_bias, norm_hh_weight and
    norm_hh_bias[3 * hidden_size]; the arguments are those of the LSTM."""

    _cell = Cell.GRU
