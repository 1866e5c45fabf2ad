"""The routing weights of a mixture of experts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ttt_hw.estimate import Work
from ttt_hw.layouts import interleaved
from ttt_hw.patterns.base import Pattern
from ttt_hw.records import Board
from ttt_hw.requests import RouterRequest
from ttt_shard_dsl import TILE, tile_bytes

__all__ = ["Router"]

TOPK_WIDTH = 64  # columns to which ttnn.topk pads at least
PROGRAMS = 11  # of the four calls, with the padding and the changes of layout within them


@dataclass(frozen=True, kw_only=True)
class Router(Pattern[RouterRequest]):
    """scatter(0 · scores, indices, softmax(values)) with values, indices = topk(scores): exact also where scores are equal.

    Everything lies interleaved in `memory`. Source: ttnn.topk, softmax, zeros_like, scatter.
    """

    serves: ClassVar = (RouterRequest,)

    memory: Literal["dram", "l1"] = "dram"

    @classmethod
    def candidates(cls, request: RouterRequest, board: Board) -> Iterator[Router]:
        yield cls(memory="l1")
        yield cls()

    def accepts(self, request: RouterRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        return ((interleaved(request.operands[0], self.memory),),)

    def results(self, request: RouterRequest, board: Board) -> tuple[str, ...]:
        return (interleaved(request.operands[0], self.memory),)

    def problems(self, request: RouterRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        most = min(request.experts, TILE)
        if not 1 <= request.active <= most:
            yield f"{request.active} active experts must be at least 1 and at most {most} of {request.experts}"
        if request.experts > TOPK_WIDTH:
            yield f"{request.experts} experts must be at most {TOPK_WIDTH}: beyond, topk runs another program"

    def circular_buffers(self, request: RouterRequest, board: Board, reads: Sequence[str]) -> int:
        """Of topk, which takes most: two tiles of scores and two of indices, each twice as they come, transposed, and sorted."""
        return 18 * tile_bytes("bfloat16")

    def cores(self, request: RouterRequest, board: Board) -> int:
        return min(board.grid[0] * board.grid[1], -(-request.rows // TILE))

    def work(self, request: RouterRequest, board: Board, reads: Sequence[str]) -> Work:
        rows, tile = -(-request.rows // TILE), tile_bytes("bfloat16")
        width = TOPK_WIDTH // TILE
        a_core = -(-rows // self.cores(request, board))
        moved = PROGRAMS * 2 * rows * width * tile
        in_dram = self.memory == "dram"
        return Work(
            vector_bytes=PROGRAMS * a_core * width * tile * 4,
            dram_bytes=moved if in_dram else 0,
            dram_pages=PROGRAMS * 2 * rows * width if in_dram else 0,
            noc_bytes=PROGRAMS * 2 * a_core * width * tile,
            programs=PROGRAMS,
        )

    def to_ttnn(self, request: RouterRequest, board: Board) -> dict[str, Any]:
        import ttnn

        return {"memory_config": ttnn.L1_MEMORY_CONFIG if self.memory == "l1" else ttnn.DRAM_MEMORY_CONFIG}

    def issue(self, request: RouterRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        (scores,) = tensors
        memory = self.to_ttnn(request, board)
        values, indices = ttnn.topk(scores, request.active, dim=-1, largest=True, sorted=True, **memory)
        weights = ttnn.softmax(values, dim=-1, numeric_stable=True, **memory)
        return ttnn.scatter(ttnn.zeros_like(scores, **memory), -1, indices, weights, **memory)
