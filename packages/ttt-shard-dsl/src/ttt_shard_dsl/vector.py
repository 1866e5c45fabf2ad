"""A stride over named axes: an integer vector, such as one core to the right and 38 pages on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from ttt_shard_dsl.errors import LayoutError

__all__ = ["Vector"]


class Vector:
    """Σ coefficient·axis, such as `core.x+38page`; 4·Vector, sums and differences are vectors, or 0.

    `terms` are the (axis, coefficient) pairs by name, without zeros; the name "" is that of integers.

    Errors: `LayoutError` when no named axis is left.
    """

    __slots__ = ("terms",)

    terms: tuple[tuple[str, int], ...]

    def __init__(self, terms: Mapping[str, int]) -> None:
        kept = tuple(sorted((name, count) for name, count in terms.items() if count))
        if not any(name for name, _ in kept):
            raise LayoutError("a vector has a coefficient on at least one named axis", str(dict(terms)))
        object.__setattr__(self, "terms", kept)

    def __getitem__(self, axis: str) -> int:
        """The coefficient on an axis, 0 where it has none."""
        return dict(self.terms).get(axis, 0)

    def __add__(self, other: Stride) -> Stride:
        total = dict(self.terms)
        for name, count in terms_of(other):
            total[name] = total.get(name, 0) + count
        return stride_of(total)

    def __mul__(self, factor: int) -> Stride:
        return stride_of({name: count * factor for name, count in self.terms}) if factor else 0

    def __neg__(self) -> Stride:
        return self * -1

    def __sub__(self, other: Stride) -> Stride:
        return self + other * -1

    def __rsub__(self, other: int) -> Stride:
        return self * -1 + other

    __radd__ = __add__
    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        return self.terms == other.terms if isinstance(other, Vector) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.terms)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Vector is immutable: {name} cannot be set")

    def __reduce__(self) -> tuple[type[Vector], tuple[dict[str, int]]]:
        return Vector, (dict(self.terms),)

    def __str__(self) -> str:
        text = ""
        for name, count in self.terms:
            digits = {1: "", -1: "-"}.get(count, str(count)) if name else str(count)
            text += ("+" if text and count > 0 else "") + digits + name
        return text

    def __repr__(self) -> str:
        return f"Vector({dict(self.terms)})"


Stride: TypeAlias = int | Vector
"""An integer, or an integer vector over named axes. An integer is the same as a vector along the axis without a name."""


def stride_of(terms: Mapping[str, int]) -> Stride:
    """The vector with these coefficients, or the integer where no axis has a name."""
    if any(count for name, count in terms.items() if name):
        return Vector(terms)
    return terms.get("", 0)


def terms_of(stride: Stride) -> tuple[tuple[str, int], ...]:
    """The (axis, coefficient) pairs; the axis of an integer is ""."""
    if isinstance(stride, Vector):
        return stride.terms
    return (("", stride),) if stride else ()


def along(axis: str, count: int) -> Stride:
    """`count` steps along one axis."""
    return Vector({axis: count}) if axis and count else count
