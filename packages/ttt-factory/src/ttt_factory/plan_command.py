"""`ttt plan`: how a model runs on a board, operation by operation, and how fast and how full that makes it.

Importing this module must stay quick: the blocks are imported when the command runs.
"""

from __future__ import annotations

import json as json_format
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from ttt_factory.plan import PlanDemand
    from ttt_hw import Board

__all__ = ["app"]

app = App(help="How a model runs on a board: configs, times, memory. Answered without a card.")


@app.default
def plan(
    config: Path,
    /,
    *,
    device: str,
    mesh: str | None = None,
    batch: int = 1,
    context: int = 2048,
    prefill: int | None = None,
    mode: Literal["performance", "accuracy", "balanced"] = "performance",
    override: Annotated[list[str] | None, Parameter(consume_multiple=False)] = None,
    save: Path | None = None,
    why: str | None = None,
    sweep: Literal["batch", "context"] | None = None,
    svg: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """How a model runs on a board: configs, times, memory. Answered without a card.

    Every operation gets the fastest legal config by the time estimates, with all tensors that are alive beside it. Exit code
    1: it does not fit.

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
    context
        Tokens of the KV cache of each user.
    prefill
        Tokens of a prompt; default: the context, at most 1024.
    mode
        Precision: performance (bfp4 and bfp8 weights), accuracy (bfp8 and bf16), balanced (bfp8).
    override
        A change of one operation, such as decode.qkv_matmul.in0_block_w=4; may be given again.
    save
        Write the plan to this file, as TOML, or as JSON if it ends so.
    why
        Explain the choice for one operation instead, such as qkv_matmul or decode.qkv_matmul.
    sweep
        Speeds over 1 to 32 users, or over contexts up to --context, instead of one plan. Over contexts, prompts fill the context
        up to 8192 tokens unless --prefill is given. Exit code 1: no point fits.
    svg
        Draw the memory of a chip into this file; with --sweep, curves.
    json
        Print one JSON document, and nothing else, on stdout.
    """
    os.environ.setdefault("LOGURU_LEVEL", "WARNING")  # else ttnn prints its configuration when it is imported
    from rich.console import Console

    from ttt_factory._plan_picture import memory_svg
    from ttt_factory._plan_report import print_plan, print_why, to_json
    from ttt_factory.huggingface import read_config_at, spec_of_config
    from ttt_factory.plan import PlanDemand, plan_model
    from ttt_factory.plan_file import save_plan
    from ttt_factory.requests import precision_of
    from ttt_hw import board_as

    record = board_as(device, mesh)
    spec = spec_of_config(read_config_at(config))
    demand = PlanDemand(
        spec=spec,
        users=batch,
        context=context,
        prompt=min(context, 1024) if prefill is None else prefill,
        precision=precision_of(spec, mode),
        mode=mode,
        overrides=_overrides(override or []),
    )
    if sweep is not None:
        return _sweep(demand, record, sweep, prefill is None, svg, json)
    with Console(stderr=True).status("plan"):
        found = plan_model(demand, record)
    if save is not None:
        save_plan(found, save)
    if svg is not None:
        svg.write_text(memory_svg(found), encoding="utf-8")
    if json:
        print(json_format.dumps(to_json(found), indent=2))
    elif why is not None:
        print_why(found, why)
    else:
        print_plan(found)
    return 0 if found.fits else 1


def _sweep(
    demand: PlanDemand,
    board: Board,
    variable: Literal["batch", "context"],
    whole_prompt: bool,
    svg: Path | None,
    json: bool,
) -> int:
    from rich.console import Console

    from ttt_factory._plan_sweep import print_sweep, sweep, sweep_json, sweep_svg

    with Console(stderr=True).status("plan"):
        points = sweep(demand, board, variable, whole_prompt=whole_prompt)
    if svg is not None:
        svg.write_text(sweep_svg(points, variable, board), encoding="utf-8")
    if json:
        print(json_format.dumps(sweep_json(points, variable, board), indent=2))
    else:
        print_sweep(points, variable, board)
    return 0 if any(point.fits for point in points) else 1


def _overrides(texts: list[str]) -> dict[str, dict[str, object]]:
    from ttt_core import SpecError

    found: dict[str, dict[str, object]] = {}
    for text in texts:
        place, equals, value = text.partition("=")
        op, dot, name = place.rpartition(".")
        if not equals or not dot:
            raise SpecError(f"--override {text!r}; write OPERATION.FIELD=VALUE, such as qkv_matmul.in0_block_w=4.")
        found.setdefault(op, {})[name] = _value(value)
    return found


def _value(text: str) -> object:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.lstrip("-").isdigit() else text
