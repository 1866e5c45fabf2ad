"""Plans of fused attention: legal chunks, accepted by ttnn, and refusals."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import ttnn
from hypothesis import given, settings, strategies as st

from ttt_core import PlacementError
from ttt_hw import DecodeAttention, FlashAttention, board, plan_decode_attention, plan_prefill_attention
from ttt_hw.attention import LONG_PREFILL, largest_chunk

CHIP = board("n150").chip


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(1, 10_000))
def test_chunks_are_the_largest_that_divide_the_padded_prompt(tokens: int) -> None:
    config = plan_prefill_attention(tokens, CHIP)
    config.check(tokens)
    rows = (tokens + 31) // 32 * 32
    limit = 256 if tokens >= LONG_PREFILL else 64
    legal = [chunk for chunk in (32, 64, 128, 256) if chunk <= limit and rows % chunk == 0]
    assert config == FlashAttention(grid=(8, 8), q_chunk=max(legal), k_chunk=max(legal))


def test_chunks_of_some_prompts() -> None:
    chunks = {1: 32, 31: 32, 33: 64, 64: 64, 96: 32, 128: 64, 2047: 64, 2048: 256, 2049: 32, 2112: 64}
    assert {tokens: plan_prefill_attention(tokens, CHIP).q_chunk for tokens in chunks} == chunks


def prefill(mesh: Any, config: FlashAttention, tokens: int, heads: int = 8, kv_heads: int = 2, hd: int = 64) -> Any:
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
    assert config == DecodeAttention(grid=(8, 8))
    dram = ttnn.DRAM_MEMORY_CONFIG
    q = ttnn.empty([1, users, heads, hd], ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh, dram)
    k, v = (ttnn.empty([users, kv_heads, context, hd], ttnn.bfloat8_b, ttnn.TILE_LAYOUT, mesh, dram) for _ in range(2))
    y = ttnn.transformer.scaled_dot_product_attention_decode(
        q, k, v, cur_pos=[0] * users, program_config=config.to_ttnn(), compute_kernel_config=config.kernel.to_ttnn()
    )
    assert tuple(y.shape) == (1, users, heads, hd)


@pytest.mark.parametrize(
    ("tokens", "q", "k", "found", "rows", "nearest"),
    [
        (96, 64, 32, "q_chunk=64", 96, 32),
        (128, 64, 96, "k_chunk=96", 128, 64),
        (100, 16, 32, "q_chunk=16", 128, 32),
        (192, 96, 32, "q_chunk=96", 192, 64),
        (64, 128, 64, "q_chunk=128", 64, 64),
        (64, 0, 64, "q_chunk=0", 64, 32),
    ],
)
def test_chunks_that_do_not_fit_are_refused(tokens: int, q: int, k: int, found: str, rows: int, nearest: int) -> None:
    with pytest.raises(PlacementError) as caught:
        FlashAttention(grid=(8, 8), q_chunk=q, k_chunk=k).check(tokens)
    assert str(caught.value) == (
        f"FlashAttention over {tokens} tokens has {found}; it must be a power of two of at least 32 that divides the "
        f"{rows} rows. Nearest valid: {nearest}."
    )


def test_a_refusals_advice_is_legal() -> None:
    for rows in range(32, 2048, 32):
        for limit in (32, 64, 100, 256, 5000):
            chunk = largest_chunk(rows, limit)
            FlashAttention(grid=(8, 8), q_chunk=chunk, k_chunk=chunk).check(rows)
            assert chunk <= max(limit, 32)


def test_the_ttnn_configs_have_every_field() -> None:
    lowered = FlashAttention(grid=(7, 5), q_chunk=64, k_chunk=128).to_ttnn()
    assert (lowered.compute_with_storage_grid_size.x, lowered.compute_with_storage_grid_size.y) == (7, 5)
    assert (lowered.q_chunk_size, lowered.k_chunk_size, lowered.exp_approx_mode) == (64, 128, False)
    lowered = DecodeAttention(grid=(7, 5), k_chunk=32).to_ttnn()
    assert (lowered.compute_with_storage_grid_size.x, lowered.compute_with_storage_grid_size.y) == (7, 5)
    assert (lowered.q_chunk_size, lowered.k_chunk_size, lowered.exp_approx_mode) == (0, 32, False)
