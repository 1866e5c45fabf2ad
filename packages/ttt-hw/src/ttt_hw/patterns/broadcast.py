"""Two tensors combined element by element, the second repeated: routing weights over columns, a mask over heads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ttt_hw.estimate import Work
from ttt_hw.layouts import interleaved, placed
from ttt_hw.patterns._traffic import pages, spread, traffic
from ttt_hw.patterns.base import Pattern
from ttt_hw.records import Board
from ttt_hw.requests import BroadcastRequest, OpRequest, TensorType
from ttt_shard_dsl import tile_bytes

__all__ = ["Broadcast"]

DTYPES = ("bfloat16", "bfloat8_b")


@dataclass(frozen=True, kw_only=True)
class Broadcast(Pattern[BroadcastRequest]):
    """a op b, dealt over all cores tile by tile of the result, which lies interleaved in `memory`.

    Source: ttnn.add, ttnn.mul.
    """

    serves: ClassVar[tuple[type[OpRequest], ...]] = (BroadcastRequest,)
    memory: Literal["dram", "l1"] = "dram"

    @classmethod
    def candidates(cls, request: BroadcastRequest, board: Board) -> Iterator[Broadcast]:
        yield cls(memory="l1")
        yield cls(memory="dram")

    def accepts(self, request: BroadcastRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        own, other = ("l1", "dram") if self.memory == "l1" else ("dram", "l1")
        return tuple((interleaved(type_, own), interleaved(type_, other)) for type_ in request.operands)

    def results(self, request: BroadcastRequest, board: Board) -> tuple[str, ...]:
        return (interleaved(request.operands[0], self.memory),)

    def problems(self, request: BroadcastRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        for name, text, layouts in zip(("a", "b"), reads, self.accepts(request, board), strict=True):
            if text not in layouts:
                yield f"{name} lies in {text!r}; it must lie in {' or '.join(map(repr, layouts))}"
        for dim, (size, repeated) in enumerate(zip(request.shape, request.b_shape, strict=True)):
            if repeated not in (size, 1):
                yield f"dim {dim} of b is {repeated}; it must be that of a, {size}, or 1, which is repeated"
        if request.dtype not in DTYPES:
            yield f"{request.dtype} values are not combined; {' and '.join(DTYPES)} are"

    def circular_buffers(self, request: BroadcastRequest, board: Board, reads: Sequence[str]) -> int:
        """Two tiles of a, of b and of the result, and two of b repeated if that is within a matrix: a repeated matrix is read
        again. Units: bytes on the fullest core."""
        within = request.b_shape[2:] != request.shape[2:]
        return 4 * tile_bytes(request.dtype) + (4 if within else 2) * tile_bytes("bfloat16")

    def cores(self, request: BroadcastRequest, board: Board) -> int:
        return spread(pages(request.operands[0])[0], board)

    def work(self, request: BroadcastRequest, board: Board, reads: Sequence[str]) -> Work:
        a, b = request.operands
        cores = self.cores(request, board)
        tiles, tile = pages(a)
        work = traffic([(reads[0], a), (reads[1], _as_read(request))], [(self.results(request, board)[0], a)], cores)
        return replace(work, vector_bytes=tiles * (tile + tile_bytes(b.dtype)) / cores)  # both for each tile made

    def to_ttnn(self, request: BroadcastRequest, board: Board) -> dict[str, Any]:
        import ttnn

        (text,) = self.results(request, board)
        return {
            "memory_config": placed(text, request.operands[0], board).to_memory_config(),
            "dtype": getattr(ttnn, request.dtype),
        }

    def issue(self, request: BroadcastRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        op = {"add": ttnn.add, "mul": ttnn.mul}[request.op]
        return op(tensors[0], tensors[1], **self.to_ttnn(request, board))


def _as_read(request: BroadcastRequest) -> TensorType:
    """A tensor with as many tiles as are read of b: a column once for each row of tiles, a number once for each matrix, all
    else anew for each tile of the result."""
    shape, (rows, columns) = request.shape, request.b_shape[2:]
    if columns != shape[3]:
        shape = (*shape[:2], shape[2] if rows == shape[2] else 1, 1)
    return replace(request.operands[1], shape=shape)
