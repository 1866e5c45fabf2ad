"""What modules took of a device when it was recorded, in a file to review, and what has grown since.

A file has one table for each board, backend, module and mode:

    [n150.mock."layers.0.ffn".decode]
    rows = 32
    context = 128
    versions = "ttt-ffn 0.1.0, ttt-hw 0.1.0, ttnn 0.81.1"
    time_us = 11.64
    weights_bytes = 57120
    …
    operations.gate_matmul = ["DramShardedMatmul", 3.826]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tomlkit

from ttt_core import Mode, SpecError
from ttt_testing._plan_entries import entries
from ttt_testing._trial import NotAvailable, Trial

Key = tuple[str, str, str, Mode]
"""Board, backend, the test's name, mode."""
_DRAM = ("weights_bytes", "cache_bytes", "activations_bytes")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """What one forward took. `time_us` None: it was not known; `operations` has pattern and time of each that was planned."""

    rows: int
    context: int
    versions: str
    time_us: float | None
    weights_bytes: int
    cache_bytes: int
    activations_bytes: int
    l1_bytes: int
    operations: Mapping[str, tuple[str, float]]

    @property
    def dram_bytes(self) -> int:
        return self.weights_bytes + self.cache_bytes + self.activations_bytes


def take(trial: Trial) -> Recorded:
    """What a trial's forward takes now."""
    use = trial.footprint
    try:
        time_us: float | None = trial.time[0]
    except NotAvailable:
        time_us = None
    operations: dict[str, tuple[str, float]] = {}
    for entry in entries(trial.op_times):  # one place may run differently in layers that differ
        pattern, before = operations.get(entry.name, ("", 0.0))
        operations[entry.name] = f"{pattern}+{entry.pattern}".lstrip("+"), round(before + entry.time_us, 4)
    return Recorded(
        rows=trial.rows,
        context=trial.driver.context,
        versions=_versions(trial.driver.module),
        time_us=None if time_us is None else round(time_us, 4),
        weights_bytes=use.weights,
        cache_bytes=use.cache,
        activations_bytes=use.activations,
        l1_bytes=use.l1_bytes,
        operations=operations,
    )


def regressions(then: Recorded, now: Recorded, tolerance: float) -> Iterator[str]:
    """Each figure that has grown by more than that share, and what made it grow."""

    def grown(before: float | None, after: float | None) -> bool:
        return before is not None and after is not None and after > before * (1 + tolerance)

    if (then.rows, then.context) != (now.rows, now.context):
        yield f"it was recorded with {then.rows} rows and context {then.context}, this test has {now.rows} and {now.context}"
        return
    if then.time_us is not None and now.time_us is None:
        yield f"time {then.time_us:g} µs was recorded, and it cannot be found out any more"
    if grown(then.time_us, now.time_us):
        yield f"time {_change(then.time_us, now.time_us)} µs: {_grew_most(then, now)}"
    if grown(then.dram_bytes, now.dram_bytes):
        name = max(_DRAM, key=lambda share: getattr(now, share) - getattr(then, share))
        share = f"{name.removesuffix('_bytes')} {getattr(then, name):,} → {getattr(now, name):,}"
        yield f"DRAM {_change(then.dram_bytes, now.dram_bytes)} bytes, most of it {share}"
    if grown(then.l1_bytes, now.l1_bytes):
        yield f"L1 of the fullest core {_change(then.l1_bytes, now.l1_bytes)} bytes"


def load(path: str | Path) -> dict[Key, Recorded]:
    """What a file has; nothing if there is none. Errors: SpecError for one that is not as `save` writes it."""
    file = Path(path)
    if not file.exists():
        return {}
    found: dict[Key, Recorded] = {}
    try:
        for board, backends in tomlkit.parse(file.read_text()).unwrap().items():
            for backend, modules in backends.items():
                for name, modes in modules.items():
                    for mode, data in modes.items():
                        found[board, backend, name, mode] = _recorded(data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SpecError(
            f"{file} is no contract as suite.record_contract writes it: {error}. Record it anew."
        ) from error
    return found


def save(path: str | Path, records: Mapping[Key, Recorded]) -> None:
    """Put the records in the file; what it has of others stays."""
    merged = load(path) | dict(records)
    document = tomlkit.document()
    document.add(tomlkit.comment("What each module took of a device, as ttt_testing found it; times are in µs."))
    for (board, backend, name, mode), record in sorted(merged.items()):
        data = {key: value for key, value in asdict(record).items() if value is not None}
        operations = data.pop("operations")
        table = tomlkit.table()
        table.update(data)
        inner = tomlkit.table()
        inner.update({each: list(pair) for each, pair in operations.items()})
        table.add("operations", inner)
        at: Any = document
        for part in (board, backend, name):
            if part not in at:
                at.add(part, tomlkit.table(is_super_table=True))
            at = at[part]
        at.add(mode, table)
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(tomlkit.dumps(document))


def _recorded(data: Mapping[str, Any]) -> Recorded:
    known = {field.name for field in fields(Recorded)}
    if unknown := sorted(data.keys() - known):
        raise ValueError(f"unknown {', '.join(unknown)}")
    operations = {name: (str(pattern), float(time)) for name, (pattern, time) in data["operations"].items()}
    return Recorded(**{"time_us": None, **data, "operations": operations})


def _grew_most(then: Recorded, now: Recorded) -> str:
    """The operation of the plan whose time has grown most, with its patterns."""
    nothing = ("", 0.0)
    growth = {name: time - then.operations.get(name, nothing)[1] for name, (_, time) in now.operations.items()}
    name = max(growth, key=lambda each: growth[each], default="")
    if not name or growth[name] <= 0:
        return "no operation of the plan has grown"
    before, (pattern, time) = then.operations.get(name, nothing), now.operations[name]
    if before == nothing:
        return f"{name} ({pattern}) {time:g} µs is new"
    if before[0] != pattern:
        return f"most of it {name}, was {before[0]} {before[1]:g} µs, is {pattern} {time:g} µs"
    return f"most of it {name} ({pattern}) {before[1]:g} → {time:g} µs"


def _change(before: float | None, after: float | None) -> str:
    assert before is not None
    assert after is not None
    share = f" (+{100 * (after / before - 1):.1f} %)" if before else ""
    return f"{before:,.6g} → {after:,.6g}{share}" if isinstance(before, float) else f"{before:,} → {after:,}{share}"


def _versions(module: Any) -> str:
    names = [type(module).__module__.split(".")[0].replace("_", "-"), "ttt-hw", "ttnn"]
    return ", ".join(f"{name} {found}" for name in dict.fromkeys(names) if (found := _version(name)))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
