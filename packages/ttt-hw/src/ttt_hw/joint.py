"""One place for each weight, however many modes read it.

Decode streams weights and likes them beside their banks; prefill computes and likes them anywhere. A weight is stored once,
so the modes are planned together: the total of what a run takes decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from ttt_core import PlacementError
from ttt_hw.errors import OutOfMemory
from ttt_hw.layouts import DRAM, L1, interleaved, rectangles, width_sharded
from ttt_hw.overrides import Overrides, allowed_patterns, for_mode, names_of, with_precision
from ttt_hw.patterns.base import Pattern
from ttt_hw.plan import BlockPlan
from ttt_hw.planner import plan_block
from ttt_hw.records import Board
from ttt_hw.requests import BlockRequest, TensorType
from ttt_shard_dsl import TILE

__all__ = ["Case", "interfaces", "keeping_or_not", "lasting", "plan_together"]

T = TypeVar("T")

SHARDED_INTERFACES = 3  # core counts that are tried for activations between layers


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A block in one mode, and how often a run goes through it: its time counts `weight` times.

    `interfaces` are the pairs of layouts in which activations may enter and leave; the planner picks one.
    """

    block: BlockRequest
    weight: float = 1.0
    interfaces: tuple[tuple[str, str], ...] = ()


def plan_together(
    cases: Sequence[Case],
    board: Board,
    *,
    overrides: Overrides | None = None,
    stored: Mapping[str, str] | None = None,
    reserve: int = 0,
    kept: int = 0,
    may_keep: bool = True,
) -> tuple[BlockPlan, ...]:
    """A plan for each case, with every stored tensor in one place for all of them, so that the weighted total time is least.

    Tried are: the places that each case would choose for itself, everything interleaved, and from the best of these each
    weight alone in the place that another chose. What was asked before, without overrides, is answered from memory.

    `reserve` bytes of L1 a core stay free, `kept` are taken by what other blocks keep there; without `may_keep` these blocks
    keep none.
    Errors: PlacementError of the case that has no plan at all; those of overrides.
    """
    if overrides:
        return _plan_together(tuple(cases), board, overrides, dict(stored or {}), _Room(reserve, kept, may_keep))
    return _remembered(tuple(cases), board, tuple(sorted((stored or {}).items())), _Room(reserve, kept, may_keep))


def keeping_or_not(plan: Callable[[bool], T]) -> T:
    """`plan(True)`, or `plan(False)` where L1 does not suffice: what some operations keep there to be faster, all others of the
    model do without. Errors: those of the latter."""
    try:
        return plan(True)
    except OutOfMemory:
        return plan(False)


class _Room(NamedTuple):
    """Bytes of L1 on a core that stay free, and that others keep; whether these blocks may keep some."""

    reserve: int
    kept: int
    may_keep: bool


@lru_cache(maxsize=256)
def _remembered(
    cases: tuple[Case, ...], board: Board, stored: tuple[tuple[str, str], ...], room: _Room
) -> tuple[BlockPlan, ...]:
    return _plan_together(cases, board, {}, dict(stored), room)


def _plan_together(
    cases: tuple[Case, ...], board: Board, overrides: Overrides, stored: Mapping[str, str], room: _Room
) -> tuple[BlockPlan, ...]:
    own = [_concerning(overrides, case.block, cases) for case in cases]
    prepared = [_prepare(case, board, each) for case, each in zip(cases, own, strict=True)]
    joint = _Joint(prepared, board, stored, room)
    starts = [*joint.own_places(), _interleaved(cases)]
    found = [(result, places) for places in starts if (result := joint.plan(places)) is not None]
    if not found:
        raise joint.refusal or PlacementError("there is nothing to plan.")
    best, places = min(found, key=lambda each: each[0][0])
    for other in starts:
        for name, text in other.items():
            if places.get(name, text) == text:
                continue
            changed = {**places, name: text}
            result = joint.plan(changed)
            if result is not None and result[0] < best[0]:
                best, places = result, changed
    return best[1]


def _concerning(overrides: Overrides, block: BlockRequest, cases: Sequence[Case]) -> dict[str, Mapping[str, Any]]:
    """Overrides without those of an operation that only other cases have: a cache is filled in one mode, updated in the
    other."""
    here = {name for op in block.ops for name in names_of(op.name)}
    there = {name for case in cases for op in case.block.ops for name in names_of(op.name)}
    return {key: values for key, values in overrides.items() if key in here or key not in there}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Prepared:
    block: BlockRequest
    weight: float
    interfaces: tuple[tuple[str, str], ...]
    allowed: Mapping[str, tuple[Pattern[Any], ...]]


def _prepare(case: Case, board: Board, overrides: Overrides) -> _Prepared:
    own = for_mode(overrides, case.block)
    block = with_precision(case.block, own)
    return _Prepared(
        block=block, weight=case.weight, interfaces=case.interfaces, allowed=allowed_patterns(block, own, board)
    )


