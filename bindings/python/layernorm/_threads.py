"""The instruction set and the threads of the library."""

from ctypes import c_int32
from operator import index

from ._library import check, last_error, library


def isa() -> str:
    """The instruction set in use: "x86-64", "x86-64-v3" or "x86-64-v4"; "portable" elsewhere.

    RuntimeError if LAYERNORM_ISA names one that is unknown or that the CPU lacks."""
    name: bytes | None = library.layernorm_isa()
    if name is None:
        raise RuntimeError(last_error())
    return name.decode()


def get_num_threads() -> int:
    """How many threads one call may use, the caller's included."""
    count: int = library.layernorm_get_num_threads()
    return count


def set_num_threads(n: int) -> None:
    """Sets how many threads one call may use, for the whole process: 1 to 1024, or 0 for the
    default, one for each CPU that the process may run on.

    ValueError for any other number, TypeError for what is not an int."""
    try:
        count = index(n)
    except TypeError:
        raise TypeError(f"n must be an int, not {type(n).__name__}") from None
    if c_int32(count).value != count:
        raise ValueError(f"n is {count}; it must be 1 to 1024, or 0 for the default")
    check(library.layernorm_set_num_threads(count))
