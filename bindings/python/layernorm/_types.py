"""The types of what the functions take and return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from numpy.typing import ArrayLike, NDArray

from ._dlpack import SupportsDLPack

Input: TypeAlias = ArrayLike | SupportsDLPack
Shape: TypeAlias = int | tuple[int, ...] | list[int]

if TYPE_CHECKING:
    # The default is what the call makes where it is given no array. Python has defaults from 3.13
    # on; every type checker knows typing_extensions.
    from typing_extensions import TypeVar

    Out = TypeVar("Out", bound=SupportsDLPack, default=NDArray[Any])
    Sum = TypeVar("Sum", bound=SupportsDLPack, default=NDArray[Any])
    Dx = TypeVar("Dx", bound=SupportsDLPack, default=NDArray[Any])
    Dweight = TypeVar("Dweight", bound=SupportsDLPack, default=NDArray[Any])
    Dbias = TypeVar("Dbias", bound=SupportsDLPack, default=NDArray[Any])
