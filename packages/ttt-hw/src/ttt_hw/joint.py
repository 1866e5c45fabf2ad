"""One place for each weight, however many modes read it.

Decode streams weights and likes them beside their banks; prefill computes and likes them anywhere. A weight is stored once,
so the modes are planned together: the total of what a run takes decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ttt_core import PlacementError
from ttt_hw.layouts import DRAM, L1, interleaved, rectangles, width_sharded
from ttt_hw.overrides import Overrides, allowed_patterns, for_mode, with_precision
from ttt_hw.patterns.base import Pattern
from ttt_hw.plan import BlockPlan
from ttt_hw.planner import plan_block
from ttt_hw.records import Board
from ttt_hw.requests import BlockRequest, TensorType
from ttt_shard_dsl import TILE

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
) -> tuple[BlockPlan, ...]:
    """A plan for each case, with every stored tensor in one place for all of them, so that the weighted total time is least.

    Tried are: the places that each case would choose for itself, everything interleaved, and from the best of these each
    weight alone in the place that another chose. Errors: PlacementError of the case that has no plan at all; those of
    overrides.
    """
    prepared = [_prepare(case, board, overrides or {}) for case in cases]
    fixed = dict(stored or {})
    tried: dict[tuple[tuple[str, str], ...], tuple[float, tuple[BlockPlan, ...]] | None] = {}
    refusal: PlacementError | None = None

    def total(places: Mapping[str, str]) -> tuple[float, tuple[BlockPlan, ...]] | None:
        nonlocal refusal
        key = tuple(sorted({**places, **fixed}.items()))
        if key not in tried:
            try:
                tried[key] = _plan_all(prepared, board, dict(key), reserve)
            except PlacementError as error:
                refusal = refusal or error
                tried[key] = None
        return tried[key]

    starts = [*_own_places(prepared, board, fixed, reserve), _interleaved(cases)]
    found = [(result, places) for places in starts if (result := total(places)) is not None]
    if not found:
        raise refusal or PlacementError("there is nothing to plan.")
    best, places = min(found, key=lambda each: each[0][0])
    for other in starts:
        for name, text in other.items():
            if places.get(name, text) == text or name in fixed:
                continue
            changed = {**places, name: text}
            result = total(changed)
            if result is not None and result[0] < best[0]:
                best, places = result, changed
    return best[1]


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


def _plan_all(
    cases: Sequence[_Prepared], board: Board, stored: Mapping[str, str], reserve: int
) -> tuple[float, tuple[BlockPlan, ...]]:
    """All cases after one another, each with the places that those before it chose."""
    places = dict(stored)
    plans = []
    for case in cases:
        plan = _plan_case(case, board, places, reserve)
        places.update(lasting(plan))
        plans.append(plan)
    return sum(case.weight * plan.time_us for case, plan in zip(cases, plans, strict=True)), tuple(plans)


def _plan_case(case: _Prepared, board: Board, stored: Mapping[str, str], reserve: int) -> BlockPlan:
    """The fastest over the case's interfaces."""
    names = {each.name for each in case.block.stored}
    known = {name: text for name, text in stored.items() if name in names}
    plans: list[BlockPlan] = []
    refusal: PlacementError | None = None
    for pair in case.interfaces or (None,):
        inputs: dict[str, str] = {}
        outputs: dict[str, str] = {}
        if pair is not None:
            inputs = {name: pair[0] for name, type_ in case.block.inputs if _activation(type_)}
            outputs = dict.fromkeys(case.block.outputs, pair[1])
        try:
            plans.append(
                plan_block(
                    case.block,
                    board,
                    inputs=inputs,
                    outputs=outputs,
                    stored=known,
                    allowed=case.allowed,
                    reserve=reserve,
                )
            )
        except PlacementError as error:
            refusal = refusal or error
    if not plans:
        raise refusal or PlacementError("a case without interfaces")
    return min(plans, key=lambda plan: plan.time_us)


def _own_places(
    cases: Sequence[_Prepared], board: Board, fixed: Mapping[str, str], reserve: int
) -> Iterator[dict[str, str]]:
    for case in cases:
        try:
            yield lasting(_plan_case(case, board, fixed, reserve))
        except PlacementError:
            continue


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
