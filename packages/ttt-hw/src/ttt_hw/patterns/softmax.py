"""Softmax over the last dim, of scores that no fused attention computes."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ttt_hw.compute import ComputeKernel
from ttt_hw.estimate import Work
from ttt_hw.layouts import interleaved, placed
from ttt_hw.patterns._traffic import spread, tile_rows, traffic
from ttt_hw.patterns.base import Pattern, kernel_config
from ttt_hw.patterns.unary import activations
from ttt_hw.records import Board
from ttt_hw.requests import OpRequest, SoftmaxRequest
from ttt_shard_dsl import TILE, tile_bytes

__all__ = ["Softmax"]

KERNEL = ComputeKernel(fidelity="hifi4")
BLOCK = 4  # tiles that the destination registers hold with float32 accumulation
FULL = 0.9  # of L1, whatever else lies in it: what ttnn lets the buffers of whole rows take, or else it streams
STREAMED = 80  # tiles of a row that are in L1 at a time when it streams


@dataclass(frozen=True, kw_only=True)
class Softmax(Pattern[SoftmaxRequest]):
    """softmax(scale · x + mask), a row of tiles at a time on each core; the result interleaved in `memory`.

    The largest value is subtracted first. ttnn fuses a mask of one row of tiles; a taller one is added, with the scale, by an
    operation of its own, whose result lies in `memory` too.
    """

    serves: ClassVar[tuple[type[OpRequest], ...]] = (SoftmaxRequest,)
    memory: Literal["dram", "l1"] = "dram"

    @classmethod
    def candidates(cls, request: SoftmaxRequest, board: Board) -> Iterator[Softmax]:
        if _steps(request) == 1:
            yield cls(memory="l1")
        yield cls(memory="dram")

    def accepts(self, request: SoftmaxRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        own, other = ("l1", "dram") if self.memory == "l1" else ("dram", "l1")
        return tuple((interleaved(type_, own), interleaved(type_, other)) for type_ in request.operands)

    def results(self, request: SoftmaxRequest, board: Board) -> tuple[str, ...]:
        return (interleaved(request.operands[0], self.memory),)

    def problems(self, request: SoftmaxRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        for name, text, layouts in zip(("x", "mask"), reads, self.accepts(request, board), strict=False):
            if text not in layouts:
                yield f"{name} lies in {text!r}; it must lie in {' or '.join(map(repr, layouts))}"
        if request.shape[-1] % TILE:
            yield (
                f"{request.shape[-1]} columns are no whole tiles, and the padding would count; pad them with a mask to "
                f"{-(-request.shape[-1] // TILE) * TILE}"
            )
        if _steps(request) > 1 and self.memory == "l1":
            yield f"a mask of {request.shape[2]} rows is added first, and that sum lies in DRAM; the result must, too"

    def circular_buffers(self, request: SoftmaxRequest, board: Board, reads: Sequence[str]) -> int:
        """Of whole rows where they fit, else of rows that are streamed."""
        x, mask, bf16, fp32 = (tile_bytes(dtype) for dtype in (request.dtype, "bfloat16", "bfloat16", "float32"))
        fused = request.masked and _steps(request) == 1
        scaled = not fused and (request.scale != 1.0 or request.masked)
        tiles = request.shape[-1] // TILE
        block = min(tiles, BLOCK)
        row = -(-tiles // block) * block
        rest = 2 * block * x + 3 * fp32 + 2 * bf16  # result; sum, its inverse, maximum; numbers
        if fused:
            whole = 2 * block * x + rest + bf16 + row * mask + fp32 * (3 * row + block)
            streamed = STREAMED * (x + mask) + rest + bf16 + fp32 * 3 * STREAMED
        else:
            whole = row * (x + fp32) + rest
            streamed = STREAMED * (x + 2 * fp32) + rest
        streamed += 3 * fp32
        taken = whole if whole <= FULL * board.chip.l1_program_bytes else streamed
        before = 0
        if scaled:
            sum_of = 2 * (x + mask + x) if request.masked else 4 * x
            before = sum_of + (x if request.masked and request.scale != 1.0 else 0)
        return max(taken, before)

    def cores(self, request: SoftmaxRequest, board: Board) -> int:
        return spread(tile_rows(request.shape), board)

    def work(self, request: SoftmaxRequest, board: Board, reads: Sequence[str]) -> Work:
        x = request.operands[0]
        result = (self.results(request, board)[0], x)
        inputs = list(zip(reads, request.operands, strict=True))
        cores = self.cores(request, board)
        if request.masked:  # each head reads the mask anew
            inputs[1] = (reads[1], replace(request.operands[1], shape=request.shape))
        if _steps(request) == 1:
            return traffic(inputs, [result], cores, passes=4)
        first, second = traffic(inputs, [result], cores), traffic([result], [result], cores, passes=4)
        return Work(
            vector_bytes=first.vector_bytes + second.vector_bytes,
            dram_bytes=first.dram_bytes + second.dram_bytes,
            dram_pages=first.dram_pages + second.dram_pages,
            noc_bytes=first.noc_bytes + second.noc_bytes,
            programs=2,
        )

    def to_ttnn(self, request: SoftmaxRequest, board: Board) -> dict[str, Any]:
        (text,) = self.results(request, board)
        return {
            "numeric_stable": True,
            "memory_config": placed(text, request.operands[0], board).to_memory_config(),
            "compute_kernel_config": kernel_config(KERNEL),
        }

    def issue(self, request: SoftmaxRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        arguments = self.to_ttnn(request, board)
        x = tensors[0]
        if request.masked and _steps(request) == 1:
            return ttnn.scale_mask_softmax(x, float32(request.scale), tensors[1], **arguments)
        memory = arguments["memory_config"]
        if request.masked:
            scale = activations(None, request.scale)
            x = ttnn.add(x, tensors[1], input_tensor_a_activations=scale, memory_config=memory)
        elif request.scale != 1.0:
            x = ttnn.unary_chain(x, ops_chain=activations(None, request.scale), memory_config=memory)
        return ttnn.softmax(x, dim=-1, **arguments)


def float32(value: float) -> float:
    """The nearest number that float32 has: ttnn.scale_mask_softmax takes no other, nor does chunked attention."""
    nearest: float
    (nearest,) = struct.unpack("f", struct.pack("f", value))
    return nearest


def _steps(request: SoftmaxRequest) -> int:
    """Programs: one where ttnn fuses the mask, or where there is nothing but the softmax."""
    if request.masked:
        return 1 if request.shape[2] <= TILE else 2
    return 1 if request.scale == 1.0 else 2
