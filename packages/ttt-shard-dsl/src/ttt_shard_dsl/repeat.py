"""Layouts repeated over another one.

Source: CuTe, "Layout Algebra" (NVIDIA CUTLASS, media/docs/cpp/cute/02_layout_algebra.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from ttt_shard_dsl._modes import by_mode, modes_along, single_axis
from ttt_shard_dsl.algebra import coalesce, complement
from ttt_shard_dsl.compose import Part, Tiler, compose, composition, fill
from ttt_shard_dsl.errors import LayoutError
from ttt_shard_dsl.layout import Layout, from_modes, join, trusted
from ttt_shard_dsl.vector import Stride, along

__all__ = ["blocked_product", "logical_product", "raked_product", "tile_to_shape"]


def logical_product(a: Layout, b: Tiler) -> Layout:
    """A repeated as B says: mode 0 is A, mode 1 goes over its copies; (A, complement(A, size A · cosize B)∘B).

    Over named axes the strides of B count copies along their axis: (4:page) × (8:core.x) is (4,8):(page,core.x), and
    (4:page) × (8:page) is (4,8):(page,4page). A tuple repeats by mode, and None leaves a mode as it is.

    Errors: `LayoutError`, as `composition` and `complement`.
    """
    if isinstance(b, tuple):
        return by_mode(logical_product, a, b)
    if b is None:
        return a
    if isinstance(b, int):
        b = Layout(b)
    for _, d in a.leaves() + b.leaves():
        if type(d) is not int:
            return join(a, _copies(a, b))
    return join(a, composition(complement(a, a.size * b.cosize), b))


def _copies(a: Layout, b: Layout) -> Layout:
    """The complement of A along each axis, after the modes of B along it."""
    parts: list[Part] = [(s, 0) for s, _ in b.leaves()]
    sizes = a.spans
    for axis, span in b.spans.items():
        mine = from_modes([(s, d) for s, d in a.leaves() if s > 1 and single_axis(a, s, d)[0] == axis])
        rest = complement(mine, {axis: sizes.get(axis, 1) * span})
        leaves = tuple([(s, _on(axis, b, s, d)) for s, d in b.leaves()])
        for leaf, part in enumerate(compose(rest, leaves, b)[0]):
            if leaves[leaf][1]:
                parts[leaf] = part
    return trusted(*fill(b.shape, iter(parts)))


def _on(axis: str, layout: Layout, s: int, d: Stride) -> int:
    name, count = single_axis(layout, s, d) if s > 1 else ("", 0)
    return count if name == axis else 0


def blocked_product(a: Layout, b: Layout) -> Layout:
    """`logical_product` by mode: ((A₀,B₀),(A₁,B₁),…), where each mode goes through a block before the next one.

    The one with fewer modes is taken with modes of 1.
    """
    return _zip(a, b, raked=False)


def raked_product(a: Layout, b: Layout) -> Layout:
    """`logical_product` by mode: ((B₀,A₀),(B₁,A₁),…), where each mode goes over the copies first: A is cyclic."""
    return _zip(a, b, raked=True)


def _zip(a: Layout, b: Layout, *, raked: bool) -> Layout:
    rank = max(len(a), len(b))
    block, copies = logical_product(_of_rank(a, rank), _of_rank(b, rank))
    first, second = (copies, block) if raked else (block, copies)
    modes = [join(*pair) for pair in zip(_modes(first, rank), _modes(second, rank), strict=True)]
    return modes[0] if rank == 1 else join(*modes)


def _modes(layout: Layout, rank: int) -> list[Layout]:
    return [layout] if rank == 1 else [layout[k] for k in range(rank)]


def _of_rank(layout: Layout, rank: int) -> Layout:
    if len(layout) == rank:
        return layout
    modes = [layout[k] for k in range(len(layout))]
    return join(*modes, *[Layout(1, 0)] * (rank - len(layout)))


def tile_to_shape(a: Layout, shape: Sequence[int], order: Sequence[int] | None = None) -> Layout:
    """A as a tile, repeated until the modes have these sizes; the copies follow one another in the order of the modes.

    `order` ranks the modes, the one with the least first: (1, 0) puts the copies along mode 1 next to each other.

    Errors: `LayoutError` when the tile has more modes than the shape or does not divide it, the order is not one for each
    mode, or A goes along several axes.
    """
    rank = len(shape)
    if len(a) > rank:
        raise LayoutError(f"a tile of {len(a)} modes for a shape of {rank}", str(a))
    if order is not None and len(order) != rank:
        raise LayoutError(f"an order of {len(order)} modes for a shape of {rank}", str(a))
    tile = _of_rank(a, rank)
    copies: list[int] = []
    for k, (mode, size) in enumerate(zip(_modes(tile, rank), shape, strict=True)):
        if size < 1 or size % mode.size:
            raise LayoutError(f"mode {k} of the tile has {mode.size}, which does not divide {size}", str(a))
        copies.append(size // mode.size)
    axes = list(modes_along(a))
    if len(axes) > 1:
        raise LayoutError(f"a tile along {' and '.join(map(repr, axes))} does not say where copies go", str(a))
    strides = [0] * rank
    step = 1
    for k in sorted(range(rank), key=lambda k: (order or range(rank))[k]):
        strides[k] = step
        step *= copies[k]
    axis = axes[0] if axes else ""
    grid = trusted(tuple(copies), tuple([along(axis, step) for step in strides]))
    result = blocked_product(tile, grid if rank > 1 else grid[0])
    return coalesce(result, (None,) * rank) if rank > 1 else coalesce(result)
