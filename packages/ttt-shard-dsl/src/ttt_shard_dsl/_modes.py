"""The modes of a layout, as the functions on layouts take them apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ttt_shard_dsl.errors import LayoutError
from ttt_shard_dsl.layout import Layout, join
from ttt_shard_dsl.vector import Stride


def by_mode(function: Callable[..., Layout], layout: Layout, parts: tuple[object, ...], **options: object) -> Layout:
    """The function of each top-level mode and its part; modes without a part stay as they are.

    Errors: `LayoutError` when there are more parts than modes.
    """
    if len(parts) > len(layout):
        raise LayoutError(f"{len(parts)} parts for a layout of {len(layout)} modes", str(layout))
    modes = [layout[k] for k in range(len(layout))]
    for k, part in enumerate(parts):
        modes[k] = function(modes[k], part, **options)
    return join(*modes)


def single_axis(layout: Layout, s: int, d: Stride) -> tuple[str, int]:
    """The axis of a stride, and the coefficient on it."""
    if isinstance(d, int):
        return "", d
    if len(d.terms) > 1:
        raise LayoutError(f"mode {s}:{d} goes along several axes at once", str(layout))
    return d.terms[0]


def modes_along(layout: Layout) -> dict[str, list[tuple[int, int, int]]]:
    """For each axis the (stride, extent, index where it starts) of its modes, in the order of the leaves."""
    axes: dict[str, list[tuple[int, int, int]]] = {}
    index = 1
    for s, d in layout.leaves():
        if s > 1 and d:
            axis, step = single_axis(layout, s, d)
            axes.setdefault(axis, []).append((step, s, index))
        index *= s
    return axes


def merge(leaves: Iterable[tuple[int, Stride]]) -> list[tuple[int, Stride]]:
    """Without extents of 1, and neighbours made one where the second goes on from the first."""
    merged: list[tuple[int, Stride]] = []
    extent, step, follows = 1, 0, 0  # type: int, Stride, Stride
    for s, d in leaves:
        if s == 1:
            continue
        if extent == 1:
            extent, step = s, d
        elif d == follows:
            extent *= s
        else:
            merged.append((extent, step))
            extent, step = s, d
        follows = extent * step
    if extent > 1:
        merged.append((extent, step))
    return merged


def check_nested(a: Layout, d: int, s: int, reached: int) -> None:
    if d < 0:
        raise LayoutError(f"mode {s}:{d} counts down, so the layout has no complement", str(a))
    if d % reached:
        raise LayoutError(f"mode {s}:{d} does not start at a multiple of {reached}, where those below it end", str(a))
