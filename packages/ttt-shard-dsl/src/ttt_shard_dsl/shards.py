"""Second half of a placement: what a chip holds is cut into shards, one for each core or bank."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from ttt_shard_dsl.dtypes import TILE
from ttt_shard_dsl.extents import LOWERED, Extents, Local, fail
from ttt_shard_dsl.geometry import Geometry
from ttt_shard_dsl.placement import Sharding
from ttt_shard_dsl.tree import CoreRange, Spec


class Shards(NamedTuple):
    """How a chip's part is cut, and over which cores or banks; `shape` is None when it is interleaved."""

    sharding: Sharding
    shape: tuple[int, int] | None = None
    grid: tuple[int, int] = (0, 0)
    ranges: tuple[CoreRange, ...] = ()
    col_major: bool = False


class _Cut(NamedTuple):
    """Equal parts of one dim: rows or columns of a part, and how many there are."""

    size: int
    number: int


def resolve_shards(
    spec: Spec, extents: Extents, memory: str, alignment_elements: int, device: Geometry, tiled: bool
) -> Shards:
    """The shards of a chip's part.

    `alignment_elements` is the least width of a row-major shard that the text leaves open: what fills an aligned page.

    Errors: `LayoutError` when there are more shards than cores, cores off the grid, or no way to lower the text yet.
    """
    local = extents.local
    ranges = _check_ranges(spec, device.grid)
    if not local:
        if ranges:
            fail(
                spec,
                ("cores",),
                "'on' gives cores but no dim is split over them",
                "allowed: one dim @core, or no cores",
            )
        return Shards("interleaved")
    for part in local:
        if (part.axis == "bank") != (memory == "dram"):
            home = "dram" if part.axis == "bank" else "l1"
            fail(
                spec,
                part.path,
                f"'{part.axis}' is in {home} but the layout is in {memory}",
                f"nearest valid: in {home}",
            )
    height, width = prod(extents.padded_shape[:-1]), extents.padded_shape[-1]
    unit = TILE if tiled else alignment_elements
    by_axis = {part.axis: part for part in local}

    if set(by_axis) == {"core.x", "core.y"} and len({part.first for part in local}) == len(local) == 2:
        return _block(spec, extents, by_axis, ranges, device.grid, unit, tiled)
    if len(local) > 1 or local[0].axis not in ("core", "bank"):
        names = " and ".join(f"{part.dim.label}{part.place}" for part in local)
        fail(spec, local[-1].path, f"{names} cannot be lowered to ttnn yet", LOWERED)

    part = local[0]
    over_width = _is_width(spec, extents, part)
    if part.axis == "bank":
        if not over_width:
            fail(spec, part.path, f"{part.dim.label}@bank cannot be lowered to ttnn yet", LOWERED)
        cut = _cut_width(spec, extents, part, device.dram_banks, unit, tiled)
        return Shards("width", (height, cut.size), (1, cut.number), (CoreRange(0, 0, device.dram_banks - 1, 0),))

    available = sum(r.columns * r.rows for r in ranges) if ranges else device.grid[0] * device.grid[1]
    col_major = spec.cores is not None and spec.cores.col
    if over_width:
        cut = _cut_width(spec, extents, part, available, unit, tiled)
        return Shards(
            "width", (height, cut.size), (1, cut.number), ranges or _row_wise(cut.number, device.grid), col_major
        )
    cut = _cut_height(spec, extents, part, available, tiled)
    return Shards("height", (cut.size, width), (cut.number, 1), ranges or _row_wise(cut.number, device.grid), col_major)


def _block(
    spec: Spec,
    extents: Extents,
    by_axis: dict[str, Local],
    ranges: tuple[CoreRange, ...],
    grid: tuple[int, int],
    unit: int,
    tiled: bool,
) -> Shards:
    """Rows of shards down the core rows (ROW_MAJOR), or along the core columns (COL_MAJOR)."""
    if len(ranges) > 1:
        fail(spec, ("cores",), "core.x and core.y are the sides of one rectangle", f"nearest valid: on {ranges[0]}")
    if spec.cores is not None and spec.cores.col:
        fail(spec, ("cores",), "':col' orders the axis 'core', not core.x and core.y", f"nearest valid: on {ranges[0]}")
    whole = ranges[0] if ranges else CoreRange(0, 0, grid[0] - 1, grid[1] - 1)
    col_major = _is_width(spec, extents, by_axis["core.y"])
    across, down = by_axis["core.x"], by_axis["core.y"]
    if not col_major and not _is_width(spec, extents, across):
        fail(spec, across.path, "neither of the dims over core.x and core.y is the last", LOWERED)
    if col_major:
        heights = _cut_height(spec, extents, across, whole.columns, tiled)
        widths = _cut_width(spec, extents, down, whole.rows, unit, tiled)
        used = CoreRange(0, 0, heights.number - 1, widths.number - 1)
    else:
        heights = _cut_height(spec, extents, down, whole.rows, tiled)
        widths = _cut_width(spec, extents, across, whole.columns, unit, tiled)
        used = CoreRange(0, 0, widths.number - 1, heights.number - 1)
    shape, shard_grid = (heights.size, widths.size), (heights.number, widths.number)
    return Shards("block", shape, shard_grid, ranges or (used,), col_major)


