"""Values as a checkpoint has them, which are widened only where somebody computes with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ttt_core import WeightError

_FLOATING = ("float32", "float16", "bfloat16", "float64")
_MOVES: frozenset[Callable[..., Any]] = frozenset(
    {
        np.broadcast_to, np.concatenate, np.copyto, np.empty_like, np.expand_dims, np.flip, np.moveaxis, np.pad, np.repeat,
        np.reshape, np.roll, np.split, np.squeeze, np.stack, np.swapaxes, np.take, np.tile, np.transpose, np.zeros_like,
    }
)  # fmt: skip


class StoredValues(np.ndarray[Any, Any]):
    """bfloat16 values of which views and copies stay bfloat16, and anything computed is float32.

    So that a build that only moves its weights needs no float32 copy of them, and one that computes is as exact as float32.
    Errors: TypeError where a result is to be written into them.
    """

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if "out" in kwargs:
            raise TypeError(
                f"{ufunc.__name__} would write float32 values into bfloat16 ones of a checkpoint. Compute a new array."
            )
        return getattr(ufunc, method)(*(_widened(each) for each in inputs), **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function in _MOVES:
            return _still_stored(super().__array_function__(function, types, args, kwargs))
        return function(*(_widened(each) for each in args), **kwargs)


def stored_values(array: NDArray[Any], name: str) -> NDArray[Any]:
    """What a build is given. Errors: WeightError for values that are not floating-point."""
    if array.dtype.name not in _FLOATING:
        raise WeightError(
            f"{name} is stored as {array.dtype}; floating-point weights are wanted ({', '.join(_FLOATING)}). "
            "The checkpoint is quantised in a way that ttt does not read: use one that is not."
        )
    if array.dtype == ml_dtypes.bfloat16:
        return array.view(StoredValues)
    return np.asarray(array, dtype=np.float32)


def _still_stored(moved: Any) -> Any:
    """What moves return, some of them as plain arrays."""
    if isinstance(moved, list):
        return [_still_stored(each) for each in moved]
    stored = isinstance(moved, np.ndarray) and moved.dtype == ml_dtypes.bfloat16
    return moved.view(StoredValues) if stored else moved


def _widened(value: Any) -> Any:
    if isinstance(value, StoredValues):
        return np.asarray(value, dtype=np.float32)
    if isinstance(value, (list, tuple)):
        return type(value)(_widened(each) for each in value)
    return value
