"""`ttt run`: a checkpoint answers prompts.

Importing this module must stay quick: torch, ttnn and the blocks are imported when the command runs.
"""

from __future__ import annotations

import json as json_format
import os
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

app = App(help="Answer prompts with a Hugging Face checkpoint.")


@app.default
def run(
    checkpoint: Path | None = None,
    /,
    *,
    device: str = "n150",
    backend: Literal["mock", "simulator", "silicon"] | None = None,
    prompt: Annotated[list[str] | None, Parameter(consume_multiple=False, negative_iterable=())] = None,
    max_new_tokens: int = 32,
    rounding: Literal["none", "device"] = "none",
    weights: Literal["bf16", "bfp8", "bfp4"] = "bfp8",
    kv: Literal["bf16", "bfp8"] = "bfp8",
    compare: bool | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Answer prompts with a Hugging Face checkpoint on a device.

    Without a card the device is a mock: ttnn validates every operation and golden functions compute the values.

    Parameters
    ----------
    checkpoint
        Directory with config.json, safetensors and tokenizer.json. Default: the tiny model of this repository, which does
        sums, compared with Hugging Face.
    device
        Board to open.
    backend
        Default: a card if there is one, else the mock.
    prompt
        Text to continue; repeat the option for several. Default: the first of the checkpoint's prompts.json.
    max_new_tokens
        Stop after so many tokens if no stop token came.
    rounding
        On the mock: none computes in float32 and checks the math; device rounds each result to its tensor's dtype.
    weights
        Precision of the matrices on the device.
    kv
        Precision of the KV cache.
    compare
        Also generate with Hugging Face transformers; exit 1 if a token differs.
    json
        Print one JSON document, and nothing else, on stdout.
    """
    os.environ.setdefault("LOGURU_LEVEL", "WARNING")  # else ttnn prints its configuration when it is imported
    from ttt_generation.report import print_report
    from ttt_generation.session import Request, answer, default_checkpoint

    request = Request(
        checkpoint=checkpoint or default_checkpoint(),
        device=device,
        backend=backend,
        prompts=tuple(prompt or ()),
        max_new_tokens=max_new_tokens,
        rounding=rounding,
        weights=weights,
        kv=kv,
        compare=checkpoint is None if compare is None else compare,
    )
    report = answer(request)
    if json:
        print(json_format.dumps(report.to_json(), indent=2))
    else:
        print_report(report)
    return 0 if report.comparison is None or report.comparison.tokens_identical else 1
