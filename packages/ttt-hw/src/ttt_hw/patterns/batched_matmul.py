"""Matmuls of two activations, head by head: scores q·kᵀ and probabilities·v of attention that is not fused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ttt_hw.estimate import Work
from ttt_hw.layouts import DRAM, L1, placed
from ttt_hw.patterns._bcast_search import Sizes, block_sizes, two_d
from ttt_hw.patterns._matmul_blocks import (
    PROGRAM_RESERVE,
    Pair,
    below_one,
    beyond_grid,
    beyond_registers,
    ceil_div,
    divisors,
    indivisible,
    inner_widths,
    largest_subblock,
    misplaced,
    partial_dtype,
    tile_cycles,
)
from ttt_hw.patterns.base import Pattern, kernel_config
from ttt_hw.records import Board
from ttt_hw.requests import BatchedMatmulRequest
from ttt_shard_dsl import TILE, tile_bytes

__all__ = ["BatchedMatmul"]


@dataclass(frozen=True, kw_only=True)
class BatchedMatmul(Pattern[BatchedMatmulRequest]):
    """All tensors interleaved.

    `heads`: a core takes `per_core` rows of tiles of one head, all its columns, and then the next share of rows of any head.
    `2d`: all cores share one head after the other, rows over the grid's rows, columns over its columns, both operands multicast.

    Fields as of BcastMatmul. Source: MatmulMultiCoreReuseProgramConfig, MatmulMultiCoreReuseMultiCastProgramConfig of ttnn.
    """

    serves: ClassVar = (BatchedMatmulRequest,)

    kind: Literal["heads", "2d"]
    grid: Pair
    per_core: Pair
    inner: int
    block: Pair
    subblock: Pair
    output: Literal["dram", "l1"] = "dram"

    @classmethod
    def candidates(cls, request: BatchedMatmulRequest, board: Board) -> Iterator[BatchedMatmul]:
        """Heads over cores where a head's columns fit a core; else, and besides, one head over all cores."""
        mt, kt, nt = tiles_of(request)
        room = board.l1_bytes_per_core - PROGRAM_RESERVE
        for rows in sorted(divisors(mt), key=lambda rows: _turns(request, rows, board)):
            for inner in inner_widths(kt):
                config = cls(
                    kind="heads",
                    grid=board.grid,
                    per_core=(rows, nt),
                    inner=inner,
                    block=(rows, nt),
                    subblock=largest_subblock((rows, nt), request.kernel),
                )
                if config.circular_buffers(request, board, (DRAM, DRAM)) <= room:
                    yield config
                    break
        partial = partial_dtype(request.output_dtype, request.kernel, 2)
        sizes = Sizes(
            activation=tile_bytes(request.a_dtype),
            weight=tile_bytes(request.b_dtype),
            bias=0,
            output=tile_bytes(request.output_dtype),
            partial=tile_bytes(partial) if partial != request.output_dtype else 0,
        )
        split = two_d(mt, nt, *board.grid)
        for inner, block in block_sizes(kt, split.per_core, kt, False, sizes, room, True):
            yield cls(
                kind="2d",
                grid=split.grid,
                per_core=split.per_core,
                inner=inner,
                block=block,
                subblock=largest_subblock(block, request.kernel),
            )

    def accepts(self, request: BatchedMatmulRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        return (DRAM, L1), (DRAM, L1)

    def results(self, request: BatchedMatmulRequest, board: Board) -> tuple[str, ...]:
        return (DRAM if self.output == "dram" else L1,)

    def problems(self, request: BatchedMatmulRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        counts = [(name, getattr(self, name)) for name in ("grid", "per_core", "inner", "block", "subblock")]
        wrong = [*below_one(counts), *beyond_grid(self.grid, board)]
        yield from wrong
        if wrong:
            return
        mt, kt, nt = tiles_of(request)
        m, n = self.per_core
        if self.kind == "heads":
            yield from indivisible(mt, m, "rows a core", f"the {mt} row tiles of a head")
            if n != nt:
                yield f"a core computes all {nt} columns of tiles of a head, not {n}"
            if self.block != self.per_core:
                yield f"a core's {m} x {n} tiles are one block, not blocks of {self.block[0]} x {self.block[1]}"
        else:
            x, y = self.grid
            if y * m < mt or x * n < nt:
                yield (
                    f"{y} x {m} rows and {x} x {n} columns of tiles cover less than {mt} x {nt}; "
                    f"{ceil_div(mt, y)} x {ceil_div(nt, x)} a core would do"
                )
            tight = ceil_div(mt, ceil_div(mt, m))
            if m != tight:
                yield f"{m} rows of tiles a core are more than the {mt} of a head need; {tight} do on as many cores"
            yield from indivisible(m, self.block[0], "block height", f"the {m} rows a core")
            yield from indivisible(n, self.block[1], "block width", f"the {n} columns a core")
        yield from indivisible(kt, self.inner, "inner", f"the {kt} inner tiles")
        yield from indivisible(self.block[0], self.subblock[0], "subblock height", f"the block's {self.block[0]}")
        yield from indivisible(self.block[1], self.subblock[1], "subblock width", f"the block's {self.block[1]}")
        yield from beyond_registers(self.subblock, request.kernel)
        if request.k % TILE:
            yield f"the inner dim {request.k} is no multiple of {TILE}, and padding may hold anything"
        yield from misplaced(reads, self.accepts(request, board), ("a", "b"))

    def circular_buffers(self, request: BatchedMatmulRequest, board: Board, reads: Sequence[str]) -> int:
        """Two steps of each operand (one if a core has but one step to do in all), the output's block, partial sums."""
        _, kt, _ = tiles_of(request)
        steps = kt // self.inner
        once = self.kind == "2d" and steps * request.batch * request.heads == 1
        area = self.block[0] * self.block[1]
        partial = partial_dtype(request.output_dtype, request.kernel, steps)
        return (
            (1 if once else 2)
            * self.inner
            * (self.block[0] * tile_bytes(request.a_dtype) + self.block[1] * tile_bytes(request.b_dtype))
            + area * tile_bytes(request.output_dtype)
            + (area * tile_bytes(partial) if partial != request.output_dtype else 0)
        )

    def cores(self, request: BatchedMatmulRequest, board: Board) -> int:
        mt, _, nt = tiles_of(request)
        m, n = self.per_core
        if self.kind == "2d":
            return ceil_div(mt, m) * ceil_div(nt, n)
        return min(self.grid[0] * self.grid[1], request.batch * request.heads * ceil_div(mt, m))

    def work(self, request: BatchedMatmulRequest, board: Board, reads: Sequence[str]) -> Work:
        mt, kt, nt = tiles_of(request)
        (m, n), heads = self.per_core, request.batch * request.heads
        in_a, in_b = tile_bytes(request.a_dtype), tile_bytes(request.b_dtype)
        out_tiles = heads * mt * nt if self.output == "dram" else 0
        if self.kind == "heads":
            shares = heads * ceil_div(mt, m)
            turns = ceil_div(shares, self.grid[0] * self.grid[1])
            a_tiles, b_tiles = heads * mt * kt, shares * kt * nt
            entered = turns * kt * (m * in_a + n * in_b)
        else:
            turns = heads
            a_tiles, b_tiles = heads * n // self.block[1] * mt * kt, heads * m // self.block[0] * kt * nt
            entered = heads * kt * (n // self.block[1] * m * in_a + m // self.block[0] * n * in_b)
        alone = self.kind == "heads"
        return Work(
            matrix_cycles=turns * m * n * kt * tile_cycles(request.kernel, board),
            dram_bytes=(a_tiles if reads[0] == DRAM else 0) * in_a
            + (b_tiles if reads[1] == DRAM else 0) * in_b
            + out_tiles * tile_bytes(request.output_dtype),
            dram_pages=(a_tiles if reads[0] == DRAM else 0) + (b_tiles if reads[1] == DRAM else 0) + out_tiles,
            noc_bytes=entered if alone else 0,
            multicast_bytes=0 if alone else entered,
        )

    def to_ttnn(self, request: BatchedMatmulRequest, board: Board) -> dict[str, Any]:
        import ttnn

        common: dict[str, Any] = {
            "compute_with_storage_grid_size": self.grid,
            "in0_block_w": self.inner,
            "out_subblock_h": self.subblock[0],
            "out_subblock_w": self.subblock[1],
            "per_core_M": self.per_core[0],
            "per_core_N": self.per_core[1],
        }
        program = (
            ttnn.MatmulMultiCoreReuseProgramConfig(**common)
            if self.kind == "heads"
            else ttnn.MatmulMultiCoreReuseMultiCastProgramConfig(
                **common,
                out_block_h=self.block[0],
                out_block_w=self.block[1],
                transpose_mcast=False,
                fused_activation=None,
                fuse_batch=False,
            )
        )
        (text,) = self.results(request, board)
        return {
            "transpose_b": request.transpose_b,
            "program_config": program,
            "compute_kernel_config": kernel_config(request.kernel),
            "memory_config": placed(text, request.results[request.name], board).to_memory_config(),
            "dtype": getattr(ttnn, request.output_dtype),
        }

    def issue(self, request: BatchedMatmulRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        return ttnn.matmul(*tensors, **self.to_ttnn(request, board))


def tiles_of(request: BatchedMatmulRequest) -> tuple[int, int, int]:
    """Of one head: rows, inner dim, columns."""
    return ceil_div(request.m, TILE), ceil_div(request.k, TILE), ceil_div(request.n, TILE)


def _turns(request: BatchedMatmulRequest, rows: int, board: Board) -> tuple[int, int]:
    """Rows of tiles that the busiest core computes with so many a share, then how often the columns are reread."""
    mt, _, _ = tiles_of(request)
    shares = request.batch * request.heads * mt // rows
    return ceil_div(shares, board.grid[0] * board.grid[1]) * rows, shares
