"""What a chip holds, cut into shards of one size."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from ttt_shard_dsl._extents import Extents, Local, fail
from ttt_shard_dsl.dtypes import TILE
from ttt_shard_dsl.tree import Spec


class Grid(NamedTuple):
    """What a chip holds, some leading dims taken as one, in shards of one size: `number` of them along each dim."""

    stored: tuple[int, ...]
    shape: tuple[int, ...]
    number: tuple[int, ...]
    over_rows: bool
    """Whether the text leaves the columns whole."""
    tiled: bool

    @property
    def in_rows(self) -> bool:
        """Whether the shards are equal intervals of rows, the last one aside, of the tensor seen as rows × columns."""
        rows = list(zip(self.stored, self.shape, strict=True))[:-1]
        cut = max((k for k, (stored, shape) in enumerate(rows) if stored != shape), default=0)
        even = not rows or rows[cut][0] % rows[cut][1] == 0 or prod(self.stored[:cut]) == 1
        return even and all(shape == 1 for _, shape in rows[:cut])


def cut_all(
    spec: Spec,
    extents: Extents,
    local: Sequence[Local],
    available: Sequence[int],
    unit: int,
    tiled: bool,
    *,
    separate: bool = False,
) -> Grid:
    """The shards that the splits make, major to minor; unless `separate`, one takes cores from those after it."""
    stored = _merged(spec, extents, local)
    shape, number = list(stored), [1] * len(stored)
    several = spec.cores is not None and spec.cores.contiguous
    taken = 1
    for part, cores in zip(local, available, strict=True):
        dim = part.last - len(extents.chip_shape)  # from the end: tiles give a vector a second dim
        multiple = TILE if tiled and dim >= -2 else 1
        least = unit if dim == -1 else multiple
        block = part.place.block
        if part.place.cyclic or (several and block is not None):
            size = block or least
            if size % multiple:
                nearest = _with_block(part, -(-size // multiple) * multiple)
                fail(
                    spec, part.path, f"blocks of {size} are not whole tiles of {multiple}", f"nearest valid: {nearest}"
                )
            shape[dim], number[dim] = size, -(-stored[dim] // size)
        else:
            shape[dim], number[dim] = _cut(spec, part, stored[dim], cores // taken, least, multiple, left=taken > 1)
            taken = 1 if separate else taken * number[dim]
    over_rows = all(part.last != len(extents.chip_shape) - 1 for part in local)
    return Grid(stored, tuple(shape), tuple(number), over_rows, tiled)


def _merged(spec: Spec, extents: Extents, local: Sequence[Local]) -> tuple[int, ...]:
    """The stored shape with the dims of a group, and those of 1 before it, taken as one."""
    chip, padded = extents.chip_shape, extents.padded_shape
    groups = [part for part in local if part.first < part.last]
    if not groups:
        return padded
    group = groups[-1]
    if group.last == len(chip) - 1:
        fail(
            spec,
            group.path,
            f"the group {group.dim.label} mixes rows and columns",
            "allowed: groups without the last dim",
        )
    split = {part.first for part in local}
    for before in range(group.first):
        if chip[before] > 1 or before in split:
            fail(
                spec,
                group.path,
                f"{group.dim.label}{group.place} takes the {chip[before]} of dim {before} apart",
                "allowed: a group that begins with the first dim, as (a b)@core",
            )
    return prod(padded[: group.last + 1]), *padded[group.last + 1 :]


def _cut(
    spec: Spec, part: Local, extent: int, available: int, unit: int, multiple: int, *, left: bool
) -> tuple[int, int]:
    """The smallest equal parts, in multiples of `unit`, that are no more than `available`; or those the text gives."""
    smallest = -(-extent // (available * unit)) * unit
    block = part.place.block
    if block is None:
        return smallest, -(-extent // smallest)
    if block % multiple:
        fail(
            spec,
            part.path,
            f"blocks of {block} are not whole tiles of {multiple}",
            f"nearest valid: {_with_block(part, max(smallest, -(-block // multiple) * multiple))}",
        )
    count = -(-extent // block)
    if count > available:
        fail(
            spec,
            part.path,
            f"{count} blocks of {block} but '{part.axis}' has {available}{' left' if left else ''}",
            f"nearest valid: {_with_block(part, smallest)}",
        )
    return block, count


def _with_block(part: Local, block: int) -> str:
    """The dim with another block at the place that is wrong."""
    number = part.path[-1]
    places = (p._replace(block=block) if i == number else p for i, p in enumerate(part.dim.places))
    return str(part.dim._replace(places=tuple(places)))
