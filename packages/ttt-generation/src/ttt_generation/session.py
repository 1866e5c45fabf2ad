"""One run of a checkpoint on a device: check the request, load, generate, compare."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ttt_core import GenerationError, SpecError
from ttt_generation.generator import FileTokenizer
from ttt_generation.report import Answer, Comparison, Report
from ttt_generation.stopping import stop_tokens
from ttt_generation.strategy import Completion, PrefillDecodeStrategy
from ttt_hw import DType, board, current_backend, open_mesh, translate

if TYPE_CHECKING:
    from rich.progress import Progress

PROMPTS_FILE = "prompts.json"  # sample prompts with their answers that ship beside a checkpoint
SAMPLE_PROMPTS = 5
TINY_CHECKPOINT = Path("models", "tiny-llama", "checkpoint")
PRECISIONS: dict[str, DType] = {"bf16": "bfloat16", "bfp8": "bfloat8_b", "bfp4": "bfloat4_b"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """The options of `ttt run`. No prompts: the first few of the checkpoint's prompts.json."""

    checkpoint: Path
    device: str
    backend: str | None
    prompts: tuple[str, ...]
    max_new_tokens: int
    rounding: Literal["none", "device"]
    weights: str
    kv: str
    compare: bool


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

    record = board(request.device)
    config = read_config(request.checkpoint)
    spec_of_config(config)
    expected = _sample_answers(request.checkpoint)
    prompts = list(request.prompts) or list(expected)[:SAMPLE_PROMPTS]
    if not prompts:
        raise GenerationError(
            f"no prompt was given, and {request.checkpoint} has no {PROMPTS_FILE} to take some from. Add --prompt TEXT."
        )
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise GenerationError(f"prompt {index + 1} is empty: it has no token to start from. Give it some text.")
    tokenizer = FileTokenizer(request.checkpoint)
    ids = [tokenizer.encode(prompt) for prompt in prompts]
    stops = stop_tokens(request.checkpoint, config)

    seconds: dict[str, float] = {}
    with ExitStack() as stack:
        progress = stack.enter_context(_progress())
        with _timed(seconds, "open"), _stage(progress, f"open {record.name}"):
            mesh = stack.enter_context(open_mesh(request.device, backend=request.backend))
            backend = current_backend(mesh)
            values = stack.enter_context(_shadow(request.rounding)) if backend == "mock" else None
        try:
            with _timed(seconds, "load"):
                strategy = _load(request, mesh, stops, ids, progress)
            with _timed(seconds, "generate"):
                completions = _generate(strategy, ids, progress)
        except RuntimeError as error:
            raise translate(error, where="ttt run") from error
        operations = None if values is None else values.num_operations
        comparison: Comparison | None = None
        references: list[str | None] = [None] * len(ids)
        if request.compare:
            from ttt_generation.reference import compare_with_transformers

            with _timed(seconds, "compare"), _stage(progress, "compare with Hugging Face", len(ids)) as step:
                comparison, reference_tokens = compare_with_transformers(
                    request.checkpoint, ids, completions, max_new_tokens=request.max_new_tokens, step=step
                )
            references = [tokenizer.decode(tokens) for tokens in reference_tokens]
    return Report(
        checkpoint=str(request.checkpoint),
        device=record.name,
        backend=backend,
        values="golden" if values is not None else "device",
        rounding=request.rounding if values is not None else None,
        weights=request.weights,
        kv=request.kv,
        answers=[
            Answer(
                prompt=prompt,
                answer=tokenizer.decode(completion.tokens),
                tokens=completion.tokens,
                stopped=completion.stopped,
                expected=expected.get(prompt),
                reference=reference,
            )
            for prompt, completion, reference in zip(prompts, completions, references, strict=True)
        ],
        comparison=comparison,
        device_operations=operations,
        seconds=seconds,
    )


def _load(
    request: Request, mesh: Any, stops: frozenset[int], ids: Sequence[Sequence[int]], progress: Progress
) -> PrefillDecodeStrategy:
    from ttt_factory import ModelFactory

    model = ModelFactory.from_pretrained(
        request.checkpoint,
        device=mesh,
        weight_dtype=PRECISIONS[request.weights],
        cache_dtype=PRECISIONS[request.kv],
    )
    strategy = PrefillDecodeStrategy(
        model, max_new_tokens=request.max_new_tokens, stop_tokens=stops, keep_logits=request.compare
    )
    strategy.check(ids)
    for weight in progress.track(model.weights, description="load weights"):
        weight.tensor  # noqa: B018  (converts and copies on first use; here, so that the progress is seen)
    return strategy


def _generate(strategy: PrefillDecodeStrategy, ids: Sequence[Sequence[int]], progress: Progress) -> list[Completion]:
    with _stage(progress, "generate", strategy.max_new_tokens * len(ids)) as step:
        return strategy.generate(ids, on_token=lambda _prompt, _token: step())


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


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start


def _progress() -> Progress:
    """A progress display on stderr that leaves nothing behind, and is silent where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


class _Stage:
    def __init__(self, progress: Progress, description: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total)

    def __call__(self) -> None:
        self._progress.advance(self._task)

    def close(self) -> None:
        self._progress.remove_task(self._task)


@contextmanager
def _stage(progress: Progress, description: str, total: int | None = None) -> Iterator[_Stage]:
    stage = _Stage(progress, description, total)
    try:
        yield stage
    finally:
        stage.close()
