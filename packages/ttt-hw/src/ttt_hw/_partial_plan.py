"""What a search for a plan goes through: a plan of the operations so far, and what one more adds to it."""

from __future__ import annotations

from typing import NamedTuple

from ttt_hw._l1_space import Space
from ttt_hw.options import Option
from ttt_hw.plan import PlannedMove, PlannedOp
from ttt_hw.requests import OpRequest

Copies = tuple[tuple[str, str], ...]
"""The copies of a tensor as (part of the block, layout); the first is the one of the part that made it."""


class State:
    """A partial plan: its time, the copies of each living tensor, what they take, and the step that led here."""

    __slots__ = ("alive", "cost", "dram", "previous", "space", "step", "stored", "where")

    def __init__(
        self,
        cost: float,
        where: dict[str, Copies],
        stored: dict[str, str],
        alive: int,
        dram: int,
        space: Space,
        step: Step | None = None,
        previous: State | None = None,
    ) -> None:
        self.cost = cost
        self.where = where
        self.stored = stored
        self.alive = alive
        self.dram = dram
        self.space = space
        self.step = step
        self.previous = previous

    def ops(self) -> tuple[PlannedOp, ...]:
        found: list[PlannedOp] = []
        state = self
        while state.step is not None and state.previous is not None:
            found.append(state.step.planned())
            state = state.previous
        return tuple(reversed(found))


class Step(NamedTuple):
    """An operation added to a partial plan; what becomes a PlannedOp if the plan is the best."""

    op: OpRequest
    option: Option
    moves: list[PlannedMove]
    l1_bytes: int
    dram_bytes: int
    frees: list[tuple[str, str]]

    def planned(self) -> PlannedOp:
        return PlannedOp(
            request=self.op,
            pattern=self.option.pattern,
            reads=self.option.reads,
            results=self.option.results,
            moves=tuple(self.moves),
            buffers=self.option.buffers,
            l1_bytes=self.l1_bytes,
            dram_bytes=self.dram_bytes,
            estimate=self.option.estimate,
            frees=tuple(self.frees),
        )


def part_of(op: OpRequest) -> str:
    """The part of a larger block that an operation belongs to: what its name has before the last dot."""
    return op.name.rpartition(".")[0]


def visible(copies: Copies, part: str) -> str:
    """Where a part of the block finds a tensor: its own copy, else the first."""
    return next((at for owner, at in copies if owner == part), copies[0][1])
