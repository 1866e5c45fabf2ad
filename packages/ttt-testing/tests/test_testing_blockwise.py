"""Two models block by block: the first block that departs, and where each is found in the reference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
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
