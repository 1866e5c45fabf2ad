"""Which workload a forward is."""

from __future__ import annotations

from functools import lru_cache

from ttt_core import KVCache, Tensor
from ttt_hw.requests import Workload, decoding, prefilling

__all__ = ["memory_workload", "prompt_workload", "step_workload"]


def prompt_workload(x: Tensor, cache: KVCache | None, page_table: Tensor | None) -> Workload:
    """Of prefill of x [1, 1, S, D]: after what the cache has of the prompt, by pages where there is a page table."""
    tokens = x.shape[-2]
    if cache is None:
        return prefilling(tokens)
    start = getattr(cache, "start", 0)  # of a ResumableCache; asking whether it is one takes 20 times as long
    if page_table is not None:
        block = cache.keys.shape[-2]
        return _prefilling(tokens, block * page_table.shape[-1], start, block)
    if start:
        return _prefilling(tokens, cache.keys.shape[-2], start)
    return prefilling(tokens)


def step_workload(x: Tensor, cache: KVCache, page_table: Tensor | None) -> Workload:
    """Of decode of x [1, 1, B, D] with the cache, by pages where there is a page table."""
    users, context = x.shape[-2], cache.keys.shape[-2]
    if page_table is None:
        return decoding(users, context)
    return _paged_step(users, context * page_table.shape[-1], context)


def memory_workload(x: Tensor, memory: Tensor) -> Workload:
    """Of prefill of x [1, 1, S, D] that attends to a memory [1, 1, M, D']."""
    return _prefilling(x.shape[-2], memory.shape[-2])


@lru_cache(maxsize=1 << 12)
def _prefilling(tokens: int, context: int, start: int = 0, block: int = 0) -> Workload:
    return Workload(mode="prefill", tokens=tokens, context=context, start=start, block=block)


@lru_cache(maxsize=1 << 12)
def _paged_step(users: int, context: int, block: int) -> Workload:
    return Workload(mode="decode", users=users, context=context, block=block)
