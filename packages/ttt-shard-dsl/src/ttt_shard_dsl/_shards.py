"""Second half of a placement: what a chip holds is cut into shards, and the shards are dealt over cores or banks."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple, NoReturn

from ttt_shard_dsl._cores import CoreOrder, area_of, check_ranges, cores_of, row_wise
from ttt_shard_dsl._cut import Grid, cut_all
from ttt_shard_dsl._extents import LOWERED, Extents, Local, fail
from ttt_shard_dsl.dtypes import TILE
from ttt_shard_dsl.geometry import Geometry
from ttt_shard_dsl.placement import Sharding, core_order
from ttt_shard_dsl.tree import CoreRange, Spec


class Shards(NamedTuple):
    """How a chip's part is cut, and over which cores or banks; `shape` is None when it is interleaved."""

    sharding: Sharding
    shape: tuple[int, ...] | None = None
    grid: tuple[int, ...] = (0, 0)
    ranges: tuple[CoreRange, ...] = ()
    col_major: bool = False
    contiguous: bool = False


def resolve_shards(
    spec: Spec, extents: Extents, memory: str, alignment_elements: int, device: Geometry, tiled: bool
) -> Shards:
    """The shards of a chip's part: those of a legacy ShardSpec whenever one has them, else of an NdShardSpec.

    `alignment_elements` is the least width of a row-major shard that the text leaves open: what fills an aligned page.

    Errors: `LayoutError` when there are more shards than cores, cores off the grid, or nothing in ttnn is that layout.
    """
    local = extents.local
    for part in local:
        if (part.axis == "bank") != (local[0].axis == "bank"):
            reason = f"'{local[0].axis}' and '{part.axis}' split one tensor, which is in l1 or in dram"
            fail(spec, part.path, reason, "allowed: all splits over cores, or all over banks")
    for part in local:
        if (part.axis == "bank") != (memory == "dram"):
            home = "dram" if part.axis == "bank" else "l1"
            fail(
                spec,
                part.path,
                f"'{part.axis}' is in {home} but the layout is in {memory}",
                f"nearest valid: in {home}",
            )
    area = area_of(memory, device)
    ranges = check_ranges(spec, memory, device)
    if not local:
        if ranges:
            fail(
                spec,
                ("cores",),
                "'on' gives cores but no dim is split over them",
                "allowed: one dim @core, or no cores",
            )
        return Shards("interleaved")
    unit = TILE if tiled else alignment_elements

    axes = {part.axis for part in local}
    if len(axes) == 1:
        cores = cores_of(spec, local[0], ranges, area)
        _check_dealt(spec, local)
        grid = cut_all(spec, extents, local, [cores.number] * len(local), unit, tiled)
        return _dealt(spec, local, grid, cores, area)
    if axes != {"core.x", "core.y"} or len(local) > 2 or local[0].place.cyclic or local[1].place.cyclic:
        _refuse(spec, local)
    return _rectangle(spec, extents, local, ranges, area, unit, tiled)


def _refuse(spec: Spec, local: Sequence[Local]) -> NoReturn:
    names = " and ".join(f"{part.dim.label}{part.place}" for part in local)
    fail(spec, local[-1].path, f"{names} cannot be lowered to ttnn", LOWERED)


def _check_dealt(spec: Spec, local: Sequence[Local]) -> None:
    """All splits over an axis are blocked or all cyclic, and each is of another dim."""
    for index, part in enumerate(local):
        if any(other.first == part.first for other in local[:index]):
            fail(spec, part.path, f"'{part.axis}' splits '{part.dim.label}' twice", "allowed: once a dim")
        if part.place.cyclic != local[0].place.cyclic:
            fail(
                spec,
                part.path,
                f"'{part.axis}' is dealt both in blocks and in turn",
                "allowed: all @ or all ~ over one axis",
            )
        if part.place.cyclic and spec.cores is not None and spec.cores.contiguous:
            reason = f"'~{part.axis}' deals shards in turn and ':contiguous' one core's after another's"
            fail(spec, part.path, reason, f"nearest valid: @{part.axis}")


