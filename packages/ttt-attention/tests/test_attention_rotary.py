"""Rotary's frequencies and tables against transformers' LlamaRotaryEmbedding.

A frequency that is off by one unit in the last place turns position 131,071 by up to 131,071 · 2⁻²⁴ = 0.008 too far, so
frequencies are compared bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from ttt_attention import (
    AttentionSpec,
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    ProportionalScaling,
    RopeSpec,
    Rotary,
    TemperatureSpec,
    YarnScaling,
    attention_request,
    inverse_frequencies,
)
from ttt_attention._frequencies import angles, table_factor
from ttt_attention.heads import head_places, pad_halves, pad_heads, padded_head_dim
from ttt_core import SpecError
from ttt_hw import BlockPlans, Operations, Workload, board_of, typical, upload
from ttt_testing import max_difference, shadow

LLAMA_3_2 = Llama3Scaling(factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=8192)
LLAMA_3_1 = Llama3Scaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=8192)
SMALL = Llama3Scaling(factor=4.0, low_freq_factor=1.0, high_freq_factor=2.0, original_context=64)
ROPES = {
    "llama 1": RopeSpec(theta=10_000.0),
    "llama 3": RopeSpec(theta=500_000.0),
    "llama 3.1": RopeSpec(theta=500_000.0, scaling=LLAMA_3_1),
    "llama 3.2": RopeSpec(theta=500_000.0, scaling=LLAMA_3_2),
    "small": RopeSpec(theta=10_000.0, scaling=SMALL),
    "linear": RopeSpec(theta=10_000.0, scaling=LinearScaling(factor=3.0)),
    "yarn": RopeSpec(scaling=YarnScaling(factor=32.0, original_context=4096, truncate=False)),
    "yarn, mscale": RopeSpec(
        scaling=YarnScaling(factor=40.0, original_context=4096, mscale=1.0, mscale_all_dim=0.8, beta_fast=16.0)
    ),
    "proportional": RopeSpec(theta=1e6, scaling=ProportionalScaling(share=0.25)),
}


def reference(rope: RopeSpec, head_dim: int, context: int) -> LlamaRotaryEmbedding:
    parameters: dict[str, Any] = {"rope_type": "default", "rope_theta": rope.theta}
    match rope.scaling:
        case Llama3Scaling() as s:
            parameters |= {
                "rope_type": "llama3",
                "factor": s.factor,
                "low_freq_factor": s.low_freq_factor,
                "high_freq_factor": s.high_freq_factor,
                "original_max_position_embeddings": s.original_context,
            }
        case LinearScaling(factor=factor):
            parameters |= {"rope_type": "linear", "factor": factor}
        case YarnScaling() as s:
            parameters |= {"rope_type": "yarn", "factor": s.factor, "truncate": s.truncate, "beta_fast": s.beta_fast}
            parameters |= {"mscale": s.mscale, "mscale_all_dim": s.mscale_all_dim}
            parameters |= {"original_max_position_embeddings": s.original_context}
            context = int(s.factor * s.original_context)
        case ProportionalScaling(share=share):
            parameters |= {"rope_type": "proportional", "partial_rotary_factor": share}
        case DynamicScaling() as s:
            parameters |= {"rope_type": "dynamic", "factor": s.factor}
            context = s.original_context
        case LongRopeScaling() as s:
            parameters |= {"rope_type": "longrope", "factor": 4.0, "attention_factor": s.attention_factor}
            parameters |= {"short_factor": list(s.short_factors), "long_factor": list(s.long_factors)}
            parameters |= {"original_max_position_embeddings": s.original_context}
    config = LlamaConfig(
        hidden_size=4 * head_dim,
        num_attention_heads=4,
        head_dim=head_dim,
        max_position_embeddings=context,
        rope_parameters=parameters,
    )
    return LlamaRotaryEmbedding(config)


def operations(work: Workload, head_dim: int, context: int, mesh: Any) -> Operations:
    """Those of an attention with such heads."""
    spec = AttentionSpec(
        hidden_dim=64, num_heads=2, num_kv_heads=2, head_dim=head_dim, max_context=context, rope=RopeSpec()
    )
    precision: dict[str, Any] = dict.fromkeys(("qkv_weights", "output_weights", "kv_cache"), "bfloat8_b")
    plans = BlockPlans(lambda work: attention_request(spec, work, precision), board_of(mesh), typical=typical(context))
    return plans(work)


@pytest.mark.parametrize("name", ROPES)
@pytest.mark.parametrize("head_dim", [2, 16, 32, 64, 80, 128])
def test_frequencies_equal_transformers(name: str, head_dim: int) -> None:
    ours, theirs = (
        inverse_frequencies(ROPES[name], head_dim),
        reference(ROPES[name], head_dim, 131_072).inv_freq.numpy(),
    )
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, theirs)


def test_llama3_scaling_has_its_three_ranges() -> None:
    plain = inverse_frequencies(RopeSpec(theta=500_000.0), 64)
    scaled = inverse_frequencies(ROPES["llama 3.2"], 64)
    turns = 8192 * plain / (2 * np.pi)  # over the original context
    np.testing.assert_array_equal(scaled[turns > 4], plain[turns > 4])
    np.testing.assert_array_equal(scaled[turns < 1], plain[turns < 1] / np.float32(32))
    between = (turns >= 1) & (turns <= 4)
    assert 0 < between.sum() < 32
    assert ((scaled[between] < plain[between]) & (scaled[between] > plain[between] / 32)).all()


@torch.no_grad()
@pytest.mark.parametrize("name", ROPES)
@pytest.mark.parametrize("head_dim", [16, 32, 80, 128])
def test_tables_equal_transformers(name: str, head_dim: int, mesh: Any) -> None:
    context = 512
    rotary = Rotary(ROPES[name], head_dim=head_dim, context=context, device=mesh)
    picked = [0, 1, 31, 32, 77, context - 1]
    cos, sin = reference(ROPES[name], head_dim, context)(torch.zeros(1), torch.tensor([picked]))
    # an angle of 0 where heads are padded
    expected = [torch.from_numpy(pad_halves(table.numpy() - one) + one) for table, one in ((cos[0], 1), (sin[0], 0))]
    rows = np.array(picked, np.int32)
    prompt = Workload(mode="prefill", tokens=len(picked), context=context)
    users = Workload(mode="decode", users=len(picked), context=context)
    with shadow() as values:
        prefill = rotary.prefill_tables(
            operations(prompt, head_dim, context, mesh), upload(rows[None], mesh, dtype="int32", layout="row_major")
        )
        decode = rotary.decode_tables(
            operations(users, head_dim, context, mesh), upload(rows, mesh, dtype="int32", layout="row_major")
        )
        for table, wanted in zip(prefill[2:], expected, strict=True):
            actual = values.to_torch(table)
            assert actual.shape == (1, 1, len(picked), padded_head_dim(head_dim))
            assert max_difference(actual[0, 0], wanted) < 1e-6
        for table, wanted in zip(decode[2:], expected, strict=True):
            actual = values.to_torch(table)
            assert actual.shape == (1, len(picked), 1, padded_head_dim(head_dim))
            assert max_difference(actual[0, :, 0], wanted) < 1e-6


def test_dynamic_scaling_is_that_of_step_by_step_decoding() -> None:
    """transformers computes its frequencies anew from the largest position that it is given."""
    rope, head_dim = RopeSpec(scaling=DynamicScaling(factor=2.0, original_context=16)), 32
    found = angles(rope, head_dim, 40)
    for position in (0, 15, 16, 39):
        cos, _ = reference(rope, head_dim, 16)(torch.zeros(1), torch.arange(position + 1)[None])
        np.testing.assert_allclose(np.cos(found[position]), cos[0, position, : head_dim // 2].numpy(), atol=1e-6)
    assert not np.allclose(found[39], angles(RopeSpec(), head_dim, 40)[39])


def test_longrope_turns_a_long_prompt_by_its_long_factors(mesh: Any) -> None:
    long = LongRopeScaling(
        short_factors=(1.0, 1.1) * 8, long_factors=(1.5, 3.0) * 8, original_context=32, attention_factor=1.25
    )
    rope, head_dim, context = RopeSpec(scaling=long), 32, 64
    rotary = Rotary(rope, head_dim=head_dim, context=context, device=mesh)
    with shadow() as values:
        for tokens in (32, 64):
            work = Workload(mode="prefill", tokens=tokens, context=tokens)
            at = upload(np.arange(tokens, dtype=np.int32)[None], mesh, dtype="int32", layout="row_major")
            *_, cos, sin = rotary.prefill_tables(operations(work, head_dim, context, mesh), at, tokens)
            wanted = reference(rope, head_dim, context)(torch.zeros(1), torch.arange(tokens)[None])
            for table, theirs in zip((cos, sin), wanted, strict=True):
                assert max_difference(values.to_torch(table)[0, 0], theirs[0]) < 1e-6
    near, far = (inverse_frequencies(rope, head_dim, reach) for reach in ("short", "long"))  # type: ignore[arg-type]
    stepwise = angles(rope, head_dim, context)
    np.testing.assert_allclose(stepwise[31], 31 * near, rtol=1e-6)
    np.testing.assert_allclose(stepwise[32], 32 * far, rtol=1e-6)
    assert table_factor(rope) == 1.25


def test_only_what_turns_is_multiplied_by_a_table_factor(mesh: Any) -> None:
    rope = RopeSpec(dim=16, scaling=YarnScaling(factor=4.0, original_context=16, attention_factor=2.0))
    cos = Rotary(rope, head_dim=32, context=8, device=mesh).cos.host()
    assert cos[0].tolist() == ([2.0] * 8 + [1.0] * 8) * 2


def test_a_query_temperature_multiplies_the_tables_of_queries(mesh: Any) -> None:
    by = TemperatureSpec(scale=0.5, period=2.0, offset=1)
    turned = Rotary(RopeSpec(), head_dim=32, context=8, device=mesh, temperature=by)
    unturned = Rotary(None, head_dim=32, context=8, device=mesh, temperature=by)
    expected = 1 + 0.5 * np.log1p(np.floor((np.arange(8) + 1) / 2))
    cosines = [
        next(w for w in rotary.weights if w.name == "cos" and w is not rotary.cos) for rotary in (turned, unturned)
    ]
    for table in cosines:
        np.testing.assert_allclose(
            table.host()[:, 31],
            expected * (np.cos(angles(RopeSpec(), 32, 8)[:, 15]) if table is cosines[0] else 1),
            rtol=1e-6,
        )
    assert len(turned.weights) == 4
    assert len(unturned.weights) == 2


@torch.no_grad()
def test_tables_are_exact_over_a_whole_context(mesh: Any) -> None:
    """Llama 3.2's 131,072 positions."""
    rope, context = ROPES["llama 3.2"], 131_072
    rotary = Rotary(rope, head_dim=64, context=context, device=mesh)
    tables = reference(rope, 64, context)(torch.zeros(1), torch.arange(context)[None])
    for ours, theirs in zip((rotary.cos, rotary.sin), tables, strict=True):
        assert max_difference(torch.from_numpy(ours.host()), theirs[0]) < 1e-6


