"""The plans of a block for whatever workload comes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeVar
from weakref import ReferenceType, ref

from ttt_core import Mode, PlacementError
from ttt_hw._semaphores import Preparation
from ttt_hw.bound import BoundPlan, Operations
from ttt_hw.joint import Case, interfaces, keeping_or_not, lasting, plan_together
from ttt_hw.layouts import DRAM, L1
from ttt_hw.overrides import Overrides
from ttt_hw.plan import BlockPlan, OpTime
from ttt_hw.records import Board
from ttt_hw.requests import BlockRequest, Workload, decoding, prefilling
from ttt_hw.transfer import DType
from ttt_shard_dsl import TILE

__all__ = ["BlockPlans", "Plans", "given_or_own", "op_by_rows", "ops_by_rows", "typical"]

T = TypeVar("T")
Ready = TypeVar("Ready")
USERS, PROMPT = 32, 1024  # of a typical run
MANY = 1024  # workloads to be had at once


class Plans(Protocol):
    """What a block needs of its plans: where its stored tensors lie and their dtypes, by the names of its list, and its
    operations for a workload.

    Of a workload only the rows must be known: chips are the board's, and context 0 is that of the forward that goes on.
    """

    @property
    def stored(self) -> Mapping[str, str]: ...
    @property
    def dtypes(self) -> Mapping[str, DType]: ...
    def __call__(self, work: Workload, /) -> Operations: ...


def typical(context: int = PROMPT) -> tuple[tuple[Workload, float], ...]:
    """A run of 32 users who each have a prompt of 1024 tokens read, if so many there may be, and decode as many."""
    prompt = min(PROMPT, -(-context // TILE) * TILE)
    return (
        (Workload(mode="decode", users=USERS, context=prompt), float(prompt)),
        (Workload(mode="prefill", tokens=prompt, context=prompt), float(USERS)),
    )


class BlockPlans:
    """The plans of a block for whatever workload comes, with each stored tensor in one place for all of them.

    `requests` gives the block's operations for a workload. Where stored tensors lie is decided by the workloads of `typical`,
    each with how often a run goes through it; others are planned when they come, and kept. `hidden` has the layouts in which
    activations enter and leave, by mode; a mode that is not there has them interleaved, in L1 in decode and in DRAM in prefill,
    or with `free` where the planner likes them best. `kept` bytes of L1 a core are taken by what other blocks keep there; without
    `may_keep` this one keeps none.

    Errors: PlacementError where a workload has no legal plan, or where an override is not legal.
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
        kept: int = 0,
        may_keep: bool = True,
    ) -> None:
        self._requests = requests
        self._board = board
        self._overrides = overrides
        self._kept = kept
        self._may_keep = may_keep
        self._plans: dict[Workload, BlockPlan] = {}
        self._bound: dict[tuple[Workload, str], BoundPlan] = {}
        # By part, and by the identity of what forwards ask with, which is the same each time; as long as _last is as it is.
        self._ready: dict[str, dict[int, BoundPlan]] = {}
        self._asked: list[Workload] = []  # so that no other has its identity
        self._own = self.ready("")
        self._kept_elsewhere: list[ReferenceType[_ByRows[Any]]] = []
        self._preparations: dict[Workload, Preparation] = {}
        self.hidden: dict[Mode, tuple[str, str]] = dict(hidden or {})
        works = [(self._split(work), weight) for work, weight in typical]
        self._context = max(work.context for work, _ in works)
        self._last: dict[Workload, Workload] = {}
        cases = []
        for work, weight in works:
            block = requests(work)
            ways = interfaces(block, board) if free and work.mode not in self.hidden else self._ends(work.mode)
            cases.append(Case(block=block, weight=weight, interfaces=ways))
        self.stored: dict[str, str] = {}
        self.dtypes: dict[str, DType] = {}
        plans = plan_together(cases, board, overrides=overrides, kept=kept, may_keep=may_keep)
        for (work, _), plan in zip(works, plans, strict=True):
            self._plans[work] = plan
            self.stored.update(lasting(plan))
            self.dtypes.update({stored.name: stored.type.dtype for stored in plan.block.stored})
            if free:
                entered = next(text for name, text in plan.inputs.items() if name in dict(plan.block.inputs))
                self.hidden.setdefault(work.mode, (entered, next(iter(plan.outputs.values()))))

    def _ends(self, mode: Mode) -> tuple[tuple[str, str], ...]:
        return (self.hidden[mode],) if mode in self.hidden else ()

    @property
    def keeps(self) -> Mapping[Hashable, int]:
        """Bytes of L1 on a core that stay taken once it has run, by what other blocks may share."""
        return {key: size for plan in self._plans.values() for key, size in plan.keeps.items()}

    def plan(self, work: Workload) -> BlockPlan:
        return self._found(self._complete(work))

    def _found(self, work: Workload) -> BlockPlan:
        found = self._plans.get(work)
        if found is None:
            case = Case(block=self._requests(work), interfaces=self._ends(work.mode))
            (found,) = plan_together(
                [case],
                self._board,
                overrides=self._overrides,
                stored=self.stored,
                kept=self._kept,
                may_keep=self._may_keep,
            )
            self._plans[work] = found
        return found

    def times(self, work: Workload, /, part: str = "") -> tuple[OpTime, ...]:
        """How long each operation takes, or those of one part; context 0 is that of a typical run."""
        return self._found(replace(self._split(work), context=work.context or self._context)).times(part)

    def sizes(self, work: Workload, /, part: str = "") -> tuple[int, int]:
        """The most bytes of a chip's DRAM that activations take while its operations run, or those of one part, and of L1 on a
        core; context 0 is that of a typical run."""
        plan = self._found(replace(self._split(work), context=work.context or self._context))
        ops = [op for op in plan.ops if op.request.name.startswith(f"{part}." if part else "")]
        return max((op.dram_bytes for op in ops), default=0), max((op.l1_bytes for op in ops), default=0)

    def bound(self, work: Workload, part: str = "") -> BoundPlan:
        """Its operations, or those of one part of it, ready to be called."""
        key = self._complete(work), part
        found = self._bound.get(key)
        if found is None:
            plan = self._found(key[0])
            prepare = self._preparations.setdefault(key[0], Preparation(plan))
            found = self._bound[key] = BoundPlan(plan, part, prepare=prepare)
        return found

    def __call__(self, work: Workload, /) -> Operations:
        return (self._own.get(id(work)) or self.asked(work)).start()

    def asked(self, work: Workload, part: str = "") -> BoundPlan:
        """As `bound`, and next time found by the identity of `work` in `ready(part)`."""
        found = self.bound(work, part)
        if len(self._asked) > MANY:
            self._forget()
        self._asked.append(work)
        self._ready[part][id(work)] = found
        return found

    def ready(self, part: str) -> Mapping[int, BoundPlan]:
        """What forwards of a part have asked for."""
        return self._ready.setdefault(part, {})

    def _forget(self) -> None:
        for each in self._ready.values():
            each.clear()
        for reference in self._kept_elsewhere:
            if (kept_elsewhere := reference()) is not None:
                kept_elsewhere.clear()
        self._asked.clear()

    def tell(self, kept: _ByRows[Any]) -> bool:
        """Have it cleared when what it keeps is no longer so."""
        self._kept_elsewhere.append(ref(kept))
        return True

    def _complete(self, work: Workload) -> Workload:
        """A norm sees rows, and no cache: the part that sees one says the context, before it or in the forward before."""
        work = self._split(work)
        if work.context:
            rows = _rows(work)
            if self._last.get(rows) != work:
                self._last[rows] = work
                self._forget()  # what rows alone stand for has changed
            return work
        return self._last.get(_rows(work)) or replace(work, context=self._context)

    def _split(self, work: Workload) -> Workload:
        return replace(work, chips=self._board.mesh[1], hidden_chips=self._board.hidden_chips)

    def part(self, name: str) -> Plans:
        """The plans of one part of the block, whose operations are called `name.…` in the whole."""
        return _Part(self, name)


