"""Two models block by block: the first block that departs, and where each is found in the reference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from ttt_core import ShapeError, SpecError
from ttt_factory import ModelFactory
from ttt_testing import compare_blocks, compare_with_reference

CHECKPOINT = Path(__file__).parents[3] / "models/tiny-llama/checkpoint"
IDS = torch.tensor([[1, 5, 6, 7, 8, 9]])


@pytest.fixture(scope="module")
def model(mesh: Any) -> Any:
    return ModelFactory.from_pretrained(CHECKPOINT, device=mesh)


@pytest.fixture
def theirs() -> Iterator[Any]:
    return AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype=torch.float32).eval()


def test_every_block_is_close_to_its_place_in_the_reference(model: Any, theirs: Any) -> None:
    found = compare_blocks(model, theirs, IDS)
    assert found.first_departure is None
    assert (found.backend, found.values, found.rounding, found.tokens) == ("mock", "golden", "none", 6)
    places = {block.path: block.reference for block in found.blocks}
    assert list(places)[:6] == [
        "embedding",
        "layers.0.attention_norm",
        "layers.0.attention",
        "layers.0.ffn_norm",
        "layers.0.ffn",
        "layers.0",
    ]
    assert len(places) == 1 + 4 * 5 + 3
    assert places["layers.2.ffn"] == "model.layers.2.mlp"
    assert places["layers.3.attention_norm"] == "model.layers.3.input_layernorm"
    assert (places["head"], places[""]) == ("lm_head", "the whole")
    assert all(block.max_difference < 1e-4 for block in found.blocks)


@pytest.mark.parametrize(
    ("tensor", "path"),
    [
        ("model.layers.2.mlp.up_proj.weight", "layers.2.ffn"),
        ("model.layers.1.self_attn.k_proj.weight", "layers.1.attention"),
        ("model.layers.3.input_layernorm.weight", "layers.3.attention_norm"),
        ("model.norm.weight", "final_norm"),
        ("lm_head.weight", "head"),
    ],
)
def test_the_first_block_that_departs_is_the_one_that_differs(tensor: str, path: str, model: Any, theirs: Any) -> None:
    with torch.no_grad():
        dict(theirs.named_parameters())[tensor].mul_(1.2)
    found = compare_blocks(model, theirs, IDS)
    assert found.first_departure is not None
    assert found.first_departure.path == path
    assert found.to_json()["first_departure"] == path
    assert not found.blocks[-1].close  # and the logits


def test_rounded_values_are_close_by_their_correlation(model: Any, theirs: Any) -> None:
    found = compare_blocks(model, theirs, IDS, rounding="device")
    assert found.first_departure is None
    assert 0.99 < found.blocks[-1].pcc < 1
    assert compare_blocks(model, theirs, IDS, rounding="device", least_pcc=0.9999999).first_departure is not None


def test_a_block_beside_its_reference(model: Any, theirs: Any) -> None:
    x = torch.randn(1, 5, 128, generator=torch.Generator().manual_seed(0)).bfloat16().float()
    ffn = model.layers[0].ffn
    found = compare_with_reference(ffn, x, theirs.model.layers[0].mlp, model=model)
    assert found.close
    assert str(found).startswith("layers.0.ffn (")
    other = compare_with_reference(ffn, x, theirs.model.layers[1].mlp, model=model)
    assert not other.close
    assert other.pcc < 0.9


SMALL: dict[str, Any] = {
    "vocab_size": 512, "hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "ffn"),
    [
        (transformers.MixtralConfig(**SMALL, num_local_experts=4), "ffn.MoE"),  # tensors are not called as modules are
        (
            transformers.Gemma2Config(**SMALL, head_dim=32, final_logit_softcapping=0.2),
            "ffn.GatedMLP",
        ),  # a cap after lm_head
    ],
    ids=["mixtral", "gemma2"],
)
def test_families_whose_modules_say_less_than_their_tensors(config: Any, ffn: str, mesh: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = AutoModelForCausalLM.from_config(config).eval()
    theirs.save_pretrained(tmp_path)
    model = ModelFactory.from_pretrained(tmp_path, device=mesh)
    found = compare_blocks(model, theirs, IDS)
    assert found.first_departure is None
    places = {block.path: (block.block, block.reference) for block in found.blocks}
    assert places["layers.0.ffn"] == (ffn, "model.layers.0.mlp")
    assert all(block.max_difference < 1e-5 for block in found.blocks)
    x = torch.randn(1, 5, 128, generator=torch.Generator().manual_seed(0)).bfloat16().float()
    assert compare_with_reference(model.layers[0].ffn, x, model=model).close


def test_what_cannot_be_compared_is_refused(model: Any, theirs: Any, blocks: Any) -> None:
    with pytest.raises(
        SpecError, match="no weight of this DecoderModel has a name that leads to a module of LlamaForCausalLM"
    ):
        compare_blocks(blocks.model(), theirs, IDS)
    with pytest.raises(SpecError, match="is no part of this DecoderModel"):
        compare_with_reference(blocks.norm(), torch.randn(1, 4, 96), lambda x: x, model=model)
    norm = blocks.norm()
    with pytest.raises(ShapeError, match=r"RMSNorm made rows \[4, 96\], <lambda> \[4, 5\]"):
        compare_with_reference(norm, torch.randn(1, 4, 96), lambda x: x[..., :5])
