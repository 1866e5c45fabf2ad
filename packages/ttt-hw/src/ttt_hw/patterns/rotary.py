"""Heads turned by their positions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ttt_hw.estimate import Work
from ttt_hw.layouts import interleaved, placed, row_of_cores, user_sharded
from ttt_hw.patterns._traffic import pages, spread, tile_rows, traffic
from ttt_hw.patterns.base import Pattern
from ttt_hw.records import Board
from ttt_hw.requests import OpRequest, RotaryRequest
from ttt_shard_dsl import TILE, tile_bytes

__all__ = ["RotaryEmbedding"]


@dataclass(frozen=True, kw_only=True)
class RotaryEmbedding(Pattern[RotaryRequest]):
    """x · cos + rotate_half(x) · sin. In prefill all tensors are interleaved, the result in `memory`; in decode the heads and the
    table rows of a user lie on one core, where ttnn's split of heads puts them, and `memory` is l1."""

    serves: ClassVar[tuple[type[OpRequest], ...]] = (RotaryRequest,)
    memory: Literal["dram", "l1"] = "dram"

    @classmethod
    def candidates(cls, request: RotaryRequest, board: Board) -> Iterator[RotaryEmbedding]:
        yield cls(memory="l1")
        if request.mode == "prefill":
            yield cls(memory="dram")

    def accepts(self, request: RotaryRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        if request.mode == "decode":
            return ((user_sharded(row_of_cores(request.rows, board.grid)),),) * 3
        own, other = ("l1", "dram") if self.memory == "l1" else ("dram", "l1")
        x = (interleaved(request.operands[0], own), interleaved(request.operands[0], other))
        return (x, x, x)

    def results(self, request: RotaryRequest, board: Board) -> tuple[str, ...]:
        return (self.accepts(request, board)[0][0],)

    def problems(self, request: RotaryRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        if request.head_dim != TILE and request.head_dim % (2 * TILE):
            yield (
                f"head_dim {request.head_dim} has no middle between tiles; pad it to "
                f"{-(-request.head_dim // (2 * TILE)) * 2 * TILE}"
            )
        cores = board.grid[0] * board.grid[1]
        if request.mode == "decode" and request.rows > cores:
            yield f"{request.rows} users need a core each, of which a chip has {cores}"
            return
        if request.mode == "decode" and self.memory != "l1":
            yield f"in decode heads lie in L1, a user a core, not in {self.memory}"
        if request.mode == "prefill" and request.rows % TILE:
            yield f"{request.rows} rows are no whole tiles; pad them to {-(-request.rows // TILE) * TILE}"
        names = ("x", "cos", "sin")
        for name, text, layouts in zip(names, reads, self.accepts(request, board), strict=True):
            if text not in layouts:
                yield f"{name} lies in {text!r}; it must lie in {' or '.join(map(repr, layouts))}"
        if len(set(reads[1:])) > 1:
            yield f"cos and sin lie in {reads[1]!r} and {reads[2]!r}; they must lie alike"

    def circular_buffers(self, request: RotaryRequest, board: Board, reads: Sequence[str]) -> int:
        """A number, and per head row of tiles: in decode three intermediates, everything else is used where it lies; in prefill
        two of x, its halves exchanged, cos, sin and the result, and three intermediate tiles."""
        tile, row = tile_bytes("bfloat16"), request.head_dim // TILE
        if request.mode == "decode":
            return tile * (1 + 3 * row)
        return tile * (4 + 5 * 2 * row)

    def cores(self, request: RotaryRequest, board: Board) -> int:
        return request.rows if request.mode == "decode" else spread(tile_rows(request.operands[0].shape), board)

    def work(self, request: RotaryRequest, board: Board, reads: Sequence[str]) -> Work:
        cores = self.cores(request, board)
        x, cos, sin = request.operands
        work = traffic([(reads[0], x)], [(self.results(request, board)[0], x)], cores, passes=4)
        if request.mode == "decode":
            return work
        tables = traffic([(reads[1], cos), (reads[2], sin)], [], cores)
        again = -(-pages(x)[0] // pages(cos)[0])  # heads: each reads the tables anew
        return Work(
            vector_bytes=work.vector_bytes,
            dram_bytes=work.dram_bytes + again * tables.dram_bytes,
            dram_pages=work.dram_pages + again * tables.dram_pages,
            noc_bytes=work.noc_bytes + again * tables.noc_bytes,
        )

    def to_ttnn(self, request: RotaryRequest, board: Board) -> dict[str, Any]:
        (text,) = self.results(request, board)
        return {
            "is_decode_mode": request.mode == "decode",
            "memory_config": placed(text, request.operands[0], board).to_memory_config(),
        }

    def issue(self, request: RotaryRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        return ttnn.experimental.rotary_embedding_hf(*tensors, **self.to_ttnn(request, board))
