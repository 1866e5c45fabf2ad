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

STEPS_PER_OCTAVE = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Constant:
    """A field of Rates; `arch` where it belongs to one kind of chip, else of the host. `steps` of the grid are tried each way, up
    to `most`."""

    field: str
    arch: str | None = None
    steps: int = STEPS_PER_OCTAVE
    most: float = float("inf")

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
    Constant(field="matrix_streamed", arch=BLACKHOLE.arch, steps=3, most=1),
)
"""What is fitted to speeds of whole models; every other rate is from documents, or from times of single operations."""


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
    grids = [_grid(constant) for constant in constants]
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


def _grid(constant: Constant) -> list[float]:
    steps = range(-constant.steps, constant.steps + 1)
    return [min(constant.most, constant.value * 2 ** (step / STEPS_PER_OCTAVE)) for step in steps]


def _logs(speed: Speed, constants: Sequence[Constant], grids: Sequence[list[float]]) -> Logs:
    """ln(predicted / measured) for each combination."""
    board, works = speed.plan.board, works_of(speed.plan, speed.mode)
    combinations = np.array(list(product(*grids))).T
    chosen = {
        constant.field: values
        for constant, values in zip(constants, combinations, strict=True)
        if constant.arch in (None, board.chip.arch)
    }
    host = {name: chosen.pop(name, np.float64(getattr(board.chip.rates, name))) for name in _HOST}

    def device_us(values: Sequence[float]) -> float:
        other = with_rates(board, dict(zip(chosen, values, strict=True)))
        return sum(count * estimate(work, other).time_us for work, count in works.items())

    if chosen:  # those that change the chips' time
        distinct, where = np.unique(np.array([*chosen.values()]), axis=1, return_inverse=True)
        times = np.array([device_us(values) for values in distinct.T])[where.ravel()]
    else:
        times = np.full(combinations.shape[1], device_us(()))
    predicted: Logs = speed.from_times(times, **host)
    logs: Logs = np.log(predicted / speed.measured)
    return logs


_HOST = ("token_us", "call_us")


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
