"""Does an implementation keep its Protocol? The same checks for the blocks of ttt and for anybody's own.

A package names what it implements by entry points of the group `ttt.conformance`, each an `Implementation`, or a dict of its
fields in a package that does without this one. What an implementation does not offer is "not implemented", which is no failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from typing import Any, Literal

from ttt_core import SpecError, TttError
from ttt_hw import board_of, current_backend, translate
from ttt_testing._conformance_checks import (
    CHECKS,
    PROTOCOLS,
    Ability,
    NotImplementedHere,
    NotKept,
    ProtocolName,
    Subject,
)
from ttt_testing.values import remembered

__all__ = ["CheckResult", "ConformanceReport", "Implementation", "check", "discover"]

GROUP = "ttt.conformance"
Status = Literal["passed", "failed", "not implemented"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Implementation:
    """`make(mesh)` gives a module with weights, and what it computes: a torch module or a function of x [1, tokens, width] or
    ids [1, tokens]. Without a reference (None) its two modes hold each other to account.

    `tolerance` is of the math in float32, `pcc` of the precision that its dtypes leave.
    """

    protocol: ProtocolName
    make: Callable[[Any], tuple[Any, Callable[..., Any] | None]]
    tolerance: float = 1e-3
    pcc: float = 0.99


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """`ability`: base is what the Protocol asks, all else is extended; `detail` is why it failed, or what there is not."""

    implementation: str
    protocol: ProtocolName
    ability: Ability
    check: str
    status: Status
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConformanceReport:
    """What was checked on one device, in order."""

    device: str
    backend: str
    results: tuple[CheckResult, ...]

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        return tuple(result for result in self.results if result.status == "failed")

    def to_json(self) -> dict[str, Any]:
        values = "golden" if self.backend == "mock" else "device"
        results = [asdict(result) for result in self.results]
        return {"device": self.device, "backend": self.backend, "values": values, "results": results}

    def __str__(self) -> str:
        lines = []
        for name in dict.fromkeys(result.implementation for result in self.results):
            mine = [result for result in self.results if result.implementation == name]
            verdict = "fails" if any(result.status == "failed" for result in mine) else "conforms"
            lines.append(f"{name} ({mine[0].protocol}) {verdict} on {self.device} ({self.backend})")
            for result in mine:
                detail = "".join(f"\n      {line}" for line in result.detail.splitlines())
                lines.append(f"  {result.status:<15} {result.ability:<8} {result.check}{detail}")
        return "\n".join(lines)


def discover(only: str | None = None) -> dict[str, Implementation]:
    """Every implementation that an installed package names, or the one of that name.

    Errors: SpecError for a name that there is not, an entry that cannot be loaded or that is something else.
    """
    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    if only is not None and only not in entries:
        known = ", ".join(sorted(entries)) or f"none: no installed package has entry points of the group {GROUP}"
        raise SpecError(f"There is no implementation {only!r}. Those installed: {known}.")
    found = {}
    for name in sorted(entries) if only is None else [only]:
        try:
            loaded = entries[name].load()
        except (ImportError, AttributeError) as error:
            raise SpecError(f"The implementation {name} ({entries[name].value}) cannot be loaded: {error}.") from error
        found[name] = _implementation(loaded, f"The implementation {name} ({entries[name].value})")
    return found


def _implementation(loaded: Any, what: str) -> Implementation:
    if isinstance(loaded, Implementation):
        return loaded
    if not isinstance(loaded, Mapping):
        raise SpecError(
            f"{what} is a {type(loaded).__name__}; it must be an Implementation of ttt_testing.conformance, or a dict of its "
            "fields."
        )
    try:
        return Implementation(**loaded)
    except TypeError as error:
        raise SpecError(f"{what} does not have the fields of an Implementation: {error}.") from error


def check(implementations: dict[str, Implementation], mesh: Any) -> ConformanceReport:
    """Check each on an open mesh."""
    results = [result for name, each in implementations.items() for result in _check_one(name, each, mesh)]
    return ConformanceReport(device=board_of(mesh).name, backend=current_backend(mesh), results=tuple(results))


def _check_one(name: str, implementation: Implementation, mesh: Any) -> Iterable[CheckResult]:
    def result(ability: Ability, check: str, status: Status, detail: str = "") -> CheckResult:
        return CheckResult(
            implementation=name,
            protocol=implementation.protocol,
            ability=ability,
            check=check,
            status=status,
            detail=detail,
        )

    try:
        with remembered() if current_backend(mesh) == "mock" else nullcontext():
            module, reference = implementation.make(mesh)
    except TttError as error:
        yield result("base", "is made for this device", "failed", str(error))
        return
    if not isinstance(module, PROTOCOLS[implementation.protocol]):
        what = f"{type(module).__name__} is no {PROTOCOLS[implementation.protocol].__name__} of ttt_core: a method is missing"
        yield result("base", "has the methods of its Protocol", "failed", what)
        return
    subject = Subject(module, reference, mesh, tolerance=implementation.tolerance, pcc=implementation.pcc)
    for each in CHECKS:
        if implementation.protocol not in each.protocols:
            continue
        try:
            each.run(subject)
        except NotImplementedHere as reason:
            yield result(each.ability, each.name, "not implemented", str(reason))
        except (NotKept, TttError) as error:
            yield result(each.ability, each.name, "failed", str(error))
        except RuntimeError as error:
            yield result(each.ability, each.name, "failed", str(translate(error, where=type(module).__name__)))
        else:
            yield result(each.ability, each.name, "passed")
