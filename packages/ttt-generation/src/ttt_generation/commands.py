"""`ttt run`: a checkpoint answers prompts.

Importing this module must stay quick: torch, ttnn and the blocks are imported when the command runs.
"""

from __future__ import annotations

import json as json_format
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

__all__ = ["app"]

app = App(help="Answer prompts with a Hugging Face checkpoint.")


@app.default
def run(
    checkpoint: Path | None = None,
    /,
    *,
    device: str = "n150",
    mesh: str | None = None,
    backend: Literal["mock", "simulator", "silicon"] | None = None,
    prompt: Annotated[list[str] | None, Parameter(consume_multiple=False, negative_iterable=())] = None,
    max_new_tokens: int = 32,
    rounding: Literal["none", "device"] = "none",
    weights: Literal["bf16", "bfp8", "bfp4"] = "bfp8",
    kv: Literal["bf16", "bfp8"] = "bfp8",
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    seed: int | None = None,
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
    mesh
        Rows x columns of chips, such as 2x4; default: the board's own. The model is split over the columns, and
        with 2x4:hidden over the rows too; else rows are copies for other users.
    backend
        Default: a card if there is one, else the mock.
    prompt
        Text to continue; repeat the option for several, up to 32. Default: the first of the checkpoint's prompts.json.
    max_new_tokens
        Stop after so many tokens if no stop token came.
    rounding
        On the mock: none computes in float32 and checks the math; device rounds each result to its tensor's dtype.
    weights
        Precision of the matrices on the device.
    kv
        Precision of the KV cache.
    temperature
        Draw tokens instead of taking the likeliest, with logits divided by this; 0 is greedy. Default: greedy, or 1 with any
        other of the options for sampling.
    top_k
        Draw from the so many likeliest tokens.
    top_p
        Draw from the fewest tokens whose probabilities add up to this.
    min_p
        Draw from tokens at least this share as likely as the likeliest.
    repetition_penalty
        Above 1: tokens of the prompt and of the answer so far are less likely to come again.
    seed
        The same seed draws the same answer to a prompt, whatever the other prompts. Default: a fresh one for each prompt.
    compare
        Also generate with Hugging Face transformers; exit 1 if a token differs. Greedy only.
    json
        Print one JSON document, and nothing else, on stdout.
    """
    os.environ.setdefault("LOGURU_LEVEL", "WARNING")  # else ttnn prints its configuration when it is imported
    from ttt_generation._report import print_report
    from ttt_generation._session import Request, answer, default_checkpoint
    from ttt_generation.sampling import SamplingSpec

    options: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
    }
    given = {name: value for name, value in options.items() if value is not None}
    sampling = SamplingSpec(**given) if given else None
    if compare is None:
        compare = checkpoint is None and (sampling is None or sampling.is_greedy)
    request = Request(
        checkpoint=checkpoint or default_checkpoint(),
        device=device,
        mesh=mesh,
        backend=backend,
        prompts=tuple(prompt or ()),
        max_new_tokens=max_new_tokens,
        rounding=rounding,
        weights=weights,
        kv=kv,
        sampling=sampling,
        compare=compare,
        stream=sys.stdout.isatty() and not json,
    )
    report = answer(request)
    if json:
        print(json_format.dumps(report.to_json(), indent=2))
    else:
        print_report(report, streamed=request.stream)
    return 0 if report.comparison is None or report.comparison.tokens_identical else 1
