"""`ttt calibrate`: how well measured speeds are predicted, and which constants would predict them best.

Importing this module must stay quick: the planner is imported when the command runs.
"""

from __future__ import annotations

import json as json_format
import os
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

__all__ = ["app"]

app = App(help="How well measured speeds are predicted, and which constants would predict them best.")


@app.default
def calibrate(*files: Path, page: Path | None = None, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """How well measured speeds are predicted, and which constants would predict them best.

    Every row is planned, and the constants that no document names are fitted to the measured speeds of models: once to all
    rows, and for each row to all others.

    Parameters
    ----------
    files
        Measurements, as `ttt measure` writes them; default: what tt-metal's documents and issues publish.
    page
        Write all rows with their predictions to this file, as Markdown.
    json
        Print one JSON document, and nothing else, on stdout.
    """
    os.environ.setdefault("LOGURU_LEVEL", "WARNING")  # else ttnn prints its configuration when it is imported
    from rich.console import Console

    from ttt_factory._measure_fit import FITTED, fit
    from ttt_factory._measured_page import speeds_page
    from ttt_factory.measured import compare_models, published_models
    from ttt_hw.calibration import compare_ops, errors_by_class, median_error, published_ops, read_measurements

    documents = [read_measurements(file) for file in files] or [published_models(), published_ops()]
    with Console(stderr=True).status("plan"):
        speeds = [speed for document in documents for speed in compare_models(document)]
        ops = compare_ops(row for document in documents for row in document.get("ops", ()))
    counted = [speed for speed in speeds if speed.group == "counted"]
    found = fit(counted) if counted else None
    classes = {kind: median_error([each.error for each in measured]) for kind, measured in errors_by_class(ops).items()}
    if page is not None:
        page.write_text(
            speeds_page(speeds, ops, [row for document in documents for row in document.get("unpredicted", ())]),
            encoding="utf-8",
        )
    report: dict[str, Any] = {
        "schema": 1,
        "constants": {
            constant.name: {
                "catalogue": constant.value,
                "fitted": None if found is None else found.values[constant.name],
            }
            for constant in FITTED
        },
        "models": {
            "numbers": len(counted),
            "median_error": median_error([speed.error for speed in counted]) if counted else None,
            "median_error_fitted": median_error(found.errors) if found else None,
            "median_error_left_out": median_error(found.left_out) if found else None,
            "largest_error": max((abs(speed.error) for speed in counted), default=None),
        },
        "ops": {kind: {"median_error": error} for kind, error in classes.items()},
        "rows": [
            {
                "id": speed.row["id"],
                "quantity": speed.quantity,
                "measured": speed.measured,
                "predicted": speed.predicted,
                "error": speed.error,
                "bound": speed.bound,
                "group": speed.group,
            }
            for speed in speeds
        ],
    }
    if json:
        print(json_format.dumps(report, indent=2))
    else:
        _print(report)
    return 0


def _print(report: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    constants = Table(title="constants", title_justify="left", box=box.SIMPLE_HEAD)
    constants.add_column("constant")
    for name in ("in the catalogue", "fitted"):
        constants.add_column(name, justify="right")
    for name, values in report["constants"].items():
        fitted = values["fitted"]
        constants.add_row(name, f"{values['catalogue']:,.4g}", "" if fitted is None else f"{fitted:,.4g}")
    console.print(constants)
    rows = Table(title="models", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("row", "what"):
        rows.add_column(name)
    for name in ("measured", "predicted", "error"):
        rows.add_column(name, justify="right")
    rows.add_column("bound")
    for row in report["rows"]:
        style = None if row["group"] == "counted" else "dim"
        what = "tokens/s/user" if row["quantity"] == "tokens_per_second_per_user" else "first token, ms"
        measured, predicted = f"{row['measured']:,.1f}", f"{row['predicted']:,.1f}"
        rows.add_row(row["id"], what, measured, predicted, f"{row['error']:+.0%}", row["bound"], style=style)
    console.print(rows)
    models = report["models"]
    if models["numbers"]:
        console.print(
            f"models: {models['numbers']} numbers, median error {models['median_error']:.1%}, with the row left out "
            f"{models['median_error_left_out']:.1%}, largest {models['largest_error']:.0%}"
        )
    for kind, found in report["ops"].items():
        console.print(f"{kind}: median error {found['median_error']:.1%}")
