"""A plan: which pattern runs each operation of a block, where every tensor lies, what it takes and how long."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ttt_core import PlacementError
from ttt_hw.estimate import Estimate
from ttt_hw.patterns._reshard import Reshard
from ttt_hw.patterns.base import Pattern
from ttt_hw.records import Board
from ttt_hw.requests import BlockRequest, OpRequest

__all__ = ["BlockPlan", "OpTime", "PlannedMove", "PlannedOp"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedMove:
    """A tensor brought into another layout before an operation reads it as its input number `position`.

    `l1_bytes` are on the fullest core while it moves: its buffers and every tensor that is alive. `replaces`: nothing reads
    the tensor where it was any more, so it is freed there before the operation starts.
    """

    tensor: str
    position: int
    reshard: Reshard
    replaces: bool
    buffers: int
    l1_bytes: int
    estimate: Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedOp:
    """One operation as it will run. Units: bytes on the fullest core.

    `reads` are the layouts of its inputs after `moves`, `results` those of what it makes. `buffers` are its program's;
    `l1_bytes` adds every tensor that is alive then. `frees` names the tensors, and the copies of them as (name, layout),
    that nothing after it reads.
    """

    request: OpRequest
    pattern: Pattern[Any]
    reads: tuple[str, ...]
    results: tuple[str, ...]
    moves: tuple[PlannedMove, ...]
    buffers: int
    l1_bytes: int
    dram_bytes: int
    estimate: Estimate
    frees: tuple[tuple[str, str], ...]

    @property
    def time_us(self) -> float:
        return self.estimate.time_us + sum(move.estimate.time_us for move in self.moves)


@dataclass(frozen=True, kw_only=True, slots=True)
class OpTime:
    """How long one operation takes as it is planned, with the moves before and behind it, and what bounds it.

    Units: µs; None for an operation that nothing was planned for.
    """

    name: str
    pattern: str = ""
    time_us: float | None = None
    bound: str = ""

    def __str__(self) -> str:
        if self.time_us is None:
            return f"{self.name} (not planned)"
        return f"{self.name} ({self.pattern}, bound by {self.bound}) {self.time_us:.4g} µs"


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockPlan:
    """A block's operations as they will run on each chip of `board`.

    `inputs` and `stored` say where what enters and what stays lies; `exits` are the moves of results to where the caller
    wants them. `dram_bytes` is the most that its activations take of a chip's DRAM at a time.
    """

    block: BlockRequest
    board: Board
    inputs: Mapping[str, str]
    stored: Mapping[str, str]
    ops: tuple[PlannedOp, ...]
    exits: tuple[PlannedMove, ...]
    outputs: Mapping[str, str]

    @property
    def time_us(self) -> float:
        return sum(op.time_us for op in self.ops) + sum(move.estimate.time_us for move in self.exits)

    @property
    def dram_bytes(self) -> int:
        return max((op.dram_bytes for op in self.ops), default=0)

    @property
    def l1_bytes(self) -> int:
        """The most that a core holds at a time."""
        return max((op.l1_bytes for op in self.ops), default=0)

    @property
    def keeps(self) -> Mapping[Hashable, int]:
        """Bytes of L1 on a core that its operations leave there for good, by what may be shared with other plans."""
        return {key: size for op in self.ops for key, size in op.pattern.keeps(op.request, self.board).items()}

    def times(self, part: str = "") -> tuple[OpTime, ...]:
        """Of each operation, or of those of one part by their names in it."""
        prefix = f"{part}." if part else ""
        exits = {move.tensor: move.estimate.time_us for move in self.exits}
        return tuple(
            OpTime(
                name=op.request.name.removeprefix(prefix),
                pattern=type(op.pattern).__name__,
                time_us=op.time_us + sum(exits.get(name, 0.0) for name in op.request.results),
                bound=op.estimate.bound,
            )
            for op in self.ops
            if op.request.name.startswith(prefix)
        )

    def __getitem__(self, name: str) -> PlannedOp:
        """The operation of that name. Errors: PlacementError with the names that there are."""
        for op in self.ops:
            if op.request.name == name:
                return op
        raise PlacementError(
            f"the plan has no operation {name!r}; it has {', '.join(op.request.name for op in self.ops)}."
        )

    def __iter__(self) -> Iterator[PlannedOp]:
        return iter(self.ops)
