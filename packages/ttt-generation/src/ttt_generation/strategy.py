"""Strategies that turn prompts into tokens."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ttt_core import CausalLM, GenerationError
from ttt_hw import download

Logits = NDArray[np.float32]
OnToken = Callable[[int, int], None]  # (prompt index, token)


@dataclass(slots=True)
class Completion:
    """What was generated for one prompt. `logits` has a row [V] for each token, if they were asked for."""

    tokens: list[int] = field(default_factory=list)
    stopped: bool = False
    logits: list[Logits] = field(default_factory=list)


class PrefillDecodeStrategy:
    """Prefill each prompt into its slot of a cache, then decode one token a step for all prompts together, greedily.

    A prompt ends with the first stop token, which is kept, or after max_new_tokens; the batch goes on until all have ended.
    Errors: GenerationError for no prompt, an empty one, a token outside the vocabulary, or lengths beyond the model's context.
    """

    def __init__(
        self, model: CausalLM, *, max_new_tokens: int, stop_tokens: Collection[int] = (), keep_logits: bool = False
    ) -> None:
        if max_new_tokens < 1:
            raise GenerationError(f"max_new_tokens is {max_new_tokens}; give at least 1.")
        self.model = model
        self.max_new_tokens = max_new_tokens
        self.stop_tokens = frozenset(stop_tokens)
        self.keep_logits = keep_logits

    def generate(self, prompts: Sequence[Sequence[int]], *, on_token: OnToken | None = None) -> list[Completion]:
        """One completion a prompt; `on_token` hears of each token as it is chosen."""
        self.check(prompts)
        lengths = [len(prompt) for prompt in prompts]
        ids = np.zeros((len(prompts), max(lengths)), dtype=np.int64)
        for row, prompt in zip(ids, prompts, strict=True):
            row[: len(prompt)] = prompt
        cache = self.model.allocate_cache(users=len(prompts), context=max(lengths) + self.max_new_tokens)
        completions = [Completion() for _ in prompts]
        logits = download(self.model.prefill_forward(ids, cache=cache, lengths=lengths))
        positions = np.array(lengths)
        while True:
            tokens = self._choose(logits.reshape(len(prompts), -1), completions, on_token)
            if all(completion.stopped or len(completion.tokens) >= self.max_new_tokens for completion in completions):
                return completions
            logits = download(self.model.decode_forward(tokens, cache=cache, positions=positions))
            positions = positions + 1

    def check(self, prompts: Sequence[Sequence[int]]) -> None:
        """Raise GenerationError for prompts that the model cannot take."""
        if not prompts:
            raise GenerationError("no prompt was given; give at least one.")
        for index, prompt in enumerate(prompts):
            if not prompt:
                raise GenerationError(f"prompt {index + 1} is empty: it has no token to start from. Give it some text.")
            if outside := [token for token in prompt if not 0 <= token < self.model.vocab_size]:
                raise GenerationError(
                    f"prompt {index + 1} has the token {outside[0]}; the model's vocabulary is 0 to "
                    f"{self.model.vocab_size - 1}. Its tokenizer belongs to another checkpoint."
                )
            if len(prompt) + self.max_new_tokens > self.model.max_context:
                raise GenerationError(
                    f"prompt {index + 1} of {len(prompt)} tokens and {self.max_new_tokens} new ones are "
                    f"{len(prompt) + self.max_new_tokens} tokens, the model's context is {self.model.max_context}. "
                    f"Shorten the prompt or ask for at most {max(self.model.max_context - len(prompt), 0)} new tokens."
                )

    def _choose(
        self, logits: NDArray[np.generic], completions: list[Completion], on_token: OnToken | None
    ) -> NDArray[np.int64]:
        tokens: NDArray[np.int64] = logits.argmax(axis=-1).astype(np.int64)
        for index, (token, completion) in enumerate(zip(tokens.tolist(), completions, strict=True)):
            if completion.stopped or len(completion.tokens) >= self.max_new_tokens:
                continue
            completion.tokens.append(token)
            completion.stopped = token in self.stop_tokens
            if self.keep_logits:
                completion.logits.append(logits[index].astype(np.float32))
            if on_token is not None:
                on_token(index, token)
        return tokens
