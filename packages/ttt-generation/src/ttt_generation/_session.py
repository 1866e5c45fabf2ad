"""One run of a checkpoint on a device: check the request, load, generate, compare."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ttt_core import GenerationError, SpecError
from ttt_generation._progress import progress_display, staged, timed
from ttt_generation._report import Answer, Comparison, Report
from ttt_generation._streaming import from_first_token, stream
from ttt_generation.generator import FileTokenizer, encode
from ttt_generation.sampling import SamplingSpec
from ttt_generation.stopping import stop_tokens
from ttt_generation.strategy import Completion, PrefillDecodeStrategy
from ttt_hw import board_as, current_backend, dtype_of, open_mesh, translate

if TYPE_CHECKING:
    from rich.progress import Progress

    from ttt_testing import BlockwiseComparison

PROMPTS_FILE = "prompts.json"  # sample prompts with their answers that ship beside a checkpoint
SAMPLE_PROMPTS = 5
TINY_CHECKPOINT = Path("models", "tiny-llama", "checkpoint")


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """The options of `ttt run`. No prompts: the first few of the checkpoint's prompts.json. `sampling` None is greedy.

    `stream` shows the answers on stdout as they are generated.
    """

    checkpoint: Path
    device: str
    mesh: str | None
    backend: str | None
    prompts: tuple[str, ...]
    max_new_tokens: int
    rounding: Literal["none", "device"]
    weights: str
    kv: str
    sampling: SamplingSpec | None
    compare: bool
    stream: bool


def default_checkpoint() -> Path:
    """The tiny model of the repository that the working folder is in."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / TINY_CHECKPOINT).is_dir():
            return folder / TINY_CHECKPOINT
    raise SpecError(
        f"no checkpoint was given, and {here} is not in a clone of the ttt repository, whose {TINY_CHECKPOINT} would be "
        "taken. Give the directory of a Hugging Face checkpoint: ttt run CHECKPOINT."
    )


def answer(request: Request) -> Report:
    """Run it. Bad input is found before the device is opened where that is possible; errors are TttError."""
    from ttt_factory import read_config, spec_of_config

    if request.compare and request.sampling is not None and not request.sampling.is_greedy:
        raise GenerationError(
            "--compare sets greedy tokens beside those of transformers, and sampling options were given: drawn tokens have "
            "nothing to be equal to. Leave out --compare, or the sampling options."
        )
    record = board_as(request.device, request.mesh)
    config = read_config(request.checkpoint)
    spec_of_config(config)
    expected = _sample_answers(request.checkpoint)
    prompts = list(request.prompts) or list(expected)[:SAMPLE_PROMPTS]
    if not prompts:
        raise GenerationError(
            f"no prompt was given, and {request.checkpoint} has no {PROMPTS_FILE} to take some from. Add --prompt TEXT."
        )
    tokenizer = FileTokenizer(request.checkpoint)
    ids = encode(tokenizer, prompts)
    stops = stop_tokens(request.checkpoint, config)
    # Before the progress display, which puts itself in sys.stdout's place.
    view = stream(prompts, tokenizer, sys.stdout) if request.stream else None

    seconds: dict[str, float] = {}
    with ExitStack() as stack:
        progress = stack.enter_context(progress_display())
        with timed(seconds, "open"), staged(progress, f"open {record.name}"):
            mesh = stack.enter_context(
                open_mesh(record.name, shape=record.mesh, rows=record.rows, backend=request.backend)
            )
            backend = current_backend(mesh)
            values = stack.enter_context(_shadow(request.rounding)) if backend == "mock" else None
        try:
            with timed(seconds, "load"):
                strategy = _load(request, mesh, stops, ids, progress)
            with timed(seconds, "generate"):
                if view is not None:
                    with from_first_token(view, progress) as on_token:
                        completions = strategy.generate(ids, on_token=on_token)
                        answers = _answers(prompts, completions, tokenizer, expected)
                        view.finish(answers)
                else:
                    with staged(progress, "generate", strategy.max_new_tokens * len(ids)) as step:
                        completions = strategy.generate(ids, on_token=lambda _prompt, _token: step())
                    answers = _answers(prompts, completions, tokenizer, expected)
        except RuntimeError as error:
            raise translate(error, where="ttt run") from error
        operations = None if values is None else values.num_operations
        comparison: Comparison | None = None
        if request.compare:
            from ttt_generation._reference import compare_with_transformers

            with timed(seconds, "compare"), staged(progress, "compare with Hugging Face", len(ids)) as step:
                comparison, references = compare_with_transformers(
                    request.checkpoint, ids, completions, max_new_tokens=request.max_new_tokens, step=step
                )
            answers = [
                replace(answer, reference=tokenizer.decode(tokens))
                for answer, tokens in zip(answers, references, strict=True)
            ]
    return Report(
        checkpoint=str(request.checkpoint),
        device=record.name,
        backend=backend,
        values="golden" if values is not None else "device",
        rounding=request.rounding if values is not None else None,
        weights=request.weights,
        kv=request.kv,
        sampling=request.sampling,
        answers=answers,
        comparison=comparison,
        device_operations=operations,
        seconds=seconds,
    )


