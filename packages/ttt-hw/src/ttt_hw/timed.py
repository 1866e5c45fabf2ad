"""How long a block's forwards take by its plans, operation by operation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol, runtime_checkable

from ttt_core import Mode
from ttt_hw.block_plans import Plans
from ttt_hw.plan import OpTime
from ttt_hw.requests import Workload

__all__ = ["Timed", "TimedByPlans", "TimedPlans"]


@runtime_checkable
class TimedPlans(Protocol):
    """Plans that know how long each operation takes."""

    def times(self, work: Workload, /) -> tuple[OpTime, ...]: ...


class Timed(ABC):
    """A module that says which operations a forward on its device has, and how long each takes as planned.

    `rows` are tokens of one prompt in prefill, users in decode; `context` is what a cache holds of each user, as many as in a
    typical run unless given. Units: µs.
    """

    @abstractmethod
    def op_times(self, mode: Mode, rows: int, /, *, context: int = 0) -> tuple[OpTime, ...]: ...

    def estimate_us(self, mode: Mode, rows: int, /) -> float:
        """The sum over what is planned."""
        return sum(op.time_us or 0.0 for op in self.op_times(mode, rows))


class TimedByPlans(Timed):
    """A block that runs from `_plans`. What plans of another kind run is one operation of unknown time."""

    _plans: Plans

    def op_times(self, mode: Mode, rows: int, /, *, context: int = 0) -> tuple[OpTime, ...]:
        if not isinstance(self._plans, TimedPlans):
            return (OpTime(name=type(self).__name__),)
        return self._plans.times(self._workload(mode, rows, context))

    def _workload(self, mode: Mode, rows: int, context: int) -> Workload:
        """A prompt reads what it is itself; a step what caches hold, as much as in a typical run if `context` is 0."""
        if mode == "prefill":
            return Workload(mode=mode, tokens=rows, context=rows)
        return Workload(mode=mode, users=rows, context=context)
