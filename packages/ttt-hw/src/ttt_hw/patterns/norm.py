"""RMS and layer norms of interleaved tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ttt_hw.compute import ComputeKernel
from ttt_hw.estimate import Work
from ttt_hw.layouts import interleaved, placed
from ttt_hw.patterns._traffic import spread, tile_rows, traffic
from ttt_hw.patterns.base import Pattern, kernel_config
from ttt_hw.records import Board
from ttt_hw.requests import NormRequest, OpRequest
from ttt_shard_dsl import TILE, tile_bytes

__all__ = ["InterleavedNorm"]

KERNEL = ComputeKernel(fidelity="hifi4")
BLOCK = 4  # tiles that the destination registers hold with float32 accumulation
FULL = 0.95  # of the L1 that is free: what ttnn lets the buffers of whole rows take, or else it streams
STREAMED_WEIGHTED, STREAMED_PLAIN = 28, 56  # tiles of a row that are in L1 at a time, at most, when it streams


def operands_by_name(request: NormRequest, tensors: Sequence[Any]) -> dict[str, Any]:
    """What follows x, by the names of ttnn's arguments."""
    names = ["weight"] * request.weight + ["bias"] * request.bias
    return dict(zip(names, tensors[1:], strict=True))


@dataclass(frozen=True, kw_only=True)
class InterleavedNorm(Pattern[NormRequest]):
    """A row of tiles at a time on each core; the result interleaved in `memory`.

    rms: x / √(mean(x²) + ε) · w; layer: (x − mean(x)) / √(var(x) + ε) · w + b.
    """

    serves: ClassVar[tuple[type[OpRequest], ...]] = (NormRequest,)
    adapts: ClassVar[bool] = True
    memory: Literal["dram", "l1"] = "dram"

    @classmethod
    def candidates(cls, request: NormRequest, board: Board) -> Iterator[InterleavedNorm]:
        if request.chips == 1:
            yield cls(memory="l1")
            yield cls(memory="dram")

    def accepts(self, request: NormRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        own, other = ("l1", "dram") if self.memory == "l1" else ("dram", "l1")
        x, *vectors = request.operands
        return ((interleaved(x, own), interleaved(x, other)), *((interleaved(vector),) for vector in vectors))

    def results(self, request: NormRequest, board: Board) -> tuple[str, ...]:
        return (interleaved(request.operands[0], self.memory),)

    def problems(self, request: NormRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        if request.chips > 1:
            yield f"the statistics of {request.chips} chips are not gathered; use DistributedNorm"
        if request.bias and not request.weight:
            yield "there is a bias but no weight; give a weight of ones"
        for index, (text, layouts) in enumerate(zip(reads, self.accepts(request, board), strict=True)):
            if text not in layouts:
                yield f"input {index} lies in {text!r}; it must lie in {' or '.join(map(repr, layouts))}"

    def circular_buffers(self, request: NormRequest, board: Board, reads: Sequence[str]) -> int:
        """Of whole rows where they fit, else of as much of a row as fits, at most 28 tiles with weights and 56 without.

        What fits is ttnn's judgement of the L1 that is free when it runs. Counted as taken are x and the result.
        """
        return self.buffers_beside(request, board, reads, 0)

    def buffers_beside(self, request: NormRequest, board: Board, reads: Sequence[str], others: int) -> int:
        taken = others + sum(
            placed(text, request.operands[0], board).bytes_per_core
            for text in (reads[0], *self.results(request, board))
            if " in l1" in text
        )
        room = FULL * (board.l1_bytes_per_core - taken)
        whole = self._buffers(request, None)
        if whole < room:
            return whole
        most = STREAMED_WEIGHTED if request.weight or request.bias else STREAMED_PLAIN
        pieces = (self._buffers(request, row) for row in range(most, 0, -BLOCK))
        return next((bytes_ for bytes_ in pieces if bytes_ < room), self._buffers(request, BLOCK))

    def _buffers(self, request: NormRequest, streamed: int | None) -> int:
        """Units: bytes. x, x² or (x − mean)², x − mean, weight and bias have a row each, in blocks of 4 tiles, or so many tiles
        of one as are streamed at a time."""
        affine = request.weight or request.bias
        row = -(-request.shape[-1] // TILE // BLOCK) * BLOCK if streamed is None else streamed
        x, bf16, fp32 = (tile_bytes(dtype) for dtype in (request.dtype, "bfloat16", "float32"))
        total = row * x + 2 * BLOCK * x  # x, result
        total += 4 * bf16 + 2 * fp32  # scaler, epsilon, the mean of squares
        total += row * fp32 + 8 * fp32  # squares, their root
        if request.kind == "layer":
            total += 2 * fp32  # mean
        if request.kind == "layer" or streamed is not None:
            total += row * fp32  # x − mean, or x kept
        if streamed is not None:
            total += fp32  # sum so far
        if affine:
            total += 2 * BLOCK * fp32 + (request.weight + request.bias) * row * bf16
        return total

    def cores(self, request: NormRequest, board: Board) -> int:
        return spread(tile_rows(request.shape), board)

    def work(self, request: NormRequest, board: Board, reads: Sequence[str]) -> Work:
        x = request.operands[0]
        cores = self.cores(request, board)
        own = traffic([(reads[0], x)], [(self.results(request, board)[0], x)], cores, passes=_passes(request))
        vectors = request.weight + request.bias
        tiles = vectors * -(-request.shape[-1] // TILE)
        return Work(
            vector_bytes=own.vector_bytes,
            dram_bytes=own.dram_bytes + cores * tiles * tile_bytes("bfloat16"),  # each core reads weight and bias
            dram_pages=own.dram_pages + cores * tiles,
            noc_bytes=own.noc_bytes,
        )

    def to_ttnn(self, request: NormRequest, board: Board) -> dict[str, Any]:
        (text,) = self.results(request, board)
        return {
            "epsilon": request.epsilon,
            "memory_config": placed(text, request.operands[0], board).to_memory_config(),
            "compute_kernel_config": kernel_config(KERNEL),
        }

    def issue(self, request: NormRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        op = ttnn.rms_norm if request.kind == "rms" else ttnn.layer_norm
        return op(tensors[0], **operands_by_name(request, tensors), **self.to_ttnn(request, board))


def _passes(request: NormRequest) -> float:
    """How often the engines take an element: squares, their sum, the product; means, and each vector."""
    return 3 + 2 * (request.kind == "layer") + request.weight + request.bias
