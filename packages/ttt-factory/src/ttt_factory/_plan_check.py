"""Does ttnn accept every operation of a plan, as it stands in its file? `ttt check --plan`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ttt_core import PlacementError
from ttt_factory.plan import ModelPlan
from ttt_factory.plan_file import PlanFile
from ttt_factory.spec import ModelSpec
from ttt_hw import Verdict, board_of, issue_plan


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanVerdicts:
    """What ttnn said of each section of a plan in each mode, up to the first refusal in it."""

    plan: ModelPlan
    verdicts: dict[tuple[str, str], list[Verdict]]

    @property
    def legal(self) -> bool:
        return all(verdict.error is None for found in self.verdicts.values() for verdict in found)

    @property
    def fits(self) -> bool:
        return self.plan.fits

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "device": self.plan.board.name,
            "mesh": list(self.plan.board.mesh),
            "rows": self.plan.board.rows,
            "backend": "mock",
            "values": "none",
            "legal": self.legal,
            "fits": self.fits,
            "dram_bytes_per_chip": self.plan.memory.total,
            "ops": [
                {
                    "section": section,
                    "mode": mode,
                    "name": verdict.op,
                    "error": verdict.error,
                    "buffer_bytes": verdict.buffers,
                    "taken_bytes": None if verdict.usage is None else verdict.usage.buffers,
                }
                for (section, mode), found in self.verdicts.items()
                for verdict in found
            ],
        }


def check_plan(file: PlanFile, spec: ModelSpec, mesh: Any) -> PlanVerdicts:
    """Issue every operation of a plan on an open mesh, with its neighbours' tensors alive; shapes only.

    Errors: PlacementError for another board than the plan's, or a config that breaks a rule of its pattern.
    """
    board = board_of(mesh)
    if (board.name, board.mesh_text) != (file.device, file.mesh):
        raise PlacementError(
            f"the plan is for {file.device} {file.mesh}, the device is {board.name} "
            f"{board.mesh_text}. Plan for this device, or check with --device {file.device} "
            f"--mesh {file.mesh}."
        )
    plan = file.plan(spec, board)
    return PlanVerdicts(
        plan=plan, verdicts={(section.name, mode): issue_plan(block, mesh) for section, mode, block in plan.blocks()}
    )


def print_verdicts(found: PlanVerdicts) -> None:
    console = Console(highlight=False)
    table = Table(title="plan", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("section", "mode"):
        table.add_column(name)
    for name in ("operations", "accepted", "memory as planned"):
        table.add_column(name, justify="right")
    for (section, mode), verdicts in found.verdicts.items():
        accepted = sum(verdict.error is None for verdict in verdicts)
        exact = sum(verdict.exact for verdict in verdicts)
        count = Text(f"{accepted}", "green" if accepted == len(verdicts) else "red")
        table.add_row(section, mode, f"{len(verdicts)}", count, f"{exact}")
    console.print(table)
    for (section, mode), verdicts in found.verdicts.items():
        for verdict in verdicts:
            if verdict.error is not None:
                console.print(f"{mode}, {section}: {verdict.error}", soft_wrap=True)
    memory = found.plan.memory
    console.print(f"legal: {_word(found.legal)}")
    console.print(f"fits: {_word(found.fits)}, {memory.total:,} of {memory.capacity:,} bytes of DRAM on each chip")


def _word(holds: bool) -> str:
    return "[green]yes[/]" if holds else "[red]no[/]"
