"""Sampling against transformers' logits processors, and its random numbers.

Shapes: B prompts, V vocabulary.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings, strategies as st
from numpy.typing import NDArray
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from ttt_core import GenerationError, SpecError
from ttt_generation import Sampler, SamplingSpec
from ttt_generation._processors import process, softmax

TINY = LlamaForCausalLM(
    LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
)


def transformers_scores(logits_BV: NDArray[np.float32], histories: NDArray[np.int64], spec: SamplingSpec) -> Any:
    """The scores from which `generate` would draw, by the processors that it would make, in its order."""
    config = GenerationConfig(
        do_sample=True,
        temperature=float(spec.temperature),
        top_k=spec.top_k,
        top_p=spec.top_p,
        min_p=spec.min_p,
        repetition_penalty=float(spec.repetition_penalty),
    )
    processors = TINY._get_logits_processor(config, input_ids_seq_length=histories.shape[1])
    return processors(torch.from_numpy(histories), torch.from_numpy(logits_BV))


def check(logits_BV: NDArray[np.float32], histories: NDArray[np.int64], spec: SamplingSpec) -> None:
    theirs_BV = transformers_scores(logits_BV, histories, spec)
    ours_BV = np.stack([process(row_V, tokens, spec) for row_V, tokens in zip(logits_BV, histories, strict=True)])
    np.testing.assert_array_equal(np.isneginf(ours_BV), np.isneginf(theirs_BV.numpy()), err_msg=str(spec))
    ours_BV = np.stack([softmax(scores_V) for scores_V in ours_BV])
    np.testing.assert_allclose(ours_BV, theirs_BV.softmax(-1).numpy(), rtol=0, atol=1e-6, err_msg=str(spec))


def batch(seed: int, prompts: int, vocabulary: int, scale: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    logits_BV = random.normal(0, scale, (prompts, vocabulary)).astype(np.float32)
    return logits_BV, random.integers(0, vocabulary, (prompts, 12))


GRID = list(product([0.3, 1.0, 1.7], [None, 1, 5, 1000], [None, 0.0, 0.5, 0.95, 1.0], [None, 0.0, 0.05, 0.3, 1.0]))


@pytest.mark.parametrize("penalty", [0.7, 1.0, 1.3])
def test_distributions_are_those_of_transformers(penalty: float) -> None:
    logits_BV, histories = batch(1, 4, 100, 3.0)
    for temperature, top_k, top_p, min_p in GRID:
        options: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
        check(logits_BV, histories, SamplingSpec(**options, repetition_penalty=penalty))


@settings(deadline=None)
@given(
    spec=st.builds(
        SamplingSpec,
        temperature=st.floats(0.05, 20),
        top_k=st.none() | st.integers(1, 300),
        top_p=st.none() | st.floats(0, 1),
        min_p=st.none() | st.floats(0, 1),
        repetition_penalty=st.floats(0.2, 5),
    ),
    seed=st.integers(0, 2**32),
    vocabulary=st.integers(1, 200),
    scale=st.sampled_from([0.1, 1.0, 10.0]),
)
def test_distributions_are_those_of_transformers_anywhere(
    spec: SamplingSpec, seed: int, vocabulary: int, scale: float
) -> None:
    logits_BV, histories = batch(seed, 2, vocabulary, scale)
    for row_V, history in zip(logits_BV, histories, strict=True):  # not where rounding decides whether a token stays
        kept = np.isneginf(process(row_V, history, spec))
        for nudge in (1 - 1e-5, 1 + 1e-5):
            top_p = None if spec.top_p is None else max(1 - (1 - spec.top_p) * nudge, 0.0)
            min_p = None if spec.min_p is None else min(spec.min_p * nudge, 1.0)
            nudged = replace(spec, top_p=top_p, min_p=min_p)
            assume(np.array_equal(np.isneginf(process(row_V, history, nudged)), kept))
    check(logits_BV, histories, spec)


@pytest.mark.parametrize(
    "spec",
    [
        SamplingSpec(),
        SamplingSpec(top_k=1),
        SamplingSpec(top_k=2),
        SamplingSpec(top_p=0.3),
        SamplingSpec(top_p=0.0),
        SamplingSpec(min_p=1.0),
        SamplingSpec(top_k=3, top_p=0.6, min_p=0.5),
    ],
    ids=str,
)
def test_ties_are_kept_as_transformers_keeps_them(spec: SamplingSpec) -> None:
    logits_BV = np.array([[2, 1, 2, 0, 2, 1, 1, 2], [0] * 8], dtype=np.float32)
    check(logits_BV, np.zeros((2, 1), dtype=np.int64), spec)


def test_top_k_keeps_what_ties_with_the_last() -> None:
    scores_V = process(np.array([3, 1, 2, 2, 0], dtype=np.float32), [], SamplingSpec(top_k=2))
    assert np.isfinite(scores_V).tolist() == [True, False, True, True, False]


def test_a_history_may_have_tokens_that_no_logit_has() -> None:
    logits_BV = np.array([[1, -1, 2]], dtype=np.float32)
    check(logits_BV, np.array([[1, 2, 2, 7]]), SamplingSpec(repetition_penalty=2.0))
    assert process(logits_BV[0], [], SamplingSpec(repetition_penalty=2.0)).tolist() == [1, -1, 2]


LOGITS_V = np.array([0.3, -1, 2, 1.1, 0, -0.5, 1.6, 0.9, -2, 0.1], dtype=np.float32)
CHI_SQUARE = {9: 27.88, 4: 18.47, 3: 16.27}  # degrees of freedom: what is exceeded once in a thousand times


def check_frequencies(tokens: NDArray[np.int64], spec: SamplingSpec) -> None:
    probabilities_V = softmax(process(LOGITS_V, [2, 6], spec)).astype(np.float64)
    kept = probabilities_V > 0
    counts = np.bincount(tokens, minlength=LOGITS_V.size)
    assert not counts[~kept].any()
    expected = probabilities_V[kept] * len(tokens)
    assert ((counts[kept] - expected) ** 2 / expected).sum() < CHI_SQUARE[int(kept.sum()) - 1]


@pytest.mark.parametrize(
    "spec",
    [
        SamplingSpec(seed=1),
        SamplingSpec(temperature=2.5, seed=2),
        SamplingSpec(top_k=5, seed=3),
        SamplingSpec(temperature=0.7, top_p=0.8, repetition_penalty=1.4, seed=4),
        SamplingSpec(temperature=1.5, min_p=0.3, seed=5),
    ],
    ids=str,
)
def test_tokens_are_drawn_as_often_as_they_are_likely(spec: SamplingSpec) -> None:
    logits_BV = LOGITS_V[None]
    sampler = Sampler(spec, prompts=1)
    check_frequencies(np.array([sampler(logits_BV, [[2, 6]])[0] for _ in range(20_000)]), spec)
    seeds = (replace(spec, seed=seed) for seed in range(5000))  # the first token of as many seeds is no less random
    check_frequencies(np.array([Sampler(seeded, prompts=1)(logits_BV, [[2, 6]])[0] for seeded in seeds]), spec)


def draw(spec: SamplingSpec, logits_SBV: NDArray[np.float32], slots: list[int]) -> list[list[int]]:
    """The tokens of prompts `slots` of a fixed story of logits, in a batch of these."""
    sampler = Sampler(spec, prompts=len(slots))
    histories: list[list[int]] = [[slot] for slot in slots]
    for logits_BV in logits_SBV:
        for history, token in zip(histories, sampler(logits_BV[slots], histories).tolist(), strict=True):
            history.append(token)
    return histories


def test_a_seed_repeats_across_batch_positions_and_runs() -> None:
    logits_SBV = np.random.default_rng(0).normal(0, 1, (30, 32, 129)).astype(np.float32)
    spec = SamplingSpec(temperature=1.2, top_k=50, top_p=0.95, repetition_penalty=1.1, seed=123)
    together = draw(spec, logits_SBV, list(range(32)))
    assert draw(spec, logits_SBV, list(range(32))) == together
    assert draw(spec, logits_SBV, list(reversed(range(32)))) == together[::-1]
    for slot in (0, 7, 31):
        assert draw(spec, logits_SBV, [slot]) == [together[slot]]
        assert draw(replace(spec, seed=124), logits_SBV, [slot]) != [together[slot]]


def test_tokens_of_a_seed_stay_the_same_over_releases() -> None:
    """A seed that someone wrote down must go on meaning the same."""
    sampler = Sampler(SamplingSpec(seed=42), prompts=2)
    tokens = [sampler(np.stack([LOGITS_V, LOGITS_V]), [[], []]).tolist() for _ in range(8)]
    assert tokens == [[6, 6], [3, 3], [7, 7], [6, 6], [2, 2], [9, 9], [6, 6], [6, 6]]


def test_prompts_without_a_seed_have_random_numbers_of_their_own() -> None:
    logits_SBV = np.zeros((16, 32, 1000), dtype=np.float32)
    sampler = Sampler(SamplingSpec(), prompts=32)
    assert len(set(sampler.seeds)) == 32
    assert set(sampler.seeds).isdisjoint(Sampler(SamplingSpec(), prompts=32).seeds)
    assert len({tuple(history[1:]) for history in draw(SamplingSpec(), logits_SBV, list(range(32)))}) == 32


@pytest.mark.parametrize("spec", [SamplingSpec(temperature=0), SamplingSpec(temperature=0, top_k=3, top_p=0.0, seed=1)])
def test_temperature_0_takes_the_first_of_the_largest(spec: SamplingSpec) -> None:
    sampler = Sampler(spec, prompts=2)
    logits_BV = np.array([[1, 3, 3, -9], [-np.inf, -np.inf, -2, -2]], dtype=np.float32)
    assert spec.is_greedy
    assert sampler.seeds == [None, None]
    tokens = sampler(logits_BV, [[0], [0]])
    assert tokens.dtype == np.int64
    assert tokens.tolist() == [1, 2]


def test_temperature_0_heeds_the_repetition_penalty() -> None:
    sampler = Sampler(SamplingSpec(temperature=0, repetition_penalty=2.0), prompts=1)
    assert not sampler.spec.is_greedy
    assert sampler(np.array([[3, 2, 1]], dtype=np.float32), [[0]]).tolist() == [1]
    assert sampler(np.array([[-3, -2, -3]], dtype=np.float32), [[1]]).tolist() == [0]


@pytest.mark.parametrize("extreme", [1e-6, 1e6])
def test_extremes_stay_finite(extreme: float) -> None:
    spec = SamplingSpec(temperature=extreme, repetition_penalty=extreme, top_p=0.9, min_p=0.1, seed=0)
    logits_BV, histories = batch(3, 8, 50, 100.0)
    tokens = Sampler(spec, prompts=8)(logits_BV, histories.tolist())
    assert tokens.min() >= 0
    assert tokens.max() < 50


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_logits_that_are_no_numbers(wrong: float) -> None:
    logits_BV = np.array([[1, 2], [wrong, 1]], dtype=np.float32)
    with pytest.raises(GenerationError) as caught:
        Sampler(SamplingSpec(), prompts=2)(logits_BV, [[0], [0, 1]])
    assert str(caught.value) == (
        f"prompt 2: the largest logit after 2 tokens is {wrong}, and nothing can be drawn from that. The checkpoint may be "
        "damaged, or the weights' precision too low for it."
    )


TEMPERATURE = (
    "; 0 (greedy) or a number from 1e-06 to 1e+06 is allowed. 1 draws from the model's own distribution, less from likelier "
    "tokens."
)
TOP_K = "; an integer of at least 1 is allowed. Leave it out to keep all tokens."
SHARE = "; a number from 0 to 1 is allowed. Leave it out to keep all tokens."
PENALTY = "; a number from 1e-06 to 1e+06 is allowed. 1 changes nothing, 1.2 is usual against repetition."
SEED = "; an integer of at least 0 is allowed. Leave it out for a fresh one for each prompt."


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("temperature", -1, TEMPERATURE),
        ("temperature", 1e-7, TEMPERATURE),
        ("temperature", float("inf"), TEMPERATURE),
        ("temperature", float("nan"), TEMPERATURE),
        ("temperature", "hot", TEMPERATURE),
        ("temperature", None, TEMPERATURE),
        ("top_k", 0, TOP_K),
        ("top_k", 2.0, TOP_K),
        ("top_k", True, TOP_K),
        ("top_p", -0.1, SHARE),
        ("top_p", 1.1, SHARE),
        ("top_p", float("nan"), SHARE),
        ("min_p", -0.1, SHARE),
        ("min_p", 1.1, SHARE),
        ("min_p", False, SHARE),
        ("repetition_penalty", 0, PENALTY),
        ("repetition_penalty", -1.2, PENALTY),
        ("repetition_penalty", 1e7, PENALTY),
        ("repetition_penalty", float("nan"), PENALTY),
        ("seed", -1, SEED),
        ("seed", 1.5, SEED),
        ("seed", "now", SEED),
    ],
)
def test_values_that_are_not_allowed(name: str, value: Any, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        SamplingSpec(**{name: value})
    assert str(caught.value) == f"{name} is {value!r}{message}"
