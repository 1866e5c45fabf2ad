"""Placements as ttnn objects; the only module that imports ttnn, and only when called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ttt_shard_dsl.errors import LayoutError

if TYPE_CHECKING:
    from ttt_shard_dsl.placement import Placement

__all__ = ["to_memory_config"]

_LEGACY = {
    "height": "HEIGHT_SHARDED",
    "width": "WIDTH_SHARDED",
    "block": "BLOCK_SHARDED",
}


def to_mesh_mapper(placement: Placement, mesh: tuple[int, int]) -> Any:
    """The ttnn mesh mapper that gives each chip of a mesh of that shape its part; needs no device.

    Errors: `LayoutError` for a dim over all chips that goes down the columns of the mesh.
    """
    import ttnn

    _check_line(placement)
    rows, cols = placement.mesh_dims
    if rows is not None and rows == cols:  # ttnn splits a dim once: the mesh is one line of chips
        line = ttnn.MeshShape([mesh[0] * mesh[1]])
        return ttnn.create_mesh_mapper(ttnn.MeshShape(*mesh), ttnn.MeshMapperConfig([ttnn.PlacementShard(rows)], line))
    config = ttnn.MeshMapperConfig(
        [ttnn.PlacementReplicate() if dim is None else ttnn.PlacementShard(dim) for dim in placement.mesh_dims]
    )
    return ttnn.create_mesh_mapper(ttnn.MeshShape(*mesh), config)


def to_mesh_composer(placement: Placement, mesh_device: Any) -> Any:
    """The ttnn mesh composer that puts the parts of the chips together again; of equal ones it takes the first.

    Errors: `LayoutError` for a vector, which has no second dim for the axis that it is not split over; and as
    `to_mesh_mapper`.
    """
    import ttnn

    _check_line(placement)
    rows, columns = mesh_device.shape
    if placement.mesh_dims[0] is not None and placement.mesh_dims[0] == placement.mesh_dims[1]:
        line = ttnn.MeshComposerConfig([placement.mesh_dims[0]], ttnn.MeshShape([rows * columns]))
        return ttnn.create_mesh_composer(mesh_device, line)
    if len(placement.shape) < 2:
        raise LayoutError("ttnn cannot compose a vector on a mesh", choices="allowed: tensors of at least 2 dims")
    free = (dim for dim in range(len(placement.shape)) if dim not in placement.mesh_dims)
    dims, sizes = [], []
    for dim, size in zip(placement.mesh_dims, (rows, columns), strict=True):
        dims.append(next(free) if dim is None else dim)  # ttnn wants a dim of its own for each axis
        sizes.append(1 if dim is None else size)
    return ttnn.create_mesh_composer(mesh_device, ttnn.MeshComposerConfig(dims, ttnn.MeshShape(*sizes)))


def _check_line(placement: Placement) -> None:
    if placement.cols_major:
        dim = placement.mesh_dims[0]
        raise LayoutError(
            f"dim {dim} goes over all chips down the columns of the mesh, and a host tensor only along the rows",
            choices="nearest valid: @rows@cols in place of @cols@rows, or plan, from a layout that the chips hold",
        )


def to_memory_config(placement: Placement) -> Any:
    """The `ttnn.MemoryConfig` of a placement on each chip.

    Its ShardSpec is a legacy one wherever that has the same shards, for most ops refuse an NdShardSpec.
    """
    import ttnn

    buffer = ttnn.BufferType.L1 if placement.memory == "l1" else ttnn.BufferType.DRAM
    if placement.shard_shape is None:
        return ttnn.MemoryConfig(ttnn.TensorMemoryLayout.INTERLEAVED, buffer)
    ranges = [ttnn.CoreRange(ttnn.CoreCoord(x0, y0), ttnn.CoreCoord(x1, y1)) for x0, y0, x1, y1 in placement.ranges]
    orientation = ttnn.ShardOrientation.COL_MAJOR if placement.col_major else ttnn.ShardOrientation.ROW_MAJOR
    if placement.sharding == "nd":
        strategy = ttnn.ShardDistributionStrategy
        deal = strategy.CONTIGUOUS_1D if placement.contiguous else strategy.ROUND_ROBIN_1D
        shape = ttnn.Shape(list(placement.shard_shape))
        return ttnn.MemoryConfig(buffer, ttnn.NdShardSpec(shape, ttnn.CoreRangeSet(ranges), orientation, deal))
    layout = getattr(ttnn.TensorMemoryLayout, _LEGACY[placement.sharding])
    shards = ttnn.ShardSpec(ttnn.CoreRangeSet(ranges), list(placement.shard_shape), orientation)
    return ttnn.MemoryConfig(layout, buffer, shards)
