"""The way back: what a MemoryConfig of ttnn, or a tensor, says in the language. By attributes: ttnn is not imported.

A MemoryConfig's `to_json` and `from_json` are not used: the process is aborted by the JSON of an NdShardSpec.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from ttt_shard_dsl.dtypes import SHORT_NAMES, TILE, TILE_BYTES
from ttt_shard_dsl.errors import LayoutError, nearest
from ttt_shard_dsl.geometry import Geometry
from ttt_shard_dsl.placement import Placement
from ttt_shard_dsl.tree import Axis, CoreRange, Cores, Dim, Place, Spec

__all__ = ["placement_of", "spec_of", "spec_of_tensor"]

NAMES = ("b", "h", "s", "d")
"""Of the last dims; those before are n0, n1, …"""


def spec_of(memory_config: Any, *, shape: Sequence[int], device: Geometry, dtype: str, tiled: bool) -> Spec:
    """The layout that places a tensor of `shape` on one chip as `memory_config` does.

    `spec.place` for the same tensor gives the same bytes in the same place. Its MemoryConfig may be another one, as ttnn has
    several for some placements: of those it is a legacy one.
    Shapes: `shape` is what one chip holds, for a MemoryConfig does not know of the others.

    Errors: `LayoutError` for a config that ttnn makes but refuses to allocate, or that is not for this tensor or device.
    """
    dtype = SHORT_NAMES.get(dtype, dtype)
    if dtype not in TILE_BYTES:
        raise LayoutError(f"'{dtype}' is not a dtype", choices=nearest(dtype, tuple(TILE_BYTES)))
    dims, memory, cores, shard = _local(memory_config, tuple(shape), tiled)
    spec = Spec(tuple(dims), memory=memory, cores=cores, dtype=dtype)
    placed = spec.place(shape, device=device, tiled=tiled)
    if placed.shard_shape is not None and prod(placed.shard_shape) != prod(shard):
        reason = f"shards of {'×'.join(map(str, shard))} have no text for a tensor of shape {tuple(shape)}"
        raise LayoutError(
            reason, str(spec), choices=f"nearest valid: shards of {'×'.join(map(str, placed.shard_shape))}"
        )
    return spec


def spec_of_tensor(tensor: Any, *, device: Geometry) -> Spec:
    """The layout of a ttnn tensor: `spec_of` its MemoryConfig, and how it is split over a mesh of rows and columns.

    Errors: `LayoutError` as `spec_of`, and for a mesh that is not that of `device`.
    """
    return placement_of(tensor, device=device)[0]


def placement_of(tensor: Any, *, device: Geometry) -> tuple[Spec, Placement]:
    """The layout of a ttnn tensor, and its placement, whose `shape` is that of the tensor before it is split.

    Errors: as `spec_of_tensor`.
    """
    tiled, dtype = tensor.layout.name == "TILE", tensor.dtype.name.lower()
    chip = tuple(tensor.shape)
    local = spec_of(tensor.memory_config(), shape=chip, device=device, dtype=dtype, tiled=tiled)
    topology = tensor.tensor_topology()
    sizes, over = tuple(topology.distribution_shape()), [getattr(p, "dim", None) for p in topology.placements()]
    over = [None if dim is None else dim % len(chip) for dim in over]
    if all(dim is None for dim in over):
        return local, local.place(chip, device=device, tiled=tiled)
    rows, columns = device.mesh
    if sizes == (rows * columns,):  # all chips in one line, row after row
        sizes, over = (rows, columns), [over[0] if chips > 1 else None for chips in device.mesh]
    if sizes != (rows, columns):
        raise LayoutError(f"a tensor over {sizes} chips on a mesh of {device.mesh}", choices="allowed: the same mesh")
    shape = list(chip)
    dims = list(local.dims)
    for axis, dim in reversed([*zip(("rows", "cols"), over, strict=True)]):  # each before the splits within it
        if dim is None:
            continue
        shape[dim] *= sizes[axis == "cols"]
        at = next((k for k, _ in enumerate(dims) if sum(max(1, len(d.names)) for d in dims[: k + 1]) > dim))
        if len(dims[at].names) > 1:
            raise LayoutError(f"dim {dim} is split over chips and, with those beside it, over cores", str(local))
        name = dims[at].names or ((*_names(len(chip)),)[dim],)
        dims[at] = dims[at]._replace(names=name, size=None, places=(Place(Axis(axis)), *dims[at].places))
    spec = local._replace(dims=tuple(dims))
    return spec, spec.place(shape, device=device, tiled=tiled)


def _local(config: Any, shape: tuple[int, ...], tiled: bool) -> tuple[list[Dim], str, Cores | None, tuple[int, ...]]:
    """Dims split over cores or banks, the memory, the cores, and the shape of a shard."""
    memory = "l1" if config.buffer_type.name == "L1" else "dram"
    dims = _dims(shape)
    kind = config.memory_layout.name
    if kind == "INTERLEAVED":
        return dims, memory, None, ()
    legacy = config.shard_spec
    nd = config.nd_shard_spec
    if kind == "BLOCK_SHARDED" and nd is not None and nd.shard_distribution_strategy.name != "GRID_2D":
        kind, legacy = "ND_SHARDED", None  # a tensor's config calls some deals blocks that lie on other cores
    shards = nd if legacy is None else legacy
    if shards is None:
        raise LayoutError(f"a MemoryConfig of {kind} has no shard spec", choices="allowed: ShardSpec, NdShardSpec")
    shard = tuple(shards.shard_shape if legacy is None else legacy.shape)
    if len(shard) == 1 < len(shape):  # a part of one row
        shard = (1, *shard)
    deal = shards.shard_distribution_strategy.name if legacy is None else ""
    ranges = tuple(CoreRange(r.start.x, r.start.y, r.end.x, r.end.y) for r in shards.grid.ranges())
    col_major = shards.orientation.name == "COL_MAJOR"
    blocks = kind == "BLOCK_SHARDED" or deal == "GRID_2D"

    stored = _stored(shape, len(shard), tiled)
    if len(shard) > len(stored):  # a vector as rows
        stored = (1, *stored)
    if len(shard) != len(stored):
        raise LayoutError(f"shards of {len(shard)} dims for a tensor of {len(shape)}", choices="allowed: not more dims")
    if kind == "HEIGHT_SHARDED" and shard[-1] != stored[-1] and not tiled:  # ttnn widens the rows to the shard
        dims[-1] = dims[-1]._replace(pad=shard[-1])
    over = [Axis("core" if memory == "l1" else "bank")] * len(shard)
    split = [part != whole for part, whole in zip(shard, stored, strict=True)]
    if kind == "HEIGHT_SHARDED":
        split = [len(shape) > 1, len(shape) == 1]
    elif blocks:
        if len(ranges) != 1 or len(shard) != 2:
            raise LayoutError("blocks lie on one rectangle of cores", choices="allowed: one core range")
        split = [len(shape) > 1, True]
        if memory == "l1":
            over = [Axis("core", "x"), Axis("core", "y")] if col_major else [Axis("core", "y"), Axis("core", "x")]
        if len(shape) == 1:  # all its blocks are in the first line of cores
            (r,) = ranges
            ranges = (r._replace(x1=r.x0) if col_major else r._replace(y1=r.y0),)
    elif len(shape) == 1 or not any(split):  # a vector, or one shard
        split = [False] * (len(shard) - 1) + [True]
    for index in reversed([index for index, is_split in enumerate(split) if is_split]):
        if len(shape) + index >= len(shard):
            _split(
                dims, shape, index - len(shard), Place(over[index], deal == "ROUND_ROBIN_1D", shard[index]), index == 0
            )
    return dims, memory, Cores(ranges, col_major and not blocks, deal == "CONTIGUOUS_1D"), shard


def _split(dims: list[Dim], shape: tuple[int, ...], dim: int, place: Place, first: bool) -> None:
    """Split a dim, from the end; the first of a shard may be several of the tensor."""
    leading = len(shape) + dim + 1
    if not first or prod(shape[: leading - 1]) == 1:
        dims[dim] = dims[dim]._replace(places=(place,))
    else:
        dims[:leading] = [Dim(_names(len(shape))[:leading], places=(place,))]


def _names(rank: int) -> tuple[str, ...]:
    return (*(f"n{index}" for index in range(rank - len(NAMES))), *NAMES[max(0, len(NAMES) - rank) :])


def _dims(shape: tuple[int, ...]) -> list[Dim]:
    """One dim for each size, those of 1 as they are."""
    return [Dim((), size) if size == 1 else Dim((name,)) for name, size in zip(_names(len(shape)), shape, strict=True)]


def _stored(shape: tuple[int, ...], dims: int, tiled: bool) -> tuple[int, ...]:
    """What ttnn stores of a shape, the leading of its sizes taken as one so that there are not more than `dims`."""
    stored = (1, *shape) if tiled and len(shape) == 1 else shape
    if tiled:
        stored = (*stored[:-2], *(-(-size // TILE) * TILE for size in stored[-2:]))
    merged = max(0, len(stored) - dims) + 1
    return (prod(stored[:merged]), *stored[merged:])
