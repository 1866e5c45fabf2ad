"""Weights that reach the device when they are first used."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from copy import copy
from functools import cached_property
from typing import Any, Protocol, cast, runtime_checkable

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
    send,
)
from ttt_shard_dsl import parse
from ttt_weights._host import host_bytes, host_tensor, padded
from ttt_weights._recipe import recipe_of
from ttt_weights._stored import stored_values
from ttt_weights.cache import LEAST_BYTES, WeightCache, cache_folder, entry_name, open_cache

__all__ = [
    "ArraySource",
    "FingerprintedSource",
    "Float32",
    "LazyWeight",
    "NoValues",
    "NoWeight",
    "Shapeless",
    "Source",
    "as_source",
]

Float32 = NDArray[np.float32]
"""What every source gives, whatever the file holds."""


class Source(Protocol):
    """Something with a shape that can be read when needed; `StoredTensor` is one."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    def read(self) -> Array: ...


@runtime_checkable
class FingerprintedSource(Protocol):
    """A source whose content has a digest, so that what is made of it can be kept on disk; None where it has none."""

    def fingerprint(self, cache: WeightCache, /) -> str | None: ...


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
    host keeps no copy. Values of bfloat16 stay so while they are only moved, which a build need not know: computing with them
    gives float32. A value shadow reads `host()`, the exact values, whatever dtype the device holds.

    What was converted is kept on disk, in the folder that `cache_folder()` names, if all sources have a fingerprint: found
    again while content, build, dtype, layout, mesh and ttnn are the same.

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

    @cached_property
    def tensor(self) -> Any:
        """The device tensor, converted and copied on first use; without values, allocated only.

        Errors: WeightError without values that are needed, on a device that computes or where a shadow stands in for one.
        """
        made = self._allocated() if self._empty else self._uploaded()
        weakref.finalize(self, forget_source, remember_source(made, _weakly(self)))
        return made

    @property
    def sources(self) -> tuple[Source, ...]:
        return self._sources

    @property
    def num_bytes(self) -> int:
        """What it takes of each chip, with the padding of its layout."""
        place, board = self.placement, board_of(self._device)
        if place.memory == "dram":
            return place.bytes_per_bank * board.dram_banks
        cores = board.grid[0] * board.grid[1] if place.shard_shape is None else place.num_shards
        return place.bytes_per_core * cores

    def forget(self) -> None:
        """Have it converted again when it is next used: its sources have changed."""
        self.__dict__.pop("tensor", None)

    def replaced(self, sources: Sequence[Source]) -> LazyWeight:
        """The same of other sources, not yet on the device."""
        other = copy(self)
        other._sources = tuple(sources)
        other.forget()
        return other

    @property
    def _empty(self) -> list[NoValues]:
        return [source for source in self._sources if isinstance(source, NoValues) and not source.has_values]

    def _allocated(self) -> Any:
        if any(source.needed for source in self._empty) and (observed() or current_backend(self._device) != "mock"):
            self.host()  # which says what is missing
        return allocate(self._device, dtype=self.dtype, layout=self._layout, placement=self.placement)

    def _uploaded(self) -> Any:
        return send(self._converted(), self._device, placement=self.placement, parts=self._parts)

    def host(self) -> Float32:
        """The float32 values, read and built anew, padded as the placement says."""
        return padded(self._built(), self.placement.whole_shape(self.mesh))

    def _built(self) -> NDArray[Any]:
        """The values as bfloat16 where the build only moves them, else as float32."""
        values: NDArray[Any] = self._build(*(stored_values(source.read(), source.name) for source in self._sources))
        if values.shape != self.shape:
            raise WeightError(
                f"{self.name} was built with shape {list(values.shape)}, but {list(self.shape)} was declared."
            )
        return values

    def _converted(self) -> Any:
        """The host tensor, from the cache if it is there."""
        folder = cache_folder()
        least = host_bytes(self.dtype, self.shape)
        if folder is None or least < LEAST_BYTES:
            return self._convert()
        cache = open_cache(folder)
        name = self._entry(cache)
        if name is None:
            return self._convert()
        host = cache.load(name, least_bytes=least)
        if host is None:
            host = self._convert()
            cache.store(name, host)
        return host

    def _convert(self) -> Any:
        return host_tensor(
            self._built(), self._device, dtype=self.dtype, layout=self._layout, placement=self.placement, mesh=self.mesh
        )

    def _entry(self, cache: WeightCache) -> str | None:
        """The name of what is converted, if all that it depends on is known."""
        recipe = recipe_of(self._build)
        known = all(isinstance(source, FingerprintedSource) for source in self._sources)
        if recipe is None or not known or not self._sources:
            return None
        contents = [cast("FingerprintedSource", source).fingerprint(cache) for source in self._sources]
        if None in contents:
            return None
        split = (self.mesh, self.placement.chip_shape, self.placement.mesh_dims, self.placement.cols_major)
        return entry_name(repr((self.shape, self.dtype, self._layout, *split)), recipe, *map(str, contents))

    def _parts(self) -> list[Array]:
        return parts_of(self.host(), self.placement, self.mesh)

    def __repr__(self) -> str:
        state = "on device" if "tensor" in self.__dict__ else "not yet read"
        return f"LazyWeight({self.name}, {list(self.shape)}, {self.dtype}, {state})"


def _weakly(weight: LazyWeight) -> Callable[[], list[Array]]:
    """Each chip's part of `weight.host()`, without keeping the weight alive; forgotten when the weight dies."""
    reference = weakref.ref(weight)

    def parts() -> list[Array]:
        alive = reference()
        assert alive is not None
        return alive._parts()

    return parts
