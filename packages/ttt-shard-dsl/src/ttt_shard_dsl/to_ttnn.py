"""Placements as ttnn objects; the only module that imports ttnn, and only when called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ttt_shard_dsl.placement import Placement

_LAYOUTS = {
    "interleaved": "INTERLEAVED",
    "height": "HEIGHT_SHARDED",
    "width": "WIDTH_SHARDED",
    "block": "BLOCK_SHARDED",
}


def to_mesh_mapper(placement: Placement, mesh: tuple[int, int]) -> Any:
    """The ttnn mesh mapper that gives each chip of a mesh of that shape its part; needs no device."""
    import ttnn

    config = ttnn.MeshMapperConfig(
        [ttnn.PlacementReplicate() if dim is None else ttnn.PlacementShard(dim) for dim in placement.mesh_dims]
    )
    return ttnn.create_mesh_mapper(ttnn.MeshShape(*mesh), config)


def to_memory_config(placement: Placement) -> Any:
    """The `ttnn.MemoryConfig` of a placement on each chip, with a legacy ShardSpec: most ops refuse an NdShardSpec."""
    import ttnn

    layout = getattr(ttnn.TensorMemoryLayout, _LAYOUTS[placement.sharding])
    buffer = ttnn.BufferType.L1 if placement.memory == "l1" else ttnn.BufferType.DRAM
    if placement.shard_shape is None:
        return ttnn.MemoryConfig(layout, buffer)
    ranges = [ttnn.CoreRange(ttnn.CoreCoord(x0, y0), ttnn.CoreCoord(x1, y1)) for x0, y0, x1, y1 in placement.ranges]
    orientation = ttnn.ShardOrientation.COL_MAJOR if placement.col_major else ttnn.ShardOrientation.ROW_MAJOR
    shards = ttnn.ShardSpec(ttnn.CoreRangeSet(ranges), list(placement.shard_shape), orientation)
    return ttnn.MemoryConfig(layout, buffer, shards)
