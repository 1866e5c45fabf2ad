"""Answers on a terminal while they are generated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Protocol, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress import Progress
from rich.table import Table

from ttt_generation._progress import hidden, staged
from ttt_generation._report import Answer, answers_table, printable, verdict
from ttt_generation.generator import Tokenizer
from ttt_generation.strategy import OnToken

UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what decoders make of the first bytes of a character
REFRESHES = 10  # a second


class PartialText:
    """The text of an answer whose tokens still come.

    All tokens are decoded each time, for a token's text may depend on those before it. Characters that lack bytes are held
    back, and so is everything while the text does not begin with what was given before: a decoder may revise itself.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.text = ""
        self._tokenizer = tokenizer
        self._tokens: list[int] = []

    def add(self, token: int) -> str:
        """What the token adds to the text; it may be nothing, or more than one token's."""
        self._tokens.append(token)
        text = self._tokenizer.decode(self._tokens).rstrip(UNFINISHED)
        if not text.startswith(self.text):
            return ""
        new, self.text = text[len(self.text) :], text
        return new


class Stream(Protocol):
    """Is called with each prompt's index and token as they come, and finished with the answers."""

    def __enter__(self) -> Stream: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def __call__(self, prompt: int, token: int, /) -> None: ...
    def finish(self, answers: Sequence[Answer], /) -> None: ...


class PlainStream:
    """The text of one answer, as it comes; below it whether it is right, where that is known."""

    def __init__(self, tokenizer: Tokenizer, file: TextIO) -> None:
        self._partial = PartialText(tokenizer)
        self._file = file

    def __enter__(self) -> PlainStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        print(file=self._file, flush=True)

    def __call__(self, prompt: int, token: int) -> None:
        print(printable(self._partial.add(token)), end="", file=self._file, flush=True)

    def finish(self, answers: Sequence[Answer]) -> None:
        (answer,) = answers
        shown = self._partial.text
        rest = answer.answer[len(shown) :] if answer.answer.startswith(shown) else f"\n{answer.answer}"
        print(printable(rest), file=self._file)
        if answer.right is not None:
            Console(file=self._file).print(verdict(answer))


class TableStream:
    """A table of several prompts whose answers grow; in the end it is the report's, and stays."""

    def __init__(self, prompts: Sequence[str], tokenizer: Tokenizer, file: TextIO) -> None:
        self._prompts = prompts
        self._partial = [PartialText(tokenizer) for _ in prompts]
        self._answers: Sequence[Answer] | None = None
        console = Console(file=file, highlight=False)
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=REFRESHES)

    def __enter__(self) -> TableStream:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, prompt: int, token: int) -> None:
        self._partial[prompt].add(token)

    def finish(self, answers: Sequence[Answer]) -> None:
        self._answers = answers

    def _render(self) -> Table:
        if self._answers is not None:
            return answers_table(self._answers)
        texts = [partial.text for partial in self._partial]
        return answers_table(
            [
                Answer(prompt=prompt, answer=text, tokens=[], stopped=False)
                for prompt, text in zip(self._prompts, texts, strict=True)
            ]
        )


def stream(prompts: Sequence[str], tokenizer: Tokenizer, file: TextIO) -> Stream:
    """Plain text for one prompt, a table for several."""
    return PlainStream(tokenizer, file) if len(prompts) == 1 else TableStream(prompts, tokenizer, file)


@contextmanager
def from_first_token(stream: Stream, progress: Progress) -> Iterator[OnToken]:
    """Begin the stream with its first token; until then the progress display says that the prompts are read."""
    begun = False
    with ExitStack() as streaming, ExitStack() as reading:
        reading.enter_context(staged(progress, "read prompts"))

        def on_token(prompt: int, token: int) -> None:
            nonlocal begun
            if not begun:
                begun = True
                reading.close()
                streaming.enter_context(hidden(progress))
                streaming.enter_context(stream)
            stream(prompt, token)

        yield on_token
