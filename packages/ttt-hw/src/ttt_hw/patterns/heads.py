"""Columns cut into heads, and heads joined into columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ttt_hw.estimate import Work
from ttt_hw.layouts import interleaved, placed, row_of_cores, user_sharded, width_sharded
from ttt_hw.patterns._rectangles import even_rectangles, grid_problems
from ttt_hw.patterns._traffic import spread, tile_rows, traffic
from ttt_hw.patterns.base import Pattern
from ttt_hw.records import Board
from ttt_hw.requests import HeadConcatRequest, HeadSplitRequest, OpRequest
from ttt_shard_dsl import TILE, tile_bytes

__all__ = ["HeadConcat", "HeadSplit"]

MAX_USERS = 32  # of ttnn's split in decode


@dataclass(frozen=True, kw_only=True)
class HeadSplit(Pattern[HeadSplitRequest]):
    """qkv → q, k, v. In prefill interleaved, the results in `memory`; in decode each user's heads on a core of their own, the
    first cores of the grid row by row, and `memory` is l1. With `grid` decode reads qkv width-sharded on that rectangle."""

    serves: ClassVar[tuple[type[OpRequest], ...]] = (HeadSplitRequest,)
    memory: Literal["dram", "l1"] = "dram"
    grid: tuple[int, int] | None = None

    @classmethod
    def candidates(cls, request: HeadSplitRequest, board: Board) -> Iterator[HeadSplit]:
        yield cls(memory="l1")
        if request.mode == "prefill":
            yield cls(memory="dram")
            return
        width = request.operands[0].shape[-1]
        for grid in even_rectangles(width, board):
            if width // (grid[0] * grid[1]) % request.head_dim == 0:
                yield cls(memory="l1", grid=grid)

    def accepts(self, request: HeadSplitRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        if self.grid is not None:
            return ((width_sharded(self.grid),),)
        (qkv,) = request.operands
        own, other = ("l1", "dram") if self.memory == "l1" else ("dram", "l1")
        return ((interleaved(qkv, own), interleaved(qkv, other)),)

    def results(self, request: HeadSplitRequest, board: Board) -> tuple[str, ...]:
        if request.mode == "decode":
            return (user_sharded(row_of_cores(request.rows, board.grid)),) * 3
        return tuple(interleaved(type_, self.memory) for type_ in request.results.values())

    def problems(self, request: HeadSplitRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        if request.head_dim % TILE:
            yield (
                f"head_dim {request.head_dim} is no multiple of {TILE}, and the kernel copies whole tiles; pad it to "
                f"{-(-request.head_dim // TILE) * TILE}"
            )
            return
        if request.mode == "prefill":
            if request.rows % TILE:
                yield f"{request.rows} rows are no whole tiles; pad them to {-(-request.rows // TILE) * TILE}"
            if self.grid is not None:
                yield "in prefill qkv is read interleaved; leave the grid out"
                return
        elif request.rows > MAX_USERS:
            yield f"{request.rows} users are split at once; ttnn takes at most {MAX_USERS}"
        elif self.memory != "l1":
            yield f"in decode heads lie in L1, a user a core, not in {self.memory}"
        if self.grid is not None:
            width = request.operands[0].shape[-1]
            found = list(grid_problems(self.grid, width, board))
            yield from found
            if not found and width // (self.grid[0] * self.grid[1]) % request.head_dim:
                yield (
                    f"{self.grid[0] * self.grid[1]} cores hold {width // (self.grid[0] * self.grid[1])} columns each; it must "
                    f"be whole heads of {request.head_dim}"
                )
        (layouts,) = self.accepts(request, board)
        if reads[0] not in layouts:
            yield f"qkv lies in {reads[0]!r}; it must lie in {' or '.join(map(repr, layouts))}"

    def circular_buffers(self, request: HeadSplitRequest, board: Board, reads: Sequence[str]) -> int:
        """Prefill: two heads of a row of tiles. Decode writes where the results lie; on chips whose DRAM is aligned more coarsely
        than half of a tile's line is long, two kernels read through an aligned piece for each tile of a head and one more."""
        if request.mode == "prefill":
            return 2 * request.head_dim // TILE * tile_bytes("bfloat16")
        half_line = TILE  # bytes: 16 values of bfloat16
        if " in dram" not in reads[0] or board.dram_alignment <= half_line:
            return 0
        return 2 * (request.head_dim // TILE + 1) * board.dram_alignment

    def cores(self, request: HeadSplitRequest, board: Board) -> int:
        return request.rows if request.mode == "decode" else spread(tile_rows(request.operands[0].shape), board)

    def work(self, request: HeadSplitRequest, board: Board, reads: Sequence[str]) -> Work:
        results = zip(self.results(request, board), request.results.values(), strict=True)
        cores = self.cores(request, board)
        work = traffic([(reads[0], request.operands[0])], results, cores)
        if request.mode == "prefill":
            return Work(dram_bytes=work.dram_bytes, dram_pages=work.dram_pages, noc_bytes=work.noc_bytes)
        half_lines = cores * request.operands[0].shape[-1] // 16  # a user's row is read as halves of a tile's line
        row = request.operands[0].shape[-1] * 2
        if " in dram" in reads[0]:
            return Work(dram_bytes=row * cores, dram_pages=half_lines)
        return Work(noc_bytes=row)

    def to_ttnn(self, request: HeadSplitRequest, board: Board) -> dict[str, Any]:
        return self._to_decode(request) if request.mode == "decode" else self._to_prefill(request, board)

    def _to_decode(self, request: HeadSplitRequest) -> dict[str, Any]:
        import ttnn

        return {
            "num_heads": request.num_heads,
            "num_kv_heads": request.num_kv_heads,
            "memory_config": ttnn.L1_HEIGHT_SHARDED_MEMORY_CONFIG,
        }

    def _to_prefill(self, request: HeadSplitRequest, board: Board) -> dict[str, Any]:
        text, type_ = self.results(request, board)[0], request.results[f"{request.name}.q"]
        return {
            "num_heads": request.num_heads,
            "num_kv_heads": request.num_kv_heads,
            "transpose_k_heads": False,
            "memory_config": placed(text, type_, board).to_memory_config(),
        }

    def issue(self, request: HeadSplitRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        if request.mode == "decode":
            return ttnn.experimental.nlp_create_qkv_heads_decode(tensors[0], **self._to_decode(request))
        return ttnn.experimental.nlp_create_qkv_heads(tensors[0], **self._to_prefill(request, board))


@dataclass(frozen=True, kw_only=True)
class HeadConcat(Pattern[HeadConcatRequest]):
    """[1, H, rows, hd] → [1, 1, rows, H·hd], a row of tiles at a time; the result interleaved in `memory`."""

    serves: ClassVar[tuple[type[OpRequest], ...]] = (HeadConcatRequest,)
    memory: Literal["dram", "l1"] = "dram"

    @classmethod
    def candidates(cls, request: HeadConcatRequest, board: Board) -> Iterator[HeadConcat]:
        yield cls(memory="l1")
        yield cls(memory="dram")

    def accepts(self, request: HeadConcatRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        own, other = ("l1", "dram") if self.memory == "l1" else ("dram", "l1")
        (x,) = request.operands
        return ((interleaved(x, own), interleaved(x, other)),)

    def results(self, request: HeadConcatRequest, board: Board) -> tuple[str, ...]:
        return (interleaved(request.operands[0], self.memory),)

    def problems(self, request: HeadConcatRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        if request.head_dim % TILE:
            yield (
                f"head_dim {request.head_dim} is no multiple of {TILE}, and the kernel copies whole tiles; pad it to "
                f"{-(-request.head_dim // TILE) * TILE}"
            )
        (layouts,) = self.accepts(request, board)
        if reads[0] not in layouts:
            yield f"heads lie in {reads[0]!r}; they must lie in {' or '.join(map(repr, layouts))}"

    def circular_buffers(self, request: HeadConcatRequest, board: Board, reads: Sequence[str]) -> int:
        """Two rows of tiles of all heads."""
        return 2 * request.num_heads * request.head_dim // TILE * tile_bytes("bfloat16")

    def cores(self, request: HeadConcatRequest, board: Board) -> int:
        return spread(tile_rows(request.operands[0].shape), board)

    def work(self, request: HeadConcatRequest, board: Board, reads: Sequence[str]) -> Work:
        x = request.operands[0]
        work = traffic([(reads[0], x)], [(self.results(request, board)[0], x)], self.cores(request, board))
        return Work(dram_bytes=work.dram_bytes, dram_pages=work.dram_pages, noc_bytes=work.noc_bytes)

    def to_ttnn(self, request: HeadConcatRequest, board: Board) -> dict[str, Any]:
        (text,) = self.results(request, board)
        return {"memory_config": placed(text, request.results[request.name], board).to_memory_config()}

    def issue(self, request: HeadConcatRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        return ttnn.experimental.nlp_concat_heads(tensors[0], **self.to_ttnn(request, board))
