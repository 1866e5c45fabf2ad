"""`ttt conformance`: do the installed implementations keep their Protocols?

Importing this module must stay quick: torch and ttnn are imported when the command runs.
"""

from __future__ import annotations

import json as json_format
import os
from typing import Annotated

from cyclopts import App, Parameter

__all__ = ["app"]

app = App(help="Check the installed implementations of ttt's Protocols.")


@app.default
def conformance(
    *,
    device: str = "n150",
    backend: str | None = None,
    only: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Check the installed implementations of ttt's Protocols.

    Packages name them by entry points of the group ttt.conformance. What one does not implement is no failure. The exit code
    is 0 if all conform, 1 if one fails, 2 if there is none or it cannot be loaded.

    Parameters
    ----------
    device
        The board to check on.
    backend
        mock, simulator or silicon; a card if there is one, else a mock, unless given.
    only
        Check the implementation of this name alone.
    json
        Print one JSON document, and nothing else, on stdout.
    """
    os.environ.setdefault("LOGURU_LEVEL", "WARNING")  # else ttnn prints its configuration when it is imported
    from ttt_core import SpecError
    from ttt_hw import open_mesh
    from ttt_testing.conformance import GROUP, check, discover

    found = discover(only)
    if not found:
        raise SpecError(f"Nothing to check: no installed package has entry points of the group {GROUP}.")
    with open_mesh(device, backend=backend) as mesh:
        report = check(found, mesh)
    print(json_format.dumps(report.to_json(), indent=2) if json else report)
    return 1 if report.failures else 0
