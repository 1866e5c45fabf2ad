"""Layouts cut by a tile; the four differ in how the same parts are grouped.

For tiles A and B, and what goes from tile to tile, a and b: logical ((A,a),(B,b),…), zipped ((A,B),(a,b,…)),
tiled ((A,B),a,b,…), flat (A,B,a,b,…).

Source: CuTe, "Layout Algebra" (NVIDIA CUTLASS, media/docs/cpp/cute/02_layout_algebra.md).
"""

from __future__ import annotations

from typing import TypeVar

from ttt_shard_dsl._modes import by_mode
from ttt_shard_dsl._nesting import IntTuple, Leaves, StrideTuple
from ttt_shard_dsl.algebra import complement
from ttt_shard_dsl.compose import Tiler, compose, fill
from ttt_shard_dsl.errors import LayoutError
from ttt_shard_dsl.layout import Layout, join, trusted

__all__ = ["flat_divide", "logical_divide", "tiled_divide", "zipped_divide"]

T = TypeVar("T")


def logical_divide(a: Layout, b: Tiler) -> Layout:
    """A cut by the tile B: mode 0 goes through a tile, mode 1 from tile to tile; A∘(B, complement(B, size A)).

    A tuple cuts by mode, and None leaves a mode whole. Where tiles do not divide A, the last ones reach beyond its size.

    Errors: `LayoutError`, as `composition` and `complement`.
    """
    if isinstance(b, tuple):
        return by_mode(logical_divide, a, b)
    if b is None:
        return a
    if isinstance(b, int):
        b = Layout(b)
    rest = complement(b, a.size)
    parts, leaves = compose(a, b.leaves() + rest.leaves(), b, rest)
    each = iter(parts)
    tile, over = fill(b.shape, each), fill(rest.shape, each)
    return trusted((tile[0], over[0]), (tile[1], over[1]), leaves)


def zipped_divide(a: Layout, b: Tiler) -> Layout:
    """`logical_divide` with the tiles of all modes gathered in mode 0, and the rest in mode 1; None has a tile of 1."""
    if b is None:
        return join(Layout(1, 0), a)
    if not isinstance(b, tuple):
        return logical_divide(a, b)
    if len(b) > len(a):
        raise LayoutError(f"{len(b)} parts for a layout of {len(a)} modes", str(a))
    split = [zipped_divide(a[k], part) for k, part in enumerate(b)]
    whole = [a[k] for k in range(len(b), len(a))]
    return join(join(*(part[0] for part in split)), join(*(part[1] for part in split), *whole))


def tiled_divide(a: Layout, b: Tiler) -> Layout:
    """`zipped_divide` with what goes from tile to tile as modes of its own."""
    (tile, rest), (tile_stride, rest_stride), leaves = _two(zipped_divide(a, b))
    return trusted((tile, *_parts(rest)), (tile_stride, *_parts(rest_stride)), leaves)


def flat_divide(a: Layout, b: Tiler) -> Layout:
    """`zipped_divide` with the modes of the tile, and those that go from tile to tile, as modes of their own."""
    (tile, rest), (tile_stride, rest_stride), leaves = _two(zipped_divide(a, b))
    return trusted(_parts(tile) + _parts(rest), _parts(tile_stride) + _parts(rest_stride), leaves)


def _two(layout: Layout) -> tuple[tuple[IntTuple, ...], tuple[StrideTuple, ...], Leaves]:
    assert isinstance(layout.shape, tuple)
    assert isinstance(layout.stride, tuple)
    return layout.shape, layout.stride, layout.leaves()


def _parts(value: T) -> tuple[T, ...]:
    return value if isinstance(value, tuple) else (value,)