class _Joint:
    """Plans of all cases for given places of stored tensors; what has been planned is kept."""

    def __init__(self, cases: Sequence[_Prepared], board: Board, fixed: Mapping[str, str], room: _Room) -> None:
        self.refusal: PlacementError | None = None
        self._cases = list(cases)
        self._board = board
        self._fixed = fixed
        self._room = room
        self._plans: dict[tuple[int, tuple[tuple[str, str], ...]], BlockPlan | None] = {}
        _stored_once(cases)

    def own_places(self) -> Iterator[dict[str, str]]:
        """Where each case would have stored tensors if it were alone; from then on its activations enter and leave so."""
        for index, case in enumerate(self._cases):
            plan = self._plan_case(index, self._fixed)
            if plan is None:
                continue
            if len(case.interfaces) > 1:
                entered = next(text for name, text in plan.inputs.items() if _activation(plan.block.types[name]))
                pair = entered, next(iter(plan.outputs.values()))
                self._cases[index] = replace(case, interfaces=(pair,))
            places = lasting(plan)
            self._plans[self._key(index, places)] = plan
            yield places

    def plan(self, places: Mapping[str, str]) -> tuple[float, tuple[BlockPlan, ...]] | None:
        """All cases after one another, each with the places that those before it chose; and their weighted time."""
        chosen = {**places, **self._fixed}
        plans = []
        for index in range(len(self._cases)):
            plan = self._plan_case(index, chosen)
            if plan is None:
                return None
            chosen.update(lasting(plan))
            plans.append(plan)
        return sum(case.weight * plan.time_us for case, plan in zip(self._cases, plans, strict=True)), tuple(plans)

    def _key(self, index: int, places: Mapping[str, str]) -> tuple[int, tuple[tuple[str, str], ...]]:
        names = (stored.name for stored in self._cases[index].block.stored)
        return index, tuple((name, places[name]) for name in names if name in places)

    def _plan_case(self, index: int, places: Mapping[str, str]) -> BlockPlan | None:
        """The fastest over the case's interfaces."""
        key = self._key(index, places)
        if key not in self._plans:
            case = self._cases[index]
            plans = []
            for pair in case.interfaces or (None,):
                try:
                    plans.append(self._plan_block(case, pair, dict(key[1])))
                except PlacementError as error:
                    self.refusal = self.refusal or error
            self._plans[key] = min(plans, key=lambda plan: plan.time_us, default=None)
        return self._plans[key]

    def _plan_block(self, case: _Prepared, pair: tuple[str, str] | None, stored: Mapping[str, str]) -> BlockPlan:
        inputs: dict[str, str] = {}
        outputs: dict[str, str] = {}
        if pair is not None:
            inputs = {name: pair[0] for name, type_ in case.block.inputs if _activation(type_)}
            outputs = dict.fromkeys(case.block.outputs, pair[1])
        return plan_block(
            case.block,
            self._board,
            inputs=inputs,
            outputs=outputs,
            stored=stored,
            allowed=case.allowed,
            reserve=self._room.reserve,
            kept=self._room.kept,
            may_keep=self._room.may_keep,
        )


def _stored_once(cases: Sequence[_Prepared]) -> None:
    """A weight has one type, whatever the mode."""
    types: dict[str, tuple[str, TensorType]] = {}
    for case in cases:
        for stored in case.block.stored:
            if stored.kind != "weight":
                continue
            mode, type_ = types.setdefault(stored.name, (case.block.mode, stored.type))
            if type_ != stored.type:
                raise PlacementError(
                    f"{stored.name} would be {type_} in {mode} and {stored.type} in {case.block.mode}, but it is stored once. "
                    "Override its dtype for both modes: leave the mode out of the name."
                )


def _interleaved(cases: Sequence[Case]) -> dict[str, str]:
    return {
        stored.name: interleaved(stored.type)
        for case in cases
        for stored in case.block.stored
        if stored.kind != "index"
    }


def lasting(plan: BlockPlan) -> dict[str, str]:
    """Where the stored tensors lie that are the same for every workload: all but indices, which come with each forward."""
    kinds = {stored.name: stored.kind for stored in plan.block.stored}
    return {name: text for name, text in plan.stored.items() if kinds[name] != "index"}


def _activation(type_: TensorType) -> bool:
    return len(type_.shape) == 4 and type_.tiled


def interfaces(block: BlockRequest, board: Board) -> tuple[tuple[str, str], ...]:
    """Layouts in which layers may hand on the hidden state: in prefill DRAM; in decode L1, interleaved or in equal width
    shards.
    """
    if block.mode == "prefill":
        return ((DRAM, DRAM),)
    width = next(type_.shape[-1] for _, type_ in block.inputs if _activation(type_)) // TILE
    grids: dict[int, tuple[int, int]] = {}
    for grid in rectangles(board):
        if width % (grid[0] * grid[1]) == 0:
            grids[grid[0] * grid[1]] = grid  # of equal counts the widest
    counts = sorted(grids, reverse=True)[:SHARDED_INTERFACES]
    return tuple((text, text) for text in (L1, *(width_sharded(grids[count]) for count in counts)))
