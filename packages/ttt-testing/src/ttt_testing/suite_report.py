"""What a suite found: as text, as JSON, as an error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ttt_testing.expectations import Item, Status

__all__ = ["SuiteFailed", "SuiteReport"]

Listener = Callable[[Item], None]
_listeners: list[Listener] = []


@dataclass(frozen=True, kw_only=True, slots=True)
class SuiteReport:
    """Every expectation in the order of the tests. `backend`, `values`: on what, and where values came from."""

    items: tuple[Item, ...]
    device: str
    backend: str
    values: str
    runs: int
    """Forwards that were tested; cases of equal modules share them."""

    def of(self, status: Status) -> tuple[Item, ...]:
        return tuple(item for item in self.items if item.status == status)

    @property
    def failures(self) -> tuple[Item, ...]:
        return self.of("failed")

    def to_json(self) -> dict[str, Any]:
        """Tuples are lists once it is written."""
        return {
            "device": self.device,
            "backend": self.backend,
            "values": self.values,
            "runs": self.runs,
            "counts": dict(Counter(item.status for item in self.items)),
            "items": [item.to_json() for item in self.items],
        }

    def __str__(self) -> str:
        counts = Counter(item.status for item in self.items)
        said = ", ".join(
            f"{count} {status}" for status, count in sorted(counts.items(), key=lambda pair: pair[0] != "failed")
        )
        lines = [f"{len(self.items)} expectations on {self.device} ({self.backend}): {said}"]
        for status in ("failed", "not available"):
            lines += self._paragraphs([item for item in self.items if item.status == status])
        return "\n".join(lines)

    @staticmethod
    def _paragraphs(items: list[Item]) -> Iterator[str]:
        """One for what equal modules have in common, with the cases that share it."""
        groups: dict[tuple[str, ...], list[Item]] = {}
        for item in items:
            groups.setdefault(_key(item), []).append(item)
        for first, *others in groups.values():
            also = ", ".join(item.case for item in others)
            yield f"{first}\n    so too, being equal: {also}" if others else str(first)


def _key(item: Item) -> tuple[str, ...]:
    return item.shared_with or item.case, item.mode, item.kind, item.wanted, item.got


class SuiteFailed(AssertionError):
    """Some expectations failed; `report` has all of them."""

    def __init__(self, report: SuiteReport) -> None:
        super().__init__(str(report))
        self.report = report


def announce(item: Item) -> None:
    """Tell whoever listens that an expectation has been judged."""
    for listener in _listeners:
        listener(item)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell `listener` of each expectation that a suite judges inside."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
