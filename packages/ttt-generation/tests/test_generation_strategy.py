"""Strategies against transformers' generate, and the stop tokens that it would take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from ttt_core import CausalLM, GenerationError, SpecError
from ttt_factory import ModelFactory
from ttt_generation import PrefillDecodeStrategy, SamplingSpec, stop_tokens
from ttt_testing import shadow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    directory = tmp_path_factory.mktemp("checkpoint")
    config = LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=96, initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def model(mesh: Any, checkpoint: Path) -> CausalLM:
    return ModelFactory.from_pretrained(checkpoint, device=mesh)


def hugging_face(checkpoint: Path, prompt: list[int], **options: Any) -> list[int]:
    reference = LlamaForCausalLM.from_pretrained(checkpoint).eval()
    ids = torch.tensor([prompt])
    output = reference.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0, **options)
    tokens: list[int] = output[0, len(prompt) :].tolist()
    return tokens


def test_prompts_end_on_their_own_stop_tokens(model: CausalLM, checkpoint: Path) -> None:
    prompts = [[5, 9, 33], [1], list(range(2, 50)), [60, 61]]
    free = [hugging_face(checkpoint, prompt, max_new_tokens=20, eos_token_id=None) for prompt in prompts]
    stops = [free[0][4], free[2][9]]  # tokens that come up in the middle of two answers
    expected = [hugging_face(checkpoint, prompt, max_new_tokens=20, eos_token_id=stops) for prompt in prompts]
    heard: list[tuple[int, int]] = []
    with shadow("none"):
        strategy = PrefillDecodeStrategy(model, max_new_tokens=20, stop_tokens=stops)
        completions = strategy.generate(prompts, on_token=lambda *token: heard.append(token))
    assert [completion.tokens for completion in completions] == expected
    assert [completion.stopped for completion in completions] == [tokens[-1] in stops for tokens in expected]
    assert min(map(len, expected)) < 20
    for index, tokens in enumerate(expected):
        assert [token for prompt, token in heard if prompt == index] == tokens


def test_logits_are_kept_when_asked(model: CausalLM) -> None:
    with shadow("none"):
        (completion,) = PrefillDecodeStrategy(model, max_new_tokens=3, keep_logits=True).generate([[7, 8]])
    assert [int(np.argmax(row)) for row in completion.logits] == completion.tokens


def test_up_to_the_last_position(model: CausalLM, checkpoint: Path) -> None:
    prompt = [3] * 76
    with shadow("none"):
        (completion,) = PrefillDecodeStrategy(model, max_new_tokens=20).generate([prompt])
    assert completion.tokens == hugging_face(checkpoint, prompt, max_new_tokens=20, eos_token_id=None)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "no prompt was given; give at least one."),
        ([[1]] * 33, "33 prompts were given; at most 32 are decoded together. Split them into several batches."),
        ([[1], []], "prompt 2 is empty: it has no token to start from. Give it some text."),
        (
            [[64]],
            "prompt 1 has the token 64; the model's vocabulary is 0 to 63. Its tokenizer belongs to another checkpoint.",
        ),
        (
            [[1] * 90],
            "prompt 1 of 90 tokens and 20 new ones are 110 tokens, the model's context is 96. Shorten the prompt or ask for "
            "at most 6 new tokens.",
        ),
    ],
)
def test_prompts_that_the_model_cannot_take(model: CausalLM, prompts: list[list[int]], message: str) -> None:
    with pytest.raises(GenerationError) as caught:
        PrefillDecodeStrategy(model, max_new_tokens=20).generate(prompts)
    assert str(caught.value) == message


def test_no_new_tokens(model: CausalLM) -> None:
    with pytest.raises(GenerationError, match=r"max_new_tokens is 0; give at least 1\."):
        PrefillDecodeStrategy(model, max_new_tokens=0)


def test_a_seed_draws_the_same_tokens_in_every_slot(model: CausalLM) -> None:
    sampling = SamplingSpec(temperature=2.0, top_p=0.95, seed=11)
    prompt, others = [5, 9, 33], [[1], [60, 61], list(range(2, 50))]
    with shadow("none"):
        strategy = PrefillDecodeStrategy(model, max_new_tokens=20, sampling=sampling)
        (alone,) = strategy.generate([prompt])
        for slot in range(4):
            batch = strategy.generate([*others[:slot], prompt, *others[slot:]])
            assert batch[slot].tokens == alone.tokens
        (other,) = PrefillDecodeStrategy(
            model, max_new_tokens=20, sampling=SamplingSpec(temperature=2.0, top_p=0.95, seed=12)
        ).generate([prompt])
    assert alone.seed == 11
    assert other.tokens != alone.tokens


def test_without_a_seed_each_prompt_has_its_own_and_it_repeats_the_tokens(model: CausalLM) -> None:
    with shadow("none"):
        first, second = PrefillDecodeStrategy(
            model, max_new_tokens=20, sampling=SamplingSpec(temperature=3.0)
        ).generate([[7, 8]] * 2)
        assert first.seed != second.seed
        assert first.tokens != second.tokens
        sampling = SamplingSpec(temperature=3.0, seed=second.seed)
        (again,) = PrefillDecodeStrategy(model, max_new_tokens=20, sampling=sampling).generate([[7, 8]])
    assert again.tokens == second.tokens


def test_greedy_with_a_repetition_penalty_is_that_of_transformers(model: CausalLM, checkpoint: Path) -> None:
    prompts = [[5, 9, 33], [1], list(range(2, 50))]
    options = {"max_new_tokens": 20, "eos_token_id": None, "repetition_penalty": 1.6}
    sampling = SamplingSpec(temperature=0, repetition_penalty=1.6)
    with shadow("none"):
        plain = PrefillDecodeStrategy(model, max_new_tokens=20).generate(prompts)
        same = PrefillDecodeStrategy(model, max_new_tokens=20, sampling=SamplingSpec(temperature=0)).generate(prompts)
        penalised = PrefillDecodeStrategy(model, max_new_tokens=20, sampling=sampling).generate(prompts)
    assert [done.tokens for done in plain] == [done.tokens for done in same]
    assert [done.tokens for done in penalised] == [hugging_face(checkpoint, prompt, **options) for prompt in prompts]
    assert [done.tokens for done in penalised] != [done.tokens for done in plain]


@pytest.mark.parametrize(
    ("generation", "config"),
    [
        ({"eos_token_id": 3}, {"eos_token_id": 4}),
        ({"eos_token_id": [3, 5]}, {}),
        (None, {"eos_token_id": 4}),
        (None, {"eos_token_id": [4, 6]}),
        (None, {"eos_token_id": None}),
    ],
)
def test_stop_tokens_are_those_of_transformers(
    tmp_path: Path, generation: dict[str, Any] | None, config: dict[str, Any]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
        theirs = GenerationConfig.from_pretrained(tmp_path).eos_token_id
    else:
        theirs = GenerationConfig.from_model_config(LlamaConfig.from_pretrained(tmp_path)).eos_token_id
    expected = set() if theirs is None else {theirs} if isinstance(theirs, int) else set(theirs)
    if generation is None and config["eos_token_id"] is None:
        expected = set()  # LlamaConfig fills in 2; a file that says null means none
    assert stop_tokens(tmp_path, config) == expected


def test_stop_tokens_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "generation_config.json"
    path.write_text("{")
    with pytest.raises(SpecError, match=r"generation_config\.json is not valid JSON"):
        stop_tokens(tmp_path, {})
    path.write_text('{"eos_token_id": "</s>"}')
    with pytest.raises(SpecError, match=r"eos_token_id is '</s>'; a token id or a list of them is wanted\."):
        stop_tokens(tmp_path, {})
