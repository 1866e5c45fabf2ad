"""Tensors joined along a dim: the pieces of a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ttt_hw.estimate import Work
from ttt_hw.layouts import interleaved, placed
from ttt_hw.patterns._traffic import pages, spread, traffic
from ttt_hw.patterns.base import Pattern
from ttt_hw.records import Board
from ttt_hw.requests import ConcatRequest, OpRequest
from ttt_shard_dsl import TILE, tile_bytes

__all__ = ["Concat"]

MOST_PIECES = 47  # that one program joins; of more, ttnn joins the joined
ELEMENT_BYTES = {"bfloat16": 2, "bfloat8_b": 1, "float32": 4}  # as ttnn counts them for a row


@dataclass(frozen=True, kw_only=True)
class Concat(Pattern[ConcatRequest]):
    """Whole tiles copied, dealt over the cores tile by tile of the result, which lies interleaved in `memory`.

    Source: ttnn.concat.
    """

    serves: ClassVar[tuple[type[OpRequest], ...]] = (ConcatRequest,)
    memory: Literal["dram", "l1"] = "dram"

    @classmethod
    def candidates(cls, request: ConcatRequest, board: Board) -> Iterator[Concat]:
        yield cls(memory="l1")
        yield cls(memory="dram")

    def accepts(self, request: ConcatRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        own, other = ("l1", "dram") if self.memory == "l1" else ("dram", "l1")
        return tuple((interleaved(type_, own), interleaved(type_, other)) for type_ in request.operands)

    def results(self, request: ConcatRequest, board: Board) -> tuple[str, ...]:
        return (interleaved(request.results[request.name], self.memory),)

    def problems(self, request: ConcatRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        for index, (text, layouts) in enumerate(zip(reads, self.accepts(request, board), strict=True)):
            if text not in layouts:
                yield f"piece {index} lies in {text!r}; it must lie in {' or '.join(map(repr, layouts))}"
        if not 2 <= len(request.shapes) <= MOST_PIECES:
            yield f"{len(request.shapes)} pieces are joined; it must be 2 to {MOST_PIECES}, else join in steps or not at all"
        if request.dtype not in ELEMENT_BYTES:
            yield f"{request.dtype} values are not joined; {', '.join(ELEMENT_BYTES)} are"
        rank = len(request.shapes[0])
        if not 0 <= request.dim < rank:
            yield f"dim {request.dim} is none of the {rank} dims of the pieces; name one of 0 to {rank - 1}"
            return
        for index, shape in enumerate(request.shapes):
            if _others(shape, request.dim) != _others(request.shapes[0], request.dim):
                yield f"piece {index} is {shape}; but for dim {request.dim} it must be as piece 0, {request.shapes[0]}"
            elif request.dim >= rank - 2:
                yield from _whole(request, index, "in dram" in reads[index], board)

    def circular_buffers(self, request: ConcatRequest, board: Board, reads: Sequence[str]) -> int:
        """Two tiles, which go out as they came in."""
        return 2 * tile_bytes(request.dtype)

    def cores(self, request: ConcatRequest, board: Board) -> int:
        return spread(pages(request.results[request.name])[0], board)

    def work(self, request: ConcatRequest, board: Board, reads: Sequence[str]) -> Work:
        writes = [(self.results(request, board)[0], request.results[request.name])]
        work = traffic(zip(reads, request.operands, strict=True), writes, self.cores(request, board))
        return replace(work, vector_bytes=0)  # no engine takes them

    def to_ttnn(self, request: ConcatRequest, board: Board) -> dict[str, Any]:
        (text,) = self.results(request, board)
        memory = placed(text, request.results[request.name], board).to_memory_config()
        return {"dim": request.dim, "memory_config": memory}

    def issue(self, request: ConcatRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        return ttnn.concat(list(tensors), **self.to_ttnn(request, board))


def _others(shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
    return *shape[:dim], *shape[dim + 1 :]


def _whole(request: ConcatRequest, index: int, in_dram: bool, board: Board) -> Iterator[str]:
    """A piece that ttnn would turn into rows, or transpose, and back."""
    size = request.shapes[index][request.dim]
    if size % TILE:
        yield f"dim {request.dim} of piece {index} is {size}, no whole tiles; pad it to {-(-size // TILE) * TILE}"
    elif request.dim == len(request.shapes[index]) - 1 and in_dram:
        unit = board.dram_alignment // ELEMENT_BYTES.get(request.dtype, 1)
        if size % unit:
            yield f"piece {index} in DRAM has {size} {request.dtype} columns, no multiple of {unit}; let it lie in L1"
