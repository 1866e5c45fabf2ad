"""One forward of one module, run in each way that expectations need, once: values in float32, values as the device rounds
them, memory, time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from ttt_core import GoldenError, Mode, WeightError
from ttt_hw import current_backend, download
from ttt_testing._driver import Driver, Read
from ttt_testing._finding import attributes, parts, weights_of
from ttt_testing._footprint import Footprint, measure_footprint, median_us
from ttt_testing._problem import Problem
from ttt_testing.expectations import Estimated, TimedByOperation, TimedOperation
from ttt_testing.metrics import pcc
from ttt_testing.values import Rounding, Values, shadow

Reference = Callable[[torch.Tensor], torch.Tensor]  # a sequence [S, D] or [S] → [S, D or V]


class NotAvailable(Exception):
    """Something that cannot be found out here; the message says why."""


@dataclass(frozen=True, slots=True)
class Result:
    """Rows as computed and as expected, what they are, and a sentence on where both came from."""

    actual: torch.Tensor
    expected: torch.Tensor
    rows: list[str]
    basis: str


class Trial:
    """`reference` None: the module is held to its own values, by the other mode or without rounding."""

    def __init__(self, driver: Driver, mode: Mode, reference: Reference | None, reference_name: str) -> None:
        self.driver, self.mode, self.reference, self.reference_name = driver, mode, reference, reference_name
        self.backend = current_backend(driver.mesh)

    @cached_property
    def problem(self) -> Problem:
        return self.driver.problem(self.mode)

    @cached_property
    def footprint(self) -> Footprint:
        prepare, cache = self.driver.prepare(self.mode)
        run = prepare()
        weights = [weight.tensor for weight in weights_of(self.driver.module) if weight.tensor is not None]
        return measure_footprint(run, self.driver.mesh, weights=weights, cache=cache)

    @cached_property
    def math(self) -> Result:
        """In float32, against the reference; without one, against the other mode. On a device: as it computes."""
        if self.reference is not None:
            return Result(*self._both(self._exact), f"{self._exact_name}, against {self.reference_name}")
        with self._reading("none") as read:
            expected, count = self.driver.run_otherwise(self.mode, self.problem, read)
        other = "decode" if self.mode == "prefill" else "prefill"
        few = f" of the first {count} rows" if count < len(self.problem.places) else ""
        basis = f"{self._exact_name}, against its own {other}{few}"
        return Result(self._exact[:count], expected, self.problem.names[:count], basis)

    @cached_property
    def precision(self) -> Result:
        """Rounded as the device's tensors are, against the reference; without one, against its own float32 values.

        Errors: NotAvailable for a device's values without a reference.
        """
        how = (
            "golden values rounded as the device's tensors"
            if self.backend == "mock"
            else f"values of the {self.backend}"
        )
        if self.reference is None:
            if self.backend != "mock":
                raise NotAvailable(
                    f"the {self.backend} has no float32 values to compare with: give a reference (.against)"
                )
            return Result(self._rounded, self._exact, self.problem.names, f"{how}, against its own float32 ones")
        return Result(*self._both(self._rounded), f"{how}, against {self.reference_name}")

    @cached_property
    def time(self) -> tuple[float, str]:
        """µs, and how they were found. Errors: NotAvailable where no kernel runs and no planner estimates."""
        module, rows = self.driver.module, self.rows
        if self.backend == "silicon":
            return median_us(self.driver.prepare(self.mode)[0], self.driver.mesh), "median on silicon"
        if known := [op.time_us for op in self.op_times if op.time_us is not None]:
            unplanned = list(dict.fromkeys(op.name.rpartition(".")[2] for op in self.op_times if op.time_us is None))
            without = f" without {', '.join(unplanned)}, not planned" if unplanned else ""
            return sum(known), f"the planner's estimate, {self.backend}{without}"
        if isinstance(module, Estimated):
            return module.estimate_us(self.mode, rows), f"the planner's estimate, {self.backend}"
        raise NotAvailable(
            f"time cannot be measured on a {self.backend}, and {type(module).__name__} has no estimate_us(mode, rows)"
        )

    @property
    def rows(self) -> int:
        """Tokens of the prompt, or users."""
        driver = self.driver
        return min(driver.rows, driver.context) if self.mode == "prefill" and driver.has_positions else driver.rows

    @cached_property
    def op_times(self) -> tuple[TimedOperation, ...]:
        """The plan's operations, in their order; none where the module has no `op_times`."""
        module = self.driver.module
        if not isinstance(module, TimedByOperation):
            return ()
        return tuple(module.op_times(self.mode, self.rows, context=self.driver.context))

    def costliest_operation(self) -> str:
        """The operation after which rounding has cost the most, by the values of all operations with it and without."""
        found = [self._traced(rounding) for rounding in ("none", "device")]
        least, worst = 1.0, (0.0, "")
        for number, ((name, exact), (_, rounded)) in enumerate(zip(*found, strict=True), start=1):
            like = pcc(rounded, exact)
            if least - like > worst[0]:
                worst = least - like, f"{name} (operation {number}): pcc {least:.6f} before it, {like:.6f} after"
            least = min(least, like)
        return worst[1]

    def dtypes(self) -> str:
        """`gate bfloat4_b, up bfloat8_b`: the precision of each weight, by the name that the module gives it."""
        known = {id(weight) for weight in weights_of(self.driver.module)}
        named = {
            f"{path}.{name}".lstrip("."): str(weight.dtype)
            for path, part in parts(self.driver.module)
            for name, weight in attributes(part).items()
            if id(weight) in known and hasattr(weight, "dtype")
        }
        return ", ".join(f"{name} {dtype}" for name, dtype in named.items())

    @property
    def _exact_name(self) -> str:
        return "golden values in float32" if self.backend == "mock" else f"values of the {self.backend}"

    @cached_property
    def _exact(self) -> torch.Tensor:
        with self._reading("none") as read:
            return self.driver.run(self.mode, self.problem, read)

    @cached_property
    def _rounded(self) -> torch.Tensor:
        if self.backend != "mock":
            return self._exact
        with self._reading("device") as read:
            return self.driver.run(self.mode, self.problem, read)

    @cached_property
    def _expected(self) -> torch.Tensor:
        assert self.reference is not None
        return self.problem.rows_of([self.reference(sequence) for sequence in self.problem.sequences])

    def _both(self, actual: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        return actual, self._expected, self.problem.names

    def _traced(self, rounding: Rounding) -> list[tuple[str, torch.Tensor]]:
        with shadow(rounding) as values:
            values.trace = []
            self.driver.run(self.mode, self.problem, values.to_torch)
            return [(name, value) for name, value in values.trace if value.is_floating_point()]

    @contextmanager
    def _reading(self, rounding: Rounding) -> Iterator[Read]:
        """Values come from golden functions on a mock, else from the device. Errors: NotAvailable for weights without any."""
        if self.backend != "mock":
            yield lambda tensor: torch.from_numpy(download(tensor)).float()
            return
        self.driver.learn_entries(self.mode)
        with shadow(rounding) as values:
            if unknown := self._without_values(values):
                raise NotAvailable(f"{unknown} has a shape and no values, so there is nothing to compute with")
            try:
                yield values.to_torch
            except GoldenError as error:
                raise NotAvailable(str(error)) from error

    def _without_values(self, values: Values) -> str | None:
        for weight in weights_of(self.driver.module):
            if not _has_values(weight, values):
                return str(getattr(weight, "name", "a weight"))
        return None


def _has_values(weight: Any, values: Values) -> bool:
    try:
        return weight.tensor is None or values.knows(weight.tensor)
    except WeightError:  # it was left out, and the shadow is where values are wanted
        return False
