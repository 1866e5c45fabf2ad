"""Two tensors combined element by element: residual sums and gates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ttt_hw.estimate import Work
from ttt_hw.layouts import interleaved, placed, width_sharded
from ttt_hw.patterns._rectangles import even_rectangles, grid_problems
from ttt_hw.patterns._traffic import pages, spread, traffic
from ttt_hw.patterns.base import Pattern
from ttt_hw.patterns.unary import activations, clamped, steep
from ttt_hw.records import Board
from ttt_hw.requests import BinaryRequest, OpRequest
from ttt_shard_dsl import tile_bytes

__all__ = ["EltwiseGate"]

SHARDED_ROWS = 8  # tiles; more rows than that are a prompt, which does not stay in L1


@dataclass(frozen=True, kw_only=True)
class EltwiseGate(Pattern[BinaryRequest]):
    """activation(a) op b. With `grid` both inputs and the result are width-sharded on that rectangle of cores; without it the
    inputs are interleaved in either memory, and the result in `memory`."""

    serves: ClassVar[tuple[type[OpRequest], ...]] = (BinaryRequest,)
    memory: Literal["dram", "l1"] = "dram"
    grid: tuple[int, int] | None = None

    @classmethod
    def candidates(cls, request: BinaryRequest, board: Board) -> Iterator[EltwiseGate]:
        if pages(request.operands[0])[0] * 32 <= SHARDED_ROWS * request.shape[-1]:
            for grid in even_rectangles(request.shape[-1], board):
                yield cls(memory="l1", grid=grid)
        yield cls(memory="l1")
        yield cls(memory="dram")

    def accepts(self, request: BinaryRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        if self.grid is not None:
            return ((width_sharded(self.grid),),) * 2
        own, other = ("l1", "dram") if self.memory == "l1" else ("dram", "l1")
        return tuple((interleaved(type_, own), interleaved(type_, other)) for type_ in request.operands)

    def results(self, request: BinaryRequest, board: Board) -> tuple[str, ...]:
        if self.grid is not None:
            return (width_sharded(self.grid),)
        return (interleaved(request.operands[0], self.memory),)

    def problems(self, request: BinaryRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        if self.grid is not None:
            if self.memory != "l1":
                yield f"shards on cores lie in L1, not in {self.memory}"
            yield from grid_problems(self.grid, request.shape[-1], board)
        allowed = self.accepts(request, board)
        for name, text, layouts in zip(("a", "b"), reads, allowed, strict=True):
            if text not in layouts:
                yield f"{name} lies in {text!r}; it must lie in {' or '.join(map(repr, layouts))}"
        for dtype in (request.a_dtype, request.b_dtype, request.output_dtype):
            if dtype not in ("bfloat16", "bfloat8_b", "float32"):
                yield f"{dtype} values are not combined; bfloat16 and bfloat8_b are"

    def circular_buffers(self, request: BinaryRequest, board: Board, reads: Sequence[str]) -> int:
        """Two tiles of each interleaved tensor, and what the activation makes of a: a tile of it, or for shards as many as the
        engine does at a time: 2 in a product of bfloat16, else 8; the same of b where a limit or an offset changes it."""
        a, changes_b = tile_bytes(request.a_dtype), _changes_b(request)
        if self.grid is not None:
            product = request.op == "mul" and request.a_dtype == request.b_dtype == "bfloat16"
            at_once = 2 if product else 8
            return at_once * ((a if request.activation else 0) + (tile_bytes(request.b_dtype) if changes_b else 0))
        streams = 2 * (a + tile_bytes(request.b_dtype) + tile_bytes(request.output_dtype))
        return streams + (a if request.activation else 0) + (tile_bytes(request.b_dtype) if changes_b else 0)

    def cores(self, request: BinaryRequest, board: Board) -> int:
        return self.grid[0] * self.grid[1] if self.grid is not None else spread(pages(request.operands[0])[0], board)

    def work(self, request: BinaryRequest, board: Board, reads: Sequence[str]) -> Work:
        results = zip(self.results(request, board), request.results.values(), strict=True)
        return traffic(zip(reads, request.operands, strict=True), results, self.cores(request, board))

    def to_ttnn(self, request: BinaryRequest, board: Board) -> dict[str, Any]:
        import ttnn

        (text,) = self.results(request, board)
        (type_,) = request.results.values()
        arguments: dict[str, Any] = {
            "memory_config": placed(text, type_, board).to_memory_config(),
            "dtype": getattr(ttnn, request.output_dtype),  # else it is that of a
        }
        of_a = clamped(None, request.limit) + steep(request.activation, request.steepness)
        if of_a:
            arguments["input_tensor_a_activations"] = of_a
        if _changes_b(request):
            low = None if request.limit is None else -request.limit
            arguments["input_tensor_b_activations"] = [
                *clamped(low, request.limit, request.b_offset),
                *activations(None, request.b_scale),
            ]
        return arguments

    def issue(self, request: BinaryRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        op = {"add": ttnn.add, "mul": ttnn.mul, "sub": ttnn.sub}[request.op]
        return op(tensors[0], tensors[1], **self.to_ttnn(request, board))


def _changes_b(request: BinaryRequest) -> bool:
    return request.limit is not None or request.b_offset != 0.0 or request.b_scale != 1.0
