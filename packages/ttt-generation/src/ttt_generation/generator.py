"""Text in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ttt_core import GenerationError, WeightError
from ttt_generation.strategy import Completion, OnToken, PrefillDecodeStrategy, check_number

__all__ = ["FileTokenizer", "Generator", "Tokenizer"]

TOKENIZER_FILE = "tokenizer.json"


class Tokenizer(Protocol):
    """Text to ids, special tokens included, and back without them."""

    def encode(self, text: str, /) -> list[int]: ...
    def decode(self, tokens: Sequence[int], /) -> str: ...


class FileTokenizer:
    """The tokenizer.json of a checkpoint directory, by the library tokenizers. Errors: WeightError if it is missing or broken."""

    def __init__(self, directory: str | Path) -> None:
        from tokenizers import Tokenizer as Backend

        path = Path(directory) / TOKENIZER_FILE
        if not path.is_file():
            raise WeightError(
                f"{path} is missing; without it prompts cannot be read. Fetch the checkpoint again, tokenizer included."
            )
        try:
            self._backend = Backend.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise WeightError(f"{path} is not a tokenizer: {error}. Fetch the checkpoint again.") from error
        self._backend.no_padding()
        self._backend.no_truncation()

    def encode(self, text: str, /) -> list[int]:
        ids: list[int] = self._backend.encode(text).ids
        return ids

    def decode(self, tokens: Sequence[int], /) -> str:
        text: str = self._backend.decode(list(tokens))
        return text


def encode(tokenizer: Tokenizer, prompts: Sequence[str]) -> list[list[int]]:
    """The prompts' tokens. Raises GenerationError for none, more than 32, or an empty one."""
    check_number(prompts)
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise GenerationError(f"prompt {index + 1} is empty: it has no token to start from. Give it some text.")
    return [tokenizer.encode(prompt) for prompt in prompts]


class Generator:
    """A strategy with a tokenizer: prompts in text, answers in text."""

    def __init__(self, strategy: PrefillDecodeStrategy, tokenizer: Tokenizer) -> None:
        self.strategy = strategy
        self.tokenizer = tokenizer

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """The prompts' tokens. Raises GenerationError for none, more than 32, or an empty one."""
        return encode(self.tokenizer, prompts)

    def generate(self, prompts: Sequence[str], *, on_token: OnToken | None = None) -> list[tuple[str, Completion]]:
        """Each prompt's answer, and the tokens behind it."""
        completions = self.strategy.generate(self.encode(prompts), on_token=on_token)
        return [(self.tokenizer.decode(completion.tokens), completion) for completion in completions]
