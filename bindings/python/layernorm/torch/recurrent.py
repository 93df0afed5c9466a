"""Layer-normalized recurrent networks with gradients (Ba, Kiros, Hinton 2016, arXiv:1607.06450,
section 3.1): RNN, LSTM and GRU with the arguments and results of torch.nn's, and their cells for
single steps. layernorm.recurrent has the formulas.

The products are PyTorch's; the norms, the gates and the state are one call of the library for each
step, forward and backward."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from .._library import Cell
from .._recurrent import Layer, parameter_shapes
from ._recurrent import DTYPES, check, check_kind, run

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]

_NONLINEARITIES = {"tanh": Cell.RNN_TANH, "relu": Cell.RNN_RELU}
State: TypeAlias = Tensor | tuple[Tensor, Tensor]


def _rnn(nonlinearity: str) -> Cell:
    if nonlinearity not in _NONLINEARITIES:
        raise ValueError(f"nonlinearity is {nonlinearity!r}; it must be 'tanh' or 'relu'")
    return _NONLINEARITIES[nonlinearity]


class _Module(nn.Module):
    """The parameters of layers, and what the library is told of them."""

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        bias: bool,
        elementwise_affine: bool,
        per_gate: bool,
        eps: float,
    ) -> None:
        super().__init__()
        for name, size in ("input_size", input_size), ("hidden_size", hidden_size):
            if size < 1:
                raise ValueError(f"{name} is {size}; it must be 1 or more")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        self.elementwise_affine = elementwise_affine
        self.per_gate = per_gate
        self.eps = eps
        self._cell = cell
        self._shapes: dict[str, dict[str, tuple[int, ...]]] = {}

    def _add_parameters(self, input_size: int, suffix: str, factory: dict[str, Any]) -> None:
        affine = self.elementwise_affine
        shapes = parameter_shapes(
            self._cell, input_size, self.hidden_size, affine, affine and self.bias
        )
        self._shapes[suffix] = shapes
        for name, shape in shapes.items():
            self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape, **factory)))

    def reset_parameters(self) -> None:
        """Draws the weight matrices from U(-k, k), k = 1 / sqrt(hidden_size), as torch.nn does, and
        sets the norms' weights to 1 and their biases to 0."""
        bound = self.hidden_size**-0.5
        for name, param in self.named_parameters():
            if not name.startswith("norm"):
                nn.init.uniform_(param, -bound, bound)
            elif "_weight" in name:
                nn.init.ones_(param)
            else:
                nn.init.zeros_(param)

    def _parameters_of(self, suffix: str, x: Tensor) -> dict[str, Tensor]:
        """The parameters that end in `suffix`, by their names without it, for the input x."""
        params = {}
        for name, shape in self._shapes[suffix].items():
            params[name] = getattr(self, name + suffix)
            check(name + suffix, params[name], shape, x, "input")
        return params

    def _input(self, input: Tensor, weight: Tensor) -> Tensor:
        if weight.dtype not in DTYPES:
            raise TypeError(f"the weights have dtype {weight.dtype}; it must be float32 or float64")
        if torch.is_autocast_enabled("cpu"):
            input = input.to(weight.dtype)
        check_kind("input", input, weight, "the weights")
        return input

    def _states(
        self, hx: Any, shape: tuple[int, ...], like: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """h and c of hx."""
        if hx is None:
            return None, None
        if self._cell != Cell.LSTM:
            check("hx", hx, shape, like, "input")
            return hx, None
        if not isinstance(hx, (tuple, list)) or len(hx) != 2:
            raise TypeError("hx must be the tuple (h_0, c_0)")
        for name, state in zip(("h_0", "c_0"), hx, strict=True):
            check(name, state, shape, like, "input")
        return hx[0], hx[1]

    def _options(self) -> str:
        options: dict[str, tuple[Any, Any]] = {
            "bias": (self.bias, True),
            "elementwise_affine": (self.elementwise_affine, True),
            "per_gate": (self.per_gate, False),
            "eps": (self.eps, 1e-5),
        }
        if self._cell == Cell.RNN_RELU:
            options["nonlinearity"] = "relu", "tanh"
        chosen = (
            f", {name}={value}" for name, (value, default) in options.items() if value != default
        )
        return "".join(chosen)


class _Recurrent(_Module):
    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        elementwise_affine: bool = True,
        per_gate: bool = False,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(cell, input_size, hidden_size, bias, elementwise_affine, per_gate, eps)
        if num_layers < 1:
            raise ValueError(f"num_layers is {num_layers}; it must be 1 or more")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is {dropout}; it must be a probability")
        self.num_layers = num_layers
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        for layer in range(num_layers):
            for suffix in self._suffixes(layer):
                size = hidden_size * self._directions if layer else input_size
                self._add_parameters(size, suffix, {"device": device, "dtype": dtype})
        self.reset_parameters()

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self._directions]

    def flatten_parameters(self) -> None:
        """Does nothing: it is here since torch.nn's modules have it, for cuDNN."""

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: State | None = None,
        *,
        mask: Tensor | None = None,
    ) -> tuple[Any, Any]:
        """The tuple (output, hx) of torch.nn's module of the same name.

        `mask` is bool, of the shape of input without its last dimension: at which times there is
        input. Where there is none, the state stays as it is and output is 0."""
        if isinstance(input, PackedSequence):
            if mask is not None:
                raise ValueError("mask must be None where input is a PackedSequence")
            return self._packed(input, hx)
        input = self._input(input, self.weight_ih_l0)
        if input.dim() not in (2, 3):
            raise ValueError(
                f"input has {input.dim()} dimensions; it must have 2, or 3 with a batch"
            )
        batched, transposed = input.dim() == 3, input.dim() == 3 and self.batch_first
        if mask is not None:
            if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
                raise TypeError("mask must be a torch.Tensor of bool")
            if mask.shape != input.shape[:-1]:
                shapes = tuple(mask.shape), tuple(input.shape[:-1])
                raise ValueError(f"mask has shape {shapes[0]}; it must be {shapes[1]}")
            mask = mask.t() if transposed else mask if batched else mask.unsqueeze(1)
        x = input.transpose(0, 1) if transposed else input if batched else input.unsqueeze(1)
        if x.shape[0] == 0 or x.shape[2] != self.input_size:
            raise ValueError(
                f"input has shape {tuple(input.shape)}; it must have one time step at least and "
                f"{self.input_size} features"
            )
        states = self.num_layers * self._directions, self.hidden_size
        shape = (states[0], x.shape[1], states[1]) if batched else states
        h0, c0 = self._states(hx, shape, input)
        if not batched:
            h0, c0 = (None if each is None else each.unsqueeze(1) for each in (h0, c0))
        y, h, c = self._layers(x, h0, c0, mask)
        if not batched:
            y, h, c = (None if each is None else each.squeeze(1) for each in (y, h, c))
        elif transposed:
            y = y.transpose(0, 1)
        return y, h if c is None else (h, c)

    def _layers(
        self, x: Tensor, h0: Tensor | None, c0: Tensor | None, mask: Tensor | None
    ) -> tuple[Any, Any, Any]:
        last: list[tuple[Tensor, Tensor | None]] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = nn.functional.dropout(x, self.dropout, self.training)
            outputs = []
            for suffix in self._suffixes(layer):
                kind = Layer(self._cell, self.eps, self.per_gate, suffix.endswith("reverse"))
                h, c = (None if each is None else each[len(last)] for each in (h0, c0))
                y, h, c = run(kind, x, h, c, mask, self._parameters_of(suffix, x))
                outputs.append(y)
                last.append((h, c))
            x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, 2)
        h_n, c_n = zip(*last, strict=True)
        return x, torch.stack(h_n), None if c_n[0] is None else torch.stack(c_n)

    def _packed(self, packed: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        data, batch_sizes, order, back = packed

        def reordered(states: Any, order: Tensor | None) -> Any:
            if states is None or order is None:
                return states
            if isinstance(states, (tuple, list)):
                return tuple(each.index_select(1, order) for each in states)
            return states.index_select(1, order)

        padded, lengths = pad_packed_sequence(PackedSequence(data, batch_sizes), self.batch_first)
        mask = torch.arange(len(batch_sizes)) < lengths[:, None]
        mask = mask if self.batch_first else mask.t()
        output, h_n = self.forward(padded, reordered(hx, order), mask=mask)
        data, *_ = pack_padded_sequence(output, lengths, self.batch_first)
        return PackedSequence(data, batch_sizes, order, back), reordered(h_n, back)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        options = {"num_layers": 1, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        for name, default in options.items():
            value = getattr(self, name)
            text += f", {name}={value}" if value != default else ""
        return text + self._options()


class RNN(_Recurrent):
    """torch.nn.RNN with a layer norm around the sum of its products; see LSTM for the arguments.

    Layer k has weight_ih_l{k}[hidden_size][its input's size], weight_hh_l{k}[hidden_size]
    [hidden_size], norm_weight_l{k} and norm_bias_l{k}[hidden_size]."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(_rnn(nonlinearity), input_size, hidden_size, num_layers, *args, **kwargs)


class LSTM(_Recurrent):
    """torch.nn.LSTM with layer norms, and with its arguments but for proj_size:

        LSTM(input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0,
             bidirectional=False, device=None, dtype=None, *, elementwise_affine=True,
             per_gate=False, eps=1e-5)

    The norms have weight and bias; with bias=False, weight alone; with elementwise_affine=False,
    neither. They span all gates of a product together, or with per_gate each gate by itself. There
    is no bias apart from theirs.

    Layer k has weight_ih_l{k}[4 * hidden_size][its input's size], weight_hh_l{k}[4 * hidden_size]
    [hidden_size], norm_ih_weight_l{k}, norm_ih_bias_l{k}, norm_hh_weight_l{k} and norm_hh_bias_l{k}
    [4 * hidden_size], norm_c_weight_l{k} and norm_c_bias_l{k}[hidden_size]; the names of the other
    direction end in _reverse. The gates lie in the order f, i, o, g; torch.nn.LSTM has i, f, g, o.

    float32 and float64, on the CPU. Gradients cannot be differentiated again."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(Cell.LSTM, *args, **kwargs)


class GRU(_Recurrent):
    """torch.nn.GRU with layer norms; see LSTM for the arguments.

    Layer k has weight_ih_l{k}[3 * hidden_size][its input's size], weight_hh_l{k}[3 * hidden_size]
    [hidden_size], norm_ih_weight_l{k}, norm_ih_bias_l{k}, norm_hh_weight_l{k} and norm_hh_bias_l{k}
    [3 * hidden_size]. The gates lie in the order z, r, n, and z weighs n; torch.nn.GRU has r, z, n,
    and z weighs h_prev."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(Cell.GRU, *args, **kwargs)


class _Cell(_Module):
    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        elementwise_affine: bool = True,
        per_gate: bool = False,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(cell, input_size, hidden_size, bias, elementwise_affine, per_gate, eps)
        self._add_parameters(input_size, "", {"device": device, "dtype": dtype})
        self.reset_parameters()

    def forward(self, input: Tensor, hx: State | None = None) -> State:
        """h, or for the LSTM (h, c), after a step with input ([batch])[input_size]."""
        input = self._input(input, self.weight_ih)
        if input.dim() not in (1, 2) or input.shape[-1] != self.input_size:
            shape = tuple(input.shape)
            raise ValueError(f"input has shape {shape}; it must be [batch][{self.input_size}]")
        batched = input.dim() == 2
        h0, c0 = self._states(hx, (*input.shape[:-1], self.hidden_size), input)
        if not batched:
            input, h0, c0 = (None if s is None else s.unsqueeze(0) for s in (input, h0, c0))
        kind = Layer(self._cell, self.eps, self.per_gate)
        _, h, c = run(kind, input.unsqueeze(0), h0, c0, None, self._parameters_of("", input))
        if not batched:
            h, c = (None if s is None else s.squeeze(0) for s in (h, c))
        return h if c is None else (h, c)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}{self._options()}"


class RNNCell(_Cell):
    """torch.nn.RNNCell with the layer norm of RNN."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(_rnn(nonlinearity), input_size, hidden_size, bias, *args, **kwargs)


class LSTMCell(_Cell):
    """torch.nn.LSTMCell with the layer norms of LSTM."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(Cell.LSTM, *args, **kwargs)


class GRUCell(_Cell):
    """torch.nn.GRUCell with the layer norms of GRU."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(Cell.GRU, *args, **kwargs)
