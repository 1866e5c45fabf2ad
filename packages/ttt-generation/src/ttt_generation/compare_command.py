"""`ttt compare`: a checkpoint on a device beside Hugging Face transformers, block by block.

Importing this module must stay quick: torch, ttnn and the blocks are imported when the command runs.
"""

from __future__ import annotations

import json as json_format
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from ttt_testing import BlockwiseComparison

__all__ = ["app"]

app = App(help="Find the block of a checkpoint that departs from Hugging Face.")


@app.default
def compare(
    checkpoint: Path | None = None,
    /,
    *,
    device: str = "n150",
    mesh: str | None = None,
    backend: Literal["mock", "simulator", "silicon"] | None = None,
    prompt: str | None = None,
    rounding: Literal["none", "device"] = "none",
    weights: Literal["bf16", "bfp8", "bfp4"] = "bfp8",
    kv: Literal["bf16", "bfp8"] = "bfp8",
    tolerance: float = 1e-3,
    pcc: float = 0.99,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Find the block of a checkpoint that departs from Hugging Face.

    Both models read one prompt; each block's result is set beside that of its place in transformers' model, in float32 on the
    host. The exit code is 0 if all are close, 1 if one departs.

    Parameters
    ----------
    checkpoint
        Directory with config.json, safetensors and tokenizer.json. Default: the tiny model of this repository.
    device
        Board to open.
    mesh
        Rows x columns of chips, such as 2x4; default: the board's own. The model is split over the columns.
    backend
        Default: a card if there is one, else the mock.
    prompt
        Text to read. Default: the first of the checkpoint's prompts.json.
    rounding
        On the mock: none computes in float32 and checks the math; device rounds each result to its tensor's dtype.
    weights
        Precision of the matrices on the device.
    kv
        Precision of the KV cache.
    tolerance
        Without rounding, a block is close if it differs by at most this share of its reference's largest value.
    pcc
        With rounding, or on a card, a block is close if its correlation with its reference is at least this.
    json
        Print one JSON document, and nothing else, on stdout.
    """
    os.environ.setdefault("LOGURU_LEVEL", "WARNING")  # else ttnn prints its configuration when it is imported
    from ttt_generation._session import compare_checkpoint, default_checkpoint

    result = compare_checkpoint(
        checkpoint or default_checkpoint(),
        device=device,
        mesh=mesh,
        backend=backend,
        prompt=prompt,
        rounding=rounding,
        weights=weights,
        kv=kv,
        tolerance=tolerance,
        least_pcc=pcc,
    )
    if json:
        print(json_format.dumps({"schema": 1, "device": device, **result.to_json()}, indent=2))
    else:
        _print(result, device)
    return 0 if result.first_departure is None else 1


def _print(result: BlockwiseComparison, device: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    first = result.first_departure
    title = f"{result.tokens} tokens on {device} ({result.backend})"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("block", "class"):
        table.add_column(name, no_wrap=True)
    for name in ("max difference", "pcc"):
        table.add_column(name, justify="right", no_wrap=True)
    for block in result.blocks:
        table.add_row(
            ("" if block.close else "✗ ") + (block.path or "the model"),
            block.block.rpartition(".")[2],
            f"{block.max_difference:.2g} of {block.largest:.3g}",
            f"{block.pcc:.6f}",
            style=None if block.close else "bold red" if block is first else "red",
        )
    console = Console()
    console.print(table)
    if first is None:
        console.print("Every block is close to its reference.", highlight=False)
    else:
        console.print(f"The first that departs is {first}.", highlight=False, soft_wrap=True)
