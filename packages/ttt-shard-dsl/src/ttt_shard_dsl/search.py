"""All legal layouts of a tensor under constraints, and the best of them by a cost that the caller gives.

The space: the dims, paddings, mesh places and pending sums of a template; interleaved, or split in two parts or more as ttnn's
legacy shardings allow: the last dim or a leading group over the cores or banks, or both over the rows and columns of cores; every
block size up to what a chip holds; memory, cores and dtype as the template says, if it does: on its cores or banks a tensor is
never interleaved, which would be over all of them, and on a single one it may lie whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from ttt_shard_dsl._cores import check_ranges
from ttt_shard_dsl.dtypes import TILE
from ttt_shard_dsl.errors import LayoutError, nearest
from ttt_shard_dsl.geometry import Device
from ttt_shard_dsl.parser import parse
from ttt_shard_dsl.placement import Placement
from ttt_shard_dsl.tree import Axis, Dim, Place, Spec

if TYPE_CHECKING:
    from ttt_shard_dsl.geometry import Geometry

__all__ = ["best_layouts", "legal_layouts"]


class LegalLayout(NamedTuple):
    """A legal layout, and where it puts the tensor."""

    spec: Spec
    placement: Placement


def best_layouts(
    template: str | Spec,
    shape: Sequence[int],
    *,
    device: Geometry,
    cost: Callable[[Placement], Any],
    dtype: str | None = None,
    tiled: bool = True,
    split: Sequence[str] | None = None,
    mesh_axes: Sequence[str] = (),
    max_cores: int | None = None,
) -> Iterator[LegalLayout]:
    """The layouts of `legal_layouts`, lowest cost first; of equal costs the one that comes first there.

    `cost` returns anything that compares; it is called once for each layout, before the first is yielded.
    """
    found = legal_layouts(
        template,
        shape,
        device=device,
        dtype=dtype,
        tiled=tiled,
        split=split,
        mesh_axes=mesh_axes,
        max_cores=max_cores,
    )
    heap = [(cost(each.placement), number, each) for number, each in enumerate(found)]
    heapify(heap)
    while heap:
        yield heappop(heap)[2]


def legal_layouts(
    template: str | Spec,
    shape: Sequence[int],
    *,
    device: Geometry,
    dtype: str | None = None,
    tiled: bool = True,
    split: Sequence[str] | None = None,
    mesh_axes: Sequence[str] = (),
    max_cores: int | None = None,
) -> Iterator[LegalLayout]:
    """Every legal layout under the constraints, each placement once, found as it is asked for.

    `template` is a layout without splits on a chip, as `"1 b@cols s d in l1"`. `split` names the dims that may be split on a
    chip (None: all), `mesh_axes` the axes over which any dim may be split besides those of the template, `max_cores` bounds
    the cores that hold a part in L1.

    Errors: `LayoutError` for a template that is no layout, has splits on a chip, or cores that the device has not; where none
    is legal there are none.
    """
    spec = _ungrouped(parse(template) if isinstance(template, str) else template)
    _check(spec, split)
    check_ranges(spec, spec.memory or "l1", device)
    endless = Device(
        device.grid, device.dram_banks, 1 << 62, 1 << 62, device.l1_alignment, device.dram_alignment, device.mesh
    )
    seen: set[Placement] = set()
    for number, over_mesh in enumerate(_over_mesh(spec, mesh_axes, device.mesh)):
        try:  # on a device that has room
            whole = over_mesh._replace(cores=None).place(shape, device=endless, dtype=dtype, tiled=tiled)
        except LayoutError:
            if number == 0:  # the template itself
                raise
            continue
        for each in _on_chip(over_mesh, whole, device, tiled, split):
            try:
                placement = each.place(shape, device=device, dtype=dtype, tiled=tiled)
            except LayoutError:
                continue
            if placement.sharding != "nd" and placement not in seen and _has_cores(placement, device, max_cores):
                seen.add(placement)
                yield LegalLayout(each, placement)


def _ungrouped(spec: Spec) -> Spec:
    """The template with one dim for each entry of the shape."""
    dims: list[Dim] = []
    for dim in spec.dims:
        dims += [dim] if len(dim.names) < 2 or dim.places or dim.pad else [Dim((name,)) for name in dim.names]
    return spec._replace(dims=tuple(dims))


def _check(spec: Spec, split: Sequence[str] | None) -> None:
    for dim in spec.dims:
        for place in dim.places:
            if place.axis.name in ("core", "bank"):
                raise LayoutError(
                    f"a template has no split over '{place.axis}': the search finds them",
                    str(spec),
                    choices=f"nearest valid: {dim._replace(places=tuple(p for p in dim.places if p != place))}",
                )
    names = tuple(name for dim in spec.dims for name in dim.names)
    for name in split or ():
        if name not in names:
            raise LayoutError(
                f"'{name}' is to be split, and no dim of the template", str(spec), None, nearest(name, names)
            )


def _over_mesh(spec: Spec, mesh_axes: Sequence[str], mesh: tuple[int, int]) -> Iterator[Spec]:
    """The template first, then with the free mesh axes over each of the dims."""
    used = {str(place.axis) for dim in spec.dims for place in dim.places} | set(map(str, spec.pending))
    chips = dict(zip(("rows", "cols"), mesh, strict=True))
    free = []
    for axis in mesh_axes:
        if axis not in chips:
            raise LayoutError(f"'{axis}' is not an axis of the mesh", choices=nearest(axis, tuple(chips)))
        if axis not in used and chips[axis] > 1:
            free.append(axis)
    for choice in product((None, *range(len(spec.dims))), repeat=len(free)):
        dims = list(spec.dims)
        for axis, entry in zip(free, choice, strict=True):
            if entry is not None:
                both = (*dims[entry].places, Place(Axis(axis)))
                dims[entry] = dims[entry]._replace(
                    places=both if axis == "cols" else both[::-1]
                )  # as a host can split it
        yield spec._replace(dims=tuple(dims))


def _on_chip(
    spec: Spec, whole: Placement, device: Geometry, tiled: bool, split: Sequence[str] | None
) -> Iterator[Spec]:
    """Interleaved, then every split of what a chip holds; not all of them are legal."""
    last = len(spec.dims) - 1
    if spec.cores is None:
        for memory in ("l1", "dram") if spec.memory is None else (spec.memory,):
            yield spec._replace(memory=memory)
    ranges = spec.cores.ranges if spec.cores else ()
    given = sum(r.columns * r.rows for r in ranges)
    cores, banks = given or device.grid[0] * device.grid[1], given or device.dram_banks
    columns, rows = (ranges[0].columns, ranges[0].rows) if ranges else device.grid
    may_widen = _may_split(spec, whole, last, last, split)
    unit = TILE if tiled else 1
    width = whole.chip_shape[last]
    groups = [group for group in _row_groups(whole.chip_shape) if _may_split(spec, whole, *group, split)]

    if spec.memory != "dram":
        if may_widen:
            for block in _blocks(width, unit, cores, whole=given == 1):
                yield _split(spec, "l1", (last, last, "core", block))
        for first, end in groups:
            for block in _blocks(*_rows(whole, first, end, tiled), cores):
                yield _split(spec, "l1", (first, end, "core", block))
        for first, end in groups if may_widen else ():
            extent, rows_unit = _rows(whole, first, end, tiled)
            for down, across in (("core.y", "core.x"), ("core.x", "core.y")):
                most_down, most_across = (rows, columns) if down == "core.y" else (columns, rows)
                heights = list(_blocks(extent, rows_unit, most_down, whole=True))
                widths = list(_blocks(width, unit, most_across, whole=True))
                for height, block in product(heights, widths):
                    if _parts(extent, height) * _parts(width, block) > 1:
                        yield _split(spec, "l1", (first, end, down, height), (last, last, across, block))
    if spec.memory != "l1":
        for block in _blocks(width, unit, banks, whole=given == 1) if may_widen else ():
            yield _split(spec, "dram", (last, last, "bank", block))
        for first, end in groups:
            for block in _blocks(*_rows(whole, first, end, tiled), banks):
                yield _split(spec, "dram", (first, end, "bank", block))


def _row_groups(chip_shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """First and last entry of the leading dims that can be split as one: those before the first are 1."""
    end = len(chip_shape) - 2
    if end < 0:
        return []
    first = next((entry for entry in range(end) if chip_shape[entry] > 1), end)
    return [(first, entry) for entry in range(first, end + 1) if chip_shape[entry] > 1 or entry == end]


def _rows(whole: Placement, first: int, end: int, tiled: bool) -> tuple[int, int]:
    """The extent of a group of leading dims as blocks count it, and the unit of a block."""
    if end == len(whole.chip_shape) - 2:
        return prod(whole.padded_shape[first : end + 1]), TILE if tiled else 1
    return prod(whole.chip_shape[first : end + 1]), 1


def _blocks(extent: int, unit: int, most: int, *, whole: bool = False) -> Iterator[int]:
    """The sizes of blocks of which there are `most` at most, and two at least unless the `whole` is one too."""
    smallest = -(-extent // (most * unit)) * unit
    yield from range(smallest, -(-extent // unit) * unit + (1 if whole else 1 - unit), unit)


def _parts(extent: int, block: int) -> int:
    return -(-extent // block)


def _may_split(spec: Spec, whole: Placement, first: int, end: int, split: Sequence[str] | None) -> bool:
    dims = [spec.dims[entry] for entry in range(first, end + 1) if whole.chip_shape[entry] > 1]
    if split is not None and any(not dim.names or dim.names[0] not in split for dim in dims):
        return False
    return first == end or not any(dim.places or dim.pad for dim in spec.dims[first : end + 1])


def _split(spec: Spec, memory: str, *splits: tuple[int, int, str, int]) -> Spec:
    """The spec with dims `first` to `end` taken as one and split in blocks over an axis, for each of the splits."""
    dims = list(spec.dims)
    for first, end, axis, block in reversed(splits):  # from the right, so that indices stay
        name, dot, sub = axis.partition(".")
        place = Place(Axis(name, sub if dot else None), block=block)
        dim = dims[first] if first == end else Dim(tuple(_name(spec, entry) for entry in range(first, end + 1)))
        dims[first : end + 1] = [dim._replace(places=(*dim.places, place))]
    return spec._replace(dims=tuple(dims), memory=memory)


def _name(spec: Spec, entry: int) -> str:
    """The name of a dim; one that is written as its size gets one, because groups have names only."""
    if spec.dims[entry].names:
        return spec.dims[entry].names[0]
    taken = {name for dim in spec.dims for name in dim.names}
    name = f"dim{entry}"
    while name in taken:
        name += "_"
    return name


def _has_cores(placement: Placement, device: Geometry, max_cores: int | None) -> bool:
    """Whether no more cores hold a part than are allowed; an interleaved tensor in L1 is on all of them."""
    if max_cores is None or placement.memory == "dram":
        return True
    return (placement.num_shards or device.grid[0] * device.grid[1]) <= max_cores
