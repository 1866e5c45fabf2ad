"""ContiguousKVCache: shapes, slots, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ttt_attention import MAX_USERS, AttentionSpec, ContiguousKVCache, RopeSpec
from ttt_core import KVCache, ShapeError
from ttt_testing import shadow


def spec_of(head_dim: int = 32, max_context: int = 128, num_kv_heads: int = 2) -> AttentionSpec:
    return AttentionSpec(
        hidden_dim=64,
        num_heads=4,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        max_context=max_context,
        rope=RopeSpec(),
    )


@pytest.mark.parametrize(("head_dim", "width"), [(16, 32), (32, 32), (80, 128), (128, 128)])
@pytest.mark.parametrize("users", [1, 3, 32])
@pytest.mark.parametrize("dtype", ["bfloat16", "bfloat8_b"])
def test_a_cache_is_zeros_of_whole_tiles(head_dim: int, width: int, users: int, dtype: Any, mesh: Any) -> None:
    import ttnn

    with shadow() as values:
        cache = ContiguousKVCache.allocate(spec_of(head_dim), users=users, context=96, device=mesh, dtype=dtype)
        for tensor in (cache.keys, cache.values):
            assert tuple(tensor.shape) == (users, 2, 96, width)
            assert tensor.dtype == getattr(ttnn, dtype)
            assert not values.to_torch(tensor).any()
        assert cache.keys is not cache.values


def test_slots_share_memory(mesh: Any) -> None:
    cache = ContiguousKVCache.allocate(spec_of(), users=3, context=64, device=mesh)
    assert cache.user == 0
    second = cache.for_user(2)
    assert (second.user, cache.user) == (2, 0)
    assert second.keys is cache.keys
    assert second.values is cache.values


def test_keeps_the_protocol(mesh: Any) -> None:
    cache: KVCache = ContiguousKVCache.allocate(spec_of(), users=1, context=32, device=mesh)
    assert isinstance(cache, KVCache)


@pytest.mark.parametrize(
    ("users", "context", "message"),
    [
        (0, 64, "a KV cache for 0 users; 1 to 32 are possible. Split them into several batches."),
        (MAX_USERS + 1, 64, "a KV cache for 33 users; 1 to 32 are possible. Split them into several batches."),
        (1, 0, "a KV cache of context 0; it must be a multiple of 32. Nearest: 32."),
        (1, 33, "a KV cache of context 33; it must be a multiple of 32. Nearest: 64."),
        (1, -32, "a KV cache of context -32; it must be a multiple of 32. Nearest: 32."),
        (1, 160, "a KV cache of context 160; the model's positions end at 128. Nearest: 128."),
    ],
)
def test_sizes_out_of_range_are_refused(users: int, context: int, message: str, mesh: Any) -> None:
    with pytest.raises(ShapeError) as caught:
        ContiguousKVCache.allocate(spec_of(), users=users, context=context, device=mesh)
    assert str(caught.value) == message


def test_a_context_that_is_no_tile_multiple_is_rounded_up_at_most(mesh: Any) -> None:
    cache = ContiguousKVCache.allocate(spec_of(max_context=100), users=1, context=128, device=mesh)
    assert cache.keys.shape[2] == 128
    with pytest.raises(ShapeError, match="positions end at 100"):
        ContiguousKVCache.allocate(spec_of(max_context=100), users=1, context=160, device=mesh)


@pytest.mark.parametrize("user", [-1, 3])
def test_a_slot_that_is_not_there_is_refused(user: int, mesh: Any) -> None:
    cache = ContiguousKVCache.allocate(spec_of(), users=3, context=64, device=mesh)
    with pytest.raises(ShapeError) as caught:
        cache.for_user(user)
    assert str(caught.value) == f"user {user} of a KV cache for 3 users; slots are 0 to 2."


def test_allocating_costs_what_the_dtype_says(mesh: Any) -> None:
    import ttnn

    def allocated() -> int:
        return int(ttnn.get_memory_view(mesh, ttnn.BufferType.DRAM).total_bytes_allocated_per_bank)

    before = allocated()
    cache = ContiguousKVCache.allocate(
        spec_of(head_dim=64, max_context=1536, num_kv_heads=4), users=4, context=1536, device=mesh
    )
    tiles = 2 * 4 * 4 * (1536 // 32) * (64 // 32)  # k and v
    assert allocated() - before == tiles * 1088 // 12  # DRAM banks
    del cache
    assert allocated() == before


def test_the_padding_of_a_head_stays_zero(mesh: Any) -> None:
    """Heads of 80 are kept as two halves of 40, each followed by 24 zeros, so scores are those of 80 elements."""
    from ttt_attention.heads import pad_halves

    q, k = torch.randn(5, 80), torch.randn(7, 80)
    padded = [torch.from_numpy(pad_halves(x.numpy())) for x in (q, k)]
    torch.testing.assert_close(padded[0] @ padded[1].T, q @ k.T)
