"""Attention and caches for `ttt list-modules` and `ttt search`: a literal, which is read without importing the package."""

from __future__ import annotations

__all__ = ["MODULES"]

MODULES: list[dict[str, object]] = [
    {
        "path": "ttt_attention.GroupedQueryAttention",
        "category": "attention",
        "tier": "core",
        "features": [
            "gqa",
            "multi-query",
            "mqa",
            "rope",
            "q/k norm",
            "head norm",
            "soft-cap",
            "alibi",
            "sinks",
            "output gate",
            "sliding window",
            "chunked attention",
            "bidirectional",
            "paged cache",
            "chunked prefill",
        ],
    },
    {
        "path": "ttt_attention.MultiHeadAttention",
        "category": "attention",
        "tier": "core",
        "features": ["mha", "rope", "alibi", "paged cache", "chunked prefill"],
    },
    {
        "path": "ttt_attention.FlashAttention",
        "category": "attention",
        "tier": "core",
        "features": [
            "flash attention",
            "fused attention",
            "sdpa",
            "gqa",
            "rope",
            "sliding window",
            "sinks",
            "paged cache",
            "chunked prefill",
        ],
    },
    {
        "path": "ttt_attention.SlidingWindowAttention",
        "category": "attention",
        "tier": "core",
        "features": ["swa", "sliding window", "local attention", "gqa", "rope", "sinks"],
    },
    {
        "path": "ttt_attention.MultiLatentAttention",
        "category": "attention",
        "tier": "extended",
        "features": ["mla", "latent attention", "deepseek", "low-rank", "rope", "paged cache", "chunked prefill"],
    },
    {
        "path": "ttt_attention.BaseAttention",
        "category": "attention",
        "tier": "core",
        "features": ["custom attention", "own attention", "compute_attention", "subclass", "extension point"],
    },
    {
        "path": "ttt_attention.MultiHeadCrossAttention",
        "category": "attention",
        "tier": "extended",
        "features": ["cross attention", "encoder-decoder", "memory", "gqa"],
    },
    {
        "path": "ttt_attention.ContiguousKVCache",
        "category": "cache",
        "tier": "core",
        "features": ["kv cache", "contiguous", "chunked prefill"],
    },
    {
        "path": "ttt_attention.PagedKVCache",
        "category": "cache",
        "tier": "core",
        "features": ["kv cache", "paged attention", "page table", "blocks", "chunked prefill"],
    },
    {
        "path": "ttt_attention.MemoryCache",
        "category": "cache",
        "tier": "extended",
        "features": ["kv cache", "cross attention", "encoder-decoder", "memory"],
    },
    {
        "path": "ttt_attention.Rotary",
        "category": "position",
        "tier": "core",
        "features": [
            "rope",
            "rotary embedding",
            "partial rotation",
            "interleaved",
            "llama3",
            "yarn",
            "longrope",
            "dynamic ntk",
            "linear scaling",
            "query temperature",
        ],
    },
]
"""As ttt_core.registry has it: where each is imported from, its category and tier, and what people may look for."""
