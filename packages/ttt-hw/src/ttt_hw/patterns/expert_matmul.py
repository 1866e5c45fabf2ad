"""The matmuls of a mixture's experts, one after the other on all cores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from ttt_hw.compute import ComputeKernel, matmul_kernel
from ttt_hw.estimate import Work
from ttt_hw.layouts import DRAM, L1
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
from ttt_hw.requests import ExpertMatmulRequest
from ttt_shard_dsl import TILE, tile_bytes

__all__ = ["ExpertMatmul"]

SKIPPED_ROWS = 4 * TILE  # up to which experts may be left out: beyond, rows choose them all
WAYS = 3  # of blocks for each depth of a step
CHOOSING_BYTES = 10240, 12288  # of the programs that find the chosen experts: of whole tiles, of broken ones


@dataclass(frozen=True, kw_only=True)
class ExpertMatmul(Pattern[ExpertMatmulRequest]):
    """x @ w of each expert: cores split the columns, and x is multicast; or they split the rows, and w is multicast.

    `per_core` output tiles (rows, columns) in blocks of `block`, `inner` tiles of the inner dim a step, `subblock` in the
    registers. `skip`: an expert whose routing weights are all zero is neither read nor computed, and its result is zero;
    otherwise all are computed. An x that all experts share is then read once, by cores that split its rows.
    Source: ttnn.sparse_matmul and ttnn.matmul, MatmulMultiCoreReuseMultiCast1DProgramConfig.
    """

    serves: ClassVar = (ExpertMatmulRequest,)

    grid: Pair
    per_core: Pair
    inner: int
    block: Pair
    subblock: Pair
    skip: bool

    @classmethod
    def candidates(cls, request: ExpertMatmulRequest, board: Board) -> Iterator[ExpertMatmul]:
        """On most cores; the experts that no row chose left out where rows are few; blocks from the highest that fit."""
        mt, kt, nt = _tiles(request)
        limit = board.l1_bytes_per_core - PROGRAM_RESERVE
        cores = board.grid[0] * board.grid[1]
        ways: list[tuple[Pair, Pair, Pair, bool]] = []
        if request.m <= SKIPPED_ROWS:
            grid, columns = _full_rectangle(nt, board)
            ways.append((grid, (mt, columns), (mt, columns), True))
        if request.shared_input:
            rows = ceil_div(mt, ceil_div(mt, ceil_div(mt, cores)))
            ways += [(board.grid, (rows, nt), (rows, width), False) for width in reversed(divisors(nt))]
        else:
            columns = ceil_div(nt, cores)
            ways += [(board.grid, (mt, columns), (height, columns), False) for height in reversed(divisors(mt))]
        kernel = _kernel(request)
        for inner in inner_widths(kt):
            found = 0
            for grid, per_core, block, skip in ways:
                subblock = largest_subblock(block, kernel)
                one = cls(grid=grid, per_core=per_core, inner=inner, block=block, subblock=subblock, skip=skip)
                if one.circular_buffers(request, board, ()) <= limit:
                    yield one
                    found += 1
                    if found == WAYS:
                        break

    def accepts(self, request: ExpertMatmulRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        return (L1, DRAM) if request.m <= TILE else (DRAM, L1), (DRAM,), (DRAM, L1)

    def results(self, request: ExpertMatmulRequest, board: Board) -> tuple[str, ...]:
        return (DRAM,)

    def problems(self, request: ExpertMatmulRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        numbers = [(name, getattr(self, name)) for name in ("grid", "per_core", "inner", "block", "subblock")]
        wrong = [*below_one(numbers), *beyond_grid(self.grid, board)]
        yield from wrong
        if wrong:
            return
        mt, kt, nt = _tiles(request)
        cores = self.grid[0] * self.grid[1]
        rows, columns = self.per_core
        if self._splits_rows(request):
            if cores * rows < mt or columns != nt:
                yield f"{cores} x {rows} rows of {columns} tiles are not all {mt} of {nt}; take {ceil_div(mt, cores)} of {nt}"
        elif rows != mt or cores * columns < nt:
            yield f"{cores} x {columns} columns of {rows} tiles are not all {nt} of {mt}; take {ceil_div(nt, cores)} of {mt}"
        yield from indivisible(kt, self.inner, "inner", f"the {kt} inner tiles")
        yield from indivisible(rows, self.block[0], "block height", f"the {rows} rows a core")
        yield from indivisible(columns, self.block[1], "block width", f"the {columns} columns a core")
        yield from indivisible(self.block[0], self.subblock[0], "subblock height", f"the block's {self.block[0]}")
        yield from indivisible(self.block[1], self.subblock[1], "subblock width", f"the block's {self.block[1]}")
        yield from beyond_registers(self.subblock, _kernel(request))
        yield from misplaced(reads, self.accepts(request, board), ("x", "the weight", "the routing weights"))
        if self.skip and self.block != self.per_core:
            yield "where experts are skipped, a core's {} x {} tiles are one block".format(*self.per_core)
        used = self.cores(request, board)
        if self.skip and used > self.grid[0] and used % self.grid[0]:
            yield f"where experts are skipped, the {used} cores at work must be whole rows of {self.grid[0]}"
        if self.skip and request.m > SKIPPED_ROWS:
            yield f"experts are skipped for at most {SKIPPED_ROWS} rows, not {request.m}"
        if request.k % TILE or request.n % TILE:
            yield f"k={request.k} and n={request.n} must be whole tiles of {TILE}"

    def circular_buffers(self, request: ExpertMatmulRequest, board: Board, reads: Sequence[str]) -> int:
        """Blocks of both operands twice, since experts follow one another, or all of a core's rows of a shared x; the output's
        block, and its partial sums unless they have its dtype; to skip, the chosen experts for the sender and for all."""
        height, width = self.block
        area, kt = height * width, _tiles(request)[1]
        partial = partial_dtype(request.output_dtype, _kernel(request), kt // self.inner)
        x_tiles = kt if self._splits_rows(request) else 2 * self.inner
        size = height * x_tiles * tile_bytes(request.input_dtype)
        size += width * 2 * self.inner * tile_bytes(request.weight_dtype)
        size += area * tile_bytes(request.output_dtype)
        if partial != request.output_dtype:
            size += area * tile_bytes(partial)
        if not self.skip:
            return size
        chosen = ceil_div(2 * request.experts, board.dram_alignment) * board.dram_alignment
        broken = request.m % TILE != 0 and request.experts % TILE != 0
        return max(size + 2 * chosen, CHOOSING_BYTES[broken])

    def cores(self, request: ExpertMatmulRequest, board: Board) -> int:
        mt, _, nt = _tiles(request)
        return ceil_div(mt, self.per_core[0]) * ceil_div(nt, self.per_core[1])

    def _splits_rows(self, request: ExpertMatmulRequest) -> bool:
        return request.shared_input and not self.skip

    def work(self, request: ExpertMatmulRequest, board: Board, reads: Sequence[str]) -> Work:
        mt, kt, nt = _tiles(request)
        experts = float(request.experts)
        if self.skip:  # those that at least one row chooses, if rows choose evenly
            experts *= 1 - (1 - request.active / request.experts) ** request.m
        (m, n), by_rows = self.per_core, self._splits_rows(request)
        row_blocks, column_blocks = m // self.block[0], n // self.block[1]
        in0, in1 = tile_bytes(request.input_dtype), tile_bytes(request.weight_dtype)
        rows_in, columns_in = column_blocks * experts * m * kt * in0, row_blocks * experts * n * kt * in1
        weight, made = row_blocks * experts * kt * nt, request.experts * mt * nt
        written = made * (2 if self.skip else 1)  # zeros first
        x = column_blocks * experts * mt * kt
        return Work(
            matrix_cycles=experts * m * n * kt * tile_cycles(_kernel(request), board),
            dram_bytes=weight * in1
            + written * tile_bytes(request.output_dtype)
            + (x * in0 if " in dram" in reads[0] else 0),
            dram_pages=int(weight + written + (x if " in dram" in reads[0] else 0)),
            noc_bytes=rows_in if by_rows else columns_in,
            multicast_bytes=columns_in if by_rows else rows_in,
            programs=5 if self.skip else 1,
        )

    def to_ttnn(self, request: ExpertMatmulRequest, board: Board) -> dict[str, Any]:
        import ttnn

        program = ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig(
            compute_with_storage_grid_size=self.grid,
            in0_block_w=self.inner,
            out_subblock_h=self.subblock[0],
            out_subblock_w=self.subblock[1],
            out_block_h=self.block[0],
            out_block_w=self.block[1],
            per_core_M=self.per_core[0],
            per_core_N=self.per_core[1],
            fuse_batch=False,
            fused_activation=None,
            mcast_in0=not self._splits_rows(request),
        )
        return {
            "program_config": program,
            "compute_kernel_config": kernel_config(_kernel(request)),
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "dtype": getattr(ttnn, request.output_dtype),
        }

    def issue(self, request: ExpertMatmulRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        x, weight, routing = tensors
        kwargs = self.to_ttnn(request, board)
        if not self.skip:
            return ttnn.matmul(x, weight, **kwargs)
        chosen = ttnn.max(routing, dim=2, keepdim=True, memory_config=ttnn.DRAM_MEMORY_CONFIG)
        y = ttnn.sparse_matmul(
            x,
            weight,
            sparsity=ttnn.to_layout(chosen, ttnn.ROW_MAJOR_LAYOUT),
            is_input_a_sparse=not request.shared_input,
            is_input_b_sparse=True,
            **kwargs,
        )
        return ttnn.reshape(y, (1, request.experts, x.shape[-2], request.n))  # a prompt may end within its last tile


@lru_cache(maxsize=1024)
def _full_rectangle(nt: int, board: Board) -> tuple[Pair, int]:
    """The fewest columns of tiles a core with which the cores at work fill a rectangle, and that rectangle."""
    x, y = board.grid
    for columns in range(ceil_div(nt, x * y), nt):
        used = ceil_div(nt, columns)
        for width in range(min(x, used), 0, -1):
            if used % width == 0 and used // width <= y:
                return (width, used // width), columns
    return (1, 1), nt


def _tiles(request: ExpertMatmulRequest) -> tuple[int, int, int]:
    return ceil_div(request.m, TILE), ceil_div(request.k, TILE), ceil_div(request.n, TILE)


def _kernel(request: ExpertMatmulRequest) -> ComputeKernel:
    return request.kernel or matmul_kernel(request.weight_dtype)
