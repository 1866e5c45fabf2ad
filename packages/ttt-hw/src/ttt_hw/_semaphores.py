"""What collectives leave in L1, put where it is in nobody's way.

The first run of a collective of some shape makes semaphores, which stay in L1 as long as its program is cached. Made in the
middle of a layer they lie between its tensors, wherever those ended, and split the L1 that is free ever after: tensors then
lie lower than planned, and clash with the buffers of later operations. So a plan's collectives run once before all else.
"""

from __future__ import annotations

from typing import Any

from ttt_hw.layouts import placed
from ttt_hw.patterns.collective import Collective
from ttt_hw.plan import BlockPlan
from ttt_hw.requests import CollectiveRequest

GAP_BYTES = 4096  # takes 64 semaphores


def make_semaphores(plan: BlockPlan, mesh: Any) -> None:
    """Run each collective of a plan once, on an empty tensor that is freed again, and make what its patterns keep. L1 then
    holds both below the tensors that were there, next to one another.

    ttnn's raw functions are called, so that neither a value shadow nor a recorder of operations sees them.
    """
    import ttnn

    board, done = plan.board, set()
    for op in plan.ops:
        pattern, request = op.pattern, op.request
        pattern.prepare(request, board, mesh)
        if not (isinstance(pattern, Collective) and isinstance(request, CollectiveRequest)):
            continue
        type_ = request.operands[0]
        key = request.kind, type_, pattern
        if key in done:
            continue
        done.add(key)
        memory = placed(op.reads[0], type_, board).to_memory_config()
        empty, collective = _raw(ttnn.empty), _raw(getattr(ttnn, pattern.kind))
        gap = empty([GAP_BYTES // 4], ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT, mesh, ttnn.L1_MEMORY_CONFIG)
        x = empty(list(type_.shape), getattr(ttnn, type_.dtype), ttnn.TILE_LAYOUT, mesh, memory)
        del gap  # above x: too small for tensors, and the highest gap for semaphores
        collective(x, **pattern.arguments(request, board))


def _raw(operation: Any) -> Any:
    return operation.function


class Preparation:
    """Makes the semaphores of a plan once, as soon as there is a tensor that says on which mesh."""

    __slots__ = ("_plan",)

    def __init__(self, plan: BlockPlan) -> None:
        self._plan: BlockPlan | None = plan

    def __call__(self, tensor: Any) -> None:
        if self._plan is not None:
            plan, self._plan = self._plan, None
            make_semaphores(plan, tensor.device())