def compare_checkpoint(
    checkpoint: Path,
    *,
    device: str,
    mesh: str | None,
    backend: str | None,
    prompt: str | None,
    rounding: Literal["none", "device"],
    weights: str,
    kv: str,
    tolerance: float,
    least_pcc: float,
) -> BlockwiseComparison:
    """The checkpoint's blocks on a device beside those of transformers, on one prompt: the first of prompts.json unless given.

    Errors: GenerationError without a prompt; those of the factory and the device.
    """
    from ttt_factory import ModelFactory, read_config, spec_of_config
    from ttt_generation._reference import load_reference, token_ids
    from ttt_testing import compare_blocks

    record = board_as(device, mesh)
    spec_of_config(read_config(checkpoint))  # what is no checkpoint is said before anything else
    text = prompt or next(iter(_sample_answers(checkpoint)), None)
    if text is None:
        raise GenerationError(
            f"no prompt was given, and {checkpoint} has no {PROMPTS_FILE} to take one from. Add --prompt TEXT."
        )
    (ids,) = encode(FileTokenizer(checkpoint), [text])
    with open_mesh(record.name, shape=record.mesh, rows=record.rows, backend=backend) as opened:
        try:
            model = ModelFactory.from_pretrained(
                checkpoint, device=opened, weight_dtype=dtype_of(weights), cache_dtype=dtype_of(kv)
            )
            return compare_blocks(
                model,
                load_reference(checkpoint),
                token_ids(ids),
                rounding=rounding,
                tolerance=tolerance,
                least_pcc=least_pcc,
            )
        except RuntimeError as error:
            raise translate(error, where="ttt compare") from error


def _load(
    request: Request, mesh: Any, stops: frozenset[int], ids: Sequence[Sequence[int]], progress: Progress
) -> PrefillDecodeStrategy:
    from ttt_factory import ModelFactory

    model = ModelFactory.from_pretrained(
        request.checkpoint,
        device=mesh,
        weight_dtype=dtype_of(request.weights),
        cache_dtype=dtype_of(request.kv),
    )
    strategy = PrefillDecodeStrategy(
        model,
        max_new_tokens=request.max_new_tokens,
        stop_tokens=stops,
        sampling=request.sampling,
        keep_logits=request.compare,
    )
    strategy.check(ids)
    with staged(progress, "load weights", len(model.weights)) as step:
        for weight in model.weights:
            weight.tensor  # noqa: B018  (converts and copies on first use; here, so that the progress is seen)
            step()
    return strategy


def _answers(
    prompts: Sequence[str], completions: Sequence[Completion], tokenizer: FileTokenizer, expected: dict[str, str]
) -> list[Answer]:
    return [
        Answer(
            prompt=prompt,
            answer=tokenizer.decode(completion.tokens),
            tokens=completion.tokens,
            stopped=completion.stopped,
            seed=completion.seed,
            expected=expected.get(prompt),
        )
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def _shadow(rounding: Literal["none", "device"]) -> Any:
    from ttt_testing import shadow

    return shadow(rounding)


def _sample_answers(checkpoint: Path) -> dict[str, str]:
    """Prompt → answer of the checkpoint's prompts.json, in its order; empty if there is none."""
    path = checkpoint / PROMPTS_FILE
    if not path.is_file():
        return {}
    try:
        return {str(sample["prompt"]): str(sample["answer"]) for sample in json.loads(path.read_text())}
    except (ValueError, KeyError, TypeError) as error:
        raise SpecError(
            f"{path} is not a JSON list of objects with prompt and answer: {error!r}. Mend it, or remove it."
        ) from error
