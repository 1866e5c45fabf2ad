"""Logits processors in NumPy: float32, one prompt's row at a time.

The formulas, and their order in `process`, are those of transformers 5.23 (generation/logits_process.py, and
`_get_logits_processor` of generation/utils.py). A row by itself, because a prompt's tokens must not depend on the batch.

Shapes: V vocabulary. A dropped token has the score −inf.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ttt_generation.sampling import SamplingSpec

Scores = NDArray[np.float32]


def process(logits_V: NDArray[np.generic], history: Sequence[int], spec: SamplingSpec) -> Scores:
    """Scores [V] from which to draw, after `history`: the tokens of the prompt and of its answer so far.

    Order: repetition penalty, temperature, top-k, top-p, min-p, each on what the one before it left. With temperature 0
    the repetition penalty is the only one, as in transformers with do_sample=False.
    Source: GenerationMixin._get_logits_processor.
    """
    scores_V = logits_V.astype(np.float32)
    if spec.repetition_penalty != 1:
        scores_V = repetition_penalty(scores_V, history, spec.repetition_penalty)
    if spec.temperature == 0:
        return scores_V
    scores_V = temperature(scores_V, spec.temperature)
    if spec.top_k is not None:
        scores_V = top_k(scores_V, spec.top_k)
    if spec.top_p is not None and spec.top_p < 1:
        scores_V = top_p(scores_V, spec.top_p)
    if spec.min_p is not None:
        scores_V = min_p(scores_V, spec.min_p)
    return scores_V


def repetition_penalty(scores_V: Scores, history: Sequence[int], penalty: float) -> Scores:
    """score / penalty where it is positive, score · penalty where it is negative, once for each token of the history.

    Tokens that have no score are passed over: an embedding may know more than the head.
    Source: RepetitionPenaltyLogitsProcessor [arXiv 1909.05858 §4.1].
    """
    tokens = np.unique(np.asarray(history, dtype=np.int64))
    tokens = tokens[tokens < scores_V.size]
    seen = scores_V[tokens]
    scores_V = scores_V.copy()
    scores_V[tokens] = np.where(seen < 0, seen * np.float32(penalty), seen / np.float32(penalty))
    return scores_V


def temperature(scores_V: Scores, value: float) -> Scores:
    """score / temperature. Source: TemperatureLogitsWarper."""
    return scores_V / np.float32(value)


def top_k(scores_V: Scores, count: int) -> Scores:
    """Keep the `count` largest, and what ties with the last of them. Source: TopKLogitsWarper [arXiv 1805.04833 §5.1]."""
    count = min(count, scores_V.size)
    return _drop(scores_V, scores_V < np.partition(scores_V, -count)[-count])


def top_p(scores_V: Scores, mass: float) -> Scores:
    """Keep the fewest tokens whose probabilities add up to `mass`, and at least one.

    Ascending, a token is dropped while the sum up to it is at most 1 − mass; of equal ones the earlier is dropped first.
    Source: TopPLogitsWarper [arXiv 1904.09751 §3.1].
    """
    ascending = np.argsort(scores_V, kind="stable")
    # torch adds float32 up in float64, and rounds each sum.
    sums = softmax(scores_V[ascending]).cumsum(dtype=np.float64).astype(np.float32)
    below = sums <= np.float32(1 - mass)
    below[-1] = False
    dropped = np.zeros_like(below)
    dropped[ascending] = below
    return _drop(scores_V, dropped)


def min_p(scores_V: Scores, share: float) -> Scores:
    """Keep the tokens at least `share` times as likely as the likeliest. Source: MinPLogitsWarper [arXiv 2407.01082 §3]."""
    probabilities = softmax(scores_V)
    return _drop(scores_V, probabilities < np.float32(share) * probabilities.max())


def softmax(scores_V: Scores) -> Scores:
    """exp(score − max), divided by their sum."""
    exponentials = np.exp(scores_V - scores_V.max())
    probabilities: Scores = exponentials / exponentials.sum()
    return probabilities


def _drop(scores_V: Scores, dropped: NDArray[np.bool_]) -> Scores:
    return np.where(dropped, np.float32(-np.inf), scores_V)
