"""A tensor brought from one layout to another on the same chip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ttt_core import PlacementError
from ttt_hw.estimate import Work
from ttt_hw.layouts import placed
from ttt_hw.patterns._traffic import pages, spread
from ttt_hw.records import Board
from ttt_hw.requests import TensorType
from ttt_shard_dsl import LayoutError


@dataclass(frozen=True, kw_only=True, slots=True)
class Reshard:
    """The same values elsewhere: one call of ttnn.to_memory_config.

    `source` and `target` are texts of the layout language, of one chip: interleaved, or legacy shards in L1.
    """

    source: str
    target: str

    def problems(self, type_: TensorType, board: Board) -> Iterator[str]:
        """Each rule that the move breaks, in words; none if it is legal. Memory is not among them: ttnn.to_memory_config
        compares what it needs with all L1, not with what is free, and runs into a clash."""
        if self.source == self.target:
            yield f"the tensor lies in {self.target!r} already; leave the move out"
            return
        for text in (self.source, self.target):
            try:
                place = placed(text, type_, board)
            except LayoutError as error:
                yield str(error).splitlines()[0]
                return
            if place.sharding == "nd":
                yield f"{text!r} is an ND sharding, which moves of ttnn do not take; shard rows, columns or both"
            if place.shard_shape is not None and place.memory == "dram":
                yield f"{text!r} shards in DRAM, and activations move through L1; interleave it in DRAM"
            if place.shard_shape is not None and not type_.tiled:
                yield f"{text!r} shards a row-major tensor; only tiles are moved as shards"

    def circular_buffers(self, type_: TensorType, board: Board) -> int:
        """Two pages between the reader and the writer of a copy; shards are read or written where they lie."""
        if "@" in self.source or "@" in self.target:
            return 0
        return 2 * pages(type_)[1]

    def cores(self, type_: TensorType, board: Board) -> int:
        """The cores of the target's shards, or else of the source's; a copy is dealt over all."""
        for text in (self.target, self.source):
            if "@" in text:
                return placed(text, type_, board).num_shards
        return spread(pages(type_)[0], board)

    def work(self, type_: TensorType, board: Board) -> Work:
        """Every page crosses the NoC, into the fullest core of the two layouts or out of it."""
        count, bytes_ = pages(type_)
        cores = self.cores(type_, board)
        in_dram = [text for text in (self.source, self.target) if " in dram" in text]
        shards = [placed(text, type_, board).num_shards for text in (self.source, self.target) if "@" in text]
        return Work(
            dram_bytes=count * bytes_ * len(in_dram),
            dram_pages=count * len(in_dram),
            noc_bytes=count * bytes_ / min([cores, *shards]),
        )

    def to_ttnn(self, type_: TensorType, board: Board) -> Any:
        """ttnn's object for the target."""
        return placed(self.target, type_, board).to_memory_config()

    def issue(self, type_: TensorType, board: Board, tensor: Any) -> Any:
        """Move a tensor; the one that it was stays where it is."""
        import ttnn

        return ttnn.to_memory_config(tensor, self.to_ttnn(type_, board))

    def check(self, type_: TensorType, board: Board) -> None:
        """Raise PlacementError unless the move is legal."""
        for problem in self.problems(type_, board):
            raise PlacementError(f"{type_} cannot move on {board.name}: {problem}.")
