"""What `ttt run` found, as data and as people like to read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ttt_generation.sampling import SamplingSpec

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

# Control characters but tab and newline, as symbols: what a model writes must not move the cursor.
VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {0x7F: 0x2421}
VISIBLE |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """`right` is None where no answer is known, `seed` where nothing was drawn; `reference` is Hugging Face's text if asked."""

    prompt: str
    answer: str
    tokens: list[int]
    stopped: bool
    seed: int | None = None
    expected: str | None = None
    reference: str | None = None

    @property
    def right(self) -> bool | None:
        return None if self.expected is None else self.answer.strip() == self.expected.strip()


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Tokens against transformers' greedy generate in float32, and max |logit − logit| over the tokens that agree."""

    tokens_identical: bool
    largest_logit_difference: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Everything that one run found; `values` says where numbers come from: golden functions, or the device.

    `sampling` None is greedy.
    """

    checkpoint: str
    device: str
    backend: str
    values: str
    rounding: str | None
    weights: str
    kv: str
    sampling: SamplingSpec | None
    answers: list[Answer]
    comparison: Comparison | None
    device_operations: int | None
    seconds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        document = {"schema": 1, **asdict(self)}
        for entry, answer in zip(document["answers"], self.answers, strict=True):
            entry["right"] = answer.right
        return document


def printable(text: str) -> str:
    return text.translate(VISIBLE)


def answers_table(answers: Sequence[Answer]) -> Table:
    """A row for each; columns for verdicts, seeds and Hugging Face's text where they tell something."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("prompt")
    table.add_column("answer")
    verdicts = any(answer.right is not None for answer in answers)
    seeds = len({answer.seed for answer in answers}) > 1
    references = any(_differs(answer) for answer in answers)
    if verdicts:
        table.add_column("verdict")
    if seeds:
        table.add_column("seed", justify="right")
    if references:
        table.add_column("Hugging Face")
    for answer in answers:
        row = [Text(printable(answer.prompt)), Text(printable(answer.answer))]
        if verdicts:
            row.append(verdict(answer))
        if seeds:
            row.append(Text(str(answer.seed)))
        if references:
            row.append(Text(printable(answer.reference or "")))
        table.add_row(*row)
    return table


def verdict(answer: Answer) -> Text:
    from rich.text import Text

    if answer.right is None:
        return Text("")
    return Text("right", "green") if answer.right else Text(f"wrong, {answer.expected} expected", "red")


def print_report(report: Report, *, streamed: bool = False) -> None:
    """Print it to stdout, without the answers if they were streamed there and Hugging Face's do not differ."""
    from rich.console import Console

    console = Console(highlight=False)
    if not streamed or any(_differs(answer) for answer in report.answers):
        console.print(answers_table(report.answers))
    precision = f"weights {report.weights}, KV cache {report.kv}"
    if report.rounding is not None:
        console.print(
            f"{report.device} ({report.backend}), {precision}, values from golden functions, rounding {report.rounding}",
            soft_wrap=True,
        )
        console.print(f"device ops validated: {report.device_operations:,}")
    else:
        console.print(f"{report.device} ({report.backend}), {precision}")
    if report.sampling is not None and not report.sampling.is_greedy:
        console.print(_sampled(report.sampling, report.answers), soft_wrap=True)
    if report.comparison is not None:
        identical = report.comparison.tokens_identical
        console.print(
            f"tokens identical to Hugging Face: [{'green' if identical else 'red'}]{'yes' if identical else 'no'}[/]"
        )
        console.print(f"largest logit difference: {report.comparison.largest_logit_difference:.3g}")
    console.print(", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in report.seconds.items()))


def _differs(answer: Answer) -> bool:
    return answer.reference is not None and answer.reference != answer.answer


def _sampled(sampling: SamplingSpec, answers: Sequence[Answer]) -> str:
    """`sampled: temperature 0.8, top-k 40, seed 7`, without what is left at its default."""
    options = asdict(sampling) | {"seed": None}
    if len(seeds := {answer.seed for answer in answers}) == 1:
        (options["seed"],) = seeds
    if options["repetition_penalty"] == 1:
        del options["repetition_penalty"]
    said = [f"{name.replace('_', '-')} {value:g}" for name, value in options.items() if value is not None]
    return f"sampled: {', '.join(said)}"