def _dealt(spec: Spec, local: Sequence[Local], grid: Grid, cores: CoreOrder, area: tuple[int, int]) -> Shards:
    """Shards in row-major order over cores in theirs."""
    count = prod(grid.number)
    if count > cores.number and spec.cores is not None and spec.cores.contiguous:
        if count % cores.number:
            fail(
                spec,
                ("cores",),
                f"{count} shards over {cores.number} cores are not as many on each",
                "allowed: ':contiguous' over a number of cores that divides the shards",
            )
        return Shards("nd", grid.shape, grid.number, cores.ranges, cores.col_major, contiguous=True)
    if not cores.given and local[0].axis != "bank":
        used = min(count, cores.number)
        if local[0].axis == "core":
            cores = cores._replace(ranges=row_wise(used, area))
        else:
            (line,) = cores.ranges
            along = {"x1": used - 1} if local[0].axis == "core.x" else {"y1": used - 1}
            cores = cores._replace(ranges=(line._replace(**along),))
    if count <= cores.number and (legacy := _legacy(grid, cores)):
        return legacy
    return Shards("nd", grid.shape, grid.number, cores.ranges, cores.col_major)


def _legacy(grid: Grid, cores: CoreOrder) -> Shards | None:
    """One shard a core as a height, width or block sharding, if it is one; a single shard is what the text splits."""
    if not grid.in_rows:
        return None
    rows, columns = prod(grid.number[:-1]), grid.number[-1]
    shape = (prod(grid.shape[:-1]), grid.shape[-1])
    height = prod(grid.stored[:-1]) == shape[0]  # as ttnn wants them
    width = grid.stored[-1] == shape[1] or not grid.tiled  # rows may be widened
    if width and columns == 1 and (grid.over_rows or not height or rows > 1):
        return Shards("height", shape, (rows, 1), cores.ranges, cores.col_major)
    if height and rows == 1:
        return Shards("width", shape, (1, columns), cores.ranges, cores.col_major)
    order = [core for core, _ in zip(core_order(cores.ranges, cores.col_major), range(rows * columns), strict=False)]
    x0, y0 = order[0]
    if order == [(x0 + j, y0 + i) for i in range(rows) for j in range(columns)]:
        return Shards("block", shape, (rows, columns), (CoreRange(x0, y0, x0 + columns - 1, y0 + rows - 1),))
    if order == [(x0 + i, y0 + j) for i in range(rows) for j in range(columns)]:
        return Shards("block", shape, (rows, columns), (CoreRange(x0, y0, x0 + rows - 1, y0 + columns - 1),), True)
    return None


def _rectangle(
    spec: Spec,
    extents: Extents,
    local: Sequence[Local],
    ranges: tuple[CoreRange, ...],
    area: tuple[int, int],
    unit: int,
    tiled: bool,
) -> Shards:
    """One dim over the columns of a rectangle of cores and another over its rows, or one over both."""
    if len(ranges) > 1:
        fail(spec, ("cores",), "core.x and core.y are the sides of one rectangle", f"nearest valid: on {ranges[0]}")
    if spec.cores is not None and spec.cores.col:
        fail(spec, ("cores",), "':col' orders the axis 'core', not core.x and core.y", f"nearest valid: on {ranges[0]}")
    whole = ranges[0] if ranges else CoreRange(0, 0, area[0] - 1, area[1] - 1)
    major, minor = local
    col_major = minor.axis == "core.y"
    if major.first == minor.first:  # over the lines of cores, then within each: all cores in that order
        if major.place.block is not None:
            fail(spec, major.path, f"blocks over '{major.axis}' follow from those over '{minor.axis}'", LOWERED)
        cores = CoreOrder((whole,), col_major, bool(ranges))
        grid = cut_all(spec, extents, [minor], [cores.number], unit, tiled)
        if not ranges:
            cores = cores._replace(given=True)
        return _dealt(spec, [minor], grid, cores, area)
    if spec.cores is not None and spec.cores.contiguous:
        reason = "':contiguous' deals over one axis, not over core.x and core.y"
        fail(spec, ("cores",), reason, f"nearest valid: on {whole}")
    sides = [whole.rows, whole.columns] if minor.axis == "core.x" else [whole.columns, whole.rows]
    grid = cut_all(spec, extents, local, sides, unit, tiled, separate=True)
    numbers = _numbers(extents, local, grid)
    right, down = (numbers[0], numbers[1]) if col_major else (numbers[1], numbers[0])
    used = CoreRange(whole.x0, whole.y0, whole.x0 + right - 1, whole.y0 + down - 1)
    if minor.last == len(extents.chip_shape) - 1 and grid.in_rows:
        shape = (prod(grid.shape[:-1]), grid.shape[-1])
        return Shards("block", shape, (numbers[0], numbers[1]), ranges or (used,), col_major)
    return _legacy(grid, CoreOrder((used,), col_major, True)) or Shards(
        "nd", grid.shape, grid.number, (used,), col_major
    )


def _numbers(extents: Extents, local: Sequence[Local], grid: Grid) -> list[int]:
    """How many parts each split makes."""
    return [grid.number[part.last - len(extents.chip_shape)] for part in local]
