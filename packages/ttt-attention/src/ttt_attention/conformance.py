"""Small blocks of this package with what they compute, for `ttt conformance`.

Letters: S tokens, H query heads, G query heads of a key-value head, K key-value heads, E elements of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ttt_attention.grouped_query import GroupedQueryAttention
from ttt_attention.rotary import inverse_frequencies
from ttt_attention.spec import AttentionSpec, RopeSpec

__all__ = ["grouped_query_attention", "make_grouped_query_attention"]


def make_grouped_query_attention(mesh: Any) -> tuple[GroupedQueryAttention, Callable[[Any], Any]]:
    """16 heads, so that 8 chips can share them."""
    rope = RopeSpec()
    spec = AttentionSpec(hidden_dim=128, num_heads=16, num_kv_heads=8, head_dim=32, max_context=256, rope=rope)
    random = np.random.default_rng(0)
    q, k, v, o = (
        (random.standard_normal(shape) / shape[1] ** 0.5).astype(np.float32)
        for shape in [(512, 128), (256, 128), (256, 128), (128, 512)]
    )

    def turned(x_SHE: Any) -> Any:
        angles = np.arange(len(x_SHE))[:, None, None] * inverse_frequencies(rope, spec.head_dim)
        first, second = np.split(x_SHE, 2, -1)
        cos, sin = np.cos(angles), np.sin(angles)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)

    def reference(x: Any) -> Any:
        values = np.asarray(x)[0]
        tokens = len(values)
        q_SHE, k_SKE, v_SKE = ((values @ weight.T).reshape(tokens, -1, spec.head_dim) for weight in (q, k, v))
        q_SKGE = turned(q_SHE).reshape(tokens, spec.num_kv_heads, -1, spec.head_dim)
        scores = np.einsum("skge,tke->kgst", q_SKGE, turned(k_SKE)) * spec.head_dim**-0.5
        scores += np.triu(np.full((tokens, tokens), -np.inf), 1)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        joined = np.einsum("kgst,tke->skge", weights, v_SKE).reshape(1, tokens, -1)
        return (joined @ o.T).astype(np.float32)

    return GroupedQueryAttention(spec, q=q, k=k, v=v, o=o, device=mesh), reference


grouped_query_attention = {"protocol": "attention", "make": make_grouped_query_attention, "tolerance": 1e-4}
"""The entry of `GroupedQueryAttention`."""
