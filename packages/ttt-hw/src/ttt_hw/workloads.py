"""Which workload a forward is."""

from __future__ import annotations

from ttt_core import KVCache, ResumableCache, Tensor
from ttt_hw.requests import Workload, decoding, prefilling

__all__ = ["prompt_workload", "step_workload"]


def prompt_workload(x: Tensor, cache: KVCache | None, page_table: Tensor | None) -> Workload:
    """Of prefill of x [1, 1, S, D]: after what the cache has of the prompt, by pages where there is a page table."""
    tokens = x.shape[-2]
    if cache is None:
        return prefilling(tokens)
    start = cache.start if isinstance(cache, ResumableCache) else 0
    if page_table is not None:
        block = cache.keys.shape[-2]
        context = block * page_table.shape[-1]
        return Workload(mode="prefill", tokens=tokens, context=context, start=start, block=block)
    if start:
        return Workload(mode="prefill", tokens=tokens, context=cache.keys.shape[-2], start=start)
    return prefilling(tokens)


def step_workload(x: Tensor, cache: KVCache, page_table: Tensor | None) -> Workload:
    """Of decode of x [1, 1, B, D] with the cache, by pages where there is a page table."""
    users, context = x.shape[-2], cache.keys.shape[-2]
    if page_table is None:
        return decoding(users, context)
    return Workload(mode="decode", users=users, context=context * page_table.shape[-1], block=context)
