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

from ttt_attention import AttentionSpec, Llama3Scaling, RopeSpec, Rotary, attention_request, inverse_frequencies
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
}


def reference(rope: RopeSpec, head_dim: int, context: int) -> LlamaRotaryEmbedding:
    parameters: dict[str, Any] = {"rope_type": "default", "rope_theta": rope.theta}
    if rope.scaling is not None:
        parameters |= {
            "rope_type": "llama3",
            "factor": rope.scaling.factor,
            "low_freq_factor": rope.scaling.low_freq_factor,
            "high_freq_factor": rope.scaling.high_freq_factor,
            "original_max_position_embeddings": rope.scaling.original_context,
        }
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
        for table, wanted in zip(prefill, expected, strict=True):
            actual = values.to_torch(table)
            assert actual.shape == (1, 1, len(picked), padded_head_dim(head_dim))
            assert max_difference(actual[0, 0], wanted) < 1e-6
        for table, wanted in zip(decode, expected, strict=True):
            actual = values.to_torch(table)
            assert actual.shape == (1, len(picked), 1, padded_head_dim(head_dim))
            assert max_difference(actual[0, :, 0], wanted) < 1e-6


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
