"""The layouts that undo another one.

Over named axes a value is a point, and the inverse has one mode for each axis, in the order of the parts of A (that of
`Layout.spans`): the left inverse of (4,8):(page,core.x) takes (page, column).

Source: CuTe, "Layout Algebra" (NVIDIA CUTLASS, media/docs/cpp/cute/02_layout_algebra.md).
"""

from __future__ import annotations

from ttt_shard_dsl._modes import check_nested, merge, modes_along
from ttt_shard_dsl.errors import LayoutError
from ttt_shard_dsl.layout import Layout, from_modes, join
from ttt_shard_dsl.vector import Stride

__all__ = ["left_inverse", "right_inverse"]


def right_inverse(a: Layout) -> Layout:
    """R with A(R(i)) = i for each i below its size, which is as large as modes of A follow one another from 0.

    Over named axes A(R((p, q, …))) = p·axis₀ + q·axis₁ + …

    Errors: `LayoutError` when a stride is along several axes.
    """
    index = 1
    starts: list[tuple[int, int, int]] = []
    for s, d in a.leaves():
        if not isinstance(d, int):
            return join(*(_follow(modes) for modes in _axes(a)))
        if s > 1:
            starts.append((d, s, index))
            index *= s
    return _follow(starts)


def left_inverse(a: Layout) -> Layout:
    """L with L(A(i)) = i for each i below the size of A; over named axes L((p, q, …)) for A(i) = p·axis₀ + q·axis₁ + …

    Errors: `LayoutError` when A takes a value twice, has no complement, or a stride along several axes.
    """
    index = 1
    modes: list[tuple[int, int, int]] = []
    named = False
    for s, d in a.leaves():
        if s > 1 and d == 0:
            raise LayoutError(f"mode {s}:0 takes one value {s} times, so the layout has no left inverse", str(a))
        if not isinstance(d, int):
            named = True
        elif s > 1:
            modes.append((d, s, index))
        index *= s
    if not named:
        return _undo(a, modes, index)[0]
    inverses: list[Layout] = []
    for modes in _axes(a):
        inverse, index = _undo(a, modes, index)
        inverses.append(inverse)
    return join(*inverses)


def _axes(a: Layout) -> list[list[tuple[int, int, int]]]:
    """The modes along each axis that a part of the layout names."""
    found = modes_along(a)
    return [found.get(axis, []) for axis in a.spans]


def _follow(modes: list[tuple[int, int, int]]) -> Layout:
    """The indices where these (stride, extent, index) modes go on from 0."""
    modes.sort()
    reached = 1
    found: list[tuple[int, Stride]] = []
    for d, s, start in modes:
        if d == reached and s > 1:
            found.append((s, start))
            reached *= s
    return from_modes(merge(found))


def _undo(a: Layout, modes: list[tuple[int, int, int]], beyond: int) -> tuple[Layout, int]:
    """The index of each value; values that A leaves out are counted from `beyond` on, and its next."""
    modes.sort()
    reached = 1
    found: list[tuple[int, Stride]] = []
    for d, s, start in modes:
        if d != reached:
            check_nested(a, d, s, reached)
            found.append((d // reached, beyond))
            beyond *= d // reached
        found.append((s, start))
        reached = s * d
    return from_modes(merge(found)), beyond
