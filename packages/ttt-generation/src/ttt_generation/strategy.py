"""Strategies that turn prompts into tokens."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence, Sized
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ttt_core import CausalLM, GenerationError
from ttt_generation.sampling import GREEDY, Sampler, SamplingSpec
from ttt_hw import download

__all__ = ["Completion", "PrefillDecodeStrategy"]

Logits = NDArray[np.float32]
OnToken = Callable[[int, int], None]  # (prompt index, token)

MAX_PROMPTS = 32  # the rows of a tile: in decode each user is one row of the activations


@dataclass(slots=True)
class Completion:
    """What was generated for one prompt. `logits` has a row [V] for each token, if they were asked for.

    `seed` is the prompt's own, None where nothing was drawn: with it the same prompt gets the same tokens again.
    """

    tokens: list[int] = field(default_factory=list)
    stopped: bool = False
    logits: list[Logits] = field(default_factory=list)
    seed: int | None = None


def check_number(prompts: Sized) -> None:
    """Raise GenerationError for no prompts, or more than are decoded together."""
    if not len(prompts):
        raise GenerationError("no prompt was given; give at least one.")
    if len(prompts) > MAX_PROMPTS:
        raise GenerationError(
            f"{len(prompts)} prompts were given; at most {MAX_PROMPTS} are decoded together. Split them into several batches."
        )


class PrefillDecodeStrategy:
    """Prefill each prompt into its slot of a cache, then decode one token a step for all prompts together.

    `sampling` says how tokens are chosen; None is greedy. A prompt ends with the first stop token, which is kept, or after
    max_new_tokens; the batch goes on until all have ended.
    Errors: GenerationError for no prompt or more than 32, an empty one, a token outside the vocabulary, lengths beyond the
    model's context, or logits from which nothing can be drawn.
    """

    def __init__(
        self,
        model: CausalLM,
        *,
        max_new_tokens: int,
        stop_tokens: Collection[int] = (),
        sampling: SamplingSpec | None = None,
        keep_logits: bool = False,
    ) -> None:
        if max_new_tokens < 1:
            raise GenerationError(f"max_new_tokens is {max_new_tokens}; give at least 1.")
        self.model = model
        self.max_new_tokens = max_new_tokens
        self.stop_tokens = frozenset(stop_tokens)
        self.sampling = GREEDY if sampling is None else sampling
        self.keep_logits = keep_logits

    def generate(self, prompts: Sequence[Sequence[int]], *, on_token: OnToken | None = None) -> list[Completion]:
        """One completion a prompt; `on_token` hears of each token as it is chosen."""
        self.check(prompts)
        lengths = [len(prompt) for prompt in prompts]
        ids = np.zeros((len(prompts), max(lengths)), dtype=np.int64)
        for row, prompt in zip(ids, prompts, strict=True):
            row[: len(prompt)] = prompt
        cache = self.model.allocate_cache(users=len(prompts), context=max(lengths) + self.max_new_tokens)
        sampler = Sampler(self.sampling, prompts=len(prompts))
        completions = [Completion(seed=seed) for seed in sampler.seeds]
        logits = download(self.model.prefill_forward(ids, cache=cache, lengths=lengths))
        positions = np.array(lengths)
        while True:
            logits = logits.reshape(len(prompts), -1)
            histories = [[*prompt, *done.tokens] for prompt, done in zip(prompts, completions, strict=True)]
            tokens = sampler(logits, histories)
            self._keep(tokens, logits, completions, on_token)
            if all(completion.stopped or len(completion.tokens) >= self.max_new_tokens for completion in completions):
                return completions
            logits = download(self.model.decode_forward(tokens, cache=cache, positions=positions))
            positions = positions + 1

    def check(self, prompts: Sequence[Sequence[int]]) -> None:
        """Raise GenerationError for prompts that the model cannot take."""
        check_number(prompts)
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

    def _keep(
        self,
        tokens: NDArray[np.int64],
        logits: NDArray[np.generic],
        completions: list[Completion],
        on_token: OnToken | None,
    ) -> None:
        for index, (token, completion) in enumerate(zip(tokens.tolist(), completions, strict=True)):
            if completion.stopped or len(completion.tokens) >= self.max_new_tokens:
                continue
            completion.tokens.append(token)
            completion.stopped = token in self.stop_tokens
            if self.keep_logits:
                completion.logits.append(logits[index].astype(np.float32))
            if on_token is not None:
                on_token(index, token)
