"""Composition: a layout read at the indices that another one gives.

CuTe's lets digits carry from one mode of A into the next and then gives another function than A(B(i)); this one refuses.
Source: CuTe, "Layout Algebra" (NVIDIA CUTLASS, media/docs/cpp/cute/02_layout_algebra.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from ttt_shard_dsl._modes import by_mode, merge
from ttt_shard_dsl._nesting import IntTuple, Leaves, StrideTuple
from ttt_shard_dsl.errors import LayoutError
from ttt_shard_dsl.layout import Layout, from_modes, join, trusted
from ttt_shard_dsl.vector import Stride

__all__ = ["composition"]

Tiler: TypeAlias = Layout | int | tuple["Tiler", ...] | None
"""A layout, n for n:1, None for all of a mode, or a tuple of these, one for each of the first top-level modes."""

Part: TypeAlias = tuple[IntTuple, StrideTuple]


def composition(a: Layout, b: Tiler, *, complete: bool = False) -> Layout:
    """A after B: (A∘B)(i) = A(B(i)), with B's shape, where a part of B that spans modes of A becomes nested.

    The last mode of A is unbounded, so B may reach beyond the size of A. The rule takes time in the number of modes and
    leaves out some results that exist; `complete=True` then looks at each index of B, and finds every one that has B's
    shape.

    Errors: `LayoutError` when B counts down, a mode of B ends inside one of A, or modes of B together carry out of one.
    """
    if isinstance(b, tuple):
        return by_mode(composition, a, b, complete=complete)
    if b is None:
        return a
    if isinstance(b, int):
        b = Layout(b)
    try:
        parts, leaves = compose(a, b.leaves(), b)
    except LayoutError as refusal:
        if not complete or not all(isinstance(d, int) and d >= 0 for _, d in b.leaves()):
            raise
        found = _reconstruct(a, b)
        if found is None:
            raise LayoutError("no layout with the shape of B has the values of A after B", f"{a} ∘ {b}") from refusal
        return found
    return trusted(*fill(b.shape, iter(parts)), leaves)


def compose(a: Layout, b: Leaves, *written: Layout) -> tuple[list[Part], Leaves]:
    """For each leaf of B the part of the result, and the leaves of them all; errors name B as written.

    A stride d has one digit in each mode of A, and A is additive where digits do not carry. So a leaf is one mode of the
    result up to the first multiple of d that carries, and from there on again. The largest digits of all modes together
    must not carry either.
    """
    modes = _extended(a)
    last = len(modes) - 1
    used = [0] * last  # the largest digit that B reaches in each mode but the last, which is unbounded
    parts: list[Part] = []
    leaves: list[tuple[int, Stride]] = []
    for leaf, (left, rest) in enumerate(b):
        if left == 1 or rest == 0:
            leaves.append((left, 0))
            parts.append((left, 0))
            continue
        if type(rest) is not int or rest < 0:
            why = "counts down" if isinstance(rest, int) else "is along named axes, so no index of A"
            raise _refusal(a, b, leaf, why, written)
        first = len(leaves)
        k = 0  # rest · the extents before k is the stride
        while k < last:
            extent, step = modes[k]
            if rest % extent == 0:
                rest //= extent
                k += 1
                continue
            if (left - 1) * rest < extent:
                run = left
                digits = [(k, rest)]
                value = rest * step
            else:
                run, digits, value = _run(modes, k, rest, left)
                if left % run:
                    carrying = next(k for k, digit in digits if run * digit >= modes[k][0])
                    raise _refusal(a, b, leaf, f"neither fits nor divides {_mode(modes, carrying)}", written)
            for at, digit in digits:
                used[at] += (run - 1) * digit
                if used[at] >= modes[at][0]:
                    why = f"with those before it carries out of {_mode(modes, at)}"
                    raise _refusal(a, b, leaf, why, written)
            leaves.append((run, value))
            left //= run
            rest *= run
            if left == 1:
                break
        else:
            leaves.append((left, rest * modes[last][1]))
        if len(leaves) == first + 1:
            parts.append(leaves[first])
        else:
            parts.append(tuple(zip(*leaves[first:], strict=True)))  # type: ignore[arg-type]
    return parts, tuple(leaves)


def _run(modes: list[tuple[int, Stride]], k: int, rest: int, run: int) -> tuple[int, list[tuple[int, int]], Stride]:
    """How many multiples of a stride go without a carry; its (mode, digit) that are not 0, and its value."""
    digits: list[tuple[int, int]] = []
    value: Stride = 0
    for at in range(k, len(modes) - 1):
        extent, step = modes[at]
        rest, digit = divmod(rest, extent)
        if digit:
            digits.append((at, digit))
            value += digit * step
            run = min(run, (extent - 1) // digit + 1)
        if not rest:
            return run, digits, value
    return run, digits, value + rest * modes[-1][1]


def _mode(modes: list[tuple[int, Stride]], k: int) -> str:
    return f"mode {k} of A, {modes[k][0]}:{modes[k][1]}"


def _refusal(a: Layout, b: Leaves, leaf: int, why: str, written: tuple[Layout, ...]) -> LayoutError:
    whole = written[0] if len(written) == 1 else join(*written)
    return LayoutError(f"mode {leaf} of B is {b[leaf][0]}:{b[leaf][1]}, which {why}", f"{a} ∘ {whole}")


def fill(shape: IntTuple, parts: Iterator[Part]) -> Part:
    """The parts in place of the leaves of a shape."""
    if not isinstance(shape, tuple):
        return next(parts)
    shapes: list[IntTuple] = []
    strides: list[StrideTuple] = []
    for part in shape:
        s, d = next(parts) if type(part) is int else fill(part, parts)
        shapes.append(s)
        strides.append(d)
    return tuple(shapes), tuple(strides)


def _extended(layout: Layout) -> list[tuple[int, Stride]]:
    """The modes merged, with the last as it goes on beyond the size: an extent of 1 counts there."""
    leaves = layout.leaves()
    merged = merge(leaves)
    extent, step = leaves[-1]
    if extent > 1 or (merged and step == merged[-1][0] * merged[-1][1]):
        return merged
    return [*merged, (1, step)]


def _reconstruct(a: Layout, b: Layout) -> Layout | None:
    """The layout with B's shape and the values of A∘B, if there is one."""
    parts: list[Part] = []
    for s, d in b.leaves():
        modes = _modes_of([a(i * d) for i in range(s)])  # type: ignore[arg-type]
        if modes is None:
            return None
        part = from_modes(modes)
        parts.append((s, 0) if part.size < s else (part.shape, part.stride))
    result = trusted(*fill(b.shape, iter(parts)))
    expected = [a(b(i)) for i in range(b.size)]  # type: ignore[arg-type]
    return result if [result(i) for i in range(b.size)] == expected else None


def _modes_of(values: list[Stride]) -> list[tuple[int, Stride]] | None:
    """The modes of the layout with these values, which begin with 0.

    It is the only coalesced one: the first mode is as long as the values go on evenly, and the rest follows from the
    values at its multiples.
    """
    modes: list[tuple[int, Stride]] = []
    while len(values) > 1:
        step = values[1]
        run = next((i for i, value in enumerate(values) if value != i * step), len(values))
        heads = values[::run]
        if len(values) % run or any(v != heads[i // run] + i % run * step for i, v in enumerate(values)):
            return None
        modes.append((run, step))
        values = heads
    return modes
