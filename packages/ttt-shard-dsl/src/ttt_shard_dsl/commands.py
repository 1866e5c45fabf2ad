"""`ttt layout`: what a layout text means for a tensor on a device, in numbers and as a picture; and the steps of a rule.

Importing this module must stay quick: rich and ttt-hw are imported when the command runs, ttnn never.
"""

from __future__ import annotations

import json as json_format
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from ttt_shard_dsl.errors import LayoutError
from ttt_shard_dsl.geometry import Device
from ttt_shard_dsl.parser import parse, parse_rule
from ttt_shard_dsl.steps import Topology

if TYPE_CHECKING:
    from ttt_shard_dsl.placement import Placement
    from ttt_shard_dsl.steps import Plan
    from ttt_shard_dsl.tree import Rule, Spec

__all__ = ["app"]

app = App(help="Check and draw the layout of a tensor, or list the steps from one layout to another.")

WORMHOLE = Device((8, 8), 12, 1_393_312, 1_072_693_184)


@app.default
def layout(
    text: str,
    /,
    *,
    shape: str,
    device: str | None = None,
    grid: str | None = None,
    banks: int | None = None,
    mesh: str | None = None,
    dtype: str | None = None,
    row_major: Annotated[bool, Parameter(negative=())] = False,
    topology: Topology = "ring",
    svg: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Check and draw the layout of a tensor, or list the steps from one layout to another.

    Parameters
    ----------
    text
        A layout, as "1 1 s d@core in l1", or a rule, as "1 1 s d@cols -> 1 1 s d".
    shape
        Sizes of the whole tensor, as 1,1,32,4096.
    device
        Board, as `ttt devices` lists them; needs ttt-hw. Without it a Wormhole chip is assumed.
    grid
        Worker cores of a chip, columns x rows, in place of the board's.
    banks
        DRAM banks of a chip, in place of the board's.
    mesh
        Chips, rows x columns, in place of the board's.
    dtype
        As the language has them: bf16, bfp8, …; default: the text's, else bfloat16.
    row_major
        Rows of elements instead of tiles.
    topology
        How the chips along a mesh axis are linked: which bytes a rule's steps are chosen by.
    svg
        Write the drawing to this file too.
    json
        Print one JSON document, and nothing else, on stdout.
    """
    sizes = _sizes("--shape", shape, ",", "1,1,32,4096")
    where = _device(device, grid, banks, mesh)
    if "->" in text:
        from ttt_shard_dsl.reshard import plan

        rule = parse_rule(text)
        if svg is not None:
            raise LayoutError("--svg draws one layout, not a rule", text, choices=f'nearest valid: "{rule.target}"')
        steps = plan(rule, sizes, device=where, dtype=dtype, tiled=not row_major, topology=topology)
        if json:
            _print_json(rule, _plan_facts(steps))
        else:
            _print_plan(steps)
        return 0

    spec = parse(text)
    placement = spec.place(sizes, device=where, dtype=dtype, tiled=not row_major)
    if svg is not None:
        from ttt_shard_dsl.picture import to_svg

        svg.write_text(to_svg(placement, device=where, spec=spec), encoding="utf-8")
    if json:
        _print_json(spec, _facts(placement))
    else:
        _print_placement(spec, placement, where)
        if svg is not None:
            print(f"Drawn in {svg}.")
    return 0


def _device(name: str | None, grid: str | None, banks: int | None, mesh: str | None) -> Device:
    base = WORMHOLE if name is None else _board(name)
    if grid is not None:
        base = base._replace(grid=_pair("--grid", grid, "8x8"))
    if mesh is not None:
        base = base._replace(mesh=_pair("--mesh", mesh, "1x8"))
    if banks is not None:
        if banks < 1:
            raise LayoutError(f"--banks {banks}", choices="allowed: at least 1")
        base = base._replace(dram_banks=banks)
    return base


def _board(name: str) -> Device:
    """The sizes of a board of ttt-hw, which stands above this package and need not be installed."""
    try:
        found = import_module("ttt_hw.catalogue").board(name)
    except ModuleNotFoundError as error:
        raise LayoutError(
            f"--device {name}: boards come from ttt-hw, which is not installed",
            choices="allowed: --grid 8x8 --banks 12 --mesh 1x8",
        ) from error
    return Device(*(getattr(found, field) for field in Device._fields))


def _pair(option: str, text: str, example: str) -> tuple[int, int]:
    pair = _sizes(option, text.lower(), "x", example)
    if len(pair) != 2:
        raise LayoutError(f"{option} {text} is not two sizes", choices=f"allowed: as {example}")
    return pair[0], pair[1]


def _sizes(option: str, text: str, mark: str, example: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(mark)]
    if not all(word.isascii() and word.isdigit() and int(word) for word in words):
        raise LayoutError(
            f"{option} {text} is not a list of sizes", choices=f"allowed: integers of at least 1, as {example}"
        )
    return tuple(map(int, words))


def _print_placement(spec: Spec, placement: Placement, device: Device) -> None:
    from rich.console import Console

    from ttt_shard_dsl.picture import to_terminal

    console = Console(highlight=False)
    print(spec)
    print(str(placement)[1:-1].removeprefix("Placement "))
    print()
    colour = console.color_system is not None
    print(to_terminal(placement, device=device, spec=spec, colour=colour, width=console.width), end="")


def _print_plan(plan: Plan) -> None:
    from rich.console import Console
    from rich.table import Table

    print(plan.rule)
    for name, placement in (("from", plan.source), ("to", plan.target)):
        print(f"{name:4} {str(placement)[1:-1].removeprefix('Placement ')}")
    print()
    if not plan.steps:
        print("Both are the same: nothing to do.")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("step", no_wrap=True)
    table.add_column("axis", no_wrap=True)
    table.add_column("ring, B a link", justify="right", no_wrap=True)
    table.add_column("line, B a link", justify="right", no_wrap=True)
    for step in plan.steps:
        sizes = (f"{step.ring_bytes:,}", f"{step.line_bytes:,}") if step.axis else ("on the chip", "")
        table.add_row(step.kind, step.axis or "", *sizes)
    Console(highlight=False).print(table)
    print(f"\n{plan.to_ttnn()}\n")
    print(f"{plan.link_bytes:,} bytes on the busiest link of a {plan.topology}, in one direction, all steps together.")


def _print_json(tree: Spec | Rule, facts: dict[str, Any]) -> None:
    from ttt_shard_dsl.json_form import to_data

    print(json_format.dumps({"text": str(tree), "tree": to_data(tree), **facts}, indent=2))


def _facts(placement: Placement) -> dict[str, Any]:
    facts = placement._asdict() | {"num_shards": placement.num_shards, "cores": placement.cores}
    return {"placement": facts}


def _plan_facts(plan: Plan) -> dict[str, Any]:
    steps = [
        {
            "kind": step.kind,
            "axis": step.axis,
            "ring_bytes": step.ring_bytes,
            "line_bytes": step.line_bytes,
            "call": step.call.to_ttnn(),
        }
        for step in plan.steps
    ]
    return {
        "source": plan.source._asdict(),
        "target": plan.target._asdict(),
        "topology": plan.topology,
        "link_bytes": plan.link_bytes,
        "steps": steps,
    }
