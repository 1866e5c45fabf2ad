"""Blocks and layers from keywords, without weights at first."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from ttt_attention import AttentionSpec, GroupedQueryAttention, MultiHeadAttention, RopeSpec
from ttt_core import LazyModule, ShapeError, SpecError, WeightError
from ttt_embedding import LMHead, TokenEmbedding
from ttt_ffn import MLP, ActivationType, FFNSpec, GeGLU, MoE, MoESpec, SwiGLU
from ttt_hw import upload
from ttt_norm import LayerNorm, NormSpec, NormType, RMSNorm
from ttt_patterns import DecoderLayer
from ttt_testing import max_difference, shadow
from ttt_weights import RandomWeights


@pytest.mark.parametrize(
    ("block", "keywords", "spec"),
    [
        (RMSNorm, {"dim": 64}, NormSpec(dim=64)),
        (LayerNorm, {"dim": 64}, NormSpec(dim=64, kind=NormType.LAYER, bias=True)),
        (RMSNorm, {"dim": 64, "weight": False}, NormSpec(dim=64, weight=False)),
        (LayerNorm, {"dim": 64, "bias": False}, NormSpec(dim=64, kind=NormType.LAYER)),
        (SwiGLU, {"hidden_dim": 64, "intermediate_dim": 96}, FFNSpec(hidden_dim=64, intermediate_dim=96)),
        (
            GeGLU,
            {"hidden_dim": 64, "intermediate_dim": 96, "activation": "gelu_tanh"},
            FFNSpec(hidden_dim=64, intermediate_dim=96, activation=ActivationType.GELU_TANH),
        ),
        (
            MLP,
            {"hidden_dim": 64, "intermediate_dim": 96, "bias": True},
            FFNSpec(hidden_dim=64, intermediate_dim=96, activation=ActivationType.GELU, gated=False, bias=True),
        ),
        (
            MoE,
            {"experts": 4, "active": 2, "hidden_dim": 64, "intermediate_dim": 96},
            MoESpec(experts=4, active=2, ffn=FFNSpec(hidden_dim=64, intermediate_dim=96)),
        ),
        (
            MultiHeadAttention,
            {"hidden_dim": 64, "num_heads": 2, "rope_theta": 500_000.0},
            AttentionSpec(
                hidden_dim=64,
                num_heads=2,
                num_kv_heads=2,
                head_dim=32,
                max_context=4096,
                rope=RopeSpec(theta=500_000.0),
            ),
        ),
    ],
)
def test_a_block_has_the_spec_that_its_keywords_describe_and_runs(
    mesh: Any, block: Any, keywords: Any, spec: Any
) -> None:
    made = block(**keywords, device=mesh)
    assert made.spec == spec
    x = upload(np.zeros((1, 1, 32, 64), np.float32), mesh, dtype="bfloat16")
    more = {"cache": None, "positions": positions(mesh)} if block is MultiHeadAttention else {}
    assert list(made.prefill_forward(x, **more).shape) == [1, 1, 32, 64]  # shapes need no values
    assert made.estimate_us("decode", 32) > 0
    if not made.weights:
        return
    with shadow(), pytest.raises(WeightError, match=f"{block.__name__} was made without weights"):
        block(**keywords, device=mesh).prefill_forward(x, **more)


def test_a_weight_that_is_given_is_one_that_the_spec_has(mesh: Any) -> None:
    ones: Any = np.ones(64, np.float32)
    assert LayerNorm(dim=64, weight=ones, bias=ones, device=mesh).spec.bias
    head = LMHead(
        vocab_size=96, hidden_dim=64, weight=np.ones((96, 64), np.float32), bias=np.ones(96, np.float32), device=mesh
    )
    assert head.spec.bias
    with pytest.raises(WeightError, match="the spec says bias=False, and one was given"):
        LayerNorm(NormSpec(dim=64, kind=NormType.LAYER), ones, ones, device=mesh)


def test_ids_to_logits(mesh: Any) -> None:
    sizes: dict[str, Any] = {"vocab_size": 100, "hidden_dim": 64, "device": mesh}
    embedding, head = TokenEmbedding(**sizes), LMHead(**sizes, bias=True)
    ids = upload(np.arange(32, dtype=np.uint32)[None], mesh, dtype="uint32", layout="row_major")
    assert list(head.decode_forward(embedding.decode_forward(ids)).shape) == [1, 1, 32, 100]


@pytest.mark.parametrize("block", [GroupedQueryAttention, MultiHeadAttention])
def test_attention_says_which_keywords_it_lacks(mesh: Any, block: Any) -> None:
    with pytest.raises(SpecError, match=f"{block.__name__} was not given num_heads"):
        block(hidden_dim=64, device=mesh)
    with pytest.raises(SpecError, match="hidden_dim=64 does not split into num_heads=3 heads"):
        block(hidden_dim=64, num_heads=3, num_kv_heads=3, device=mesh)


def test_multi_head_attention_shares_nothing(mesh: Any) -> None:
    with pytest.raises(SpecError, match="keys and values for each of its 4 heads, the spec says num_kv_heads=2"):
        MultiHeadAttention(hidden_dim=128, num_heads=4, num_kv_heads=2, device=mesh)


@pytest.mark.parametrize(("mode", "dtype"), [("performance", "bfloat4_b"), ("accuracy", "bfloat8_b")])
def test_a_hardware_mode_chooses_dtypes(mesh: Any, mode: Any, dtype: str) -> None:
    made = SwiGLU(hidden_dim=64, intermediate_dim=96, device=mesh, hw_mode=mode)
    assert made.gate.dtype == dtype
    assert made.gate.dtype == SwiGLU.get_default_hw_config("n150", mode).precision["gate_weights"]
    assert (
        SwiGLU(hidden_dim=64, intermediate_dim=96, device=mesh, hw_mode=mode, dtype="bfloat16").up.dtype == "bfloat16"
    )


def positions(mesh: Any) -> Any:
    return upload(np.arange(32, dtype=np.int32)[None], mesh, dtype="int32", layout="row_major")


def parts(mesh: Any) -> dict[str, Any]:
    return {
        "attention": MultiHeadAttention(hidden_dim=64, num_heads=2, device=mesh, dtype="bfloat16"),
        "ffn": SwiGLU(hidden_dim=64, intermediate_dim=96, device=mesh, dtype="bfloat16"),
        "device": mesh,
    }


@pytest.mark.parametrize("pattern", ["pre_norm", "sandwich", "parallel"])
def test_a_norm_is_the_template_of_all_norms_of_a_layer(mesh: Any, pattern: Any) -> None:
    layer = DecoderLayer(**parts(mesh), norm=RMSNorm(dim=64, device=mesh), residual_pattern=pattern)
    names = ["attention_norm", "ffn_norm"] + ["attention_output_norm", "ffn_output_norm"] * (pattern == "sandwich")
    by_hand = DecoderLayer(
        **parts(mesh), **{name: RMSNorm(dim=64, device=mesh) for name in names}, residual_pattern=pattern
    )
    norms = [getattr(layer, name) for name in names]
    assert len({id(norm.weight) for norm in norms}) == len(names)
    assert all(norm.spec == NormSpec(dim=64) for norm in norms)
    results = []
    for each in (layer, by_hand):
        each.load(RandomWeights(3))
        with shadow() as values:
            x = upload(np.random.default_rng(0).standard_normal((1, 1, 32, 64), np.float32), mesh, dtype="bfloat16")
            results.append(values.to_torch(each.prefill_forward(x, cache=None, positions=positions(mesh))))
    assert max_difference(*results) == 0
    assert torch.isfinite(results[0]).all()
    weights = [norm.weight.host() for norm in norms]
    assert (weights[0] != weights[1]).any()  # attention_norm.weight and ffn_norm.weight are other names


class Later:
    """A part that is yet to be made."""

    def __init__(self, made: Any) -> None:
        self.made = made
        self.device: Any = None

    def materialize(self, device: Any, /) -> Any:
        self.device = device
        return self.made


def test_parts_that_are_yet_to_be_made_are_made_for_the_device(mesh: Any) -> None:
    given = parts(mesh)
    later = {name: Later(given[name]) for name in ("attention", "ffn")}
    layer = DecoderLayer(**given | later, norm=RMSNorm(dim=64, device=mesh))
    assert layer.attention is given["attention"]
    assert later["ffn"].device is mesh
    with pytest.raises(SpecError, match="is yet to be made, and the layer was given no device to make it for"):
        DecoderLayer(**{**given, **later, "device": None}, norm=RMSNorm(dim=64, device=mesh))


class Plain:
    def prefill_forward(self, x: Any, /) -> Any:
        return x

    def decode_forward(self, x: Any, /) -> Any:
        return x


def test_what_a_layer_cannot_be_made_of_is_said(mesh: Any) -> None:
    with pytest.raises(SpecError) as template:
        DecoderLayer(**parts(mesh), norm=Plain())
    assert str(template.value) == (
        "norm= is the template of a layer's norms, and Plain has no another() (ttt_core.Template). Give each norm its own: "
        "attention_norm=, ffn_norm=."
    )
    with pytest.raises(SpecError) as neither:
        DecoderLayer(**parts(mesh))
    assert str(neither.value) == "DecoderLayer was given neither norm= nor attention_norm=. Give one of them."
    layer = DecoderLayer(**parts(mesh), attention_norm=Plain(), ffn_norm=Plain())
    with pytest.raises(WeightError) as unknown:
        layer.load({"atention.q": 1})
    assert str(unknown.value) == (
        "the layer has no part for a weight atention.q; its parts are attention_norm, attention, ffn_norm, ffn."
    )
    with pytest.raises(WeightError) as untaken:
        layer.load({"ffn_norm.weight": 1, **{f"attention.{role}": np.zeros((64, 64), np.float32) for role in "qkvo"}})
    assert str(untaken.value) == "ffn_norm is a Plain, which has no load; give it its weights yourself."


def test_a_layer_of_modules_that_are_yet_to_be_made(mesh: Any) -> None:
    layer = DecoderLayer(
        attention=LazyModule(MultiHeadAttention, {"hidden_dim": 64, "num_heads": 2, "max_context": 64}),  # type: ignore[arg-type]
        ffn=LazyModule(SwiGLU, {"hidden_dim": 64, "intermediate_dim": 96}),  # type: ignore[arg-type]
        norm=LazyModule(RMSNorm, {"dim": 64}),  # type: ignore[arg-type]
        device=mesh,
    )
    for block in (layer.attention, layer.ffn, layer.attention_norm):
        config = json.loads(json.dumps(block.get_config()))
        assert config["block"] == type(block).__name__
        assert config["stored"].keys() <= config["dtypes"].keys()
        small, large = (block.estimate_memory((1, 1, rows, 64)) for rows in (32, 1024))
        assert small.weight_bytes == large.weight_bytes > 0
        assert large.activation_bytes > small.activation_bytes
        assert small.l1_bytes_per_core > 0
        assert small.dram_bytes == small.weight_bytes + small.activation_bytes
        with pytest.raises(ShapeError, match=r"^estimate_memory of \[2, 1, 32, 64\]: give \[1, 1, rows, dim\]"):
            block.estimate_memory((2, 1, 32, 64))
        config_of_t3k = type(block).get_default_hw_config("T3K", mode="performance")
        assert config_of_t3k.device == "t3k"
        assert bool(config_of_t3k.precision) == (block is not layer.attention_norm)
    tiles = sum(math.ceil(k / 32) * math.ceil(n / 32) for k, n in ((64, 96), (64, 96), (96, 64)))
    assert layer.ffn.estimate_memory((1, 1, 32, 64)).weight_bytes >= tiles * 1088  # and padding, to share banks evenly
