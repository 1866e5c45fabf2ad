"""Plans as files that people read and edit: TOML, or JSON by the file's ending."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from ttt_core import SpecError
from ttt_factory.plan import ModelPlan, PlanDemand, SectionChoices, plan_model
from ttt_factory.spec import ModelSpec
from ttt_hw import PATTERNS, Board, DType, HardwareMode, lasting

__all__ = ["read_plan", "save_plan"]

SCHEMA = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanFile:
    """What a plan's file says: for which board and demand it was made, and the choices of each section."""

    device: str
    mesh: str
    mode: HardwareMode
    users: int
    context: int
    prompt: int
    precision: Mapping[str, DType]
    sections: Mapping[str, SectionChoices]

    def plan(self, spec: ModelSpec, board: Board) -> ModelPlan:
        """The plan, checked anew for a model and a board.

        Errors: PlacementError for what is not legal there, SpecError for a file that was made for another model.
        """
        demand = PlanDemand(
            spec=spec,
            users=self.users,
            context=self.context,
            prompt=self.prompt,
            precision=self.precision,
            mode=self.mode,
        )
        return plan_model(demand, board, choices=self.sections)


def save_plan(plan: ModelPlan, path: Path) -> None:
    """Write the whole file or nothing."""
    document = _document(plan)
    text = json.dumps(document, indent=2) + "\n" if path.suffix == ".json" else tomlkit.dumps(document)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _document(plan: ModelPlan) -> dict[str, Any]:
    demand = plan.demand
    return {
        "schema": SCHEMA,
        "device": plan.board.name,
        "mesh": plan.board.mesh_text,
        "mode": demand.mode,
        "batch": demand.users,
        "context": demand.context,
        "prefill": demand.prompt,
        "precision": dict(demand.precision),
        "sections": {
            section.name: {
                "count": section.count,
                "stored": {name: text for plan_ in section.plans.values() for name, text in lasting(plan_).items()},
                **{
                    mode: {
                        **({"hidden": block.inputs["x"]} if "x" in block.inputs else {}),
                        "ops": {op.request.name: _plain(op.pattern.to_json()) for op in block.ops},
                    }
                    for mode, block in section.plans.items()
                },
            }
            for section in plan.sections
        },
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """TOML has no null, and a value that is not set is left out."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in values.items() if value is not None
    }


def read_plan(path: Path) -> PlanFile:
    """Errors: SpecError for a file that is no plan, naming what is wrong in it; OSError as Python has it."""
    text = path.read_text(encoding="utf-8")
    try:
        found = json.loads(text) if path.suffix == ".json" else tomlkit.parse(text).unwrap()
    except (TOMLKitError, ValueError) as error:
        raise SpecError(
            f"{path} is no plan: {error}. Write one with `ttt plan CONFIG --device NAME --save FILE`."
        ) from None
    if not isinstance(found, dict):
        raise SpecError(
            f"{path} is no plan: it holds no table. Write one with `ttt plan CONFIG --device NAME --save FILE`."
        )
    if found.get("schema") != SCHEMA:
        raise SpecError(f"{path} has schema {found.get('schema')!r}; this version reads {SCHEMA}. Plan again.")
    wanted: dict[str, type] = {
        "device": str,
        "mesh": str,
        "mode": str,
        "batch": int,
        "context": int,
        "prefill": int,
        "precision": dict,
        "sections": dict,
    }
    for name, kind in wanted.items():
        if not isinstance(found.get(name), kind):
            raise SpecError(
                f"{path}: {name!r} must be a {kind.__name__}, not {found.get(name)!r}. Plan again, or mend it."
            )
    return PlanFile(
        device=found["device"],
        mesh=found["mesh"],
        mode=found["mode"],
        users=found["batch"],
        context=found["context"],
        prompt=found["prefill"],
        precision=found["precision"],
        sections={name: _section(path, name, section) for name, section in found["sections"].items()},
    )


def _whole(values: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the fields that its file leaves out because they are None."""
    kind = PATTERNS.get(values.get("pattern", ""))
    missing = {} if kind is None else {field.name: None for field in fields(kind) if field.name not in values}
    return {**values, **missing}


def _section(path: Path, name: str, section: Any) -> SectionChoices:
    try:
        return SectionChoices(
            stored=dict(section["stored"]),
            hidden={mode: str(section[mode]["hidden"]) for mode in ("decode", "prefill") if "hidden" in section[mode]},
            overrides={
                f"{mode}.{op}": _whole(values)
                for mode in ("decode", "prefill")
                for op, values in section[mode]["ops"].items()
            },
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise SpecError(f"{path}: section {name!r} lacks or misspells {error}. Plan again, or mend it.") from None
