"""`ttt devices`: the boards that ttt-hw knows.

Importing this module must stay quick: rich is imported when the command runs, ttnn never.
"""

from __future__ import annotations

import json as json_format
from typing import Annotated, Any

from cyclopts import App, Parameter

from ttt_hw.catalogue import BOARDS
from ttt_hw.mesh import cards
from ttt_hw.records import Board

__all__ = ["app"]

app = App(help="List the boards that can be opened, and whether a card is present.")

GIB = 1024**3
KIB = 1024


@app.default
def devices(*, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """List the boards that can be opened, and whether a card is present.

    Every board opens as a mock; a card opens under the name of its board.

    Parameters
    ----------
    json
        Print one JSON document, and nothing else, on stdout.
    """
    if json:
        print(json_format.dumps({"cards": cards(), "boards": [_facts(board) for board in BOARDS.values()]}, indent=2))
    else:
        _print_table(cards())
    return 0


def _facts(board: Board) -> dict[str, Any]:
    chip = board.chip
    return {
        "name": board.name,
        "arch": chip.arch,
        "chips": board.num_chips,
        "mesh": list(board.mesh),
        "shapes": [list(shape) for shape in board.shapes],
        "grid": list(chip.grid),
        "other_grids": [list(grid) for grid in chip.other_grids],
        "dram_banks_per_chip": chip.dram_banks,
        "dram_bytes_per_chip": chip.dram_bytes,
        "dram_gb_per_s_per_chip": chip.dram_gb_per_s,
        "l1_bytes_per_core": chip.l1_bytes_per_core,
        "clock_hz": chip.clock_hz,
        "links": board.links,
        "link_gb_per_s": board.link_gb_per_s,
    }


def _print_table(present: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in ("board", "chips", "meshes", "grid", "DRAM", "L1", "links"):
        table.add_column(heading, no_wrap=heading != "meshes")
    for board in BOARDS.values():
        chip = board.chip
        table.add_row(
            board.name,
            str(board.num_chips),
            ", ".join(f"{rows}×{columns}" for rows, columns in board.shapes),
            f"{chip.grid[0]}×{chip.grid[1]}",
            f"{chip.dram_bytes / GIB:.1f} GiB",
            f"{chip.l1_bytes_per_core / KIB:.0f} KiB",
            f"{board.links} × {board.link_gb_per_s:g} GB/s" if board.links else "none",
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(
        "\nMeshes in chips, the first by default; grid in worker cores of a chip; DRAM of a chip; L1 of a core."
    )
    console.print("Links to a neighbour, in each direction.")
    if present:
        console.print(f"Cards here: {len(present)} ({', '.join(present)}).")
    else:
        console.print("No Tenstorrent card here: every board opens as a mock, which checks ops and runs none.")
