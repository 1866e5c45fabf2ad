"""The decode matmul whose activation goes round a ring of cores while each core computes its columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ttt_core import UnsupportedOnDevice
from ttt_hw.estimate import Work
from ttt_hw.layouts import DRAM, over_banks, placed, width_sharded
from ttt_hw.patterns._matmul_blocks import (
    PROGRAM_RESERVE,
    Pair,
    below_one,
    beyond_grid,
    beyond_registers,
    ceil_div,
    fused_activation,
    indivisible,
    kernel_of,
    largest_subblock,
    misplaced,
    partial_dtype,
    tile_cycles,
    unfused,
)
from ttt_hw.patterns.base import Pattern, kernel_config
from ttt_hw.records import Board
from ttt_hw.requests import MatmulRequest
from ttt_shard_dsl import TILE, tile_bytes

__all__ = ["RingMatmul"]

_RINGS: tuple[Pair, ...] = ((8, 8), (8, 4), (8, 3), (8, 2), (8, 1))
_SYNC_BYTES = 2 * 16  # two buffers by which neighbours signal


@dataclass(frozen=True, kw_only=True)
class RingMatmul(Pattern[MatmulRequest]):
    """Activation and result width-sharded in L1 on the same cores, which pass shards of the activation on.

    `weight`: pages of DRAM; `l1`, columns resident on the cores that compute them; or `prefetched`, columns over banks that
    a prefetcher pushes into the L1 of `receivers` cores a bank. `subblock` is its width; a core has one row of tiles.

    Source: MatmulMultiCoreReuseMultiCast1DProgramConfig of ttnn with gather_in0.
    """

    serves: ClassVar = (MatmulRequest,)

    grid: Pair
    subblock: int
    weight: Literal["interleaved", "l1", "prefetched"] = "interleaved"
    receivers: int = 1

    @classmethod
    def candidates(cls, request: MatmulRequest, board: Board) -> Iterator[RingMatmul]:
        """The largest rings that split both dims evenly; without a prefetcher, which is a choice for a whole model."""
        mt, kt, nt = request.tiles
        if mt > 1 or request.bias_dtype is not None:
            return
        for grid in _RINGS:
            cores = grid[0] * grid[1]
            if grid[1] > board.grid[1] or kt % cores or nt % cores:
                continue
            _, width = largest_subblock((1, nt // cores), kernel_of(request))
            resident = kt * nt // cores * tile_bytes(request.weight_dtype)
            if resident <= (board.l1_bytes_per_core - PROGRAM_RESERVE) // 2:
                yield cls(grid=grid, subblock=width, weight="l1")
            yield cls(grid=grid, subblock=width)

    @property
    def _ring(self) -> int:
        return self.grid[0] * self.grid[1]

    def accepts(self, request: MatmulRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        weights = {"interleaved": DRAM, "l1": width_sharded(self.grid), "prefetched": over_banks()}
        return ((width_sharded(self.grid),), (weights[self.weight],), (DRAM,))[: len(request.operands)]

    def results(self, request: MatmulRequest, board: Board) -> tuple[str, ...]:
        return (width_sharded(self.grid),)

    def problems(self, request: MatmulRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        counts: list[tuple[str, int | Pair]] = [
            ("grid", self.grid),
            ("subblock", self.subblock),
            ("receivers", self.receivers),
        ]
        wrong = [*below_one(counts), *beyond_grid(self.grid, board)]
        yield from wrong
        if wrong:
            return
        mt, kt, nt = request.tiles
        if mt > 1:
            yield f"{request.m} rows are more than the {TILE} of one tile"
        for what, count in (("inner", kt), ("column", nt)):
            if count % self._ring:
                yield (
                    f"a ring of {self._ring} cores does not split the {count} {what} tiles evenly; "
                    f"pad them to {ceil_div(count, self._ring) * self._ring}"
                )
        if nt % self._ring == 0:
            yield from indivisible(
                nt // self._ring, self.subblock, "subblock", f"the {nt // self._ring} columns a core"
            )
        yield from beyond_registers((1, self.subblock), kernel_of(request))
        yield from unfused(request.activation)
        if request.bias_dtype is not None:
            yield "a ring adds no bias; add it in an operation of its own"
        if self.weight == "prefetched" and self.receivers * board.dram_banks != self._ring:
            yield (
                f"{board.dram_banks} banks with {self.receivers} receivers each feed {board.dram_banks * self.receivers} "
                f"cores, not a ring of {self._ring}"
            )
        if self.weight != "prefetched" and self.receivers != 1:
            yield f"{self.receivers} receivers a bank are for a prefetched weight"
        yield from misplaced(reads, self.accepts(request, board), ("the activation", "the weight"))

    def circular_buffers(self, request: MatmulRequest, board: Board, reads: Sequence[str]) -> int:
        """The shards of all other cores, two steps of a weight in DRAM, partial sums; the rest lies in tensors, or in the
        prefetcher's buffer, which the program that makes it accounts for."""
        _, kt, nt = request.tiles
        shard, columns = kt // self._ring, nt // self._ring
        partial = partial_dtype(request.output_dtype, kernel_of(request), self._ring)
        weight = 2 * shard * columns * tile_bytes(request.weight_dtype) if self.weight == "interleaved" else 0
        sums = columns * tile_bytes(partial) if partial != request.output_dtype else 0
        return (self._ring - 1) * shard * tile_bytes(request.input_dtype) + weight + sums + _SYNC_BYTES

    def prefetch_buffer(self, request: MatmulRequest) -> int:
        """Bytes a core that a prefetcher needs at least: one step of the weight, and the next."""
        _, kt, nt = request.tiles
        return 2 * (kt // self._ring) * (nt // self._ring) * tile_bytes(request.weight_dtype)

    def cores(self, request: MatmulRequest, board: Board) -> int:
        return self._ring

    def work(self, request: MatmulRequest, board: Board, reads: Sequence[str]) -> Work:
        _, kt, nt = request.tiles
        columns = nt // self._ring
        weight = kt * nt * tile_bytes(request.weight_dtype)
        paged = self.weight == "interleaved"
        passed = kt * tile_bytes(request.input_dtype)
        return Work(
            matrix_cycles=columns * kt * tile_cycles(kernel_of(request), board),
            dram_streamed=weight if self.weight == "prefetched" else 0,
            dram_bytes=weight if paged else 0,
            dram_pages=kt * nt if paged else 0,
            noc_bytes=passed + (columns * kt * tile_bytes(request.weight_dtype) if paged else 0),
        )

    def to_ttnn(self, request: MatmulRequest, board: Board) -> dict[str, Any]:
        import ttnn

        _, kt, nt = request.tiles
        (text,) = self.results(request, board)
        return {
            "program_config": ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig(
                compute_with_storage_grid_size=self.grid,
                in0_block_w=kt // self._ring,
                out_subblock_h=1,
                out_subblock_w=self.subblock,
                per_core_M=1,
                per_core_N=nt // self._ring,
                fuse_batch=True,
                fused_activation=fused_activation(request.activation),
                mcast_in0=False,
                gather_in0=True,
                num_global_cb_receivers=self.receivers,
            ),
            "compute_kernel_config": kernel_config(kernel_of(request)),
            "memory_config": placed(text, request.results[request.name], board).to_memory_config(),
            "dtype": getattr(ttnn, request.output_dtype),
        }

    def issue(self, request: MatmulRequest, board: Board, tensors: Sequence[Any]) -> Any:
        """Errors: UnsupportedOnDevice for a prefetched weight, which needs a prefetcher that runs beside."""
        if self.weight == "prefetched":
            raise UnsupportedOnDevice(
                f"{request.name} reads a prefetched weight, but no prefetcher runs. Start one, and call ttnn.linear with what "
                "to_ttnn gives and its global_cb."
            )
        import ttnn

        return ttnn.linear(*tensors, **self.to_ttnn(request, board))
