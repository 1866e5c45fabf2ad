"""Random checkpoints, written by transformers, against transformers in float32 and its generate.

Tolerance 1e-4 with rounding "none": both sides sum at most a few thousand float32 products per element in other orders; the
error of such sums is about sqrt(terms) · 2⁻²⁴ · |terms|, 1e-5 for logits of order 1, through a few layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ttt_core import CausalLM, ShapeError
from ttt_factory import ModelFactory
from ttt_generation import PrefillDecodeStrategy
from ttt_testing import max_difference, pcc, shadow

NEW_TOKENS = 32
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@dataclass(frozen=True)
class Case:
    name: str
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int = 160
    vocab: int = 199
    tied: bool = False
    rope: dict[str, Any] = field(default_factory=lambda: {"rope_type": "default", "rope_theta": 10000.0})
    shard_size: str = "1GB"


CASES = [
    Case("gqa", hidden=96, heads=4, kv_heads=2, head_dim=32),
    Case("mha", hidden=128, heads=4, kv_heads=4, head_dim=32),
    Case("one-kv-head", hidden=64, heads=4, kv_heads=1, head_dim=16),
    Case("tied", hidden=128, heads=4, kv_heads=2, head_dim=32, tied=True),
    Case("llama3-rope", hidden=128, heads=2, kv_heads=1, head_dim=64, rope=LLAMA3),
    Case("sharded-files", hidden=96, heads=4, kv_heads=2, head_dim=32, shard_size="60KB"),
    Case("head-dim-16-odd-hidden", hidden=72, heads=4, kv_heads=2, head_dim=16, intermediate=100, vocab=131),
    Case("head-dim-80", hidden=200, heads=5, kv_heads=5, head_dim=80, intermediate=333),
    Case("head-dim-128-tied-llama3", hidden=520, heads=8, kv_heads=2, head_dim=128, tied=True, rope=LLAMA3),
    Case("more-than-32-heads", hidden=160, heads=40, kv_heads=8, head_dim=16),
]


@dataclass
class Reference:
    directory: Path
    model: LlamaForCausalLM
    prompts: list[list[int]]

    def logits(self, tokens: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return self.model(torch.tensor([tokens])).logits[0]

    def generate(self, prompt: list[int]) -> list[int]:
        ids = torch.tensor([prompt])
        with torch.no_grad():
            output = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None
            )
        return output[0, len(prompt) :].tolist()


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    case: Case = request.param
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=case.vocab,
        hidden_size=case.hidden,
        intermediate_size=case.intermediate,
        num_hidden_layers=2,
        num_attention_heads=case.heads,
        num_key_value_heads=case.kv_heads,
        head_dim=case.head_dim,
        max_position_embeddings=256,
        rope_parameters=case.rope,
        tie_word_embeddings=case.tied,
        initializer_range=0.1,  # wide enough that a wrong head or position moves the logits
    )
    model = LlamaForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.uniform_(0.5, 1.5)
    directory = tmp_path_factory.mktemp(case.name)
    model.save_pretrained(directory, max_shard_size=case.shard_size)
    assert (directory / "model.safetensors.index.json").exists() == (case.shard_size != "1GB")
    return Reference(directory, model, [torch.randint(0, case.vocab, (length,)).tolist() for length in (37, 1, 64)])


def padded(prompts: list[list[int]]) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(prompt) for prompt in prompts], batch_first=True)


@pytest.mark.parametrize("count", [1, 3])
def test_prefill_logits_and_greedy_tokens(mesh: Any, reference: Reference, count: int) -> None:
    prompts = reference.prompts[:count]
    model = ModelFactory.from_pretrained(reference.directory, device=mesh)
    assert isinstance(model, CausalLM)
    with shadow("none") as values:
        everything = values.to_torch(model.prefill_forward(padded(prompts), logits="all"))
        last = values.to_torch(model.prefill_forward(padded(prompts), lengths=[len(prompt) for prompt in prompts]))
        completions = PrefillDecodeStrategy(model, max_new_tokens=NEW_TOKENS).generate(prompts)
    for user, prompt in enumerate(prompts):
        expected = reference.logits(prompt)
        assert max_difference(everything[user, 0, : len(prompt)], expected) < 1e-4
        assert max_difference(last[0, 0, user], expected[-1]) < 1e-4
        assert completions[user].tokens == reference.generate(prompt)


@pytest.mark.parametrize(("dtype", "least"), [("bfloat16", 0.999), ("bfloat8_b", 0.99)])
def test_precision_on_the_device(mesh: Any, reference: Reference, dtype: Any, least: float) -> None:
    prompts = reference.prompts
    lengths = [len(prompt) for prompt in prompts]
    model = ModelFactory.from_pretrained(reference.directory, device=mesh, weight_dtype=dtype, cache_dtype=dtype)
    with shadow("device") as values:
        cache = model.allocate_cache(users=3, context=96)
        prefill = values.to_torch(model.prefill_forward(padded(prompts), cache=cache, lengths=lengths))[0, 0]
        steps = [torch.tensor([5, 6, 7]), torch.tensor([8, 9, 10])]
        decoded = [
            values.to_torch(model.decode_forward(ids, cache=cache, positions=torch.tensor(lengths) + step))[0, 0]
            for step, ids in enumerate(steps)
        ]
    for user, prompt in enumerate(prompts):
        expected = reference.logits(prompt + [int(ids[user]) for ids in steps])
        assert pcc(prefill[user], expected[len(prompt) - 1]) >= least
        for step, logits in enumerate(decoded):
            assert pcc(logits[user], expected[len(prompt) + step]) >= least


def test_decode_equals_prefill_of_the_longer_prompt(mesh: Any, reference: Reference) -> None:
    prompts = reference.prompts
    model = ModelFactory.from_pretrained(reference.directory, device=mesh)
    with shadow("none") as values:
        completions = PrefillDecodeStrategy(model, max_new_tokens=8, keep_logits=True).generate(prompts)
        for prompt, completion in zip(prompts, completions, strict=True):
            whole = torch.tensor([prompt + completion.tokens])
            recomputed = values.to_torch(model.prefill_forward(whole, logits="all"))[0, 0, len(prompt) - 1 : -1]
            assert max_difference(torch.from_numpy(np.stack(completion.logits)), recomputed) < 1e-4


def test_ids_on_the_device(mesh: Any, reference: Reference) -> None:
    import ttnn

    ids = padded(reference.prompts[:1])
    model = ModelFactory.from_pretrained(reference.directory, device=mesh)
    with shadow("none") as values:
        on_device = ttnn.from_torch(ids.to(torch.int32), dtype=ttnn.uint32, layout=ttnn.ROW_MAJOR_LAYOUT, device=mesh)
        ours, theirs = (values.to_torch(model.prefill_forward(x, logits="all")) for x in (on_device, ids))
    assert torch.equal(ours, theirs)


def test_what_a_model_cannot_take(mesh: Any, reference: Reference) -> None:
    model = ModelFactory.from_pretrained(reference.directory, device=mesh)
    longest = model.max_context
    cache = model.allocate_cache(users=1, context=64)

    def ids(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.int64)

    for tokens in (0, longest + 1):
        with pytest.raises(
            ShapeError, match=rf"prefill of {tokens} tokens; the model has positions for 1 to {longest}\."
        ):
            model.prefill_forward(ids(1, tokens))
    with pytest.raises(ShapeError, match=r"prefill takes ids \[batch, tokens\], got a tensor \[3\]\."):
        model.prefill_forward(ids(3))
    with pytest.raises(ShapeError, match=r"lengths \[4\] for ids \[1, 3\]; one length from 1 to 3 a prompt\."):
        model.prefill_forward(ids(1, 3), lengths=[4])
    for position in (-1, 64):
        with pytest.raises(ShapeError, match=rf"decode at position {position} with a cache for 64 tokens\."):
            model.decode_forward(ids(1), cache=cache, positions=torch.tensor([position]))
