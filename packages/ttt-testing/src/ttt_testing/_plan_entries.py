"""The operations of a plan as a report names them: those of equal place in several layers are one entry."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ttt_testing.expectations import TimedOperation

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanEntry:
    """`name` has * for the layer's number, `time_us` is the sum over all `count`. Units: µs."""

    name: str
    pattern: str
    time_us: float
    count: int

    def __str__(self) -> str:
        times = f" × {self.count}" if self.count > 1 else ""
        return f"{self.name} ({self.pattern}){times} {self.time_us:.4g} µs"


def entries(operations: Iterable[TimedOperation]) -> list[PlanEntry]:
    """Those that were planned, the longest first."""
    times: dict[tuple[str, str], list[float]] = {}
    for op in operations:
        if op.time_us is not None:
            times.setdefault((_NUMBER.sub("*", op.name), op.pattern), []).append(op.time_us)
    found = [
        PlanEntry(name=name, pattern=pattern, time_us=sum(each), count=len(each))
        for (name, pattern), each in times.items()
    ]
    return sorted(found, key=lambda entry: -entry.time_us)
