"""Published and measured speeds of whole models, and what a plan predicts for the same.

A file of measurements is JSON with `schema` 1 and any of `ops` (see ttt_hw.calibration), `models`, `configs` (config.json
files of Hugging Face by the names that models have in rows) and `stacks` (overrides by name: the configs that were run). A row
of `models` has an `id`, `model`, `device`, `users`, `prompt`, `context` (positions of the cache that a decode step reads),
`source`, and what was measured: `tokens_per_second_per_user`, `ttft_ms`. It may have:

`mesh`, `mode`, `stack`. `traced`: true if the prefill was replayed from a trace, as decode always is. `forward`: true if the host
issued operation after operation, in decode too, and did nothing between forwards. `sampled`: "device" if the chips chose
decode's tokens, so that the host had nothing to do between steps. `bar`: false for a row that is shown, not
counted. `differs`: how it ran as ttt cannot; counted apart. `version`, `note`: for readers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ttt_core import SpecError
from ttt_factory.huggingface import spec_of_config
from ttt_factory.plan import ModelPlan, PlanDemand, plan_model
from ttt_factory.requests import precision_of
from ttt_hw import board_as
from ttt_hw.calibration import read_measurements

__all__ = ["Speed", "compare_models", "plan_of_row", "published_models"]

Quantity = Literal["tokens_per_second_per_user", "ttft_ms"]
QUANTITIES: tuple[Quantity, ...] = ("tokens_per_second_per_user", "ttft_ms")


@dataclass(frozen=True, kw_only=True)
class Speed:
    """One measured number of a row, and the plan that predicts it."""

    row: Mapping[str, Any]
    quantity: Quantity
    plan: ModelPlan

    @property
    def measured(self) -> float:
        return float(self.row[self.quantity])

    @property
    def mode(self) -> Literal["decode", "prefill"]:
        return "decode" if self.quantity == "tokens_per_second_per_user" else "prefill"

    @property
    def calls(self) -> int:
        """Operations that the host issued one by one; 0: it replayed a trace, as it is taken to do in decode."""
        forward = bool(self.row.get("forward", False))
        traced = not forward and (self.mode == "decode" or bool(self.row.get("traced", False)))
        return 0 if traced else self.plan.calls(self.mode)

    @property
    def tails(self) -> int:
        """How often the host's work between tokens is in the number: in decode for each replica."""
        if self.row.get("forward", False) or (self.mode == "decode" and self.row.get("sampled") == "device"):
            return 0
        return self.plan.board.replicas if self.mode == "decode" else 1

    def from_times(self, device_us: Any, call_us: Any, token_us: Any) -> Any:
        """The number, from the time of the chips and what the host takes; or many, from arrays."""
        us = np.maximum(device_us, self.calls * call_us) + self.tails * token_us
        return 1e6 / us if self.mode == "decode" else us / 1e3

    @property
    def predicted(self) -> float:
        rates = self.plan.board.chip.rates
        return float(self.from_times(self.plan.time_us(self.mode), rates.call_us, rates.token_us))

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1

    @property
    def group(self) -> Literal["counted", "differs", "shown"]:
        if not self.row.get("bar", True):
            return "shown"
        return "differs" if "differs" in self.row else "counted"

    @property
    def bound(self) -> str:
        """What most of the predicted time goes to: a bound of the operations, or the host."""
        rates = self.plan.board.chip.rates
        if self.calls * rates.call_us > self.plan.time_us(self.mode):
            return "host"
        times: dict[str, float] = {"host": self.tails * rates.token_us}
        for section in self.plan.sections:
            for op in section.plans[self.mode].ops:
                bound = op.estimate.bound
                times[bound] = times.get(bound, 0.0) + section.count * op.estimate.time_us
        return max(times, key=lambda bound: times[bound])


def published_models() -> dict[str, Any]:
    """The measurements that ttt comes with: speeds that tt-metal's documents and issues name."""
    return read_measurements(Path(str(files("ttt_factory").joinpath("published_models.json"))))


def compare_models(document: Mapping[str, Any]) -> list[Speed]:
    """Each measured number of a file with its plan. Errors: SpecError for a row that lacks something; those of plans."""
    found = []
    for row in document.get("models", ()):
        plan = plan_of_row(row, document)
        found += [Speed(row=row, quantity=quantity, plan=plan) for quantity in QUANTITIES if quantity in row]
    return found


def plan_of_row(row: Mapping[str, Any], document: Mapping[str, Any]) -> ModelPlan:
    """The plan of a published row, for its board, users, context and prompt. Errors: SpecError for a row without one of them."""
    try:
        spec = spec_of_config(document["configs"][row["model"]])
        mode = row.get("mode", "performance")
        demand = PlanDemand(
            spec=spec,
            users=row["users"],
            context=row["context"],
            prompt=row["prompt"],
            precision=precision_of(spec, mode),
            mode=mode,
            overrides=document["stacks"][row["stack"]] if "stack" in row else {},
        )
        return plan_model(demand, board_as(row["device"], row.get("mesh")))
    except KeyError as error:
        raise SpecError(
            f"row {row.get('id')!r} of the measurements: {error.args[0]!r} is missing or unknown."
        ) from error
