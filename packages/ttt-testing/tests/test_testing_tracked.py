"""Blocks beside the references that their specs track."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ttt_attention import MultiHeadAttention
from ttt_core import SpecError, TttError, WeightError
from ttt_factory import ModelFactory
from ttt_norm import NormSpec, RMSNorm
from ttt_weights import Checkpoint, RandomWeights

CHECKPOINT = Path(__file__).parents[3] / "models/tiny-llama/checkpoint"
X = torch.randn(1, 5, 128, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model(mesh: Any) -> Any:
    return ModelFactory.from_pretrained(CHECKPOINT, device=mesh)


def test_equal_layers_are_equal_wherever_their_references_are(model: Any) -> None:
    first, second = (layer.attention.spec for layer in model.layers[:2])
    assert first == second
    assert hash(first) == hash(second)
    assert (first.reference_path, second.reference_path) == ("model.layers.0.self_attn", "model.layers.1.self_attn")
    assert second.reference_type == "huggingface"
    assert "reference" not in repr(second)


@pytest.mark.parametrize(
    ("path", "reference"),
    [
        ("layers.1.attention", "model.layers.1.self_attn (LlamaAttention)"),
        ("layers.2.ffn", "model.layers.2.mlp (LlamaMLP)"),
        ("layers.3.ffn_norm", "model.layers.3.post_attention_layernorm (LlamaRMSNorm)"),
        ("layers.1", "model.layers.1 (LlamaDecoderLayer)"),
        ("final_norm", "model.norm (LlamaRMSNorm)"),
        ("head", "lm_head (Linear)"),
        ("embedding", "model.embed_tokens (Embedding)"),
    ],
)
def test_every_block_of_a_checkpoint_finds_its_reference(model: Any, path: str, reference: str) -> None:
    block: Any = model
    for name in path.split("."):
        block = block[int(name)] if name.isdigit() else getattr(block, name)
    found = block.compare_with_reference(torch.arange(7)[None] if path == "embedding" else X, model=model)
    assert (found.path, found.reference) == (path, reference)
    assert found.close
    assert found.max_difference < 1e-5
    assert found.pcc > 0.999999


def test_what_departs_is_said(mesh: Any) -> None:
    """The reference is that of another layer."""
    spec = NormSpec(dim=128, reference_path="model.layers.1.input_layernorm")
    weight = Checkpoint(CHECKPOINT)["model.layers.0.input_layernorm.weight"]
    found = RMSNorm(spec, weight, device=mesh).compare_with_reference(X)
    assert not found.close
    assert str(found).startswith("norm.RMSNorm, beside model.layers.1.input_layernorm (LlamaRMSNorm): max difference ")
    wrong = RMSNorm(replace(spec, reference_path="model.layers.1.norm"), weight, device=mesh)
    with pytest.raises(SpecError) as caught:
        wrong.compare_with_reference(X)
    assert str(caught.value) == (
        "RMSNorm's spec says reference_path='model.layers.1.norm', and LlamaForCausalLM has no such module. Its modules are "
        "called as model, model.embed_tokens, model.layers, model.layers.0."
    )
    unknown = RMSNorm(replace(spec, reference_type="onnx"), weight, device=mesh)
    with pytest.raises(
        SpecError, match=r"nothing that is installed loads a reference of type 'onnx' \(entry points of"
    ):
        unknown.compare_with_reference(X)


def test_without_a_reference_a_block_is_held_to_its_own_float32_values(mesh: Any) -> None:
    attention = MultiHeadAttention(hidden_dim=128, num_heads=4, device=mesh, hw_mode="accuracy", max_context=64)
    with pytest.raises(
        WeightError, match="MultiHeadAttention was made without weights, and the query weight is needed"
    ):
        attention.compare_with_reference(X)
    found = attention.load(RandomWeights()).compare_with_reference(X)
    assert found.reference == "its float32 values"
    assert found.close
    assert 0 < found.max_difference < 0.05
    coarse = MultiHeadAttention(hidden_dim=128, num_heads=4, device=mesh, dtype="bfloat4_b", max_context=64)
    assert coarse.load(RandomWeights()).compare_with_reference(X).pcc < found.pcc


def test_a_function_and_a_block_within_a_planned_model(model: Any, mesh: Any) -> None:
    norm = RMSNorm(dim=128, device=mesh).load(RandomWeights())
    weight = torch.from_numpy(norm.weight.host().reshape(-1))
    found = norm.compare_with_reference(X, lambda x: torch.nn.functional.rms_norm(x, (128,), weight, 1e-5))
    assert found.max_difference < 1e-5
    with pytest.raises(
        TttError, match=r"if this GatedMLP is part of a model, .* compare_with_reference\(x, model=model\)"
    ):
        model.layers[1].ffn.compare_with_reference(X)


def test_without_ttt_testing_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: ())
    with pytest.raises(TttError) as caught:
        model.final_norm.compare_with_reference(X)
    assert str(caught.value) == (
        "RMSNorm.compare_with_reference needs ttt-testing, which computes the values of both, and it is not installed: pip "
        "install ttt-testing."
    )
