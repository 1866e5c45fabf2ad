"""Layouts from layouts. No function returns a wrong layout: what has no exact result here is a `LayoutError`.

Source: CuTe, "Layout Algebra" (NVIDIA CUTLASS, media/docs/cpp/cute/02_layout_algebra.md). Its composition lets digits
carry from one mode into the next and then gives another function than A(B(i)); this one refuses.
"""

from __future__ import annotations

from collections.abc import Iterable

from ttt_shard_dsl.errors import LayoutError
from ttt_shard_dsl.layout import IntTuple, Layout


def coalesce(layout: Layout) -> Layout:
    """The same function of the indices below the size, with the fewest modes: C(i) = L(i)."""
    return _from_modes(_merge(layout.leaves()))


def composition(a: Layout, b: Layout) -> Layout:
    """A after B: (A∘B)(i) = A(B(i)), with B's shape, where a part of B that spans modes of A becomes nested.

    Errors: `LayoutError` when B counts down, a mode of B ends inside one of A, or modes of B together carry out of one.
    """
    modes = _extended(a)
    last = len(modes) - 1
    used = [0] * last  # the largest digit that B reaches in each bounded mode of A
    leaf = -1

    def refuse(reason: str) -> LayoutError:
        return LayoutError(f"mode {leaf} of B {reason}", f"{a} ∘ {b}")

    def compose(shape: IntTuple, stride: IntTuple) -> tuple[IntTuple, IntTuple]:
        nonlocal leaf
        if not isinstance(shape, int) and not isinstance(stride, int):
            parts = [compose(s, d) for s, d in zip(shape, stride, strict=True)]
            return tuple(s for s, _ in parts), tuple(d for _, d in parts)
        assert isinstance(shape, int)
        assert isinstance(stride, int)
        leaf += 1
        s, d = shape, stride
        if s == 1 or d == 0:
            return s, 0
        if d < 0:
            raise refuse(f"is {s}:{d}, which counts down")
        done: list[tuple[int, int]] = []
        for k, (extent, step) in enumerate(modes):
            reach = (s - 1) * d
            if k == last:
                done.append((s, d * step))
                break
            if reach >= extent:
                if d % extent == 0:
                    d //= extent
                    continue
                taken = extent // d
                if extent % d or s % taken:
                    raise refuse(f"is {shape}:{stride}, which neither fits nor divides mode {k} of A, {extent}:{step}")
                reach = extent - d
            else:
                taken = s
            used[k] += reach
            if used[k] >= extent:
                raise refuse(
                    f"is {shape}:{stride}, which with those before it carries out of mode {k} of A, {extent}:{step}"
                )
            done.append((taken, d * step))
            s, d = s // taken, 1
            if s == 1:
                break
        if len(done) == 1:
            return done[0]
        return tuple(s for s, _ in done), tuple(d for _, d in done)

    return Layout(*compose(b.shape, b.stride))


def complement(a: Layout, size: int) -> Layout:
    """What A leaves out: (A, C) takes each value below some N ≥ `size` once, broadcast parts of A aside.

    Errors: `LayoutError` when a stride is negative, or modes of A overlap or do not nest.
    """
    reached = 1
    gaps: list[tuple[int, int]] = []
    for d, s in sorted((d, s) for s, d in a.leaves() if s > 1 and d != 0):
        if d < 0:
            raise LayoutError(f"mode {s}:{d} counts down, so the layout has no complement", str(a))
        if d % reached:
            raise LayoutError(
                f"mode {s}:{d} does not start at a multiple of {reached}, where those below it end", str(a)
            )
        gaps.append((d // reached, reached))
        reached = s * d
    gaps.append((-(-size // reached), reached))
    return _from_modes(_merge(gaps))


def right_inverse(a: Layout) -> Layout:
    """R with A(R(i)) = i for each i below its size, which is as large as modes of A follow one another from 0."""
    index = 1
    starts: list[tuple[int, int, int]] = []
    for s, d in _merge(a.leaves()):
        starts.append((d, s, index))
        index *= s
    reached = 1
    found: list[tuple[int, int]] = []
    for d, s, start in sorted(starts):
        if d == reached and s > 1:
            found.append((s, start))
            reached *= s
    return _from_modes(_merge(found))


def left_inverse(a: Layout) -> Layout:
    """L with L(A(i)) = i for each i below the size of A.

    Errors: `LayoutError` when A takes a value twice, or has no complement.
    """
    for s, d in a.leaves():
        if d == 0 and s > 1:
            raise LayoutError(f"mode {s}:0 takes one value {s} times, so the layout has no left inverse", str(a))
    rest = complement(a, 1)
    return right_inverse(Layout((a.shape, rest.shape), (a.stride, rest.stride)))


def logical_divide(a: Layout, b: Layout) -> Layout:
    """A cut by the tile B: mode 0 goes through a tile, mode 1 from tile to tile; A∘(B, complement(B, size A)).

    Where tiles do not divide A, the last ones reach beyond its size.

    Errors: `LayoutError`, as `composition` and `complement`.
    """
    rest = complement(b, a.size)
    return composition(a, Layout((b.shape, rest.shape), (b.stride, rest.stride)))


def logical_product(a: Layout, b: Layout) -> Layout:
    """A repeated as B says: mode 0 is A, mode 1 goes over its copies; (A, complement(A, size A · cosize B)∘B).

    Errors: `LayoutError`, as `composition` and `complement`.
    """
    copies = composition(complement(a, a.size * b.cosize), b)
    return Layout((a.shape, copies.shape), (a.stride, copies.stride))


def _merge(leaves: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Without extents of 1, and neighbours made one where the second goes on from the first."""
    merged: list[tuple[int, int]] = []
    for s, d in leaves:
        if s == 1:
            continue
        if merged and d == merged[-1][0] * merged[-1][1]:
            merged[-1] = (merged[-1][0] * s, merged[-1][1])
        else:
            merged.append((s, d))
    return merged


def _extended(layout: Layout) -> list[tuple[int, int]]:
    """The modes merged, with the last as it goes on beyond the size: an extent of 1 counts there."""
    *_, (extent, step) = layout.leaves()
    merged = _merge(layout.leaves())
    if extent > 1 or (merged and step == merged[-1][0] * merged[-1][1]):
        return merged
    return [*merged, (1, step)]


def _from_modes(modes: list[tuple[int, int]]) -> Layout:
    if not modes:
        return Layout(1, 0)
    if len(modes) == 1:
        return Layout(*modes[0])
    return Layout(tuple(s for s, _ in modes), tuple(d for _, d in modes))
