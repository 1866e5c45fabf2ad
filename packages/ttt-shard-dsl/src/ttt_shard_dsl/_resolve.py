"""Resolves a spec for a tensor on a device: extents, then shards, then bytes against capacity."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from ttt_shard_dsl._extents import fail, resolve_extents
from ttt_shard_dsl._shards import resolve_shards
from ttt_shard_dsl.dtypes import ELEMENT_BYTES, SHORT_NAMES, TILE, TILE_BYTES
from ttt_shard_dsl.errors import LayoutError, nearest
from ttt_shard_dsl.geometry import Geometry
from ttt_shard_dsl.parser import Path
from ttt_shard_dsl.placement import Placement
from ttt_shard_dsl.tree import Spec


def place(spec: Spec, shape: Sequence[int], *, device: Geometry, dtype: str | None, tiled: bool) -> Placement:
    """`Spec.place`."""
    shape = tuple(shape)
    dtype = _resolve_dtype(spec, dtype, tiled)
    extents = resolve_extents(spec, shape, device.mesh, tiled)
    on_core = any(part.axis != "bank" for part in extents.local)
    memory = spec.memory or ("l1" if on_core else "dram")
    alignment = device.l1_alignment if memory == "l1" else device.dram_alignment
    alignment_elements = 1 if tiled else max(1, alignment // ELEMENT_BYTES[dtype])
    shards = resolve_shards(spec, extents, memory, alignment_elements, device, tiled)

    padded = extents.padded_shape
    if not tiled and shards.shape is not None:  # ttnn widens a row-major tensor to whole shards
        padded = (*padded[:-1], -(-padded[-1] // shards.shape[-1]) * shards.shape[-1])
    *heights, columns = shards.shape or padded
    pages = prod(heights) * columns // TILE**2 if tiled else prod(heights)
    page_bytes = TILE_BYTES[dtype] if tiled else columns * ELEMENT_BYTES[dtype]
    page_bytes = -(-page_bytes // alignment) * alignment
    banks = device.grid[0] * device.grid[1] if memory == "l1" else device.dram_banks
    if shards.shape is None:
        pages = -(-pages // banks)
    elif shards.sharding == "nd":  # a core may have several shards, and has space for as many as any
        pages *= -(-prod(shards.grid) // sum(r.columns * r.rows for r in shards.ranges))
    size = pages * page_bytes
    capacity = device.l1_bytes_per_core if memory == "l1" else device.dram_bytes_per_bank
    if size > capacity:
        where = "core" if memory == "l1" else "bank"
        path: Path = ("memory",) if spec.memory else ()
        fail(
            spec,
            path,
            f"{size} bytes on each {where} but {memory} has {capacity}",
            f"allowed: {capacity // page_bytes} pages of {page_bytes} bytes a {where}, not {pages}",
        )
    return Placement(
        shape=shape,
        chip_shape=extents.chip_shape,
        padded_shape=padded,
        dtype=dtype,
        tiled=tiled,
        memory=memory,
        sharding=shards.sharding,
        shard_shape=shards.shape,
        shard_grid=shards.grid,
        ranges=shards.ranges,
        col_major=shards.col_major,
        mesh_dims=extents.mesh_dims,
        pending=tuple(map(str, spec.pending)),
        page_bytes=page_bytes,
        bytes_per_core=size if memory == "l1" else 0,
        bytes_per_bank=size if memory == "dram" else 0,
        banks=0 if shards.shape else banks,
        contiguous=shards.contiguous,
        cols_major=extents.cols_major,
    )


def _resolve_dtype(spec: Spec, dtype: str | None, tiled: bool) -> str:
    if dtype is not None:
        dtype = SHORT_NAMES.get(dtype, dtype)
        if dtype not in TILE_BYTES:
            raise LayoutError(f"'{dtype}' is not a dtype", choices=nearest(dtype, tuple(TILE_BYTES)))
        if spec.dtype not in (None, dtype):
            fail(
                spec,
                ("dtype",),
                f"the layout is in {spec.dtype} but the tensor in {dtype}",
                f"nearest valid: as {dtype}",
            )
    dtype = dtype or spec.dtype or "bfloat16"
    if not tiled and dtype not in ELEMENT_BYTES:
        path: Path = ("dtype",) if spec.dtype else ()
        fail(spec, path, f"{dtype} has no row-major form", f"allowed: tiles, or {', '.join(ELEMENT_BYTES)}")
    return dtype