def test_nothing_is_computed_before_first_use(mesh: Any) -> None:
    rotary = Rotary(ROPES["llama 3"], head_dim=64, context=64, device=mesh)
    assert "not yet read" in repr(rotary.weights[0])
    ops = operations(Workload(mode="prefill", tokens=32, context=64), 64, 64, mesh)
    rotary.prefill_tables(ops, upload(np.zeros((1, 32), np.int32), mesh, dtype="int32", layout="row_major"))
    assert all("on device" in repr(weight) for weight in rotary.weights)


def test_halves_are_padded_each_on_its_own() -> None:
    x = np.arange(1, 7, dtype=np.float32)[None]  # halves 1 2 3 and 4 5 6
    padded = pad_halves(x)
    assert padded.shape == (1, 32)
    assert padded[0, :4].tolist() == [1, 2, 3, 0]
    assert padded[0, 16:20].tolist() == [4, 5, 6, 0]
    assert padded.sum() == x.sum()


@pytest.mark.parametrize(
    ("rope", "places"),
    [
        (RopeSpec(), (0, 1, 2, 16, 17, 18)),
        (None, (0, 1, 2, 16, 17, 18)),
        (RopeSpec(style="interleaved"), (0, 16, 1, 17, 2, 18)),
        (RopeSpec(dim=4), (0, 1, 16, 17, 2, 3)),
        (RopeSpec(dim=2, style="interleaved"), (0, 16, 1, 2, 3, 4)),
    ],
)
def test_what_turns_together_lies_half_a_head_apart(rope: RopeSpec | None, places: tuple[int, ...]) -> None:
    assert head_places(6, rope) == places
    x = np.arange(1, 7, dtype=np.float32)[None]
    padded = pad_heads(x, rope)
    assert padded[0, list(places)].tolist() == x[0].tolist()
    assert padded.sum() == x.sum()


@pytest.mark.parametrize("theta", [0.0, -1.0, float("nan")])
def test_a_theta_out_of_range_is_refused(theta: float) -> None:
    with pytest.raises(SpecError) as caught:
        RopeSpec(theta=theta)
    assert str(caught.value) == f"RopeSpec(theta={theta}): theta must be above 0."


@pytest.mark.parametrize(
    "change",
    [
        {"factor": 0.5},
        {"low_freq_factor": 0.0},
        {"low_freq_factor": 4.0},
        {"original_context": 0},
        {"factor": float("nan")},
    ],
)
def test_a_scaling_out_of_range_is_refused(change: dict[str, Any]) -> None:
    good: dict[str, Any] = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_context": 8192}
    with pytest.raises(
        SpecError, match=r"^Llama3Scaling\(.*: factor must be at least 1, low_freq_factor above 0 and below"
    ):
        Llama3Scaling(**good | change)
