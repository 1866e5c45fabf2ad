"""The cores or banks over which a layout is dealt, in order."""

from __future__ import annotations

from typing import NamedTuple

from ttt_shard_dsl._extents import Local, fail
from ttt_shard_dsl.geometry import Geometry
from ttt_shard_dsl.tree import CoreRange, Spec


class CoreOrder(NamedTuple):
    """Where shards go, in order; `given` says that the text chose them."""

    ranges: tuple[CoreRange, ...]
    col_major: bool
    given: bool

    @property
    def number(self) -> int:
        return sum(r.columns * r.rows for r in self.ranges)


def cores_of(spec: Spec, part: Local, ranges: tuple[CoreRange, ...], area: tuple[int, int]) -> CoreOrder:
    """The cores of the only axis; `core.x` alone is one row of them and `core.y` one column, for none holds a copy."""
    if part.axis in ("core", "bank"):
        whole = (CoreRange(0, 0, area[0] - 1, area[1] - 1),)
        return CoreOrder(ranges or whole, spec.cores is not None and spec.cores.col, bool(ranges))
    along_x = part.axis == "core.x"
    first = ranges[0] if ranges else CoreRange(0, 0, area[0] - 1, area[1] - 1)
    line = first._replace(y1=first.y0) if along_x else first._replace(x1=first.x0)
    if ranges and ranges != (line,):
        copies, other = (first.rows, "core.y") if along_x else (first.columns, "core.x")
        reason = f"{copies} copies over '{other}', which no dim is split over, are none that ttnn can keep"
        fail(spec, ("cores",), reason, f"nearest valid: on {line}")
    return CoreOrder((line,), False, bool(ranges))


def area_of(memory: str, device: Geometry) -> tuple[int, int]:
    """Columns and rows of cores, or one row of banks."""
    return (device.dram_banks, 1) if memory == "dram" else device.grid


def check_ranges(spec: Spec, memory: str, device: Geometry) -> tuple[CoreRange, ...]:
    """The cores or banks that a spec names, if it does.

    Errors: `LayoutError` for those that the device has not, and for one that is named twice.
    """
    if spec.cores is None:
        return ()
    columns, rows = area_of(memory, device)
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


def row_wise(count: int, grid: tuple[int, int]) -> tuple[CoreRange, ...]:
    """The first cores of the grid by rows, as `ttnn.num_cores_to_corerangeset(count, grid, row_wise=True)` has them."""
    columns = grid[0]
    full, rest = divmod(count, columns)
    ranges = (CoreRange(0, 0, columns - 1, full - 1),) if full else ()
    return (*ranges, CoreRange(0, full, rest - 1, full)) if rest else ranges