def _rows(work: Workload) -> Workload:
    """What of it a part knows that has no cache."""
    return replace(work, context=0, start=0, block=0)


class _Part:
    def __init__(self, whole: BlockPlans, name: str) -> None:
        self._whole = whole
        self._name = name
        self._ready = whole.ready(name)
        self.stored: Mapping[str, str] = _own(whole.stored, name)
        self.dtypes: Mapping[str, DType] = _own(whole.dtypes, name)

    def __call__(self, work: Workload, /) -> Operations:
        return (self._ready.get(id(work)) or self._whole.asked(work, self._name)).start()

    def tell(self, kept: _ByRows[Any]) -> bool:
        return self._whole.tell(kept)

    def sizes(self, work: Workload, /) -> tuple[int, int]:
        return self._whole.sizes(work, self._name)

    def times(self, work: Workload, /) -> tuple[OpTime, ...]:
        return self._whole.times(work, self._name)


class _ByRows(dict[int, Ready]):
    """What a forward of which only the rows are known runs, by rows; kept where the plans are BlockPlans or a part of them."""

    def __init__(self, plans: Plans, work: Callable[[int], Workload]) -> None:
        super().__init__()
        self._plans = plans
        self._work = work
        self._lasting = isinstance(plans, (BlockPlans, _Part)) and plans.tell(self)


