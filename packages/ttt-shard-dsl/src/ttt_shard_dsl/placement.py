"""Where a tensor lies: what each chip holds, its shards, the cores that hold them, and their bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ttt_shard_dsl.parser import parse
from ttt_shard_dsl.tree import CoreRange

if TYPE_CHECKING:
    from ttt_shard_dsl.geometry import Geometry

Sharding = Literal["interleaved", "height", "width", "block"]


class Placement(NamedTuple):
    """A layout resolved for one tensor on one device; equal placements are the same bytes in the same place.

    Shapes: `shape` is the whole tensor; `chip_shape` what one chip holds, with the padding of the text and before that
    of tiles; `padded_shape` what ttnn stores of it; `shard_shape` the rows and columns of a shard, None if interleaved;
    `shard_grid` the shards along height and width.
    Units: bytes.
    """

    shape: tuple[int, ...]
    chip_shape: tuple[int, ...]
    padded_shape: tuple[int, ...]
    dtype: str
    tiled: bool
    memory: str
    sharding: Sharding
    shard_shape: tuple[int, int] | None
    shard_grid: tuple[int, int]
    ranges: tuple[CoreRange, ...]
    """The cores of the ShardSpec, or the banks as (bank, 0); more than hold a shard when the text says so."""
    col_major: bool
    mesh_dims: tuple[int | None, int | None]
    """The tensor's dim that is split over the rows of the mesh, and over its columns; None: replicated."""
    pending: tuple[str, ...]
    """Mesh axes over which the tensor is still to be summed."""
    page_bytes: int
    """One page with its alignment."""
    bytes_per_core: int
    """L1 taken on each core that holds a part; 0 for a tensor in DRAM."""
    bytes_per_bank: int
    """DRAM taken in each bank that holds a part; 0 for a tensor in L1."""

    @property
    def num_shards(self) -> int:
        """Shards on one chip; 0 for an interleaved tensor."""
        return self.shard_grid[0] * self.shard_grid[1]

    @property
    def cores(self) -> list[tuple[int, int]]:
        """The (x, y) core of each shard, or its (bank, 0), in the order of shards; empty for an interleaved tensor."""
        if self.sharding == "block":
            first = self.ranges[0]
            heights, widths = range(self.shard_grid[0]), range(self.shard_grid[1])
            if self.col_major:
                return [(first.x0 + i, first.y0 + j) for i in heights for j in widths]
            return [(first.x0 + j, first.y0 + i) for i in heights for j in widths]
        return [core for core, _ in zip(self._core_order(), range(self.num_shards), strict=False)]

    def _core_order(self) -> Iterator[tuple[int, int]]:
        for x0, y0, x1, y1 in self.ranges:
            columns, rows = range(x0, x1 + 1), range(y0, y1 + 1)
            yield from (
                ((x, y) for x in columns for y in rows) if self.col_major else ((x, y) for y in rows for x in columns)
            )

    def chip_slices(self, mesh: tuple[int, int]) -> list[tuple[slice, ...]]:
        """The part of the (padded) tensor that each chip of a mesh holds, as an index, chips in row-major order."""
        parts = []
        for chip in ((row, column) for row in range(mesh[0]) for column in range(mesh[1])):
            index = [slice(None)] * len(self.chip_shape)
            for dim, position in zip(self.mesh_dims, chip, strict=True):
                if dim is not None:
                    size = self.chip_shape[dim]
                    index[dim] = slice(position * size, (position + 1) * size)
            parts.append(tuple(index))
        return parts

    def to_mesh_mapper(self, mesh: tuple[int, int]) -> Any:
        """The ttnn mesh mapper that splits a host tensor over a mesh of that shape as this placement says."""
        from ttt_shard_dsl.to_ttnn import to_mesh_mapper  # imports ttnn

        return to_mesh_mapper(self, mesh)

    def to_memory_config(self) -> Any:
        """The `ttnn.MemoryConfig` of this placement on each chip, with a legacy ShardSpec."""
        from ttt_shard_dsl.to_ttnn import to_memory_config  # imports ttnn

        return to_memory_config(self)

    def __repr__(self) -> str:
        whole = "×".join(map(str, self.shape))
        chip = "" if self.chip_shape == self.shape else f" as {'×'.join(map(str, self.chip_shape))} a chip"
        form = "tiles" if self.tiled else "rows"
        size = f"{self.bytes_per_core:,} B a core" if self.memory == "l1" else f"{self.bytes_per_bank:,} B a bank"
        where = f"interleaved in {self.memory}"
        if self.shard_shape is not None:
            height, width = self.shard_shape
            order = ":col" if self.col_major and self.sharding != "block" else ""
            ranges = ",".join(map(str, self.ranges)) + order
            where = f"{self.num_shards} {self.sharding} shards of {height}×{width} in {self.memory} on {ranges}"
        return f"<Placement {whole} {self.dtype} {form}{chip}: {where}, {size}>"


def memory_config(
    text: str, *, shape: Sequence[int], device: Geometry, dtype: str | None = None, tiled: bool = True
) -> Any:
    """The `ttnn.MemoryConfig` of a layout for a tensor on a device: `parse`, `place`, `to_memory_config`.

    Shapes: `shape` is the whole tensor, before it is split over a mesh; the config is that of each chip.

    Errors: `LayoutError`.
    """
    return parse(text).place(shape, device=device, dtype=dtype, tiled=tiled).to_memory_config()
