"""Weights that reach the device when they are first used."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ttt_core import WeightError
from ttt_hw import (
    Array,
    DType,
    TensorLayout,
    allocate,
    board_of,
    current_backend,
    forget_source,
    observed,
    parts_of,
    remember_source,
    upload,
)
from ttt_shard_dsl import parse

__all__ = ["ArraySource", "Float32", "LazyWeight", "NoValues", "NoWeight", "Shapeless", "Source", "as_source"]

Float32 = NDArray[np.float32]
"""What every source gives, whatever the file holds."""

_FLOATING = ("float32", "float16", "bfloat16", "float64")


class Source(Protocol):
    """Something with a shape that can be read when needed; `StoredTensor` is one."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    def read(self) -> Array: ...


@runtime_checkable
class Shapeless(Protocol):
    """Something that becomes a source of the shape that is asked for."""

    def shaped(self, name: str, shape: tuple[int, ...]) -> Source: ...


class ArraySource:
    """An array in memory as a source."""

    def __init__(self, array: Array, name: str) -> None:
        self.name = name
        self.shape = tuple(array.shape)
        self._array = array

    def read(self) -> Array:
        return self._array


class NoValues:
    """A source without values, of whatever shape is asked for: its weights take their place on the device and no more.

    `needed`: a device that computes must not do without them.
    """

    needed = False

    def __init__(self, name: str, shape: tuple[int, ...] = ()) -> None:
        self.name = name
        self.shape = shape

    @property
    def has_values(self) -> bool:
        return False

    def shaped(self, name: str, shape: tuple[int, ...]) -> Source:
        return NoValues(self.name, shape)

    def read(self) -> Array:
        raise WeightError(
            f"{self.name} has a shape but no values; give weights to compute with, for example a Checkpoint."
        )


def as_source(weight: Source | Array, *, shape: tuple[int, ...], name: str) -> Source:
    """`weight` as a source, its shape checked. Raises WeightError with the name, the shape found and the one wanted.

    One that takes whatever shape is wanted says so by `shaped(name, shape)`.
    """
    if isinstance(weight, Shapeless):
        return weight.shaped(name, shape)
    source: Source = ArraySource(weight, name) if isinstance(weight, np.ndarray) else weight
    if tuple(source.shape) != shape:
        raise WeightError(
            f"{source.name} has shape {list(source.shape)}, but {list(shape)} is wanted for {name}. "
            "The config and the weights do not belong together."
        )
    return source


class NoWeight:
    """Stands where a weight is left out: a bias that a model does not have."""

    tensor: None = None


class LazyWeight:
    """A device tensor built from sources on first use, in the dtype and layout of the plan.

    `build` makes the tensor's float32 values from the sources' float32 values; it runs for each conversion, so that the
    host keeps no copy. A value shadow reads `host()`, the exact values, whatever dtype the device holds.

    Shapes: `shape` is the whole tensor; `placement` may split it over the mesh.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        build: Callable[..., Float32],
        *,
        shape: tuple[int, ...],
        dtype: DType,
        device: Any,
        placement: str,
        layout: TensorLayout = "tile",
    ) -> None:
        self.name = " + ".join(source.name for source in sources) or build.__name__
        self.shape = shape
        self.dtype = dtype
        board = board_of(device)
        self.mesh = board.mesh
        self.placement = parse(placement).place(shape, device=board, dtype=dtype, tiled=layout == "tile")
        self._sources = tuple(sources)
        self._build = build
        self._layout: TensorLayout = layout
        self._device = device
        self._tensor: Any = None

    @property
    def tensor(self) -> Any:
        """The device tensor, converted and copied on first use; without values, allocated only.

        Errors: WeightError without values that are needed, on a device that computes or where a shadow stands in for one.
        """
        if self._tensor is None:
            self._tensor = self._allocated() if self._empty else self._uploaded()
            weakref.finalize(self, forget_source, remember_source(self._tensor, _weakly(self)))
        return self._tensor

    @property
    def sources(self) -> tuple[Source, ...]:
        return self._sources

    def forget(self) -> None:
        """Have it converted again when it is next used: its sources have changed."""
        self._tensor = None

    def replaced(self, sources: Sequence[Source]) -> LazyWeight:
        """The same of other sources, not yet on the device."""
        other = copy(self)
        other._sources = tuple(sources)
        other._tensor = None
        return other

    @property
    def _empty(self) -> list[NoValues]:
        return [source for source in self._sources if isinstance(source, NoValues) and not source.has_values]

    def _allocated(self) -> Any:
        if any(source.needed for source in self._empty) and (observed() or current_backend(self._device) != "mock"):
            self.host()  # which says what is missing
        return allocate(self._device, dtype=self.dtype, layout=self._layout, placement=self.placement)

    def _uploaded(self) -> Any:
        return upload(self.host(), self._device, dtype=self.dtype, layout=self._layout, placement=self.placement)

    def host(self) -> Float32:
        """The float32 values, read and built anew, padded as the placement says."""
        values = self._build(*(_read(source) for source in self._sources))
        if values.shape != self.shape:
            raise WeightError(
                f"{self.name} was built with shape {list(values.shape)}, but {list(self.shape)} was declared."
            )
        return self._padded(values)

    def _padded(self, values: Float32) -> Float32:
        """Row-major, with the zeros that the placement's padding asks for."""
        whole = self.placement.whole_shape(self.mesh)
        if whole == values.shape and values.flags.c_contiguous:
            return values
        padded = np.zeros(whole, dtype=np.float32)
        _copy(values, padded[tuple(slice(size) for size in values.shape)])
        return padded

    def __repr__(self) -> str:
        state = "not yet read" if self._tensor is None else "on device"
        return f"LazyWeight({self.name}, {list(self.shape)}, {self.dtype}, {state})"


def _read(source: Source) -> Float32:
    array = source.read()
    if array.dtype.name not in _FLOATING:
        raise WeightError(
            f"{source.name} is stored as {array.dtype}; floating-point weights are wanted ({', '.join(_FLOATING)}). "
            "The checkpoint is quantised in a way that ttt does not read: use one that is not."
        )
    return np.asarray(array, dtype=np.float32)


def _copy(values: Float32, target: Float32, block: int = 256) -> None:
    """target[...] = values in square blocks that stay in the CPU's cache: for a transposed matrix ten times as fast."""
    if values.ndim < 2:
        target[...] = values
        return
    for row in range(0, values.shape[-2], block):
        for column in range(0, values.shape[-1], block):
            part = (..., slice(row, row + block), slice(column, column + block))
            target[part] = values[part]


def _weakly(weight: LazyWeight) -> Callable[[], list[Array]]:
    """Each chip's part of `weight.host()`, without keeping the weight alive; forgotten when the weight dies."""
    reference = weakref.ref(weight)

    def parts() -> list[Array]:
        alive = reference()
        assert alive is not None
        return parts_of(alive.host(), alive.placement, alive.mesh)

    return parts
