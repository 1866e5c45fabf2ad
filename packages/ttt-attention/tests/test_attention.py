"""GroupedQueryAttention against transformers' LlamaAttention, prefill and decode.

Tolerance: weights of size 1/√k keep every intermediate near 1; the float32 sums on both sides then differ by 1e-6 in practice,
1e-4 is asked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

from ttt_attention import AttentionSpec, ContiguousKVCache, GroupedQueryAttention, RopeSpec, padded_head_dim
from ttt_core import Attention, SpecError, WeightError
from ttt_hw import upload
from ttt_testing import max_difference, pcc, shadow

CONTEXT = 256
SHAPES = {  # hidden, query heads, key-value heads, head dim
    "head 16": (72, 4, 2, 16),
    "multi-head": (96, 4, 4, 32),
    "multi-query": (96, 6, 1, 32),
    "smollm-135m": (576, 9, 3, 64),
    "head 80": (160, 4, 2, 80),
    "llama-3.2-1b": (2048, 32, 8, 64),
    "head 128": (512, 8, 2, 128),
    "40 heads": (320, 40, 8, 16),
}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def spec_of(hidden: int, heads: int, kv_heads: int, head_dim: int) -> AttentionSpec:
    return AttentionSpec(
        hidden_dim=hidden,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        max_context=CONTEXT,
        rope=RopeSpec(theta=10_000.0),
    )


class Reference:
    """transformers' module with random weights, without a cache: it sees the whole sequence each time."""

    def __init__(self, spec: AttentionSpec) -> None:
        config = LlamaConfig(
            hidden_size=spec.hidden_dim,
            num_attention_heads=spec.num_heads,
            num_key_value_heads=spec.num_kv_heads,
            head_dim=spec.head_dim,
            max_position_embeddings=spec.max_context,
            attn_implementation="eager",
        )
        self._attention, self._rotary = LlamaAttention(config, layer_idx=0), LlamaRotaryEmbedding(config)
        for seed, weight in enumerate(self._attention.parameters()):
            weight.data = random(*weight.shape, seed=seed) * weight.shape[1] ** -0.5

    @property
    def weights(self) -> dict[str, NDArray[np.float32]]:
        return {name: getattr(self._attention, f"{name}_proj").weight.detach().numpy() for name in "qkvo"}

    @torch.no_grad()
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """x [S, D] → [S, D]."""
        tokens = len(x)
        mask = torch.full((tokens, tokens), -torch.inf).triu(1)[None, None]
        tables = self._rotary(x[None], torch.arange(tokens)[None])
        y, _ = self._attention(x[None], position_embeddings=tables, attention_mask=mask)
        result: torch.Tensor = y[0]
        return result


def attention(reference: Reference, spec: AttentionSpec, mesh: Any, dtype: Any = "bfloat8_b") -> GroupedQueryAttention:
    return GroupedQueryAttention(spec, **reference.weights, device=mesh, dtype=dtype, cache_dtype=dtype)


def on(mesh: Any, x: torch.Tensor) -> Any:
    """x [rows, D] → activations [1, 1, rows, D]."""
    return upload(x[None, None].numpy(), mesh, dtype="bfloat16")


def positions(mesh: Any, *rows: int) -> Any:
    """Of decode, one a user."""
    return upload(np.array(rows, np.int32), mesh, dtype="int32", layout="row_major")


