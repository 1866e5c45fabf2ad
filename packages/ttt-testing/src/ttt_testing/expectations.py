"""What a test expects of a module, and what became of each expectation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from ttt_core import Mode

__all__ = ["Estimated", "Item"]

Status = Literal["passed", "failed", "not available"]
Kind = Literal[
    "runs", "tolerance", "pcc", "top1", "top5", "latency_ms", "tokens_per_second", "memory_mb", "l1_kb", "contract"
]
AT_LEAST: frozenset[Kind] = frozenset({"pcc", "top1", "top5", "tokens_per_second"})
PRECISION: frozenset[Kind] = frozenset({"pcc", "top1", "top5"})
VALUES = PRECISION | {"tolerance"}


@runtime_checkable
class Estimated(Protocol):
    """A module whose planner says how long a forward takes on its device; `rows` are tokens in prefill, users in decode."""

    def estimate_us(self, mode: Mode, rows: int, /) -> float: ...


class TimedOperation(Protocol):
    """An operation of a plan; `time_us` None: nothing was planned for it."""

    @property
    def name(self) -> str: ...
    @property
    def pattern(self) -> str: ...
    @property
    def time_us(self) -> float | None: ...


@runtime_checkable
class TimedByOperation(Protocol):
    """A module whose planner says how long each operation of a forward takes."""

    def op_times(self, mode: Mode, rows: int, /, *, context: int = 0) -> Sequence[TimedOperation]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """`limit` is the least of a PCC, an agreement or a throughput, the most of anything else; `rtol` of a tolerance only.

    Units: ms, MB of 10⁶ bytes, KB of 10³ bytes.
    """

    kind: Kind
    limit: float = 0.0
    rtol: float = 0.0

    def met_by(self, found: float) -> bool:
        """A number that is none meets nothing."""
        return found >= self.limit if self.kind in AT_LEAST else found <= self.limit

    @property
    def wanted(self) -> str:
        if self.kind == "runs":
            return "every operation accepted"
        if self.kind == "contract":
            return f"nothing grown by more than {100 * self.limit:g} %"
        relative = f" + {self.rtol:g}·|expected|" if self.rtol else ""
        return f"{'≥' if self.kind in AT_LEAST else '≤'} {self.limit:g}{relative}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One expectation of one module in one mode, as it turned out.

    `case` is the test's name, `path` the module's place in the model, `block` its class. `got` is what was found, `basis` how.
    `detail` has what helps to mend a failure. `shared_with`: the case whose run this result is, the modules being equal.
    """

    case: str
    path: str
    block: str
    mode: Mode
    kind: Kind
    wanted: str
    status: Status
    got: str
    basis: str
    detail: tuple[str, ...] = ()
    shared_with: str | None = None
    reproduce: str = ""

    @property
    def name(self) -> str:
        return f"{self.case}/{self.mode}/{self.kind}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        """One paragraph: where, what was found and wanted, why, how to see it again."""
        where = f"{self.path or self.case} ({self.block}), {self.mode}"
        lines = [f"{where}: {self.kind} {self.got}, expected {self.wanted} [{self.basis}]"]
        lines += [f"    {line}" for line in self.detail]
        if self.shared_with:
            lines.append(f"    as found with {self.shared_with}, an equal module")
        if self.reproduce and self.status == "failed":
            lines.append(f"    again: {self.reproduce}")
        return "\n".join(lines)
