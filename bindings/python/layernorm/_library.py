"""liblayernorm.so, found, loaded and declared: what Include/layernorm.h says, for ctypes."""

import os
import re
from collections.abc import Collection
from ctypes import (
    CDLL,
    CFUNCTYPE,
    Structure,
    c_char_p,
    c_double,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint64,
    c_void_p,
    sizeof,
)
from enum import IntEnum, IntFlag
from pathlib import Path
from struct import Struct
from typing import Any, Final

_FILE: Final = "liblayernorm.so"

# LAYERNORM_VERSION of the first library that has everything declared here.
_OLDEST: Final = 100


class Status(IntEnum):
    """layernorm_status."""

    SUCCESS = 0
    ERROR_NULL_POINTER = 1
    ERROR_SIZE = 2
    ERROR_EPS = 3
    ERROR_DTYPE = 4
    ERROR_NORM = 5
    ERROR_FLAGS = 6
    ERROR_STRUCT_SIZE = 7
    ERROR_STRIDE = 8
    ERROR_OVERLAP = 9
    ERROR_ALIGNMENT = 10
    ERROR_ISA = 11
    ERROR_NUM_THREADS = 12
    ERROR_OUT_OF_MEMORY = 13
    ERROR_CELL = 14


class DType(IntEnum):
    """layernorm_dtype."""

    DTYPE_DEFAULT = 0
    F32 = 1
    F64 = 2
    F16 = 3
    BF16 = 4


class Norm(IntEnum):
    """layernorm_norm."""

    LAYER = 0
    RMS = 1
    ADA = 2


class Cell(IntEnum):
    """layernorm_cell."""

    RNN_TANH = 0
    RNN_RELU = 1
    LSTM = 2
    GRU = 3


class Flag(IntFlag):
    """Bits of `flags`."""

    WEIGHT_OFFSET = 1
    ACCUMULATE_DX = 2
    ACCUMULATE_PARAMS = 4
    DETACH_MEAN = 8
    DETACH_RSTD = 16
    PER_GATE = 32


# Plain ints: an enum's member takes a tenth of a microsecond to look up.
LAYER: Final = int(Norm.LAYER)
RMS: Final = int(Norm.RMS)
ADA: Final = int(Norm.ADA)
WEIGHT_OFFSET: Final = int(Flag.WEIGHT_OFFSET)
DETACH_MEAN: Final = int(Flag.DETACH_MEAN)
DETACH_RSTD: Final = int(Flag.DETACH_RSTD)
# C and k of AdaNorm where they are not given.
ADA_DEFAULTS: Final = (1.0, 0.1)


def detached(mean: bool, rstd: bool) -> int:
    """The flags for what is a constant in backward."""
    return (DETACH_MEAN if mean else 0) | (DETACH_RSTD if rstd else 0)


class ForwardArgs(Structure):
    """layernorm_forward_args."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("eps", c_double),
        ("flags", c_uint64),
        ("norm", c_int),
        ("x_dtype", c_int),
        ("y_dtype", c_int),
        ("param_dtype", c_int),
        ("batch", c_int64),
        ("rows", c_int64),
        ("cols", c_int64),
        ("x", c_void_p),
        ("x_strides", c_void_p),
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("y", c_void_p),
        ("y_strides", c_void_p),
        ("mean", c_void_p),
        ("rstd", c_void_p),
        ("residual", c_void_p),
        ("residual_strides", c_void_p),
        ("x_bias", c_void_p),
        ("sum", c_void_p),
        ("sum_strides", c_void_p),
        ("ada_scale", c_double),
        ("ada_slope", c_double),
    ]


class BackwardArgs(Structure):
    """layernorm_backward_args."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("eps", c_double),
        ("flags", c_uint64),
        ("norm", c_int),
        ("x_dtype", c_int),
        ("dy_dtype", c_int),
        ("param_dtype", c_int),
        ("batch", c_int64),
        ("rows", c_int64),
        ("cols", c_int64),
        ("dy", c_void_p),
        ("dy_strides", c_void_p),
        ("x", c_void_p),
        ("x_strides", c_void_p),
        ("weight", c_void_p),
        ("mean", c_void_p),
        ("rstd", c_void_p),
        ("dsum", c_void_p),
        ("dsum_strides", c_void_p),
        ("dx", c_void_p),
        ("dx_strides", c_void_p),
        ("dweight", c_void_p),
        ("dbias", c_void_p),
        ("ada_scale", c_double),
        ("ada_slope", c_double),
    ]