def prompt_positions(mesh: Any, tokens: int) -> Any:
    return upload(np.arange(tokens, dtype=np.int32)[None], mesh, dtype="int32", layout="row_major")


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("tokens", [1, 31, 33, 128])
def test_prefill_equals_transformers(name: str, tokens: int, mesh: Any) -> None:
    spec = spec_of(*SHAPES[name])
    reference = Reference(spec)
    block = attention(reference, spec, mesh)
    x = random(tokens, spec.hidden_dim)
    with shadow() as values:
        y = values.to_torch(block.prefill_forward(on(mesh, x), cache=None, positions=prompt_positions(mesh, tokens)))
        assert y.shape == (1, 1, tokens, spec.hidden_dim)
        assert max_difference(y[0, 0], reference(x)) < 1e-4
        cache = ContiguousKVCache.allocate(spec, users=3, context=CONTEXT, device=mesh)
        cached = block.prefill_forward(on(mesh, x), cache=cache.for_user(1), positions=prompt_positions(mesh, tokens))
        assert torch.equal(values.to_torch(cached), y)
        for held in (values.to_torch(cache.keys), values.to_torch(cache.values)):
            assert held[1, :, :tokens].any(dim=-1).all()
            assert not held[1, :, tokens:].any()
            assert not held[[0, 2]].any()


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    ("rounding", "dtype"), [("none", "bfloat8_b"), ("device", "bfloat16"), ("device", "bfloat8_b")]
)
def test_decode_equals_recomputing(name: str, rounding: Literal["none", "device"], dtype: str, mesh: Any) -> None:
    """Three users with prompts of 1, 31 and 64 tokens, then three tokens each through the cache."""
    spec = spec_of(*SHAPES[name])
    reference = Reference(spec)
    block = attention(reference, spec, mesh, dtype)
    lengths, steps = [1, 31, 64], 3
    sequences = [random(length + steps, spec.hidden_dim, seed=user) for user, length in enumerate(lengths)]
    expected = [reference(sequence) for sequence in sequences]
    with shadow(rounding) as values:
        cache = ContiguousKVCache.allocate(spec, users=3, context=CONTEXT, device=mesh, dtype=dtype)  # type: ignore[arg-type]
        rows = []
        for user, (length, sequence) in enumerate(zip(lengths, sequences, strict=True)):
            y = block.prefill_forward(
                on(mesh, sequence[:length]), cache=cache.for_user(user), positions=prompt_positions(mesh, length)
            )
            rows.append((values.to_torch(y)[0, 0], expected[user][:length]))
        for step in range(steps):
            now = [length + step for length in lengths]
            x = torch.stack([sequence[at] for sequence, at in zip(sequences, now, strict=True)])
            y = values.to_torch(block.decode_forward(on(mesh, x), cache=cache, positions=positions(mesh, *now)))
            assert y.shape == (1, 1, 3, spec.hidden_dim)
            rows.append((y[0, 0], torch.stack([whole[at] for whole, at in zip(expected, now, strict=True)])))
    for actual, wanted in rows:
        if rounding == "none":
            assert max_difference(actual, wanted) < 1e-4
        else:
            assert pcc(actual, wanted) > (0.999 if dtype == "bfloat16" else 0.99)


@pytest.mark.parametrize("users", [1, 3, 32])
def test_users_at_positions_of_their_own(users: int, mesh: Any) -> None:
    """Decode alone, from an empty cache: user u starts u steps later than the others and catches up."""
    spec = spec_of(96, 4, 2, 32)
    reference = Reference(spec)
    block = attention(reference, spec, mesh)
    sequences = [random(4, spec.hidden_dim, seed=user) for user in range(users)]
    expected = torch.stack([reference(sequence) for sequence in sequences])  # [B, 4, D]
    with shadow() as values:
        cache = ContiguousKVCache.allocate(spec, users=users, context=64, device=mesh)
        for step in range(4 + 2):
            now = [min(max(step - user % 3, 0), 3) for user in range(users)]  # a user that waits repeats its token
            x = torch.stack([sequence[at] for sequence, at in zip(sequences, now, strict=True)])
            y = values.to_torch(block.decode_forward(on(mesh, x), cache=cache, positions=positions(mesh, *now)))
            assert max_difference(y[0, 0], expected[range(users), now]) < 1e-4


def test_prefill_again_replaces_what_a_slot_held(mesh: Any) -> None:
    spec = spec_of(96, 4, 2, 32)
    reference = Reference(spec)
    block = attention(reference, spec, mesh)
    first, second = random(64, 96), random(33, 96, seed=1)
    with shadow() as values:
        cache = ContiguousKVCache.allocate(spec, users=1, context=64, device=mesh)
        for x in (first, second[:32]):
            block.prefill_forward(on(mesh, x), cache=cache, positions=prompt_positions(mesh, len(x)))
        y = values.to_torch(block.decode_forward(on(mesh, second[32:]), cache=cache, positions=positions(mesh, 32)))
    assert max_difference(y[0, 0], reference(second)[32:]) < 1e-4


