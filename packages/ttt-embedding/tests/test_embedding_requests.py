"""Embedding and head as lists of operations, and what the blocks refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ttt_core import SpecError, WeightError
from ttt_embedding import EmbeddingSpec, HeadSpec, LMHead, embedding_request, head_request
from ttt_embedding.requests import PROFILES
from ttt_hw import board
from ttt_hw.requests import BlockRequest, UnaryRequest, Workload


def listed(spec: HeadSpec, chips: int = 1) -> BlockRequest:
    work = Workload(mode="decode", users=8, context=256, chips=chips)
    return head_request(spec, work, PROFILES["accuracy"])


def test_embedding() -> None:
    spec = EmbeddingSpec(vocab_size=100, hidden_dim=64, scale=8.0)
    block = embedding_request(spec, Workload(mode="prefill", tokens=70, context=256, chips=4))
    assert [op.name for op in block.ops] == ["embedding"]
    assert block.types["ids"].shape == (1, 96)
    assert block.types["table"].shape == (100, 64)
    assert block.types["embedding"].shape == (1, 1, 96, 64)


@pytest.mark.parametrize(("vocab", "chips", "width", "names"), [
    (128, 1, 128, ["lm_head"]), (100, 1, 128, ["lm_head", "crop"]), (128, 4, 32, ["lm_head", "all_gather"]),
    (128, 8, 32, ["lm_head", "all_gather", "crop"]),
])  # fmt: skip
def test_head(vocab: int, chips: int, width: int, names: list[str]) -> None:
    block = listed(HeadSpec(vocab_size=vocab, hidden_dim=64), chips)
    assert [op.name for op in block.ops] == names
    assert block.types["weight"].shape == (1, 1, 64, width)
    assert block.types[block.outputs[0]].shape == (1, 1, 8, vocab)


def test_logits_are_capped_before_they_are_joined() -> None:
    block = listed(HeadSpec(vocab_size=128, hidden_dim=64, bias=True, soft_cap=30.0), 2)
    assert [op.name for op in block.ops] == ["lm_head", "tanh", "capped_logits", "all_gather"]
    assert [(op.activation, op.scale) for op in block.ops if isinstance(op, UnaryRequest)] == [
        ("tanh", 1 / 30.0),
        (None, 30.0),
    ]
    assert block.types["bias"].shape == (1, 1, 1, 64)


def test_parameters() -> None:
    assert HeadSpec(vocab_size=128, hidden_dim=64, bias=True).num_parameters == 128 * 65
    assert HeadSpec(vocab_size=128, hidden_dim=64, tied=True).num_parameters == 0
    assert EmbeddingSpec(vocab_size=128, hidden_dim=64).num_parameters == 128 * 64


def test_a_bias_and_the_spec_agree() -> None:
    table: Any = np.ones((128, 64), np.float32)
    message = r"^the spec says bias=True, and none was given\. Give it, or change the spec\.$"
    with pytest.raises(WeightError, match=message):
        LMHead(HeadSpec(vocab_size=128, hidden_dim=64, bias=True), table, device=board("n150"))
    with pytest.raises(WeightError, match=r"^the spec says bias=False, and one was given\."):
        LMHead(HeadSpec(vocab_size=128, hidden_dim=64), table, bias=table[:, 0], device=board("n150"))
    with pytest.raises(WeightError, match=r"but \[128\] is wanted for the head's bias\."):
        LMHead(HeadSpec(vocab_size=128, hidden_dim=64, bias=True), table, bias=table[0], device=board("n150"))


def test_specs_out_of_range_are_refused() -> None:
    with pytest.raises(SpecError, match=r"^EmbeddingSpec\(scale=0\.0\): it must be above 0\.$"):
        EmbeddingSpec(vocab_size=128, hidden_dim=64, scale=0.0)
    with pytest.raises(SpecError, match=r"^HeadSpec\(soft_cap=0\.0\): it must be above 0\.$"):
        HeadSpec(vocab_size=128, hidden_dim=64, soft_cap=0.0)
