"""The planner as its users meet it: a board, what is overridden, and blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ttt_hw.joint import Case, plan_together
from ttt_hw.options import Option, legal_options
from ttt_hw.overrides import Overrides, allowed_patterns, for_mode, with_precision
from ttt_hw.plan import BlockPlan
from ttt_hw.planner import plan_block
from ttt_hw.records import Board
from ttt_hw.requests import BlockRequest, OpRequest

__all__ = ["Planner"]


@dataclass(frozen=True)
class Planner:
    """Finds the fastest legal way to run operations on each chip of a board, by the time estimates; no device is opened.

    `overrides` are a user's, by operation; `reserve` bytes of L1 a core stay free.
    Errors, of every method: PlacementError with the operation for which nothing is legal or fits and why, OutOfMemory (one of
    them) where L1 does not suffice; those of overrides name operation, field, rule and nearest legal value.
    """

    board: Board
    overrides: Overrides = field(default_factory=dict, kw_only=True)
    reserve: int = field(default=0, kw_only=True)

    def options(self, op: OpRequest) -> tuple[Option, ...]:
        """Every way to run one operation on an otherwise empty chip that is worth keeping, fastest first."""
        return legal_options(op, self.board)

    def plan(
        self,
        block: BlockRequest,
        *,
        inputs: Mapping[str, str] | None = None,
        outputs: Mapping[str, str] | None = None,
        stored: Mapping[str, str] | None = None,
    ) -> BlockPlan:
        """A block's plan; the mappings say by name where the caller has its tensors, wants the results and has placed weights."""
        own = for_mode(self.overrides, block)
        precise = with_precision(block, own)
        return plan_block(
            precise,
            self.board,
            inputs=inputs,
            outputs=outputs,
            stored=stored,
            allowed=allowed_patterns(precise, own, self.board),
            reserve=self.reserve,
        )

    def together(self, cases: Sequence[Case], *, stored: Mapping[str, str] | None = None) -> tuple[BlockPlan, ...]:
        """A plan of each case, with every weight in one place for all of them so that the weighted total time is least."""
        return plan_together(cases, self.board, overrides=self.overrides, stored=stored, reserve=self.reserve)
