"""Values as a tensor of ttnn in host memory, each chip's part packed straight into it: no float32 copy in between."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, cast

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ttt_hw import DType, TensorLayout, to_host_tensor
from ttt_shard_dsl import TILE, Placement
from ttt_weights._tiles import TILE_BYTES, Bytes, TileDType, copy, pack


def host_tensor(
    values: NDArray[Any],
    device: Any,
    *,
    dtype: DType,
    layout: TensorLayout,
    placement: Placement,
    mesh: tuple[int, int],
) -> Any:
    """A host tensor with a part for each chip, chips with the same part sharing it.

    `values` are bfloat16 or float32, without the padding that `placement` asks for.
    """
    import ttnn

    values = np.asarray(values)  # their bits, which StoredValues would widen
    split = any(dim is not None for dim in placement.mesh_dims)
    mapper = placement.to_mesh_mapper(mesh) if split else None
    chips = mesh[0] * mesh[1]
    if not _packed(dtype, layout) or (not split and chips > 1 and dtype != "bfloat16"):
        return to_host_tensor(padded(values, placement.whole_shape(mesh)), dtype=dtype, layout=layout, mapper=mapper)
    made: dict[tuple[tuple[int, int], ...], Any] = {}
    empty = iter(_allocate(device, dtype, layout, placement, chips if split else 1))
    parts = []
    for index in placement.chip_slices(mesh):
        key = tuple((part.start, part.stop) for part in index)
        if key not in made:
            made[key] = next(empty)
            _fill(made[key], values[index], placement.chip_shape, dtype, layout)
        parts.append(made[key])
    if not split:
        return parts[0]
    whole = ttnn.from_host_shards(parts, ttnn.MeshShape(*mesh))
    whole.update_tensor_topology(_topology(placement, mesh, mapper))
    return whole


def host_bytes(dtype: DType, shape: Sequence[int]) -> int:
    """What values take at least when they are packed."""
    eighths = {"float32": 32, "bfloat16": 16, "bfloat8_b": 8, "bfloat4_b": 4}
    return int(np.prod(shape, dtype=np.int64)) * eighths.get(dtype, 32) // 8


def _packed(dtype: DType, layout: TensorLayout) -> bool:
    return dtype in TILE_BYTES if layout == "tile" else dtype == "bfloat16"


def _allocate(device: Any, dtype: DType, layout: TensorLayout, placement: Placement, count: int) -> Sequence[Any]:
    """Host tensors of zeros, one for each of `count` chips."""
    import ttnn

    shape = list(placement.chip_shape)
    kind = ttnn.TILE_LAYOUT if layout == "tile" else ttnn.ROW_MAJOR_LAYOUT
    if count == 1 and dtype == "bfloat16":
        zeros: Any = ttnn.zeros
        return [
            zeros.function(shape, dtype=ttnn.bfloat16, layout=kind)
        ]  # memory of the host's, no operation to be seen
    made = ttnn.allocate_tensor_on_host(ttnn.Shape(shape), getattr(ttnn, dtype), kind, device)
    return cast("Sequence[Any]", ttnn.get_device_tensors(made))


def _fill(tensor: Any, values: NDArray[Any], shape: Sequence[int], dtype: DType, layout: TensorLayout) -> None:
    memory = _memory(tensor)
    if layout == "row_major":
        target = memory.view(ml_dtypes.bfloat16).reshape(-1, shape[-1])
        rows = values.reshape(-1, values.shape[-1])
        copy(rows, target[: len(rows), : rows.shape[1]])
        return
    tile_dtype = cast("TileDType", dtype)
    tiles = tuple(-(-size // TILE) for size in shape[-2:])
    pack(values, tile_dtype, memory.reshape(*shape[:-2], *tiles, TILE_BYTES[tile_dtype]))


def _memory(tensor: Any) -> Bytes:
    """The bytes of a host tensor with one part. ttnn's own view of them is for readers; these are written before any is made."""
    import ttnn

    view = np.from_dlpack(tensor.host_buffer().get_shard(ttnn.MeshCoordinate(0, 0)))
    return np.ctypeslib.as_array((ctypes.c_uint8 * view.size).from_address(view.ctypes.data))


def _topology(placement: Placement, mesh: tuple[int, int], mapper: Any) -> Any:
    """What ttnn notes of how a tensor is split: that of a small one which is split in the same way."""
    sizes = [1] * len(placement.chip_shape)
    for axis, dim in enumerate(placement.mesh_dims):
        if dim is not None:
            sizes[dim] *= mesh[axis]
    return to_host_tensor(
        np.zeros(sizes, np.uint32), dtype="uint32", layout="row_major", mapper=mapper
    ).tensor_topology()


def padded(values: NDArray[Any], whole: tuple[int, ...]) -> NDArray[np.float32]:
    """Row-major float32, with the zeros that the placement's padding asks for."""
    if whole == values.shape and values.flags.c_contiguous and values.dtype == np.float32:
        return values
    whole_values = np.zeros(whole, dtype=np.float32)
    target = whole_values[tuple(slice(size) for size in values.shape)]
    if values.ndim < 2:
        target[...] = values
        return whole_values
    block = 256  # square blocks stay in the CPU's cache: for a transposed matrix ten times as fast
    for row in range(0, values.shape[-2], block):
        for column in range(0, values.shape[-1], block):
            part = (..., slice(row, row + block), slice(column, column + block))
            target[part] = values[part]
    return whole_values
