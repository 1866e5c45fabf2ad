"""What this process has opened: ttnn makes one cluster per process and keeps it until the process ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ttt_hw.records import Board, Rows

Backend = Literal["mock", "simulator", "silicon"]


@dataclass(slots=True)
class Process:
    board: Board | None = None
    """The board of the cluster, once one has been asked for."""
    backend: Backend | None = None
    mesh: Any = None
    """The MeshDevice that is open now."""
    rows: Rows = "replicas"
    """What its rows are."""
    fabric: bool = False
    """Whether the links between chips have been set up for it, and have to be put back."""
    announced: bool = False
    """Whether the user has been told that a mock stands in for a card."""


PROCESS = Process()