class OpsByRows(_ByRows[Operations]):
    """The operations of a forward of which only the rows are known, `operations[x.shape[-2]]`, as `plans(work(rows))`, in the
    time that a dictionary takes. Whoever runs them clears what a forward that failed has left: `straight_line` does.
    """

    def __missing__(self, rows: int) -> Operations:
        found = self._plans(self._work(rows))
        if self._lasting:
            self[rows] = found
        return found


class OpByRows(_ByRows[Callable[..., Any]]):
    """The same of a forward with one operation, which clears for itself."""

    def __init__(self, plans: Plans, work: Callable[[int], Workload], name: str) -> None:
        super().__init__(plans, work)
        self._name = name

    def __missing__(self, rows: int) -> Callable[..., Any]:
        ops = self._plans(self._work(rows))
        if self._lasting and self._name in (ops.written or ()):
            self[rows] = ops[self._name]
        return ops[self._name]


def ops_by_rows(plans: Plans) -> tuple[OpsByRows, OpsByRows]:
    """Those of prefill and those of decode."""
    return OpsByRows(plans, prefilling), OpsByRows(plans, decoding)


def op_by_rows(plans: Plans, name: str) -> tuple[OpByRows, OpByRows]:
    """That of prefill and that of decode."""
    return OpByRows(plans, prefilling, name), OpByRows(plans, decoding, name)


def _own(stored: Mapping[str, T], part: str) -> dict[str, T]:
    """What a part has, and what all parts share: tables."""
    shared = {name: value for name, value in stored.items() if "." not in name}
    return {
        **shared,
        **{name.removeprefix(f"{part}."): value for name, value in stored.items() if name.startswith(f"{part}.")},
    }


def given_or_own(
    plans: Plans | None,
    requests: Callable[[Workload], BlockRequest],
    board: Board,
    *,
    typical: Iterable[tuple[Workload, float]],
    overrides: Overrides | None,
    hidden: Mapping[Mode, tuple[str, str]] | None = None,
) -> Plans:
    """The plans that a block was given; without any its own, entered and left interleaved.

    Errors: PlacementError for overrides beside plans, which were made already; those of BlockPlans.
    """
    if plans is None:
        ends: Mapping[Mode, tuple[str, str]] = hidden or {"decode": (L1, L1), "prefill": (DRAM, DRAM)}
        works = tuple(typical)
        return keeping_or_not(
            lambda may_keep: BlockPlans(
                requests, board, typical=works, overrides=overrides, hidden=ends, may_keep=may_keep
            )
        )
    if overrides:
        raise PlacementError(
            "hw_config_overrides were given beside plans, which are made already. Give them to whoever made the plans."
        )
    return plans
