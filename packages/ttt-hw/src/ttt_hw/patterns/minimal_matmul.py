"""The matmul for prompts that hides memory traffic best: blocks pass from core to core, and results are written late."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ttt_hw.estimate import Work
from ttt_hw.layouts import DRAM, L1, over_banks, placed
from ttt_hw.patterns._matmul_blocks import (
    MAX_INNER,
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
    tile_cycles,
    tiles,
    unfused,
)
from ttt_hw.patterns.base import Pattern, kernel_config
from ttt_hw.records import Board
from ttt_hw.requests import MatmulRequest
from ttt_shard_dsl import tile_bytes

__all__ = ["MinimalMatmul"]

_BLOCKS: tuple[tuple[Pair, int], ...] = (
    ((8, 8), MAX_INNER),
    ((4, 8), MAX_INNER),
    ((8, 4), MAX_INNER),
    ((4, 4), MAX_INNER),
)


@dataclass(frozen=True, kw_only=True)
class MinimalMatmul(Pattern[MatmulRequest]):
    """Rows over the grid's rows and columns over its columns, or the other way round where there are more rows than columns.

    `block` output tiles (rows, columns) at a time, `inner` tiles of the inner dim a step; neither has to divide anything: what
    is missing is zero. Weight and bias may lie in pages or over banks, for the kernel asks where each tile is.

    Source: ttnn.experimental.minimal_matmul. On Blackhole its users report a race with the rows of several prompts in one
    matmul (tt-metal pull request 47356); one prompt is fine.
    """

    serves: ClassVar = (MatmulRequest,)

    grid: Pair
    block: Pair
    inner: int
    subblock: Pair
    weight: Literal["interleaved", "banks"] = "interleaved"
    output: Literal["dram", "l1"] = "dram"

    @classmethod
    def candidates(cls, request: MatmulRequest, board: Board) -> Iterator[MinimalMatmul]:
        """Blocks of 8 x 8 and less, no larger than a core's share; none for one tile of rows."""
        mt, kt, _ = request.tiles
        if mt == 1:
            return
        kernel = kernel_of(request)
        m, n = share(request, board.grid)
        seen = set()
        for (height, width), inner in _BLOCKS:
            block, depth = (min(height, m), min(width, n)), min(inner, kt)
            if (block, depth) in seen or _buffers(request, block, depth) > board.l1_bytes_per_core - PROGRAM_RESERVE:
                continue
            seen.add((block, depth))
            for weight in ("interleaved", "banks"):
                yield cls(
                    grid=board.grid, block=block, inner=depth, subblock=largest_subblock(block, kernel), weight=weight
                )

    def accepts(self, request: MatmulRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        stored = (over_banks(),) if self.weight == "banks" else (DRAM,)
        return ((DRAM, L1), stored, (DRAM, over_banks()))[: len(request.operands)]

    def results(self, request: MatmulRequest, board: Board) -> tuple[str, ...]:
        return (DRAM if self.output == "dram" else L1,)

    def problems(self, request: MatmulRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        counts = [(name, getattr(self, name)) for name in ("grid", "block", "inner", "subblock")]
        wrong = [*below_one(counts), *beyond_grid(self.grid, board)]
        yield from wrong
        if wrong:
            return
        if min(self.grid) < 2:
            yield f"grid {self.grid[0]}x{self.grid[1]} is below the least, 2x2"
        yield from indivisible(self.block[0], self.subblock[0], "subblock height", f"the block's {self.block[0]}")
        yield from indivisible(self.block[1], self.subblock[1], "subblock width", f"the block's {self.block[1]}")
        yield from beyond_registers(self.subblock, kernel_of(request))
        yield from unfused(request.activation)
        if request.bias_dtype == "float32":
            yield "a bias of float32 is none of bfloat16, bfloat8_b, bfloat4_b"
        yield from misplaced(reads, self.accepts(request, board), ("the activation", "the weight", "the bias"))

    def circular_buffers(self, request: MatmulRequest, board: Board, reads: Sequence[str]) -> int:
        return _buffers(request, self.block, self.inner)

    def cores(self, request: MatmulRequest, board: Board) -> int:
        mt, _, nt = request.tiles
        m, n = share(request, self.grid)
        return ceil_div(mt, m) * ceil_div(nt, n)

    def work(self, request: MatmulRequest, board: Board, reads: Sequence[str]) -> Work:
        mt, kt, nt = request.tiles
        m, n = share(request, self.grid)
        depth = ceil_div(kt, self.inner) * self.inner
        row_blocks, column_blocks = ceil_div(m, self.block[0]), ceil_div(n, self.block[1])
        in0, in1 = tile_bytes(request.input_dtype), tile_bytes(request.weight_dtype)
        rows, columns = (column_blocks * mt * kt if reads[0] == DRAM else 0), row_blocks * kt * nt
        made = tiles(request.results[request.name]) if self.output == "dram" else 0
        return Work(
            matrix_cycles=m * n * depth * tile_cycles(kernel_of(request), board),
            dram_bytes=rows * in0 + columns * in1 + made * tile_bytes(request.output_dtype),
            dram_pages=rows + columns + made,
            noc_bytes=kt * (column_blocks * m * in0 + row_blocks * n * in1),  # from core to core
        )

    def to_ttnn(self, request: MatmulRequest, board: Board) -> dict[str, Any]:
        import ttnn

        (text,) = self.results(request, board)
        return {
            "fused_activation": fused_activation(request.activation),
            "config": ttnn.MinimalMatmulConfig(
                M_block_size=self.block[0],
                K_block_size=self.inner,
                N_block_size=self.block[1],
                subblock_h=self.subblock[0],
                subblock_w=self.subblock[1],
                compute_with_storage_grid_size=ttnn.CoreCoord(*self.grid),
            ),
            "memory_config": placed(text, request.results[request.name], board).to_memory_config(),
            "dtype": getattr(ttnn, request.output_dtype),
            "compute_kernel_config": kernel_config(kernel_of(request)),
        }

    def issue(self, request: MatmulRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        x, weight, *bias = tensors
        return ttnn.experimental.minimal_matmul(
            x, weight, bias_tensor=bias[0] if bias else None, **self.to_ttnn(request, board)
        )


def share(request: MatmulRequest, grid: Pair) -> Pair:
    """Rows and columns of tiles of a core: ttnn exchanges the grid's axes where a matmul has more rows than columns."""
    mt, _, nt = request.tiles
    rows, columns = grid if mt > nt else (grid[1], grid[0])
    return ceil_div(mt, rows), ceil_div(nt, columns)


def _buffers(request: MatmulRequest, block: Pair, inner: int) -> int:
    """Operands and output twice, sums of the width of the registers once, a row of bias."""
    area = block[0] * block[1]
    sums = "float32" if kernel_of(request).fp32_accumulate else "bfloat16"
    return (
        2 * inner * (block[0] * tile_bytes(request.input_dtype) + block[1] * tile_bytes(request.weight_dtype))
        + area * (2 * tile_bytes(request.output_dtype) + tile_bytes(sums))
        + (block[1] * tile_bytes(request.bias_dtype) if request.bias_dtype else 0)
    )
