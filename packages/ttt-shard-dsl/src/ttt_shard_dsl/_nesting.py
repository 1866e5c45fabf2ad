"""Nested tuples: shapes and strides, and the leaves of the two together."""

from __future__ import annotations

from typing import TypeAlias

from ttt_shard_dsl.errors import LayoutError
from ttt_shard_dsl.vector import Stride, Vector

IntTuple: TypeAlias = int | tuple["IntTuple", ...]
"""An integer, or a nested tuple of integers."""

StrideTuple: TypeAlias = int | Vector | tuple["StrideTuple", ...]
"""A stride, or a nested tuple of strides."""

Leaves: TypeAlias = tuple[tuple[int, Stride], ...]
"""The (extent, stride) of each part, nesting removed."""


def product(shape: IntTuple) -> int:
    if isinstance(shape, int):
        return shape
    size = 1
    for part in shape:
        size *= part if isinstance(part, int) else product(part)
    return size


def show(value: StrideTuple) -> str:
    return f"({','.join(map(show, value))})" if isinstance(value, tuple) else str(value)


def leaves_of(shape: IntTuple, stride: StrideTuple) -> Leaves:
    if not isinstance(shape, tuple) or not isinstance(stride, tuple):
        return ((shape, stride),)  # type: ignore[return-value]
    for part in shape:
        if type(part) is not int:
            break
    else:
        return tuple(zip(shape, stride, strict=True))  # type: ignore[arg-type]
    leaves: Leaves = ()
    for s, d in zip(shape, stride, strict=True):
        leaves += leaves_of(s, d)
    return leaves


def check(shape: IntTuple, stride: StrideTuple, whole: IntTuple) -> None:
    """Say what is wrong with a part of a layout, if it is."""
    if type(shape) is tuple and type(stride) is tuple and len(shape) == len(stride) and shape:
        for s, d in zip(shape, stride):  # noqa: B905  # they are as long, and the keyword takes as long as a part
            if type(s) is int and type(d) is int and s > 0:
                continue
            check(s, d, whole)
        return
    if not isinstance(shape, (int, tuple)):
        raise LayoutError(f"an extent is an integer, not {shape!r}", show(whole))
    if not isinstance(stride, (int, Vector, tuple)):
        raise LayoutError(f"a stride is an integer or a Vector, not {stride!r}", show(whole))
    if isinstance(shape, int) and not isinstance(stride, tuple):
        if shape < 1:
            raise LayoutError(f"an extent is at least 1, not {shape}", show(whole))
        return
    if shape == () == stride:
        raise LayoutError("a mode has no parts", show(whole))
    raise LayoutError("the stride is not congruent to the shape", f"{show(shape)}:{show(stride)}")


def compact(shape: IntTuple, step: int, leaves: list[tuple[int, Stride]], whole: IntTuple) -> tuple[StrideTuple, int]:
    """The compact stride from this step on, and the next step; the leaves are appended."""
    if not isinstance(shape, tuple) or not shape:
        check(shape, 0 if isinstance(shape, int) else (), whole)  # which says what is wrong
        assert isinstance(shape, int)
        leaves.append((shape, step))
        return step, step * shape
    strides: list[StrideTuple] = []
    for part in shape:
        if type(part) is int and part > 0:
            leaves.append((part, step))
            strides.append(step)
            step *= part
        else:
            stride, step = compact(part, step, leaves, whole)
            strides.append(stride)
    return tuple(strides), step
