"""How tokens are chosen from logits: greedily, or drawn."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttt_core import GenerationError, SpecError
from ttt_generation._processors import process, softmax

__all__ = ["Sampler", "SamplingSpec"]

SMALLEST, LARGEST = 1e-6, 1e6  # of temperature and penalty; float32 scores stay finite with both at an end
SEED_BITS = 32  # of a seed that nobody gave: short enough to type again


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingSpec:
    """Which tokens may be drawn, and with which probabilities. The defaults draw from the model's own distribution.

    temperature: divides the logits; 0 is greedy: the likeliest token, always, after the repetition penalty.
    top_k, top_p, min_p: drop unlikely tokens; None keeps them. With temperature 0 they change nothing.
    repetition_penalty: above 1 makes the tokens of the prompt and its answer less likely to come again, below 1 more.
    seed: where each prompt's random numbers start. They depend on the seed and on how many tokens the prompt has drawn,
        never on other prompts: a prompt and a seed make the same answer in any slot of any batch, and two prompts with
        the same seed have the same random numbers. None: a fresh seed for each prompt.

    Unlike transformers, which takes 50 where nobody says, no top_k is no top-k.
    Errors: SpecError for a value that is not allowed.
    Source: GenerationConfig of transformers 5.23.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        reach = f"from {SMALLEST:g} to {LARGEST:g}"
        if not (_number(self.temperature) and (self.temperature == 0 or SMALLEST <= self.temperature <= LARGEST)):
            raise SpecError(
                f"temperature is {self.temperature!r}; 0 (greedy) or a number {reach} is allowed. 1 draws from the model's "
                "own distribution, less from likelier tokens."
            )
        if self.top_k is not None and not (_integer(self.top_k) and self.top_k >= 1):
            raise SpecError(
                f"top_k is {self.top_k!r}; an integer of at least 1 is allowed. Leave it out to keep all tokens."
            )
        for name, share in (("top_p", self.top_p), ("min_p", self.min_p)):
            if share is not None and not (_number(share) and 0 <= share <= 1):
                raise SpecError(
                    f"{name} is {share!r}; a number from 0 to 1 is allowed. Leave it out to keep all tokens."
                )
        if not (_number(self.repetition_penalty) and SMALLEST <= self.repetition_penalty <= LARGEST):
            raise SpecError(
                f"repetition_penalty is {self.repetition_penalty!r}; a number {reach} is allowed. 1 changes nothing, "
                "1.2 is usual against repetition."
            )
        if self.seed is not None and not (_integer(self.seed) and self.seed >= 0):
            raise SpecError(
                f"seed is {self.seed!r}; an integer of at least 0 is allowed. Leave it out for a fresh one for each prompt."
            )

    @property
    def is_greedy(self) -> bool:
        """Whether the token is always that with the largest logit."""
        return self.temperature == 0 and self.repetition_penalty == 1


GREEDY = SamplingSpec(temperature=0)


class Sampler:
    """Chooses the next token of each prompt in a batch; good for one generation.

    A token is drawn by one uniform number u a prompt and step: the first whose cumulative probability is above u, in the
    vocabulary's order. u is the next double of NumPy's PCG64 started with the prompt's seed. `seeds` are the prompts' own,
    None where nothing is drawn.
    """

    def __init__(self, spec: SamplingSpec, *, prompts: int) -> None:
        self.spec = spec
        self.seeds: list[int | None] = [None] * prompts
        self._generators: list[np.random.Generator] = []
        if spec.temperature > 0:
            seeds = [secrets.randbits(SEED_BITS) if spec.seed is None else spec.seed for _ in range(prompts)]
            self.seeds = [*seeds]
            self._generators = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]

    def __call__(self, logits_BV: NDArray[np.generic], histories: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        """Tokens [B]. Each history has the tokens of its prompt and of its answer so far.

        Errors: GenerationError for logits whose largest is infinite or not a number.
        """
        if self.spec.is_greedy:
            greedy: NDArray[np.int64] = logits_BV.argmax(axis=-1).astype(np.int64)
            return greedy
        rows = zip(logits_BV, histories, strict=True)
        return np.array([self._choose(index, row_V, history) for index, (row_V, history) in enumerate(rows)])

    def _choose(self, index: int, logits_V: NDArray[np.generic], history: Sequence[int]) -> int:
        if not np.isfinite(largest := logits_V.max()):
            raise GenerationError(
                f"prompt {index + 1}: the largest logit after {len(history)} tokens is {largest}, and nothing can be drawn "
                "from that. The checkpoint may be damaged, or the weights' precision too low for it."
            )
        scores_V = process(logits_V, history, self.spec)
        if not self._generators:
            return int(scores_V.argmax())
        sums = softmax(scores_V).cumsum(dtype=np.float64)
        return int(np.searchsorted(sums, self._generators[index].random() * sums[-1], side="right"))
