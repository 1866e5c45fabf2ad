"""Second half of a placement: what a chip holds is cut into shards, and the shards are dealt over cores or banks."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple, NoReturn

from ttt_shard_dsl.dtypes import TILE
from ttt_shard_dsl.extents import LOWERED, Extents, Local, fail
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


class _Cores(NamedTuple):
    """Where shards go, in order; `given` says that the text chose them."""

    ranges: tuple[CoreRange, ...]
    col_major: bool
    given: bool

    @property
    def number(self) -> int:
        return sum(r.columns * r.rows for r in self.ranges)


class _Grid(NamedTuple):
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


def resolve_shards(
    spec: Spec, extents: Extents, memory: str, alignment_elements: int, device: Geometry, tiled: bool
) -> Shards:
    """The shards of a chip's part: those of a legacy ShardSpec whenever one has them, else of an NdShardSpec.

    `alignment_elements` is the least width of a row-major shard that the text leaves open: what fills an aligned page.

    Errors: `LayoutError` when there are more shards than cores, cores off the grid, or nothing in ttnn is that layout.
    """
    local = extents.local
    for part in local:
        if (part.axis == "bank") != (memory == "dram"):
            home = "dram" if part.axis == "bank" else "l1"
            fail(
                spec,
                part.path,
                f"'{part.axis}' is in {home} but the layout is in {memory}",
                f"nearest valid: in {home}",
            )
    area = _area(memory, device)
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
        cores = _cores(spec, local[0], ranges, area)
        _check_dealt(spec, local)
        grid = _cut_all(spec, extents, local, [cores.number] * len(local), unit, tiled)
        return _dealt(spec, local, grid, cores, area)
    if axes != {"core.x", "core.y"} or len(local) > 2 or local[0].place.cyclic or local[1].place.cyclic:
        _refuse(spec, local)
    return _rectangle(spec, extents, local, ranges, area, unit, tiled)


def _refuse(spec: Spec, local: Sequence[Local]) -> NoReturn:
    names = " and ".join(f"{part.dim.label}{part.place}" for part in local)
    fail(spec, local[-1].path, f"{names} cannot be lowered to ttnn", LOWERED)


def _cores(spec: Spec, part: Local, ranges: tuple[CoreRange, ...], area: tuple[int, int]) -> _Cores:
    """The cores of the only axis; `core.x` alone is one row of them and `core.y` one column, for none holds a copy."""
    if part.axis in ("core", "bank"):
        whole = (CoreRange(0, 0, area[0] - 1, area[1] - 1),)
        return _Cores(ranges or whole, spec.cores is not None and spec.cores.col, bool(ranges))
    along_x = part.axis == "core.x"
    first = ranges[0] if ranges else CoreRange(0, 0, area[0] - 1, area[1] - 1)
    line = first._replace(y1=first.y0) if along_x else first._replace(x1=first.x0)
    if ranges and ranges != (line,):
        copies, other = (first.rows, "core.y") if along_x else (first.columns, "core.x")
        reason = f"{copies} copies over '{other}', which no dim is split over, are none that ttnn can keep"
        fail(spec, ("cores",), reason, f"nearest valid: on {line}")
    return _Cores((line,), False, bool(ranges))


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


def _dealt(spec: Spec, local: Sequence[Local], grid: _Grid, cores: _Cores, area: tuple[int, int]) -> Shards:
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
            cores = cores._replace(ranges=_row_wise(used, area))
        else:
            (line,) = cores.ranges
            along = {"x1": used - 1} if local[0].axis == "core.x" else {"y1": used - 1}
            cores = cores._replace(ranges=(line._replace(**along),))
    if count <= cores.number and (legacy := _legacy(grid, cores)):
        return legacy
    return Shards("nd", grid.shape, grid.number, cores.ranges, cores.col_major)


def _legacy(grid: _Grid, cores: _Cores) -> Shards | None:
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
        cores = _Cores((whole,), col_major, bool(ranges))
        grid = _cut_all(spec, extents, [minor], [cores.number], unit, tiled)
        if not ranges:
            cores = cores._replace(given=True)
        return _dealt(spec, [minor], grid, cores, area)
    if spec.cores is not None and spec.cores.contiguous:
        reason = "':contiguous' deals over one axis, not over core.x and core.y"
        fail(spec, ("cores",), reason, f"nearest valid: on {whole}")
    sides = [whole.rows, whole.columns] if minor.axis == "core.x" else [whole.columns, whole.rows]
    grid = _cut_all(spec, extents, local, sides, unit, tiled, separate=True)
    numbers = _numbers(extents, local, grid)
    right, down = (numbers[0], numbers[1]) if col_major else (numbers[1], numbers[0])
    used = CoreRange(whole.x0, whole.y0, whole.x0 + right - 1, whole.y0 + down - 1)
    if minor.last == len(extents.chip_shape) - 1 and grid.in_rows:
        shape = (prod(grid.shape[:-1]), grid.shape[-1])
        return Shards("block", shape, (numbers[0], numbers[1]), ranges or (used,), col_major)
    return _legacy(grid, _Cores((used,), col_major, True)) or Shards("nd", grid.shape, grid.number, (used,), col_major)


def _numbers(extents: Extents, local: Sequence[Local], grid: _Grid) -> list[int]:
    """How many parts each split makes."""
    return [grid.number[part.last - len(extents.chip_shape)] for part in local]


def _cut_all(
    spec: Spec,
    extents: Extents,
    local: Sequence[Local],
    available: Sequence[int],
    unit: int,
    tiled: bool,
    *,
    separate: bool = False,
) -> _Grid:
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
    return _Grid(stored, tuple(shape), tuple(number), over_rows, tiled)


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


def _area(memory: str, device: Geometry) -> tuple[int, int]:
    """Columns and rows of cores, or one row of banks."""
    return (device.dram_banks, 1) if memory == "dram" else device.grid


def check_ranges(spec: Spec, memory: str, device: Geometry) -> tuple[CoreRange, ...]:
    """The cores or banks that a spec names, if it does.

    Errors: `LayoutError` for those that the device has not, and for one that is named twice.
    """
    if spec.cores is None:
        return ()
    columns, rows = _area(memory, device)
    ranges = spec.cores.ranges
    for index, r in enumerate(ranges):
        if r.x1 >= columns or r.y1 >= rows:
            inside = CoreRange(*(min(a, b - 1) for a, b in zip(r, (columns, rows) * 2, strict=True)))
            what = f"the grid of {columns}×{rows} cores" if memory == "l1" else f"the row of {columns} banks"
            fail(spec, ("range", index), f"{r} leaves {what}", f"nearest valid: {inside}")
        for other in ranges[:index]:
            if r.x0 <= other.x1 and other.x0 <= r.x1 and r.y0 <= other.y1 and other.y0 <= r.y1:
                once = "each core once" if memory == "l1" else "each bank once"
                fail(spec, ("range", index), f"{r} overlaps {other}", f"allowed: {once}")
    return ranges


def _row_wise(count: int, grid: tuple[int, int]) -> tuple[CoreRange, ...]:
    """The first cores of the grid by rows, as `ttnn.num_cores_to_corerangeset(count, grid, row_wise=True)` has them."""
    columns = grid[0]
    full, rest = divmod(count, columns)
    ranges = (CoreRange(0, 0, columns - 1, full - 1),) if full else ()
    return (*ranges, CoreRange(0, full, rest - 1, full)) if rest else ranges
