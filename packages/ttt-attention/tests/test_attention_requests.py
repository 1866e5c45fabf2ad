"""Attention as a list of operations: what each option adds, and what each chip has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ttt_attention import (
    AttentionSpec,
    DynamicScaling,
    GateSpec,
    GroupedQueryAttention,
    HeadNormSpec,
    LongRopeScaling,
    RopeSpec,
    attention_request,
)
from ttt_attention._stepwise_requests import MAX_SCORES_BYTES, rows_of_a_piece
from ttt_attention.requests import PROFILES
from ttt_core import PlacementError, ShapeError, SpecError, WeightError
from ttt_hw import board
from ttt_hw.requests import BlockRequest, MatmulRequest, NormRequest, UnaryRequest, Workload
from ttt_weights import NoValues

SPEC = AttentionSpec(hidden_dim=512, num_heads=8, num_kv_heads=4, head_dim=96, max_context=2048, rope=RopeSpec())
DECODE = Workload(mode="decode", users=8, context=1000)
PREFILL = Workload(mode="prefill", tokens=100, context=1000)
LONG = LongRopeScaling(short_factors=(1.0,) * 48, long_factors=(2.0,) * 48, original_context=4096)


def listed(spec: AttentionSpec, work: Workload, mode: str = "balanced") -> BlockRequest:
    return attention_request(spec, work, PROFILES[mode])


def names(spec: AttentionSpec, work: Workload) -> list[str]:
    return [op.name for op in listed(spec, work).ops]


def test_decode() -> None:
    assert names(SPEC, DECODE) == [
        "qkv_matmul", "split_heads", "rotary_indices", "rotary_index_row", "cos_rows", "cos", "sin_rows", "sin", "q_rotary",
        "k_rotary", "key_update", "value_update", "attention", "transpose_heads", "concat_heads", "output_matmul",
    ]  # fmt: skip


def test_prefill() -> None:
    plain = [
        "qkv_matmul", "split_heads", "rotary_indices", "cos", "sin", "q_rotary", "k_rotary", "key_cast", "key_fill",
        "value_cast", "value_fill", "attention", "concat_heads", "output_matmul",
    ]  # fmt: skip
    assert names(SPEC, PREFILL) == plain
    in_bf16 = attention_request(SPEC, PREFILL, {**PROFILES["balanced"], "kv_cache": "bfloat16"})
    assert [op.name for op in in_bf16.ops] == [name for name in plain if not name.endswith("_cast")]


def test_each_chip_has_its_heads_and_padded_head_dims() -> None:
    for chips, heads, kv_heads in ((1, 8, 4), (4, 2, 1), (8, 1, 1)):
        block = listed(SPEC, replace(DECODE, chips=chips))
        types = block.types
        assert types["qkv_weight"].shape == (1, 1, 512, (heads + 2 * kv_heads) * 128)
        assert types["output_weight"].shape == (1, 1, heads * 128, 512)
        assert types["keys"].shape == (8, kv_heads, 1024, 128)
        assert (block.ops[-1].name == "all_reduce") == (chips > 1)
    with pytest.raises(PlacementError, match="do not split over 3 chips"):
        listed(SPEC, replace(DECODE, chips=3))


def test_what_options_add() -> None:
    plain = set(names(SPEC, DECODE))
    assert set(names(replace(SPEC, rope=None), DECODE)) == plain - {
        "rotary_indices", "rotary_index_row", "cos_rows", "cos", "sin_rows", "sin", "q_rotary", "k_rotary"
    }  # fmt: skip
    assert set(names(replace(SPEC, head_norm=HeadNormSpec(eps=1e-6)), DECODE)) == plain | {"q_norm", "k_norm"}
    norm = next(
        op for op in listed(replace(SPEC, head_norm=HeadNormSpec(eps=1e-6)), PREFILL).ops if op.name == "q_norm"
    )
    assert isinstance(norm, NormRequest)
    assert (norm.shape, norm.epsilon) == ((1, 8, 128, 128), 0.75e-6)
    for rope in (RopeSpec(dim=24), RopeSpec(style="interleaved"), RopeSpec(scaling=LONG)):
        assert listed(replace(SPEC, rope=rope), DECODE) == listed(SPEC, DECODE)  # the tables and weights differ
    biased = listed(replace(SPEC, qkv_bias=True, output_bias=True), DECODE)
    assert {stored.name for stored in biased.stored} >= {"qkv_bias", "output_bias"}
    matmuls = [op for op in biased.ops if isinstance(op, MatmulRequest)]
    assert [op.bias_dtype for op in matmuls] == ["bfloat16", "bfloat16"]


def test_a_soft_cap_is_unfused() -> None:
    capped = replace(SPEC, soft_cap=50.0, score_scale=0.1, window=256)
    decode = listed(capped, DECODE)
    assert [op.name for op in decode.ops][12:] == [
        "mask_rows", "mask_transposed", "mask_by_user", "q_by_user", "q_for_groups", "scores", "capped_scores", "masked_scores",
        "probabilities", "attended", "own_groups", "joined_groups", "attended_heads", "transpose_heads", "concat_heads",
        "output_matmul",
    ]  # fmt: skip
    tanh = next(op for op in decode.ops if isinstance(op, UnaryRequest))
    assert (tanh.activation, tanh.scale) == ("tanh", 0.1 / 50)
    assert decode.types["mask_table_256"].shape == (1024, 1024)
    prefill = listed(capped, PREFILL)
    assert prefill.types["causal_mask_256"].shape == (1, 1, 128, 128)
    ungrouped = listed(replace(capped, num_kv_heads=8), PREFILL)
    assert not [op.name for op in ungrouped.ops if "group" in op.name]


@pytest.mark.parametrize(("heads", "rows", "piece"), [
    (16, 128, 128), (16, 2048, 2048), (16, 8192, 1024), (16, 8224, 928), (64, 8192, 256), (64, 65536, 32), (1, 96, 96),
])  # fmt: skip
def test_pieces_of_query_rows(heads: int, rows: int, piece: int) -> None:
    assert rows_of_a_piece(heads, rows) == piece
    assert 2 * heads * piece * rows <= MAX_SCORES_BYTES


def test_refusals() -> None:
    with pytest.raises(ShapeError) as caught:
        listed(SPEC, replace(PREFILL, tokens=1025))
    assert str(caught.value) == (
        "a prompt of 1025 tokens with a cache for 1024: it must fit. Give a context of at least 1056."
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score_scale": 0.0}, "AttentionSpec(score_scale=0.0): it must be above 0."),
        ({"soft_cap": -1.0}, "AttentionSpec(soft_cap=-1.0): it must be above 0."),
        ({"rope": RopeSpec(dim=98)}, "AttentionSpec(head_dim=96): the rotation turns 98 elements, a head has fewer."),
        (
            {"rope": RopeSpec(dim=24, scaling=LONG)},
            "AttentionSpec(head_dim=96): the longrope scaling has 48 factors for 12 pairs of rotated elements.",
        ),
    ],
)
def test_a_spec_out_of_range_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        replace(SPEC, **change)
    assert str(caught.value) == message


def test_rotations_out_of_range_are_refused() -> None:
    with pytest.raises(SpecError, match=r"^RopeSpec\(dim=7\): pairs turn, so it must be even and at least 2\.$"):
        RopeSpec(dim=7)
    with pytest.raises(SpecError, match=r"^RopeSpec\(style='spiral'\): it must be half or interleaved\.$"):
        RopeSpec(style="spiral")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=r"^LongRopeScaling with 1 short and 2 long factors: one of each is wanted for"):
        LongRopeScaling(short_factors=(1.0,), long_factors=(1.0, 2.0), original_context=1)
    with pytest.raises(SpecError, match=r"^LongRopeScaling: all factors must be above 0, original_context at least 1"):
        LongRopeScaling(short_factors=(0.0,), long_factors=(1.0,), original_context=1)


def test_weights_that_the_spec_asks_for_are_given() -> None:
    weights: dict[str, Any] = dict.fromkeys("qkvo", NoValues("w"))
    for change, message in (
        ({"output_bias": True}, r"^the spec's output_bias asks for o_bias, of which 0 were given\."),
        ({"qkv_bias": "qv"}, r"^the spec's qkv_bias asks for q_bias and v_bias, of which 0 were given\."),
        ({"sinks": True}, r"^the spec's sinks asks for sinks, of which 0 were given\."),
        ({"output_gate": GateSpec()}, r"^the spec's output_gate asks for gate, of which 0 were given\."),
        (
            {"head_norm": HeadNormSpec(eps=1.0)},
            r"^the spec's head_norm asks for q_norm and k_norm, of which 0 were given\.",
        ),
    ):
        with pytest.raises(WeightError, match=message):
            GroupedQueryAttention(replace(SPEC, **change), **weights, device=board("n150"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qkv_bias": "x"}, r"qkv_bias='x'\): it must be True, False, or some of q, k and v\."),
        ({"window": 8, "chunk": 8}, r"window=8, chunk=8\): a layer has one of them, or neither\."),
        ({"causal": False, "window": 8}, r"causal=False\): an encoder's queries see every token"),
        ({"sinks": True, "alibi": True}, r"sinks=True\): ttnn's fused attention has sinks"),
        ({"alibi": True, "soft_cap": 2.0}, r"alibi=True, soft_cap=…\): no order of the two is defined"),
        ({"qkv_clip": 0.0}, r"qkv_clip=0.0\): it must be above 0\."),
        (
            {"rope": RopeSpec(scaling=DynamicScaling(factor=2.0, original_context=8), dim=2)},
            "more than one rotated pair",
        ),
    ],
)
def test_options_that_exclude_each_other(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        replace(SPEC, **change)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "l2"}, r"kind='l2'\): it must be rms or layer\."),
        ({"bias": True, "weight": "none"}, "there is a bias but no weight; give a weight of ones"),
        ({"span": "all"}, r"span='all'\): all heads together have weight='own' or 'none'"),
        ({"kind": "layer", "after_rope": True}, "the mean is subtracted before the rotation only"),
    ],
)
def test_a_head_norm_out_of_range_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        HeadNormSpec(eps=1e-5, **fields)


def test_pages_are_for_the_fused_attention() -> None:
    paged = Workload(mode="decode", users=8, context=256, block=32)
    assert listed(SPEC, paged).types["keys"].shape == (64, 4, 32, 128)
    for change in ({"soft_cap": 2.0}, {"rope": None, "alibi": True}, {"chunk": 8}):
        with pytest.raises(SpecError, match="only ttnn's fused attention reads paged caches"):
            listed(replace(SPEC, **change), paged)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="it neither decodes nor goes on with a prompt"):
        listed(replace(SPEC, causal=False), DECODE)
