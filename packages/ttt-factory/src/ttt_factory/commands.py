"""`ttt check`: does a model fit a board, and is every operation legal?

Importing this module must stay quick: ttnn and the blocks are imported when the command runs.
"""

from __future__ import annotations

import json as json_format
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from ttt_core import SpecError

if TYPE_CHECKING:
    from ttt_hw import Board

__all__ = ["app"]

app = App(help="Does a model fit a board, and does ttnn accept every operation? Answered without a card.")


@app.default
def check(
    config: Path,
    /,
    *,
    device: str,
    mesh: str | None = None,
    batch: int = 1,
    prefill: str = "128,1024,2048",
    context: int = 2048,
    weights: Literal["bf16", "bfp8", "bfp4"] = "bfp8",
    kv: Literal["bf16", "bfp8"] = "bfp8",
    plan: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Does a model fit a board, and does ttnn accept every operation? Answered without a card.

    Every operation of every distinct layer runs through ttnn on a mock of the board, in decode and in prefill, with shapes
    only. Exit code 1: an operation is not legal, or memory does not suffice.

    Parameters
    ----------
    config
        A Hugging Face config.json, or the folder of one.
    device
        Board: `ttt devices` lists them.
    mesh
        Rows x columns of chips, such as 2x4; default: the board's own. The model is split over the columns, and
        with 2x4:hidden over the rows too; else rows are copies for other users.
    batch
        Users that decode together.
    prefill
        Prompt lengths to check, one user at a time.
    context
        Tokens of the KV cache of each user.
    weights
        Precision of the matrices.
    kv
        Precision of the KV cache.
    plan
        A file of `ttt plan --save`: check its configs instead, for its own batch, context and prompt.
    json
        Print one JSON document, and nothing else, on stdout.
    """
    os.environ.setdefault("LOGURU_LEVEL", "WARNING")  # else ttnn prints its configuration when it is imported
    from rich.console import Console

    from ttt_attention import MAX_USERS
    from ttt_factory._report import print_report
    from ttt_factory.check import check as run, validate
    from ttt_factory.huggingface import read_config_at, spec_of_config
    from ttt_factory.memory import Demand
    from ttt_hw import board_as, dtype_of, open_mesh

    record = board_as(device, mesh)
    if plan is not None:
        return _check_plan(config, plan, device, record, json)
    lengths = _lengths(prefill)
    if not 1 <= batch <= MAX_USERS:
        raise SpecError(f"--batch {batch}; 1 to {MAX_USERS} users can decode together.")
    if context < 1:
        raise SpecError(f"--context {context}; give at least 1 token.")
    demand = Demand(
        spec=spec_of_config(read_config_at(config)),
        users=batch,
        context=context,
        weight_dtype=dtype_of(weights),
        cache_dtype=dtype_of(kv),
    )
    validate(demand, lengths, record)
    stderr = Console(stderr=True)
    with (
        open_mesh(device, shape=record.mesh, rows=record.rows, backend="mock") as opened,
        stderr.status("check") as status,
    ):
        report = run(demand, lengths, opened, step=lambda mode: status.update(f"check {mode}"))
    if json:
        print(json_format.dumps(report.to_json(), indent=2))
    else:
        print_report(report)
    return 0 if report.legal and report.fits else 1


def _check_plan(config: Path, file: Path, device: str, record: Board, json: bool) -> int:
    from rich.console import Console

    from ttt_factory._plan_check import check_plan, print_verdicts
    from ttt_factory.huggingface import read_config_at, spec_of_config
    from ttt_factory.plan_file import read_plan
    from ttt_hw import open_mesh

    found = read_plan(file)
    spec = spec_of_config(read_config_at(config))
    stderr = Console(stderr=True)
    with (
        open_mesh(device, shape=record.mesh, rows=record.rows, backend="mock") as opened,
        stderr.status("check the plan"),
    ):
        report = check_plan(found, spec, opened)
    if json:
        print(json_format.dumps(report.to_json(), indent=2))
    else:
        print_verdicts(report)
    return 0 if report.legal and report.fits else 1


def _lengths(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise SpecError(
            f"--prefill {text!r}; numbers of tokens with commas between them are wanted, such as 128,1024."
        ) from None
