"""What `ttt run` found, as data and as people like to read it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """`right` is None where no answer is known; `reference` is Hugging Face's text if it was asked."""

    prompt: str
    answer: str
    tokens: list[int]
    stopped: bool
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
    """Everything that one run found; `values` says where numbers come from: golden functions, or the device."""

    checkpoint: str
    device: str
    backend: str
    values: str
    rounding: str | None
    weights: str
    kv: str
    answers: list[Answer]
    comparison: Comparison | None
    device_operations: int | None
    seconds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        document = {"schema": 1, **asdict(self)}
        for entry, answer in zip(document["answers"], self.answers, strict=True):
            entry["right"] = answer.right
        return document


def print_report(report: Report) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("prompt")
    table.add_column("answer")
    verdicts = any(answer.right is not None for answer in report.answers)
    references = any(answer.reference is not None and answer.reference != answer.answer for answer in report.answers)
    if verdicts:
        table.add_column("verdict")
    if references:
        table.add_column("Hugging Face")
    for answer in report.answers:
        row = [Text(answer.prompt), Text(answer.answer)]
        if verdicts:
            row.append(_verdict(answer))
        if references:
            row.append(Text(answer.reference or ""))
        table.add_row(*row)
    console.print(table)
    precision = f"weights {report.weights}, KV cache {report.kv}"
    if report.rounding is not None:
        console.print(
            f"{report.device} ({report.backend}), {precision}, values from golden functions, rounding {report.rounding}",
            soft_wrap=True,
        )
        console.print(f"device ops validated: {report.device_operations:,}")
    else:
        console.print(f"{report.device} ({report.backend}), {precision}")
    if report.comparison is not None:
        identical = report.comparison.tokens_identical
        console.print(
            f"tokens identical to Hugging Face: [{'green' if identical else 'red'}]{'yes' if identical else 'no'}[/]"
        )
        console.print(f"largest logit difference: {report.comparison.largest_logit_difference:.3g}")
    console.print(", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in report.seconds.items()))


def _verdict(answer: Answer) -> Any:
    from rich.text import Text

    if answer.right is None:
        return Text("")
    return Text("right", "green") if answer.right else Text(f"wrong, {answer.expected} expected", "red")
