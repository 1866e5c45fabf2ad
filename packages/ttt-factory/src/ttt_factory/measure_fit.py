"""The few constants of the estimate that no document names, fitted to measured speeds of models.

Each is tried at steps of a geometric grid around the value in the catalogue, for the plans as they are: the configs do not
change with the constants. The best combination has the least mean of |ln(predicted / measured)|. An error with a row left
out is that row's, predicted with the combination that is best for all other rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from ttt_core import SpecError
from ttt_factory.measured import Speed
from ttt_factory.plan import ModelPlan
from ttt_hw.catalogue import BLACKHOLE, WORMHOLE
from ttt_hw.estimate import Work, estimate
from ttt_hw.records import Board

Logs: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"

STEPS_PER_OCTAVE = 12
OCTAVES = 1  # each way


@dataclass(frozen=True, kw_only=True, slots=True)
class Constant:
    """A field of Rates; `arch` where it belongs to one kind of chip, else of the host."""

    field: str
    arch: str | None = None

    @property
    def name(self) -> str:
        return self.field if self.arch is None else f"{self.arch}.{self.field}"

    @property
    def value(self) -> float:
        """In the catalogue."""
        rates = next(chip.rates for chip in (WORMHOLE, BLACKHOLE) if self.arch in (None, chip.arch))
        return float(getattr(rates, self.field))


FITTED = (
    Constant(field="token_us"),
    Constant(field="call_us"),
    Constant(field="sender_bytes_per_cycle", arch=WORMHOLE.arch),
)
"""What is fitted to speeds of whole models; every other rate has a source of its own."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """`left_out` has an error for each speed, predicted without its row."""

    values: dict[str, float]
    speeds: Sequence[Speed]
    errors: list[float]
    left_out: list[float]


def fit(speeds: Sequence[Speed], constants: Sequence[Constant] = FITTED) -> Fit:
    """Errors: SpecError where there are fewer rows than constants, and one to leave out."""
    rows = {str(speed.row["id"]) for speed in speeds}
    if len(rows) <= len(constants):
        raise SpecError(f"{len(rows)} rows do not fit {len(constants)} constants; give {len(constants) + 1} or more.")
    grids = [_grid(constant.value) for constant in constants]
    table = np.array([_logs(speed, constants, grids) for speed in speeds])  # (speed, combination)
    misses = np.abs(table)
    total = misses.sum(axis=0)
    best = int(total.argmin())
    left_out = [0.0] * len(speeds)
    for row in rows:
        own = [index for index, speed in enumerate(speeds) if speed.row["id"] == row]
        others = int((total - misses[own].sum(axis=0)).argmin())
        for index in own:
            left_out[index] = float(np.expm1(table[index, others]))
    at = np.unravel_index(best, [len(grid) for grid in grids])
    return Fit(
        values={constant.name: grid[i] for constant, grid, i in zip(constants, grids, at, strict=True)},
        speeds=speeds,
        errors=[float(error) for error in np.expm1(table[:, best])],
        left_out=left_out,
    )


def _grid(value: float) -> list[float]:
    steps = STEPS_PER_OCTAVE * OCTAVES
    return [value * 2 ** (step / STEPS_PER_OCTAVE) for step in range(-steps, steps + 1)]


def _logs(speed: Speed, constants: Sequence[Constant], grids: Sequence[list[float]]) -> Logs:
    """ln(predicted / measured) for each combination."""
    device = _DeviceTime(speed.plan, speed.mode)
    standing, arch = speed.plan.board.chip.rates, speed.plan.board.chip.arch
    combinations = np.array(list(product(*grids))).T
    chosen = {
        constant.field: values
        for constant, values in zip(constants, combinations, strict=True)
        if constant.arch in (None, arch)
    }
    host = {name: chosen.pop(name, np.float64(getattr(standing, name))) for name in _HOST}
    if chosen:
        times = np.array(
            [device.at(dict(zip(chosen, values, strict=True))) for values in zip(*chosen.values(), strict=True)]
        )
    else:
        times = np.full(combinations.shape[1], device.at({}))
    predicted: Logs = speed.from_times(times, **host)
    logs: Logs = np.log(predicted / speed.measured)
    return logs


_HOST = ("token_us", "call_us")


class _DeviceTime:
    """The time of a plan's operations in one mode with other rates; each set of rates is computed once."""

    def __init__(self, plan: ModelPlan, mode: str) -> None:
        self._board = plan.board
        self._works = works_of(plan, mode)
        self._known: dict[tuple[tuple[str, float], ...], float] = {}

    def at(self, rates: Mapping[str, float]) -> float:
        key = tuple(sorted(rates.items()))
        if key not in self._known:
            board = with_rates(self._board, rates)
            self._known[key] = sum(count * estimate(work, board).time_us for work, count in self._works.items())
        return self._known[key]


def with_rates(board: Board, rates: Mapping[str, Any]) -> Board:
    return replace(board, chip=replace(board.chip, rates=replace(board.chip.rates, **rates)))


def works_of(plan: ModelPlan, mode: str) -> Counter[Work]:
    """What all operations and moves of a forward do, with how often."""
    works: Counter[Work] = Counter()
    for section in plan.sections:
        block = section.plans[mode]
        for op in block.ops:
            works[op.pattern.work(op.request, plan.board, op.reads)] += section.count
        moved = [*(move for op in block.ops for move in op.moves), *block.exits]
        for move in moved:
            works[move.reshard.work(block.block.types[move.tensor], plan.board)] += section.count
    return works
