"""The sum over experts, or over any dim before the last two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ttt_hw.compute import ComputeKernel
from ttt_hw.estimate import Work
from ttt_hw.layouts import interleaved, placed
from ttt_hw.patterns._traffic import pages, spread, traffic
from ttt_hw.patterns.base import Pattern, kernel_config
from ttt_hw.records import Board
from ttt_hw.requests import OpRequest, ReduceRequest
from ttt_shard_dsl import TILE, tile_bytes

__all__ = ["Reduce"]

KERNEL = ComputeKernel(fidelity="hifi4")  # sums in float32, which takes no more memory
DTYPES = ("bfloat16", "bfloat8_b", "float32")
MOST_AT_ONCE = 8  # tiles of the summed dim that are read in one go


@dataclass(frozen=True, kw_only=True)
class Reduce(Pattern[ReduceRequest]):
    """y = Σ x along dim 0 or 1, dealt over the cores tile by tile of y, which lies interleaved in `memory`.

    ttnn.sum runs the same program, but where rows are no whole tiles it fills the padding of x before and cuts that of y after;
    here the padding of y is what the padding of x sums to. Source: ttnn.experimental.fast_reduce_nc.
    """

    serves: ClassVar[tuple[type[OpRequest], ...]] = (ReduceRequest,)
    memory: Literal["dram", "l1"] = "dram"

    @classmethod
    def candidates(cls, request: ReduceRequest, board: Board) -> Iterator[Reduce]:
        yield cls(memory="l1")
        yield cls(memory="dram")

    def accepts(self, request: ReduceRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        own, other = ("l1", "dram") if self.memory == "l1" else ("dram", "l1")
        (x,) = request.operands
        return ((interleaved(x, own), interleaved(x, other)),)

    def results(self, request: ReduceRequest, board: Board) -> tuple[str, ...]:
        return (interleaved(request.results[request.name], self.memory),)

    def problems(self, request: ReduceRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        (layouts,) = self.accepts(request, board)
        if reads[0] not in layouts:
            yield f"x lies in {reads[0]!r}; it must lie in {' or '.join(map(repr, layouts))}"
        if request.dim not in (0, 1):
            yield f"dim {request.dim} is summed; only dims 0 and 1 are, whose tiles are added whole"
        if request.dtype not in DTYPES:
            yield f"{request.dtype} values are not summed; {', '.join(DTYPES)} are"

    def circular_buffers(self, request: ReduceRequest, board: Board, reads: Sequence[str]) -> int:
        """Twice the tiles that are read in one go, the largest divisor of the summed dim up to 8; a tile of zeros; two of y."""
        count = request.shape[request.dim]
        at_once = max(size for size in range(1, MOST_AT_ONCE + 1) if count % size == 0)
        return (2 * at_once + 2) * tile_bytes(request.dtype) + tile_bytes("bfloat16")

    def cores(self, request: ReduceRequest, board: Board) -> int:
        return spread(pages(request.results[request.name])[0], board)

    def work(self, request: ReduceRequest, board: Board, reads: Sequence[str]) -> Work:
        (x,), y = request.operands, request.results[request.name]
        (text,) = self.results(request, board)
        return traffic([(reads[0], x)], [(text, y)], self.cores(request, board), passes=2)  # each with the zeros

    def to_ttnn(self, request: ReduceRequest, board: Board) -> dict[str, Any]:
        (text,) = self.results(request, board)
        return {
            "dims": [request.dim],
            "memory_config": placed(text, request.results[request.name], board).to_memory_config(),
            "compute_kernel_config": kernel_config(KERNEL),
        }

    def issue(self, request: ReduceRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        y = ttnn.experimental.fast_reduce_nc(tensors[0], **self.to_ttnn(request, board))
        shape = [1 if dim == request.dim else size for dim, size in enumerate(tensors[0].shape)]
        padded = [*shape[:2], *(-(-size // TILE) * TILE for size in shape[2:])]
        if padded == shape:
            return y
        return ttnn.reshape(y, ttnn.Shape(shape), ttnn.Shape(padded))  # a view: ttnn counts the padding as values
