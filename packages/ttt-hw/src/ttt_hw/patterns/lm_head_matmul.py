"""A matmul with a whole vocabulary of columns: one weight, whose columns pass through L1 in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ttt_hw.estimate import Work
from ttt_hw.patterns._matmul_blocks import (
    PROGRAM_RESERVE,
    Pair,
    below_one,
    ceil_div,
    inner_widths,
    kernel_of,
    largest_subblock,
)
from ttt_hw.patterns.base import Pattern
from ttt_hw.patterns.bcast_matmul import BcastMatmul
from ttt_hw.records import Board
from ttt_hw.requests import LMHeadRequest
from ttt_shard_dsl import TILE

__all__ = ["LMHeadMatmul"]


@dataclass(frozen=True, kw_only=True)
class LMHeadMatmul(Pattern[LMHeadRequest]):
    """Each core computes its share of the columns in `pieces`, one after the other, with all rows of one tile.

    A share is as many columns as fit whole pieces, so the last cores may have fewer; no weight is cut, copied or joined. It is
    a BcastMatmul 1d whose blocks need not divide an exact share: `config` says which.
    """

    serves: ClassVar = (LMHeadRequest,)

    grid: Pair
    pieces: int
    inner: int
    output: str = "dram"

    @classmethod
    def candidates(cls, request: LMHeadRequest, board: Board) -> Iterator[LMHeadMatmul]:
        """As few pieces as fit, with each depth of a step; results in DRAM and in L1."""
        mt, kt, nt = request.tiles
        if mt > 1:
            return
        share = ceil_div(nt, board.grid[0] * board.grid[1])
        for inner in inner_widths(kt):
            for pieces in range(1, share + 1):
                config = cls(grid=board.grid, pieces=pieces, inner=inner)
                made = config.config(request)
                if ceil_div(nt, made.per_core[1]) < 0.9 * ceil_div(nt, share):
                    continue  # rounding up leaves too many cores without work
                if made.circular_buffers(request, board, ()) <= board.l1_bytes_per_core - PROGRAM_RESERVE:
                    yield config
                    yield cls(grid=board.grid, pieces=pieces, inner=inner, output="l1")
                    break

    def config(self, request: LMHeadRequest) -> BcastMatmul:
        """The matmul that it is."""
        share = ceil_div(request.tiles[2], self.grid[0] * self.grid[1])
        width = ceil_div(share, self.pieces)
        return BcastMatmul(
            kind="1d",
            grid=self.grid,
            per_core=(1, width * self.pieces),
            inner=self.inner,
            block=(1, width),
            subblock=largest_subblock((1, width), kernel_of(request)),
            output=self.output,
        )

    def accepts(self, request: LMHeadRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        return self.config(request).accepts(request, board)

    def results(self, request: LMHeadRequest, board: Board) -> tuple[str, ...]:
        return self.config(request).results(request, board)

    def problems(self, request: LMHeadRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        wrong = list(below_one([("grid", self.grid), ("pieces", self.pieces), ("inner", self.inner)]))
        yield from wrong
        if wrong:
            return
        if request.m > TILE:
            yield f"{request.m} rows are more than the {TILE} of one tile: take the last row of each prompt before"
            return
        share = ceil_div(request.tiles[2], self.grid[0] * self.grid[1])
        if self.pieces > share:
            yield f"{self.pieces} pieces are more than the {share} columns of tiles of a core"
        if self.output not in ("dram", "l1"):
            yield f"logits lie in dram or l1, not '{self.output}'"
        else:
            yield from self.config(request).problems(request, board, reads)

    def circular_buffers(self, request: LMHeadRequest, board: Board, reads: Sequence[str]) -> int:
        return self.config(request).circular_buffers(request, board, reads)

    def cores(self, request: LMHeadRequest, board: Board) -> int:
        return self.config(request).cores(request, board)

    def work(self, request: LMHeadRequest, board: Board, reads: Sequence[str]) -> Work:
        return self.config(request).work(request, board, reads)

    def to_ttnn(self, request: LMHeadRequest, board: Board) -> dict[str, Any]:
        return self.config(request).to_ttnn(request, board)

    def issue(self, request: LMHeadRequest, board: Board, tensors: Sequence[Any]) -> Any:
        return self.config(request).issue(request, board, tensors)
