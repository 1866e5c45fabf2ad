"""Which configurations of which blocks have been tested, on which devices, in which mode, by which model's tests.

A set of records that suites add to, files keep and runs merge; what it says is in `coverage_report.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ttt_core import Mode, SpecError

__all__ = ["Configuration", "Coverage", "Exercised"]

SCHEMA = 1
Scalar = bool | int | float | str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """One block with one spec, in one mode on one device: something that a model uses, or a test has run.

    `spec` has the fields of the spec by name, those of a spec within it as `rope.theta`.
    """

    block: str
    spec: tuple[tuple[str, Scalar], ...]
    device: str
    mode: Mode

    @classmethod
    def of(cls, block: str, spec: Any, *, device: str, mode: Mode) -> Configuration:
        """`spec` is a dataclass, or None for a block that has none."""
        return cls(block=block, spec=tuple(spec_fields(spec).items()), device=device, mode=mode)

    def __str__(self) -> str:
        said = ", ".join(f"{name}={value}" for name, value in self.spec)
        return f"{self.block}({said}), {self.mode} on {self.device}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Exercised:
    """A configuration as a test has run it. `values`: they were compared, not shapes alone; `passed`: nothing failed."""

    configuration: Configuration
    model: str
    backend: str
    values: bool
    passed: bool


class Coverage:
    """What has been tested; equal records are one."""

    def __init__(self, tested: Iterable[Exercised] = ()) -> None:
        self.tested = frozenset(tested)

    def __or__(self, other: Coverage) -> Coverage:
        """Of both. A test that was run again counts as it went last, which is in `other`."""
        again = {(tested.configuration, tested.model, tested.backend) for tested in other.tested}
        kept = {old for old in self.tested if (old.configuration, old.model, old.backend) not in again}
        return Coverage(kept | other.tested)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Coverage) and self.tested == other.tested

    __hash__ = None  # type: ignore[assignment]

    def to_json(self) -> dict[str, Any]:
        """Sorted, so that a file of it changes by what has changed."""
        records = [asdict(tested) for tested in self.tested]
        for record in records:
            record["configuration"]["spec"] = dict(record["configuration"]["spec"])
        return {"schema": SCHEMA, "tested": sorted(records, key=lambda record: json.dumps(record, sort_keys=True))}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Coverage:
        """Errors: SpecError for another schema."""
        if data.get("schema") != SCHEMA:
            raise SpecError(
                f"this coverage has schema {data.get('schema')!r}, and {SCHEMA} is read here. Delete it; tests write it anew."
            )
        return cls(
            Exercised(**record | {"configuration": _configuration(record["configuration"])})
            for record in data["tested"]
        )

    @classmethod
    def load(cls, path: str | Path) -> Coverage:
        """What a file has; nothing if there is none."""
        file = Path(path)
        return cls.from_json(json.loads(file.read_text())) if file.exists() else cls()

    def save(self, path: str | Path) -> Coverage:
        """Add this to what the file has, and return both; the file is never half written."""
        file, merged = Path(path), Coverage.load(path) | self
        file.parent.mkdir(parents=True, exist_ok=True)
        written = file.with_name(f".{file.name}.{os.getpid()}")
        written.write_text(json.dumps(merged.to_json(), indent=1) + "\n")
        written.replace(file)
        return merged


def spec_fields(spec: Any) -> dict[str, Scalar]:
    """A spec's fields as plain values, those of nested specs with dots between."""
    if spec is None or not is_dataclass(spec):
        return {}
    found: dict[str, Scalar] = {}
    for field in (each for each in fields(spec) if each.compare):
        value = getattr(spec, field.name)
        if is_dataclass(value):
            found[field.name] = type(value).__name__
            found |= {f"{field.name}.{name}": inner for name, inner in spec_fields(value).items()}
        elif isinstance(value, Enum):
            found[field.name] = str(value.value)
        else:
            found[field.name] = value if isinstance(value, (bool, int, float, str, type(None))) else repr(value)
    return found


def _configuration(data: Mapping[str, Any]) -> Configuration:
    return Configuration(**{**data, "spec": tuple(data["spec"].items())})
