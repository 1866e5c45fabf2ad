"""Weights that a block is made without, and given later."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ttt_core import Referenced, WeightError
from ttt_hw import Array
from ttt_weights.cache import WeightCache
from ttt_weights.lazy import FingerprintedSource, LazyWeight, NoValues, Source, as_source

__all__ = ["LeftOut", "Loadable", "RandomWeights", "flags_apart", "or_left_out"]

BlockT = TypeVar("BlockT", bound="Loadable")


class LeftOut(NoValues):
    """The place of a weight, called `role` in `block`, that `load` fills; empty, it has a shape and no values."""

    needed = True

    def __init__(self, block: str, role: str, name: str = "", shape: tuple[int, ...] = ()) -> None:
        super().__init__(name or f"the {role} weight", shape)
        self.block = block
        self.role = role
        self._given: Source | None = None

    @property
    def has_values(self) -> bool:
        return self._given is not None and getattr(self._given, "has_values", True)

    def shaped(self, name: str, shape: tuple[int, ...]) -> LeftOut:
        return LeftOut(self.block, self.role, name, shape)

    def each(self, count: int) -> list[LeftOut]:
        """Places for as many weights: role.0, role.1, …"""
        return [LeftOut(self.block, f"{self.role}.{index}") for index in range(count)]

    @property
    def directory(self) -> Path | None:
        """The checkpoint that the weight that was given is from, if it is from one."""
        return getattr(self._given, "directory", None)

    def anew(self) -> LeftOut:
        """An empty place like it."""
        return LeftOut(self.block, self.role, self.name, self.shape)

    def fill(self, weight: Source | Array) -> None:
        self._given = as_source(weight, shape=self.shape, name=self.name)

    def read(self) -> Array:
        if self._given is None:
            raise self.refusal()
        return self._given.read()

    def fingerprint(self, cache: WeightCache, /) -> str | None:
        return self._given.fingerprint(cache) if isinstance(self._given, FingerprintedSource) else None

    def refusal(self) -> WeightError:
        return WeightError(
            f"{self.block} was made without weights, and {self.name} is needed now. Give them when it is made, or with "
            f"load({{{self.role!r}: …}}); load(RandomWeights(seed=0)) serves a test."
        )


class RandomWeights(Mapping[str, Source]):
    """A weight for every name, the same in each run: normal, divided by the root of what is summed over; vectors are around 1,
    and biases around 0."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __getitem__(self, role: str) -> Source:
        return _RandomValues(self.seed, role)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class _RandomValues:
    def __init__(self, seed: int, role: str, name: str = "", shape: tuple[int, ...] = ()) -> None:
        self.name = name
        self.shape = shape
        self._seed = seed
        self._role = role

    def shaped(self, name: str, shape: tuple[int, ...]) -> _RandomValues:
        return _RandomValues(self._seed, self._role, name, shape)

    def read(self) -> Array:
        random = np.random.default_rng((self._seed, zlib.crc32(self._role.encode())))
        values = random.standard_normal(self.shape, dtype=np.float32)
        if len(self.shape) == 1:
            return np.float32(0.1) * values + np.float32(not self._role.endswith("bias"))
        return values / np.float32(self.shape[-1] ** 0.5)


class Loadable(Referenced, ABC):
    """A block whose weights may be left out when it is made. Its `weights` are LazyWeights."""

    @property
    @abstractmethod
    def weights(self) -> Sequence[LazyWeight]: ...

    def load(self: BlockT, weights: Mapping[str, Any], /) -> BlockT:
        """Give the weights that were left out, by the names that they have when the block is made; the block itself.

        Errors: WeightError for a name that is missing or that the block has no place for, for a wrong shape.
        """
        places = [(lazy, place) for lazy in self.weights for place in lazy.sources if isinstance(place, LeftOut)]
        roles = {place.role for _, place in places}
        if surplus := [name for name in weights if name not in roles and f"{name}.0" not in roles]:
            raise WeightError(
                f"{type(self).__name__} has no place for a weight {surplus[0]}: "
                + (f"it was made without {', '.join(sorted(roles))}." if roles else "it was made with its weights.")
            )
        for lazy, place in places:
            place.fill(_weight(weights, place))
            lazy.forget()
        return self

    def another(self: BlockT) -> BlockT:
        """A block that computes the same by the same plans. Weights that were left out are its own to load, the others shared."""
        made = object.__new__(type(self))
        for name, value in vars(self).items():
            setattr(made, name, _another(value))
        return made


def or_left_out(block: str, given: Mapping[str, Any], *, optional: Mapping[str, bool] | None = None) -> dict[str, Any]:
    """A block's weights by name, all as given; where none is, a place for each that the spec has.

    `optional` are those that not every spec has, and whether this one does.
    Errors: WeightError where some are given, and others that every spec has are not.
    """
    has = optional or {}
    if all(weight is None for weight in given.values()):
        return {role: LeftOut(block, role) if has.get(role, True) else None for role in given}
    if missing := [role for role, weight in given.items() if weight is None and role not in has]:
        present = [role for role, weight in given.items() if weight is not None]
        raise WeightError(
            f"{block} was given {', '.join(present)} and not {', '.join(missing)}. Give all weights, or none of them and load "
            "them later."
        )
    return dict(given)


def flags_apart(given: Mapping[str, Any], fields: dict[str, Any], *, implied: Sequence[str] = ()) -> dict[str, Any]:
    """A block's weights by name, for names that the spec has as fields too, which say whether there is such a weight.

    Who gives no spec says so by True or False, or, of those `implied`, by giving the weight; that goes to `fields`.
    """
    fields.update({role: True for role in implied if given[role] is not None})
    fields.update({role: weight for role, weight in given.items() if isinstance(weight, bool)})
    return {role: None if isinstance(weight, bool) else weight for role, weight in given.items()}


def _weight(weights: Mapping[str, Any], place: LeftOut) -> Any:
    several, _, index = place.role.rpartition(".")
    try:
        return weights[several][int(index)] if place.role not in weights and index.isdigit() else weights[place.role]
    except (KeyError, IndexError):
        raise WeightError(
            f"{place.block} was not given {place.role}, {place.name} {list(place.shape)}. Load all its weights."
        ) from None


def _another(value: Any) -> Any:
    if isinstance(value, LazyWeight):
        return value.replaced([each.anew() if isinstance(each, LeftOut) else each for each in value.sources])
    if isinstance(value, (list, tuple)) and any(isinstance(each, LazyWeight) for each in value):
        return type(value)(_another(each) for each in value)
    return value
