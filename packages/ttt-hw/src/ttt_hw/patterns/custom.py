"""What a block's own function computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ttt_core import ShapeError
from ttt_hw.estimate import Work
from ttt_hw.layouts import interleaved
from ttt_hw.patterns.base import Pattern
from ttt_hw.records import Board
from ttt_hw.requests import CustomRequest, OpRequest

__all__ = ["Custom"]


@dataclass(frozen=True, kw_only=True)
class Custom(Pattern[CustomRequest]):
    """The function is called with the tensors, each interleaved in DRAM, and its result brought there.

    What it takes of L1 and of time is not known, so nothing is planned beside it there and it counts as no work.
    Errors: ShapeError where the result has another shape than the request says.
    """

    serves: ClassVar[tuple[type[OpRequest], ...]] = (CustomRequest,)

    @classmethod
    def candidates(cls, request: CustomRequest, board: Board) -> Iterator[Custom]:
        yield cls()

    def accepts(self, request: CustomRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        return tuple((interleaved(type_),) for type_ in request.operands)

    def results(self, request: CustomRequest, board: Board) -> tuple[str, ...]:
        return (interleaved(request.makes),)

    def problems(self, request: CustomRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        for index, (text, (layout,)) in enumerate(zip(reads, self.accepts(request, board), strict=True)):
            if text != layout:
                yield f"input {index} lies in {text!r}; it must lie in {layout!r}"

    def circular_buffers(self, request: CustomRequest, board: Board, reads: Sequence[str]) -> int:
        return 0

    def cores(self, request: CustomRequest, board: Board) -> int:
        return board.grid[0] * board.grid[1]

    def work(self, request: CustomRequest, board: Board, reads: Sequence[str]) -> Work:
        return Work()

    def to_ttnn(self, request: CustomRequest, board: Board) -> dict[str, Any]:
        return {}

    def issue(self, request: CustomRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        *inputs, function = tensors
        made = function(*inputs)
        wanted = request.makes.shape
        if tuple(made.shape)[:-2] != wanted[:-2] or made.shape[-1] != wanted[-1]:
            raise ShapeError(
                f"{request.name} made a tensor {list(made.shape)}; {list(wanted)} is wanted. Return the shape of the queries."
            )
        return ttnn.to_memory_config(made, ttnn.DRAM_MEMORY_CONFIG)
