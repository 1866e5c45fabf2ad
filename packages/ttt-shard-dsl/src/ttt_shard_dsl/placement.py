"""Where a tensor lies: what each chip holds, its shards, the cores that hold them, and their bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ttt_shard_dsl.dtypes import TILE
from ttt_shard_dsl.parser import parse
from ttt_shard_dsl.tree import CoreRange

if TYPE_CHECKING:
    from ttt_shard_dsl.geometry import Geometry

__all__ = ["Page", "Placement", "memory_config"]

Sharding = Literal["interleaved", "height", "width", "block", "nd"]

Page = tuple[tuple[int, int], int]
"""Where a page lies: its (x, y) core, or its (bank, 0); and the bytes before it there."""


class Placement(NamedTuple):
    """A layout resolved for one tensor on one device; equal placements are the same bytes in the same place.

    Shapes: `shape` is the whole tensor; `chip_shape` what one chip holds, with the padding of the text and before that
    of tiles; `padded_shape` what ttnn stores of it; `shard_shape` the rows and columns of a shard, or for "nd" its size
    along each dim, the leading dims that are missing taken as one; None if interleaved; `shard_grid` the shards along each.
    Units: bytes.
    """

    shape: tuple[int, ...]
    chip_shape: tuple[int, ...]
    padded_shape: tuple[int, ...]
    dtype: str
    tiled: bool
    memory: str
    sharding: Sharding
    shard_shape: tuple[int, ...] | None
    shard_grid: tuple[int, ...]
    ranges: tuple[CoreRange, ...]
    """The cores of the ShardSpec, or the banks as (bank, 0); more than hold a shard when the text says so."""
    col_major: bool
    mesh_dims: tuple[int | None, int | None]
    """The tensor's dim that is split over the rows of the mesh, and over its columns; None: replicated.

    The same dim twice: split over all chips, row after row unless `cols_major`."""
    pending: tuple[str, ...]
    """Mesh axes over which the tensor is still to be summed."""
    page_bytes: int
    """One page with its alignment."""
    bytes_per_core: int
    """L1 taken on each core that holds a part; 0 for a tensor in DRAM."""
    bytes_per_bank: int
    """DRAM taken in each bank that holds a part; 0 for a tensor in L1."""
    banks: int
    """Over how many banks an interleaved tensor is dealt, where each core of L1 is one; 0 for shards."""
    contiguous: bool = False
    """Whether a core has consecutive shards, rather than every n-th of n cores."""
    cols_major: bool = False
    """Whether a dim that is split over all chips goes down the columns of the mesh: chips can come to hold such parts."""

    @property
    def num_shards(self) -> int:
        """Shards on one chip; 0 for an interleaved tensor."""
        return prod(self.shard_grid)

    @property
    def cores(self) -> list[tuple[int, int]]:
        """The (x, y) core of each shard, or its (bank, 0), in the order of shards; empty for an interleaved tensor."""
        if self.sharding == "block":
            first = self.ranges[0]
            heights, widths = range(self.shard_grid[0]), range(self.shard_grid[1])
            if self.col_major:
                return [(first.x0 + i, first.y0 + j) for i in heights for j in widths]
            return [(first.x0 + j, first.y0 + i) for i in heights for j in widths]
        order = list(core_order(self.ranges, self.col_major))
        if self.contiguous:
            return [order[shard // self.shards_per_core] for shard in range(self.num_shards)]
        return [order[shard % len(order)] for shard in range(self.num_shards)]

    @property
    def shards_per_core(self) -> int:
        """For how many shards each core has space: 1 but for "nd"."""
        if self.sharding != "nd":
            return 1 if self.shard_shape else 0
        return -(-self.num_shards // sum(r.columns * r.rows for r in self.ranges))

    def pages(self) -> list[Page]:
        """Where each page lies, in ttnn's order of pages: those of a chip's part, row-major; a page is a tile or a row.

        The rows of a row-major tensor are cut at the width of its shards. The banks of an interleaved tensor in L1 are
        numbered (bank, 0) as those in DRAM are; which core is which bank differs between devices.
        """
        tile = (TILE, TILE) if self.tiled else (1, (self.shard_shape or self.padded_shape)[-1])
        if self.shard_shape is None:
            pages = prod(self.padded_shape) // (tile[0] * tile[1])
            return [((page % self.banks, 0), page // self.banks * self.page_bytes) for page in range(pages)]
        dims = len(self.shard_shape)
        first = max(0, len(self.padded_shape) - dims + 1)  # the dims before it are one; a vector has a row
        stored = (prod(self.padded_shape[:first]), *self.padded_shape[first:])
        page_shape = ((1,) * dims + tile)[-dims:]
        pages_of_shard = [size // page for size, page in zip(self.shard_shape, page_shape, strict=True)]
        at = [(0, 0)]  # the shard of a page, and the page within it
        for size, page, in_shard, shards in zip(stored, page_shape, pages_of_shard, self.shard_grid, strict=True):
            steps = [divmod(index, in_shard) for index in range(size // page)]
            at = [(shard * shards + s, local * in_shard + i) for shard, local in at for s, i in steps]
        cores, space = self.cores, prod(pages_of_shard)
        per_core, on = self.shards_per_core, sum(r.columns * r.rows for r in self.ranges)
        slots = [shard % per_core if self.contiguous else shard // on for shard in range(self.num_shards)]
        return [(cores[shard], (slots[shard] * space + local) * self.page_bytes) for shard, local in at]

    def whole_shape(self, mesh: tuple[int, int]) -> tuple[int, ...]:
        """What the chips of a mesh of that shape hold together: `shape` with the padding of the text."""
        whole = list(self.chip_shape)
        for dim, chips in zip(self.mesh_dims, mesh, strict=True):
            if dim is not None:
                whole[dim] *= chips
        return tuple(whole)

    def chip_slices(self, mesh: tuple[int, int]) -> list[tuple[slice, ...]]:
        """The part of the (padded) tensor that each chip of a mesh holds, as an index, chips in row-major order."""
        parts = []
        for chip in ((row, column) for row in range(mesh[0]) for column in range(mesh[1])):
            index = [slice(None)] * len(self.chip_shape)
            positions: dict[int | None, int] = {}
            axes = list(zip(self.mesh_dims, chip, mesh, strict=True))
            for dim, position, chips in reversed(axes) if self.cols_major else axes:
                positions[dim] = positions.get(dim, 0) * chips + position
            for dim, position in positions.items():
                if dim is not None:
                    size = self.chip_shape[dim]
                    index[dim] = slice(position * size, (position + 1) * size)
            parts.append(tuple(index))
        return parts

    def to_mesh_mapper(self, mesh: tuple[int, int]) -> Any:
        """The ttnn mesh mapper that splits a host tensor over a mesh of that shape as this placement says."""
        from ttt_shard_dsl.to_ttnn import to_mesh_mapper  # imports ttnn

        return to_mesh_mapper(self, mesh)

    def to_mesh_composer(self, mesh_device: Any) -> Any:
        """The ttnn mesh composer for an open mesh, which puts what its chips hold together again."""
        from ttt_shard_dsl.to_ttnn import to_mesh_composer  # imports ttnn

        return to_mesh_composer(self, mesh_device)

    def to_memory_config(self) -> Any:
        """The `ttnn.MemoryConfig` of this placement on each chip; with a legacy ShardSpec unless only an NdShardSpec is it."""
        from ttt_shard_dsl.to_ttnn import to_memory_config  # imports ttnn

        return to_memory_config(self)

    def __repr__(self) -> str:
        whole = "×".join(map(str, self.shape))
        chip = "" if self.chip_shape == self.shape else f" as {'×'.join(map(str, self.chip_shape))} a chip"
        form = "tiles" if self.tiled else "rows"
        size = f"{self.bytes_per_core:,} B a core" if self.memory == "l1" else f"{self.bytes_per_bank:,} B a bank"
        where = f"interleaved in {self.memory}"
        if self.shard_shape is not None:
            order = ":col" if self.col_major and self.sharding != "block" else ""
            ranges = ",".join(map(str, self.ranges)) + order + (":contiguous" if self.contiguous else "")
            shard = "×".join(map(str, self.shard_shape))
            where = f"{self.num_shards} {self.sharding} shards of {shard} in {self.memory} on {ranges}"
        return f"<Placement {whole} {self.dtype} {form}{chip}: {where}, {size}>"


def core_order(ranges: Sequence[CoreRange], col_major: bool) -> Iterator[tuple[int, int]]:
    """The cores of ranges in the order in which shards are dealt to them."""
    for x0, y0, x1, y1 in ranges:
        columns, rows = range(x0, x1 + 1), range(y0, y1 + 1)
        yield from ((x, y) for x in columns for y in rows) if col_major else ((x, y) for y in rows for x in columns)


def memory_config(
    text: str, *, shape: Sequence[int], device: Geometry, dtype: str | None = None, tiled: bool = True
) -> Any:
    """The `ttnn.MemoryConfig` of a layout for a tensor on a device: `parse`, `place`, `to_memory_config`.

    Shapes: `shape` is the whole tensor, before it is split over a mesh; the config is that of each chip.

    Errors: `LayoutError`.
    """
    return parse(text).place(shape, device=device, dtype=dtype, tiled=tiled).to_memory_config()
