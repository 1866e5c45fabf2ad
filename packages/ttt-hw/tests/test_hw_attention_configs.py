"""Plans of fused attention: legal chunks, accepted by ttnn, and refusals."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import ttnn
from hypothesis import given, settings, strategies as st

from ttt_core import PlacementError
from ttt_hw import DecodeAttention, FlashAttention, board, plan_decode_attention, plan_prefill_attention
from ttt_hw.attention import LONG_PREFILL, AttentionPlan

CHIP = board("n150").chip


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(1, 10_000))
def test_chunks_are_the_largest_that_divide_the_padded_prompt(tokens: int) -> None:
    config = plan_prefill_attention(tokens, CHIP).pattern
    rows = (tokens + 31) // 32 * 32
    limit = 256 if tokens >= LONG_PREFILL else 64
    legal = [chunk for chunk in (32, 64, 128, 256) if chunk <= limit and rows % chunk == 0]
    assert config == FlashAttention(grid=(8, 8), q_chunk=max(legal), k_chunk=max(legal))


def chunk(tokens: int) -> int:
    config = plan_prefill_attention(tokens, CHIP).pattern
    assert isinstance(config, FlashAttention)
    assert config.q_chunk == config.k_chunk
    return config.q_chunk


def test_chunks_of_some_prompts() -> None:
    chunks = {1: 32, 31: 32, 33: 64, 64: 64, 96: 32, 128: 64, 2047: 64, 2048: 256, 2049: 32, 2112: 64}
    assert {tokens: chunk(tokens) for tokens in chunks} == chunks


def prefill(mesh: Any, config: AttentionPlan, tokens: int, heads: int = 8, kv_heads: int = 2, hd: int = 64) -> Any:
    empty = partial(ttnn.empty, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh)
    q, k, v = (
        empty([1, count, tokens, hd], memory_config=ttnn.DRAM_MEMORY_CONFIG) for count in (heads, kv_heads, kv_heads)
    )
    return ttnn.transformer.scaled_dot_product_attention(
        q, k, v, is_causal=True, program_config=config.to_ttnn(), compute_kernel_config=config.kernel.to_ttnn()
    )


@pytest.mark.parametrize("tokens", [1, 31, 33, 64, 96, 128, 200, 1000, 2048, 2080])
@pytest.mark.parametrize("sizes", [(8, 2, 64), (32, 8, 128), (4, 4, 32)])
def test_ttnn_accepts_prefill_plans(tokens: int, sizes: tuple[int, int, int], mesh: Any) -> None:
    y = prefill(mesh, plan_prefill_attention(tokens, CHIP), tokens, *sizes)
    assert tuple(y.shape) == (1, sizes[0], tokens, sizes[2])


@pytest.mark.parametrize(("users", "heads", "kv_heads", "hd"), [(1, 32, 8, 64), (32, 32, 8, 128), (3, 40, 8, 32)])
@pytest.mark.parametrize("context", [32, 2048])
def test_ttnn_accepts_decode_plans(users: int, heads: int, kv_heads: int, hd: int, context: int, mesh: Any) -> None:
    config = plan_decode_attention(CHIP)
    assert config.pattern == DecodeAttention(grid=(8, 8))
    dram = ttnn.DRAM_MEMORY_CONFIG
    q = ttnn.empty([1, users, heads, hd], ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh, dram)
    k, v = (ttnn.empty([users, kv_heads, context, hd], ttnn.bfloat8_b, ttnn.TILE_LAYOUT, mesh, dram) for _ in range(2))
    y = ttnn.transformer.scaled_dot_product_attention_decode(
        q, k, v, cur_pos=[0] * users, program_config=config.to_ttnn(), compute_kernel_config=config.kernel.to_ttnn()
    )
    assert tuple(y.shape) == (1, users, heads, hd)


def test_no_tokens_are_refused() -> None:
    with pytest.raises(PlacementError, match=r"^attention over 0 tokens: there must be at least 1"):
        plan_prefill_attention(0, CHIP)


def test_the_ttnn_configs_have_every_field() -> None:
    lowered = FlashAttention(grid=(7, 5), q_chunk=64, k_chunk=128).program()
    assert (lowered.compute_with_storage_grid_size.x, lowered.compute_with_storage_grid_size.y) == (7, 5)
    assert (lowered.q_chunk_size, lowered.k_chunk_size, lowered.exp_approx_mode) == (64, 128, False)
    lowered = DecodeAttention(grid=(7, 5), k_chunk=32).program()
    assert (lowered.compute_with_storage_grid_size.x, lowered.compute_with_storage_grid_size.y) == (7, 5)
    assert (lowered.q_chunk_size, lowered.k_chunk_size, lowered.exp_approx_mode) == (0, 32, False)