def test_padding_on_the_right_changes_no_earlier_token(mesh: Any) -> None:
    spec = spec_of(96, 4, 2, 32)
    block = attention(Reference(spec), spec, mesh)
    x = random(64, 96)
    with shadow() as values:
        rows = [
            values.to_torch(
                block.prefill_forward(on(mesh, part), cache=None, positions=prompt_positions(mesh, len(part)))
            )[0, 0, :20]
            for part in (x, torch.cat([x[:20], torch.zeros(44, 96)]), x[:32])
        ]
    assert max_difference(rows[0], rows[1]) < 1e-6
    assert max_difference(rows[0], rows[2]) < 1e-6


def test_keeps_the_protocol(mesh: Any) -> None:
    spec = spec_of(96, 4, 2, 32)
    block: Attention = attention(Reference(spec), spec, mesh)
    assert isinstance(block, Attention)


def test_where_results_lie(mesh: Any) -> None:
    import ttnn

    spec = spec_of(96, 4, 2, 32)
    block = attention(Reference(spec), spec, mesh)
    cache = ContiguousKVCache.allocate(spec, users=3, context=64, device=mesh)
    y = block.prefill_forward(on(mesh, random(32, 96)), cache=cache, positions=prompt_positions(mesh, 32))
    assert y.memory_config().buffer_type == ttnn.BufferType.DRAM  # type: ignore[attr-defined]
    y = block.decode_forward(on(mesh, random(3, 96)), cache=cache, positions=positions(mesh, 1, 2, 3))
    assert y.memory_config().buffer_type == ttnn.BufferType.L1  # type: ignore[attr-defined]
    assert [tuple(weight.shape) for weight in block.weights] == [
        (1, 1, 96, (4 + 2 * 2) * 32), (1, 1, 4 * 32, 96), (CONTEXT, 32), (CONTEXT, 32),
    ]  # fmt: skip


def test_a_block_that_dies_frees_its_memory_at_once(mesh: Any) -> None:
    """Without waiting for Python's cycle collector, which knows nothing of the device's memory."""
    import gc

    import ttnn

    def dram() -> int:
        return int(ttnn.get_memory_view(mesh, ttnn.BufferType.DRAM).total_bytes_allocated_per_bank)

    spec = spec_of(96, 4, 2, 32)
    gc.collect()
    before = dram()
    gc.disable()
    try:
        block = attention(Reference(spec), spec, mesh)
        cache = ContiguousKVCache.allocate(spec, users=3, context=64, device=mesh)
        block.prefill_forward(on(mesh, random(32, 96)), cache=cache, positions=prompt_positions(mesh, 32))
        block.decode_forward(on(mesh, random(3, 96)), cache=cache, positions=positions(mesh, 1, 2, 3))
        assert dram() > before
        del block, cache
        assert dram() == before
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("name", "called", "wanted"),
    [("q", "query", [128, 96]), ("k", "key", [64, 96]), ("v", "value", [64, 96]), ("o", "output", [96, 128])],
)
def test_a_weight_of_another_shape_is_refused(name: str, called: str, wanted: list[int], mesh: Any) -> None:
    spec = spec_of(96, 4, 2, 32)
    weights = Reference(spec).weights
    weights[name] = np.zeros((128, 128), np.float32)
    with pytest.raises(WeightError) as caught:
        GroupedQueryAttention(spec, **weights, device=mesh)
    assert str(caught.value) == (
        f"the {called} weight has shape [128, 128], but {wanted} is wanted for the {called} weight. "
        "The config and the weights do not belong together."
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"num_heads": 3},
            "AttentionSpec(num_heads=3, num_kv_heads=2): the query heads must be a multiple of the key-value heads.",
        ),
        ({"num_kv_heads": 0}, "AttentionSpec(num_kv_heads=0): it must be at least 1."),
        ({"head_dim": 33}, "AttentionSpec(head_dim=33): rotary embedding turns pairs, so it must be even."),
        ({"hidden_dim": -1}, "AttentionSpec(hidden_dim=-1): it must be at least 1."),
        ({"max_context": 0}, "AttentionSpec(max_context=0): it must be at least 1."),
    ],
)
def test_a_spec_out_of_range_is_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        replace(spec_of(96, 4, 2, 32), **change)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_heads_are_padded_to_what_the_rotary_kernel_takes() -> None:
    padded = {2: 32, 16: 32, 32: 32, 34: 64, 64: 64, 80: 128, 96: 128, 128: 128, 160: 192}
    assert {head_dim: padded_head_dim(head_dim) for head_dim in padded} == padded
