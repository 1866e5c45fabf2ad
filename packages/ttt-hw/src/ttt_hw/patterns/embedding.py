"""Rows of a table by their indices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ttt_hw.estimate import Work
from ttt_hw.layouts import interleaved, placed
from ttt_hw.patterns._tilize import tilize_buffers
from ttt_hw.patterns._traffic import pages, spread
from ttt_hw.patterns.base import Pattern
from ttt_hw.records import Board
from ttt_hw.requests import EmbeddingRequest, OpRequest
from ttt_shard_dsl import TILE, tile_bytes

__all__ = ["Embedding"]

DOUBLE_BUFFERED = 64  # tiles of a row up to which ttnn has two of them at a time; also of the pieces of a very long one


@dataclass(frozen=True, kw_only=True)
class Embedding(Pattern[EmbeddingRequest]):
    """Whole tiles of rows are turned into tiles as they are read; fewer rows than a tile, or rows that are no whole tiles long,
    are read first and padded by a second program. The result interleaved in `memory`."""

    serves: ClassVar[tuple[type[OpRequest], ...]] = (EmbeddingRequest,)
    memory: Literal["dram", "l1"] = "dram"

    @classmethod
    def candidates(cls, request: EmbeddingRequest, board: Board) -> Iterator[Embedding]:
        yield cls(memory="l1")
        yield cls(memory="dram")

    def accepts(self, request: EmbeddingRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        return tuple((interleaved(type_),) for type_ in request.operands)

    def results(self, request: EmbeddingRequest, board: Board) -> tuple[str, ...]:
        return (interleaved(request.results[request.name], self.memory),)

    def problems(self, request: EmbeddingRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        if request.rows > TILE and request.rows % TILE:
            yield (
                f"{request.rows} indices are neither fewer than a tile nor whole tiles; pad them to "
                f"{-(-request.rows // TILE) * TILE}"
            )
        for name, text, (layout,) in zip(("ids", "table"), reads, self.accepts(request, board), strict=True):
            if text != layout:
                yield f"{name} lie in {text!r}; they must lie in {layout!r}"

    def circular_buffers(self, request: EmbeddingRequest, board: Board, reads: Sequence[str]) -> int:
        """A row of tiles before and one after it is turned into tiles, each twice if it is short; of a row that L1 cannot hold
        like that, equal pieces."""
        width = -(-request.dim // TILE)
        if _broken(request):
            return max(tilize_buffers(width, board), 2 * request.dim)
        both = 2 * tile_bytes("bfloat16")
        if width > DOUBLE_BUFFERED and width * both <= board.l1_bytes_per_core:  # of all L1, free or not
            return width * both
        return 2 * both * max(piece for piece in range(1, DOUBLE_BUFFERED + 1) if width % piece == 0)

    def cores(self, request: EmbeddingRequest, board: Board) -> int:
        return spread(request.rows if _broken(request) else request.rows // TILE, board)

    def work(self, request: EmbeddingRequest, board: Board, reads: Sequence[str]) -> Work:
        count, bytes_ = pages(request.results[request.name])
        cores = self.cores(request, board)
        rows = request.rows * request.dim * 2
        in_dram = self.memory == "dram"
        padded = _broken(request)
        return Work(
            vector_bytes=count * bytes_ / cores,
            dram_bytes=rows + (count * bytes_ + (2 * rows if padded else 0) if in_dram else 0),
            dram_pages=request.rows + (count + (2 * request.rows if padded else 0) if in_dram else 0),
            noc_bytes=0 if in_dram else count * bytes_ / cores,
            programs=2 if padded else 1,
        )

    def to_ttnn(self, request: EmbeddingRequest, board: Board) -> dict[str, Any]:
        import ttnn

        (text,) = self.results(request, board)
        type_ = request.results[request.name]
        return {"layout": ttnn.TILE_LAYOUT, "memory_config": placed(text, type_, board).to_memory_config()}

    def issue(self, request: EmbeddingRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        ids, table = tensors
        return ttnn.unsqueeze_to_4D(ttnn.embedding(ids, table, **self.to_ttnn(request, board)))


def _broken(request: EmbeddingRequest) -> bool:
    """Whether the rows that are read are no whole tiles."""
    return request.rows % TILE > 0 or request.dim % TILE > 0
