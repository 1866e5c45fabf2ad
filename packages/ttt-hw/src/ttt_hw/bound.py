"""A plan as a forward uses it: for each operation the keyword arguments, and what brings its inputs to where it reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias

from ttt_core import Mode
from ttt_hw.joint import Case, interfaces, lasting, plan_together
from ttt_hw.layouts import placed
from ttt_hw.overrides import Overrides
from ttt_hw.plan import BlockPlan, PlannedMove, PlannedOp
from ttt_hw.records import Board
from ttt_hw.requests import BlockRequest, TensorType, Workload

Read: TypeAlias = "Callable[[Any], Any]"


class BoundOp:
    """One planned operation, ready to be called: `ttnn.linear(op.read(x), weight, **op.options)`.

    `options` are the keyword arguments of the ttnn operation that the pattern chose. `read` brings the input of that
    position to the layout that the pattern reads; where it lies there already, it is the tensor itself. `memory_config` is
    where the result lies.
    """

    __slots__ = ("_reads", "memory_config", "name", "options")

    def __init__(self, op: PlannedOp, plan: BlockPlan) -> None:
        self.name = op.request.name
        self.options: Mapping[str, Any] = op.pattern.to_ttnn(op.request, plan.board)
        types = plan.block.types
        reads: list[Read] = [_as_it_is] * len(op.request.inputs)
        for move in op.moves:
            reads[move.position] = _mover(move, types[move.tensor], plan.board)
        self._reads = tuple(reads)
        made = [
            placed(text, types[name], plan.board) for name, text in zip(op.request.results, op.results, strict=True)
        ]
        self.memory_config = made[0].to_memory_config() if made else None

    def read(self, tensor: Any, position: int = 0) -> Any:
        return self._reads[position](tensor)


class BoundPlan:
    """The operations of one block for one workload, by name; `finish` brings its result to where the caller wants it."""

    __slots__ = ("_ops", "finish")

    def __init__(self, plan: BlockPlan, part: str = "") -> None:
        prefix = f"{part}." if part else ""
        self._ops = {
            op.request.name.removeprefix(prefix): BoundOp(op, plan)
            for op in plan.ops
            if op.request.name.startswith(prefix)
        }
        self.finish: Read = _as_it_is
        if not part and plan.exits:
            move = plan.exits[0]
            self.finish = _mover(move, plan.block.types[move.tensor], plan.board)

    def __getitem__(self, name: str) -> BoundOp:
        return self._ops[name]


class Plans(Protocol):
    """What a block needs of its plans: where its stored tensors lie, by their names, and its operations for a workload."""

    @property
    def stored(self) -> Mapping[str, str]: ...
    def __call__(self, work: Workload, /) -> BoundPlan: ...


class BlockPlans:
    """The plans of a block for whatever workload comes, with each stored tensor in one place for all of them.

    `requests` gives the block's operations for a workload. Where stored tensors lie is decided by the workloads of `typical`,
    each with how often a run goes through it; others are planned when they come, and kept. `hidden` has the layouts in which
    activations enter and leave, by mode; a mode that is not there has them interleaved, in L1 in decode and in DRAM in prefill,
    or with `free` where the planner likes them best.

    Errors: PlacementError where a workload has no legal plan.
    """

    def __init__(
        self,
        requests: Callable[[Workload], BlockRequest],
        board: Board,
        *,
        typical: Iterable[tuple[Workload, float]],
        overrides: Overrides | None = None,
        hidden: Mapping[Mode, tuple[str, str]] | None = None,
        free: bool = False,
    ) -> None:
        self._requests = requests
        self._board = board
        self._overrides = overrides
        self._plans: dict[Workload, BlockPlan] = {}
        self._bound: dict[tuple[Workload, str], BoundPlan] = {}
        self.hidden: dict[Mode, tuple[str, str]] = dict(hidden or {})
        works = list(typical)
        cases = []
        for work, weight in works:
            block = requests(work)
            ways = interfaces(block, board) if free and work.mode not in self.hidden else self._ends(work.mode)
            cases.append(Case(block=block, weight=weight, interfaces=ways))
        self.stored: dict[str, str] = {}
        for (work, _), plan in zip(works, plan_together(cases, board, overrides=overrides), strict=True):
            self._plans[work] = plan
            self.stored.update(lasting(plan))
            if free:
                entered = next(text for name, text in plan.inputs.items() if name in dict(plan.block.inputs))
                self.hidden.setdefault(work.mode, (entered, next(iter(plan.outputs.values()))))

    def _ends(self, mode: Mode) -> tuple[tuple[str, str], ...]:
        return (self.hidden[mode],) if mode in self.hidden else ()

    def plan(self, work: Workload) -> BlockPlan:
        found = self._plans.get(work)
        if found is None:
            case = Case(block=self._requests(work), interfaces=self._ends(work.mode))
            (found,) = plan_together([case], self._board, overrides=self._overrides, stored=self.stored)
            self._plans[work] = found
        return found

    def __call__(self, work: Workload, part: str = "") -> BoundPlan:
        key = work, part
        found = self._bound.get(key)
        if found is None:
            found = self._bound[key] = BoundPlan(self.plan(work), part)
        return found

    def part(self, name: str) -> Plans:
        """The plans of one part of the block, whose operations are called `name.…` in the whole."""
        return _Part(self, name)


class _Part:
    def __init__(self, whole: BlockPlans, name: str) -> None:
        self._whole = whole
        self._name = name
        prefix = f"{name}."
        shared = {stored: text for stored, text in whole.stored.items() if "." not in stored}
        own = {stored.removeprefix(prefix): text for stored, text in whole.stored.items() if stored.startswith(prefix)}
        self.stored: Mapping[str, str] = {**shared, **own}

    def __call__(self, work: Workload, /) -> BoundPlan:
        return self._whole(work, self._name)


def _mover(move: PlannedMove, type_: TensorType, board: Board) -> Read:
    reshard = move.reshard

    def moved(tensor: Any) -> Any:
        return reshard.issue(type_, board, tensor)

    return moved


def _as_it_is(tensor: Any) -> Any:
    return tensor
