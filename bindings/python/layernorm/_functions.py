"""The operations on arrays."""

from ctypes import addressof, c_float, sizeof
from math import inf
from numbers import Real
from typing import Any, Final, Literal, TypeVar, overload

import numpy as np
from numpy import empty, ndarray
from numpy.typing import ArrayLike, NDArray

from ._arrays import (
    DTYPES,
    Array,
    as_input,
    as_output,
    as_params,
    from_buffer,
    lay_out,
    normalized_dims,
)
from ._dlpack import SupportsDLPack
from ._library import DType, ForwardArgs, Norm, Status, check, library, packer

_forward: Final = library.layernorm_forward
_pack: Final = packer(ForwardArgs).pack
_SIZE: Final = sizeof(ForwardArgs)
# Plain ints: an enum's member takes a tenth of a microsecond to look up.
_SUCCESS: Final = int(Status.SUCCESS)
_LAYER: Final = int(Norm.LAYER)
_F64: Final = int(DType.F64)
_PLAIN: Final = {dtype: int(code) for dtype, code in DTYPES.items()}

_Input = ArrayLike | SupportsDLPack
_Shape = int | tuple[int, ...] | list[int]
_Out = TypeVar("_Out")


@overload
def layer_norm(
    x: _Input,
    normalized_shape: _Shape | None = None,
    weight: _Input | None = None,
    bias: _Input | None = None,
    eps: float = 1e-5,
    *,
    out: None = None,
    return_stats: Literal[False] = False,
) -> NDArray[Any]: ...
@overload
def layer_norm(
    x: _Input,
    normalized_shape: _Shape | None = None,
    weight: _Input | None = None,
    bias: _Input | None = None,
    eps: float = 1e-5,
    *,
    out: None = None,
    return_stats: Literal[True],
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]: ...
@overload
def layer_norm(
    x: _Input,
    normalized_shape: _Shape | None = None,
    weight: _Input | None = None,
    bias: _Input | None = None,
    eps: float = 1e-5,
    *,
    out: _Out,
    return_stats: Literal[False] = False,
) -> _Out: ...
@overload
def layer_norm(
    x: _Input,
    normalized_shape: _Shape | None = None,
    weight: _Input | None = None,
    bias: _Input | None = None,
    eps: float = 1e-5,
    *,
    out: _Out,
    return_stats: Literal[True],
) -> tuple[_Out, NDArray[Any], NDArray[Any]]: ...
def layer_norm(
    x: Any,
    normalized_shape: Any = None,
    weight: Any = None,
    bias: Any = None,
    eps: Any = 1e-5,
    *,
    out: Any = None,
    return_stats: bool = False,
) -> Any:
    """Layer norm of x over its last dimensions (Ba, Kiros, Hinton 2016, arXiv:1607.06450):

        mean = sum(x) / n
        rstd = 1 / sqrt(sum((x - mean)**2) / n + eps)
        y    = (x - mean) * rstd * weight + bias

    where the sums go over the n elements of the normalized dimensions.

    Arrays are NumPy's or anything on the CPU that has `__dlpack__`; their dtypes, which may differ,
    are float32, float64, float16 or bfloat16 (of ml_dtypes). Any strides will do: an array is
    copied only if it is not aligned, if its normalized dimensions cannot be stepped through with
    one stride, or the others with two.

    Parameters
    ----------
    x
        Of the shape [..., *normalized_shape].
    normalized_shape
        The sizes of the dimensions that are normalized together, with which x's shape must end;
        an int for one dimension. None is the last dimension alone.
    weight, bias
        gamma and beta, of the shape normalized_shape; None for ones and zeros.
    eps
        0 or more, finite; rounded to float32 unless x is float64.
    out
        Where y goes: a writable array of x's shape. It may be x itself; any other overlap is
        refused. None makes a new array of x's dtype.
    return_stats
        Whether to return mean and rstd as well.

    Returns
    -------
    y, or with return_stats the tuple (y, mean, rstd). y is `out` if that was given. mean and rstd
    have the shape of x without the normalized dimensions; they are float64 if x is, else float32.

    Raises
    ------
    TypeError
        A dtype or type that is not supported.
    ValueError
        A shape that does not fit, an eps that is out of range, overlap.
    RuntimeError
        LAYERNORM_ISA names an instruction set that is unknown or that the CPU lacks.
    """
    if type(x) is ndarray and not return_stats:
        # Contiguous writable arrays of one dtype, over the last dimension, are done in a fifth of
        # the time that it takes to look at everything that the arguments may be. Whatever is not
        # that, or is wrong, raises or has a status, with nothing written, and goes the general
        # way, which says what is wrong.
        try:
            dtype = x.dtype
            shape = x.shape
            code = _PLAIN[dtype]
            cols = shape[-1]
            y = empty(shape, dtype) if out is None else out
            if normalized_shape is not None and normalized_dims(x, normalized_shape) != 1:
                raise TypeError
            if type(y) is not ndarray or y.dtype != dtype or y.shape != shape:
                raise TypeError
            weight_address = bias_address = 0
            if weight is not None:
                weight_address = _param_address(weight, dtype, cols)
            if bias is not None:
                bias_address = _param_address(bias, dtype, cols)
            # fmt: off
            status = _forward(_pack(
                _SIZE, eps if code == _F64 else c_float(eps).value, 0, _LAYER, code, code, code,
                1, x.size // cols, cols,
                addressof(from_buffer(x)), 0, weight_address, bias_address,
                addressof(from_buffer(y)), 0, 0, 0,
            ))
            # fmt: on
            if status == _SUCCESS:
                return y
        except Exception:
            pass
    return _any_layer_norm(x, normalized_shape, weight, bias, eps, out, return_stats)


def _param_address(param: Any, dtype: np.dtype[Any], cols: int) -> int:
    if type(param) is not ndarray or param.dtype != dtype or param.shape != (cols,):
        raise TypeError
    return addressof(from_buffer(param))


def _any_layer_norm(
    x: Any, normalized_shape: Any, weight: Any, bias: Any, eps: Any, out: Any, return_stats: bool
) -> Any:
    x = as_input(x, "x")
    dims = normalized_dims(x, normalized_shape)
    weight, bias, param_dtype = as_params(x.shape[-dims:], weight, bias)
    y = empty(x.shape, x.dtype) if out is None else as_output(out, "out", x.shape)
    layout = lay_out({"x": x}, {"out": y}, dims)
    mean = rstd = None
    if return_stats:
        stats = np.float64 if x.dtype == np.float64 else np.float32
        mean, rstd = empty(x.shape[:-dims], stats), empty(x.shape[:-dims], stats)
    arguments = _pack(
        _SIZE,
        _rounded(eps, x),
        0,
        Norm.LAYER,
        DTYPES[x.dtype],
        DTYPES[y.dtype],
        param_dtype,
        layout.batch,
        layout.rows,
        layout.cols,
        *layout.pointers("x"),
        _pointer(weight),
        _pointer(bias),
        *layout.pointers("out"),
        _pointer(mean),
        _pointer(rstd),
    )
    check(_forward(arguments))
    layout.store()
    result = y if out is None else out
    return (result, mean, rstd) if return_stats else result


def _rounded(eps: Any, x: Array) -> float:
    if not isinstance(eps, Real):
        raise TypeError(f"eps must be a number, not {type(eps).__name__}")
    try:
        exact = float(eps)
    except OverflowError:  # an int
        exact = inf
    return exact if x.dtype == np.float64 else c_float(exact).value


def _pointer(array: Array | None) -> int:
    return 0 if array is None else array.ctypes.data
