"""The hand-made model against the factory's."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from llama3 import LLAMA_3_1_8B, LLAMA_3_2_1B, LLAMA_3_2_3B, Llama3Config, llama3, model
from ttt_attention import Llama3Scaling, RopeSpec
from ttt_factory import ModelFactory
from ttt_testing import shadow
from ttt_weights import Checkpoint

SMALL = Llama3Config(
    hidden_dim=96,
    intermediate_dim=160,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=32,
    vocab_size=130,
    max_context=256,
    rope=RopeSpec(
        theta=500_000.0,
        scaling=Llama3Scaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=64),
    ),
)


def hugging_face_config(config: Llama3Config) -> LlamaConfig:
    scaling = config.rope.scaling
    assert isinstance(scaling, Llama3Scaling)
    return LlamaConfig(
        hidden_size=config.hidden_dim,
        intermediate_size=config.intermediate_dim,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        vocab_size=config.vocab_size,
        max_position_embeddings=config.max_context,
        rms_norm_eps=config.norm_eps,
        tie_word_embeddings=config.tied_head,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": config.rope.theta,
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_context,
        },
    )


@pytest.mark.parametrize("rounding", ["none", "device"])
def test_same_logits_as_the_factory(mesh: Any, tmp_path: Path, rounding: Any) -> None:
    torch.manual_seed(0)
    LlamaForCausalLM(hugging_face_config(SMALL)).save_pretrained(tmp_path)
    ids = torch.randint(0, SMALL.vocab_size, (2, 40))
    by_hand = llama3(SMALL, Checkpoint(tmp_path), device=mesh)
    by_factory = ModelFactory.from_pretrained(tmp_path, device=mesh)
    with shadow(rounding) as values:
        ours, theirs = (values.to_torch(made.prefill_forward(ids, logits="all")) for made in (by_hand, by_factory))
        assert torch.equal(ours, theirs)
        for made in (by_hand, by_factory):
            cache = made.allocate_cache(users=2, context=64)
            made.prefill_forward(ids, cache=cache)
            step = values.to_torch(made.decode_forward(ids[:, 0], cache=cache, positions=torch.tensor([40, 40])))
            ours, theirs = theirs, step
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("config", [LLAMA_3_2_1B, LLAMA_3_2_3B, LLAMA_3_1_8B])
def test_named_sizes_are_those_of_a_config_file(config: Llama3Config) -> None:
    spec = ModelFactory.from_huggingface(hugging_face_config(config).to_dict())
    assert spec.layers == (spec.layers[0],) * config.num_layers
    assert (spec.layers[0].attention, spec.layers[0].ffn) == (config.attention, config.ffn)
    assert (spec.final_norm, spec.embedding, spec.head) == (config.norm, config.embedding, config.head)


def test_the_model_file_stays_short() -> None:
    assert len(inspect.getsource(model).splitlines()) <= 120
