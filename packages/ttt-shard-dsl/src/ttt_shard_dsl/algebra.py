"""What a layout is as a function: its shortest form, what it leaves out, what it repeats, and parts of it.

No function on layouts returns a wrong one: what has no exact result is a `LayoutError`.

Source: CuTe, "Layout Algebra" (NVIDIA CUTLASS, media/docs/cpp/cute/02_layout_algebra.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from ttt_shard_dsl._modes import by_mode, check_nested, merge, modes_along, single_axis
from ttt_shard_dsl._nesting import IntTuple, StrideTuple
from ttt_shard_dsl.errors import LayoutError
from ttt_shard_dsl.layout import Layout, from_modes, join, trusted
from ttt_shard_dsl.vector import Stride, along

__all__ = ["canonical", "coalesce", "complement", "make_layout_like", "nullspace", "slice_layout"]

Coord: TypeAlias = int | tuple["Coord", ...] | None
"""A coordinate whose None parts are left open."""

Profile: TypeAlias = int | tuple["Profile", ...] | None
"""The modes to keep apart: a tuple goes by mode, anything else takes the mode whole."""


def coalesce(layout: Layout, profile: Profile = None) -> Layout:
    """The same function of the indices below the size, with the fewest modes: C(i) = L(i).

    A tuple as the profile does so within each of the first top-level modes; `(None,) * len(layout)` within each.

    Errors: `LayoutError` when the profile has more modes than the layout.
    """
    if isinstance(profile, tuple):
        return by_mode(coalesce, layout, profile)
    return from_modes(merge(layout.leaves()))


def canonical(layout: Layout) -> Layout:
    """The one flat form of all layouts that are the same function of the indices below the size.

    Two layouts are the same function exactly when these are equal, so this one is the key for sets and dicts.
    """
    return from_modes(merge(layout.leaves()))


def complement(a: Layout, size: int | Mapping[str, int]) -> Layout:
    """What A leaves out: (A, C) takes each value below some N ≥ `size` once, broadcast parts of A aside.

    Over named axes the values are the points of a box, and `size` is its extent along each axis (1 by default).

    Errors: `LayoutError` when a stride is negative or along several axes, or modes of A overlap or do not nest.
    """
    modes: list[tuple[int, int, int]] = []
    for s, d in a.leaves():
        if type(d) is not int:
            return _complement_along(a, size)
        if s > 1 and d:
            modes.append((d, s, 0))
    if not isinstance(size, int):
        return _complement_along(a, size)
    return from_modes([*_gaps(a, modes, size)])


def _complement_along(a: Layout, size: int | Mapping[str, int]) -> Layout:
    axes = modes_along(a)
    if isinstance(size, int):
        if len(axes) != 1:
            raise LayoutError(f"the size of a complement over {' and '.join(map(repr, axes))} is one for each", str(a))
        size = dict.fromkeys(axes, size)
    rest: list[tuple[int, Stride]] = []
    for axis in dict.fromkeys([*axes, *size]):
        rest += [(s, along(axis, d)) for s, d in _gaps(a, axes.get(axis, []), size.get(axis, 1))]
    return from_modes(rest)


def _gaps(a: Layout, modes: list[tuple[int, int, int]], size: int) -> list[tuple[int, int]]:
    """The modes that fill what these (stride, extent, index) leave out below the size."""
    modes.sort()
    reached = 1
    gaps: list[tuple[int, int]] = []
    for d, s, _ in modes:
        if d != reached:
            check_nested(a, d, s, reached)
            gaps.append((d // reached, reached))
        reached = s * d
    if size > reached:
        gaps.append((-(-size // reached), reached))
    return gaps


def nullspace(layout: Layout) -> Layout:
    """The replicated part: N with L(N(i)) = 0 and L(j + N(i)) = L(j) for j without digits of N; it has the stride-0 modes.

    Its size is how many times each value of the others is repeated; 1:0 where nothing is.
    """
    index = 1
    found: list[tuple[int, Stride]] = []
    for s, d in layout.leaves():
        if d == 0:
            found.append((s, index))
        index *= s
    return from_modes(merge(found))


def slice_layout(layout: Layout, coord: Coord) -> tuple[Layout, Stride]:
    """The part of a layout at a coordinate whose None parts stay open, and the value where it starts.

    S(i) + offset = L(coord with i in place of the open parts); 1:0 where none is open.

    Errors: `LayoutError` for a coordinate that does not fit the shape.
    """
    kept: list[Layout] = []
    offset: Stride = 0

    def cut(at: Coord, part: Layout) -> None:
        nonlocal offset
        if at is None:
            kept.append(part)
        elif isinstance(at, int):
            offset += part(at)
        elif not isinstance(part.shape, tuple) or len(at) != len(part):
            raise LayoutError(f"the coordinate has {len(at)} parts where the layout has {part}", str(layout))
        else:
            for mode, inner in enumerate(at):
                cut(inner, part[mode])

    cut(coord, layout)
    return (kept[0] if len(kept) == 1 else join(*kept) if kept else Layout(1, 0)), offset


def make_layout_like(layout: Layout) -> Layout:
    """The compact layout of this shape whose modes are in the order of this one's strides; broadcasts stay so.

    Along each named axis by itself; of equal strides the left one is first, and the direction does not count.

    Errors: `LayoutError` when a stride is along several axes.
    """
    by_axis: dict[str, list[tuple[int, int, int]]] = {}
    for leaf, (s, d) in enumerate(layout.leaves()):
        if s > 1 and d:
            axis, step = single_axis(layout, s, d)
            by_axis.setdefault(axis, []).append((abs(step), leaf, s))
    strides: list[Stride] = [0] * len(layout.leaves())
    for axis, modes in by_axis.items():
        step = 1
        for _, leaf, extent in sorted(modes):
            strides[leaf] = along(axis, step)
            step *= extent
    rest = iter(strides)

    def like(shape: IntTuple) -> StrideTuple:
        return tuple([like(part) for part in shape]) if isinstance(shape, tuple) else next(rest)

    return trusted(layout.shape, like(layout.shape))