class CellForwardArgs(Structure):
    """layernorm_cell_forward_args."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("eps", c_double),
        ("flags", c_uint64),
        ("cell", c_int),
        ("dtype", c_int),
        ("rows", c_int64),
        ("hidden", c_int64),
        ("x_gates", c_void_p),
        ("h_gates", c_void_p),
        ("h_prev", c_void_p),
        ("c_prev", c_void_p),
        ("mask", c_void_p),
        ("x_weight", c_void_p),
        ("x_bias", c_void_p),
        ("h_weight", c_void_p),
        ("h_bias", c_void_p),
        ("c_weight", c_void_p),
        ("c_bias", c_void_p),
        ("h", c_void_p),
        ("c", c_void_p),
        ("gates", c_void_p),
        ("mean", c_void_p),
        ("rstd", c_void_p),
    ]


class CellBackwardArgs(Structure):
    """layernorm_cell_backward_args."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("eps", c_double),
        ("flags", c_uint64),
        ("cell", c_int),
        ("dtype", c_int),
        ("rows", c_int64),
        ("hidden", c_int64),
        ("x_gates", c_void_p),
        ("h_gates", c_void_p),
        ("h_prev", c_void_p),
        ("c_prev", c_void_p),
        ("mask", c_void_p),
        ("x_weight", c_void_p),
        ("x_bias", c_void_p),
        ("h_weight", c_void_p),
        ("h_bias", c_void_p),
        ("c_weight", c_void_p),
        ("c_bias", c_void_p),
        ("c", c_void_p),
        ("gates", c_void_p),
        ("mean", c_void_p),
        ("rstd", c_void_p),
        ("dh", c_void_p),
        ("dc", c_void_p),
        ("dx_gates", c_void_p),
        ("dh_gates", c_void_p),
        ("dh_prev", c_void_p),
        ("dc_prev", c_void_p),
        ("dx_weight", c_void_p),
        ("dx_bias", c_void_p),
        ("dh_weight", c_void_p),
        ("dh_bias", c_void_p),
        ("dc_weight", c_void_p),
        ("dc_bias", c_void_p),
    ]


def packer(
    args: type[Structure], first: str, last: str, given: Collection[str] | None = None
) -> Struct:
    """What packs the fields of `args` from `first` to `last`, or only the `given` ones with zeros
    for the others: the same bytes as `args` has there, in a fifth of the time of making one."""
    fields: Any = args._fields_
    names = [name for name, _ in fields]
    start, stop = names.index(first), names.index(last) + 1
    # ctypes and struct share their type codes.
    packed = Struct(
        "@"
        + "".join(
            kind._type_ if given is None or name in given else f"{sizeof(kind)}x"
            for name, kind in fields[start:stop]
        )
    )
    assert packed.size == sum(sizeof(kind) for _, kind in fields[start:stop])
    return packed


Task = CFUNCTYPE(None, c_void_p, c_int64)
ParallelFor = CFUNCTYPE(None, c_void_p, c_int64, Task, c_void_p)

# The structs of the general calls are passed as the bytes that packer() makes: c_char_p.
_PROTOTYPES: Final[dict[str, tuple[type | None, list[type]]]] = {
    "layernorm_version": (c_int32, []),
    "layernorm_status_string": (c_char_p, [c_int]),
    "layernorm_last_error": (c_char_p, []),
    "layernorm_forward": (c_int, [c_char_p]),
    "layernorm_backward": (c_int, [c_char_p]),
    "layernorm_cell_forward": (c_int, [c_char_p]),
    "layernorm_cell_backward": (c_int, [c_char_p]),
    "layernorm_isa": (c_char_p, []),
    "layernorm_get_num_threads": (c_int32, []),
    "layernorm_set_num_threads": (c_int, [c_int32]),
    "layernorm_set_parallel_for": (c_int, [ParallelFor, c_void_p]),
    "layernorm_set_thread_parallel_for": (c_int, [ParallelFor, c_void_p]),
}


def _find() -> Path:
    chosen = os.environ.get("LAYERNORM_LIBRARY")
    if chosen:
        return Path(chosen)
    here = Path(__file__).resolve().parent
    candidates = [here / _FILE]
    for parent in here.parents:
        if (parent / "Include" / "layernorm.h").exists():  # a checkout, not some other build folder
            candidates.append(parent / "build" / _FILE)
    for candidate in candidates:
        if candidate.exists():
            return candidate
    looked = ", ".join(map(str, candidates))
    raise ImportError(f"{_FILE} is not at {looked}; LAYERNORM_LIBRARY can give its path")


def _load(path: Path) -> CDLL:
    try:
        loaded = CDLL(os.fspath(path))
        version: int = loaded.layernorm_version()
    except (OSError, AttributeError) as error:
        raise ImportError(f"cannot load {path} as {_FILE}: {error}") from error
    if version < _OLDEST or version // 10000 != _OLDEST // 10000:
        raise ImportError(
            f"{path} is liblayernorm {_dotted(version)}; this package needs "
            f"{_dotted(_OLDEST)} or later with the same major version"
        )
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(loaded, name)
        function.restype = result
        function.argtypes = arguments
    return loaded


def _dotted(version: int) -> str:
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}"


path: Final = _find()
library: Final = _load(path)
version: Final = _dotted(library.layernorm_version())


def adapter(framework: str) -> Path:
    """The path of the adapter to a framework, liblayernorm_<framework>.so, beside the library."""
    return path.with_name(f"liblayernorm_{framework}.so")


_EXCEPTIONS: Final[dict[int, type[Exception]]] = {
    Status.ERROR_ISA: RuntimeError,
    Status.ERROR_OUT_OF_MEMORY: MemoryError,
}
# What the arguments of C are called here.
_RENAMED: Final = {
    "y": "out",
    "sum": "sum_out",
    "num_threads": "n",
    "ada_scale": "scale",
    "ada_slope": "slope",
}


def last_error() -> str:
    """layernorm_last_error(), with the arguments' names as they are in Python."""
    sentence: str = library.layernorm_last_error().decode()
    return re.sub(r"\b(\w+?)(_strides)?\b", lambda word: _RENAMED.get(word[1], word[1]), sentence)


def check(status: int) -> None:
    """Raises what `status` stands for, if it is an error."""
    if status != Status.SUCCESS:
        raise _EXCEPTIONS.get(status, ValueError)(last_error())
