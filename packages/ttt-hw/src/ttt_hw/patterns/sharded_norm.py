"""RMS and layer norms of width-sharded tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ttt_hw.estimate import Work
from ttt_hw.layouts import interleaved, placed, width_sharded
from ttt_hw.patterns._rectangles import even_rectangles, grid_problems
from ttt_hw.patterns._traffic import pages, tile_rows
from ttt_hw.patterns.base import Pattern, kernel_config
from ttt_hw.patterns.norm import KERNEL, operands_by_name
from ttt_hw.records import Board
from ttt_hw.requests import NormRequest, OpRequest
from ttt_shard_dsl import TILE, tile_bytes

__all__ = ["ShardedNorm"]

MAX_ROWS = 8  # tiles; more rows than that are a prompt, which does not stay in L1


@dataclass(frozen=True, kw_only=True)
class ShardedNorm(Pattern[NormRequest]):
    """Each core of a rectangle has some columns of all rows; partial sums are gathered, first along the rows of the rectangle
    and then along its columns, and the results are multicast. The result lies as x does.

    `subblock` tiles are in the destination registers at a time.
    """

    serves: ClassVar[tuple[type[OpRequest], ...]] = (NormRequest,)
    grid: tuple[int, int]
    subblock: int = 1

    @classmethod
    def candidates(cls, request: NormRequest, board: Board) -> Iterator[ShardedNorm]:
        if request.chips > 1 or tile_rows(request.shape) > MAX_ROWS or request.shape[-1] % TILE:
            return
        for grid in even_rectangles(request.shape[-1], board):
            block = request.shape[-1] // TILE // (grid[0] * grid[1])
            yield cls(grid=grid, subblock=max(w for w in range(1, KERNEL.dst_tiles + 1) if block % w == 0))

    def accepts(self, request: NormRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        _, *vectors = request.operands
        return ((width_sharded(self.grid),), *((interleaved(vector),) for vector in vectors))

    def results(self, request: NormRequest, board: Board) -> tuple[str, ...]:
        return (width_sharded(self.grid),)

    def problems(self, request: NormRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        if request.chips > 1:
            yield f"the statistics of {request.chips} chips are not gathered; use DistributedNorm"
        if request.bias and not request.weight:
            yield "there is a bias but no weight; give a weight of ones"
        refused = False
        for problem in grid_problems(self.grid, request.shape[-1], board):
            refused = True
            yield problem
        if refused:
            return
        block = self._block(request)
        if block % self.subblock or not 1 <= self.subblock <= KERNEL.dst_tiles:
            widest = max(w for w in range(1, KERNEL.dst_tiles + 1) if block % w == 0)
            yield (
                f"subblock {self.subblock} must divide the {block} tiles of a core and be at most {KERNEL.dst_tiles}, "
                f"which the destination registers hold; the widest is {widest}"
            )
        for index, (text, layouts) in enumerate(zip(reads, self.accepts(request, board), strict=True)):
            if text not in layouts:
                yield f"input {index} lies in {text!r}; it must lie in {' or '.join(map(repr, layouts))}"

    def _block(self, request: NormRequest) -> int:
        return request.shape[-1] // TILE // (self.grid[0] * self.grid[1])

    def circular_buffers(self, request: NormRequest, board: Board, reads: Sequence[str]) -> int:
        """x and the result are used where they lie. Float32 are x and its squares, the partial sums of a core's rows, and
        those that it gathers: of a row of cores and then of a column, or of all cores in a line."""
        x, y = self.grid
        rows, block = tile_rows(request.shape), self._block(request)
        gathered = x + y - 1 if x > 1 and y > 1 else x * y
        gatherers = x if x > 1 and y > 1 else x * y
        fp32, bf16 = tile_bytes("float32"), tile_bytes("bfloat16")
        sums = 2 * rows + gathered
        total = 2 * bf16 + fp32  # scaler, epsilon, scaler of the second sum
        total += fp32 * (sums + -(-rows // gatherers) + rows)  # squares, the root, what is multicast
        if request.kind == "layer":
            total += fp32 * sums  # means
        total += (request.weight + request.bias) * block * bf16
        return total + 2 * fp32 * rows * block

    def cores(self, request: NormRequest, board: Board) -> int:
        return self.grid[0] * self.grid[1]

    def work(self, request: NormRequest, board: Board, reads: Sequence[str]) -> Work:
        count, bytes_ = pages(request.operands[0])
        cores, rows = self.cores(request, board), tile_rows(request.shape)
        x, y = self.grid
        passes = 3 + 2 * (request.kind == "layer") + request.weight + request.bias
        vectors = (request.weight + request.bias) * request.shape[-1] // TILE
        sums = (1 + (request.kind == "layer")) * rows * tile_bytes("float32")
        return Work(
            vector_bytes=passes * count * bytes_ / cores,
            dram_bytes=vectors * tile_bytes("bfloat16"),
            dram_pages=vectors,
            noc_bytes=sums * (x + y),
            multicast_bytes=sums,
        )

    def to_ttnn(self, request: NormRequest, board: Board) -> dict[str, Any]:
        import ttnn

        (text,) = self.results(request, board)
        return {
            "epsilon": request.epsilon,
            "memory_config": placed(text, request.operands[0], board).to_memory_config(),
            "program_config": ttnn.LayerNormShardedMultiCoreProgramConfig(
                compute_with_storage_grid_size=self.grid,
                subblock_w=self.subblock,
                block_h=tile_rows(request.shape),
                block_w=self._block(request),
                inplace=False,
            ),
            "compute_kernel_config": kernel_config(KERNEL),
        }

    def issue(self, request: NormRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        op = ttnn.rms_norm if request.kind == "rms" else ttnn.layer_norm
        return op(tensors[0], **operands_by_name(request, tensors), **self.to_ttnn(request, board))