def _is_width(spec: Spec, extents: Extents, part: Local) -> bool:
    if part.last < len(extents.chip_shape) - 1:
        return False
    if part.first < part.last:
        fail(
            spec,
            part.path,
            f"the group {part.dim.label} mixes rows and columns",
            "allowed: groups without the last dim",
        )
    return True


def _cut_width(spec: Spec, extents: Extents, part: Local, available: int, unit: int, tiled: bool) -> _Cut:
    """The last dim, in units of a tile's columns, or of an aligned page of a row."""
    width = extents.padded_shape[-1]
    return _cut(spec, part, width, available, unit, TILE if tiled else 1, 1)


def _cut_height(spec: Spec, extents: Extents, part: Local, available: int, tiled: bool) -> _Cut:
    """A dim before the last, whole indices of it: of the dim before the last in units of a tile's rows."""
    chip, padded = extents.chip_shape, extents.padded_shape
    for before in range(part.first):
        if chip[before] > 1:
            fail(
                spec,
                part.path,
                f"{part.dim.label}@{part.axis} takes the {chip[before]} of dim {before} apart",
                "allowed: dims of 1 before it, or a group, as (a b)@core",
            )
    if part.last == len(chip) - 2:
        rows = prod(padded[part.first : part.last + 1])
        unit = TILE if tiled else 1
        return _cut(spec, part, rows, available, unit, unit, 1)
    rows = prod(padded[part.last + 1 : -1])
    return _cut(spec, part, prod(chip[part.first : part.last + 1]), available, 1, 1, rows)


def _cut(spec: Spec, part: Local, extent: int, available: int, unit: int, multiple: int, rows: int) -> _Cut:
    """The smallest equal parts, in multiples of `unit`, that are no more than `available`; or those the text gives."""
    smallest = -(-extent // (available * unit)) * unit
    block = part.place.block
    if block is None:
        return _Cut(smallest * rows, -(-extent // smallest))
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
            f"{count} blocks of {block} but '{part.axis}' has {available}",
            f"nearest valid: {_with_block(part, smallest)}",
        )
    return _Cut(block * rows, count)


def _with_block(part: Local, block: int) -> str:
    """The dim with another block at the place that is wrong."""
    number = part.path[-1]
    places = (p._replace(block=block) if i == number else p for i, p in enumerate(part.dim.places))
    return str(part.dim._replace(places=tuple(places)))


def _check_ranges(spec: Spec, grid: tuple[int, int]) -> tuple[CoreRange, ...]:
    if spec.cores is None:
        return ()
    if spec.memory == "dram":
        fail(spec, ("cores",), "a choice of DRAM banks cannot be lowered yet", "allowed: @bank, over all banks")
    if spec.cores.contiguous:
        fail(spec, ("cores",), "':contiguous' cannot be lowered yet", "allowed: one shard a core, without it")
    columns, rows = grid
    ranges = spec.cores.ranges
    for index, r in enumerate(ranges):
        if r.x1 >= columns or r.y1 >= rows:
            inside = CoreRange(*(min(a, b - 1) for a, b in zip(r, (columns, rows) * 2, strict=True)))
            fail(spec, ("range", index), f"{r} leaves the grid of {columns}×{rows} cores", f"nearest valid: {inside}")
        for other in ranges[:index]:
            if r.x0 <= other.x1 and other.x0 <= r.x1 and r.y0 <= other.y1 and other.y0 <= r.y1:
                fail(spec, ("range", index), f"{r} overlaps {other}", "allowed: each core once")
    return ranges


def _row_wise(count: int, grid: tuple[int, int]) -> tuple[CoreRange, ...]:
    """The first cores of the grid by rows, as `ttnn.num_cores_to_corerangeset(count, grid, row_wise=True)` has them."""
    columns = grid[0]
    full, rest = divmod(count, columns)
    ranges = (CoreRange(0, 0, columns - 1, full - 1),) if full else ()
    return (*ranges, CoreRange(0, full, rest - 1, full)) if rest else ranges
