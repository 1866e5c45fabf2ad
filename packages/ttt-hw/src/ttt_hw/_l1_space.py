"""Where the tensors of L1 lie: what is free in total need not be free in one piece.

ttnn's allocator gives a tensor one address on all cores: the end of the highest gap that it fits into. A program's buffers
begin at the bottom and must end below the lowest tensor.
"""

from __future__ import annotations

from typing import NamedTuple


class Held(NamedTuple):
    """A tensor's piece of L1, by the tensor's name and layout."""

    start: int
    size: int
    key: tuple[str, str]


Space = tuple[Held, ...]
"""The pieces that are held, highest first. Units: bytes from the bottom of what the allocator gives out."""


def hold(space: Space, key: tuple[str, str], size: int, room: int) -> Space | None:
    """The space with one more tensor; None: no gap is so large."""
    if size == 0:
        return space
    ceiling = room
    for index, held in enumerate(space):
        if ceiling - held.start - held.size >= size:
            return (*space[:index], Held(ceiling - size, size, key), *space[index:])
        ceiling = held.start
    return (*space, Held(ceiling - size, size, key)) if ceiling >= size else None


def release(space: Space, key: tuple[str, str]) -> Space:
    """The space without a tensor; as it is, where the tensor lies elsewhere."""
    for index, held in enumerate(space):
        if held.key == key:
            return (*space[:index], *space[index + 1 :])
    return space


def hand_over(space: Space, key: tuple[str, str], heir: tuple[str, str]) -> Space:
    """The same pieces, where what one tensor held is another's: a view of it."""
    return tuple(held._replace(key=heir) if held.key == key else held for held in space)


def lowest(space: Space, room: int) -> int:
    """What a program's buffers may take."""
    return space[-1].start if space else room
