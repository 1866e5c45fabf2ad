"""`ttt measure`: times of a model's operations and forwards on a card, for `ttt calibrate`.

Importing this module must stay quick: ttnn is imported when the command runs.
"""

from __future__ import annotations

import json as json_format
import os
from pathlib import Path
from typing import Literal

from cyclopts import App

__all__ = ["app"]

app = App(help="Times of a model's operations and forwards on a card, for ttt calibrate.")


@app.default
def measure(
    config: Path,
    /,
    *,
    device: str,
    output: Path,
    mesh: str | None = None,
    batch: int = 1,
    context: int = 1024,
    prefill: int = 128,
    mode: Literal["performance", "accuracy", "balanced"] = "performance",
    runs: int = 10,
    backend: str | None = "silicon",
) -> int:
    """Times of a model's operations and forwards on a card, for ttt calibrate.

    The model is planned as by `ttt plan`, and every operation of every distinct layer runs as planned, on weights of zeros.

    Parameters
    ----------
    config
        A Hugging Face config.json, or the folder of one.
    device
        Board: `ttt devices` lists them.
    output
        The file of measurements, JSON.
    mesh
        Rows x columns of chips, such as 2x4; default: the board's own.
    batch
        Users that decode together.
    context
        Tokens of the KV cache of each user; the last of them is decoded.
    prefill
        Tokens of a prompt.
    mode
        Precision: performance (bfp4 and bfp8 weights), accuracy (bfp8 and bf16), balanced (bfp8).
    runs
        How many runs the median is taken of.
    backend
        Where to measure; anything but silicon is refused.
    """
    os.environ.setdefault("LOGURU_LEVEL", "WARNING")  # else ttnn prints its configuration when it is imported
    from rich.console import Console

    from ttt_core import SpecError
    from ttt_factory._measure import measure as run
    from ttt_factory.huggingface import read_config_at, spec_of_config
    from ttt_factory.plan import PlanDemand, plan_model
    from ttt_factory.requests import precision_of
    from ttt_hw import board_as, board_of, open_mesh

    if runs < 1:
        raise SpecError(f"--runs {runs}; give at least 1.")
    record = board_as(device, mesh)
    content = read_config_at(config)
    spec = spec_of_config(content)
    demand = PlanDemand(
        spec=spec, users=batch, context=context, prompt=prefill, precision=precision_of(spec, mode), mode=mode
    )
    with (
        open_mesh(device, shape=record.mesh, rows=record.rows, backend=backend) as opened,
        Console(stderr=True).status("measure"),
    ):
        found = run(plan_model(demand, board_of(opened)), config.stem, content, opened, runs=runs)
    output.write_text(json_format.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0
