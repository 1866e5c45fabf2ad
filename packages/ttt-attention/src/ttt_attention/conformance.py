"""Small blocks of this package with what they compute, for `ttt conformance`.

Letters: S tokens, H query heads, G query heads of a key-value head, K key-value heads, E elements of a head, C of a latent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ttt_attention.grouped_query import GroupedQueryAttention
from ttt_attention.latent import MultiLatentAttention
from ttt_attention.latent_spec import LatentAttentionSpec
from ttt_attention.rotary import inverse_frequencies
from ttt_attention.spec import AttentionSpec, RopeSpec

__all__ = [
    "grouped_query_attention",
    "make_grouped_query_attention",
    "make_multi_latent_attention",
    "multi_latent_attention",
]


def make_grouped_query_attention(mesh: Any) -> tuple[GroupedQueryAttention, Callable[[Any], Any]]:
    """16 heads, so that 8 chips can share them."""
    rope = RopeSpec()
    spec = AttentionSpec(hidden_dim=128, num_heads=16, num_kv_heads=8, head_dim=32, max_context=256, rope=rope)
    random = np.random.default_rng(0)
    q, k, v, o = (
        (random.standard_normal(shape) / shape[1] ** 0.5).astype(np.float32)
        for shape in [(512, 128), (256, 128), (256, 128), (128, 512)]
    )

    def reference(x: Any) -> Any:
        values = np.asarray(x)[0]
        tokens = len(values)
        q_SHE, k_SKE, v_SKE = ((values @ weight.T).reshape(tokens, -1, spec.head_dim) for weight in (q, k, v))
        q_SKGE = turned(q_SHE, rope).reshape(tokens, spec.num_kv_heads, -1, spec.head_dim)
        scores = np.einsum("skge,tke->kgst", q_SKGE, turned(k_SKE, rope)) * spec.head_dim**-0.5
        joined = np.einsum("kgst,tke->skge", causal_softmax(scores), v_SKE).reshape(1, tokens, -1)
        return (joined @ o.T).astype(np.float32)

    return GroupedQueryAttention(spec, q=q, k=k, v=v, o=o, device=mesh), reference


grouped_query_attention = {"protocol": "attention", "make": make_grouped_query_attention, "tolerance": 1e-4}
"""The entry of `GroupedQueryAttention`."""


def make_multi_latent_attention(mesh: Any) -> tuple[MultiLatentAttention, Callable[[Any], Any]]:
    """16 heads, so that 8 chips can share them; queries, keys and values are made as such."""
    rope, nope_dim, eps = RopeSpec(), 32, 1e-6
    spec = LatentAttentionSpec(
        hidden_dim=128,
        num_heads=16,
        kv_rank=64,
        nope_dim=nope_dim,
        rope_dim=32,
        v_head_dim=32,
        max_context=256,
        rope=rope,
        eps=eps,
    )
    random = np.random.default_rng(0)
    q, down, up, o = (
        (random.standard_normal(shape) / shape[1] ** 0.5).astype(np.float32)
        for shape in [(1024, 128), (96, 128), (1024, 64), (128, 512)]
    )
    norm = (1 + 0.1 * random.standard_normal(64)).astype(np.float32)

    def reference(x: Any) -> Any:
        values = np.asarray(x)[0]
        tokens = len(values)
        q_SHE = (values @ q.T).reshape(tokens, 16, 64)
        c_SC, k_rope = np.split(values @ down.T, [64], -1)
        c_SC = c_SC / np.sqrt((c_SC**2).mean(-1, keepdims=True) + eps) * norm
        k_SHE, v_SHE = np.split((c_SC @ up.T).reshape(tokens, 16, 64), [nope_dim], -1)
        scores = np.einsum("she,the->hst", q_SHE[..., :nope_dim], k_SHE)
        scores += np.einsum("she,te->hst", turned(q_SHE[..., nope_dim:], rope), turned(k_rope[:, None], rope)[:, 0])
        joined = np.einsum("hst,the->she", causal_softmax(scores * spec.scale), v_SHE).reshape(1, tokens, -1)
        return (joined @ o.T).astype(np.float32)

    return MultiLatentAttention(spec, q=q, kv_down=down, kv_norm=norm, kv_up=up, o=o, device=mesh), reference


multi_latent_attention = {"protocol": "attention", "make": make_multi_latent_attention, "tolerance": 1e-4}
"""The entry of `MultiLatentAttention`."""


def turned(x_SHE: Any, rope: RopeSpec) -> Any:
    """Element i of a head with i + half."""
    angles = np.arange(len(x_SHE))[:, None, None] * inverse_frequencies(rope, x_SHE.shape[-1])
    first, second = np.split(x_SHE, 2, -1)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


def causal_softmax(scores: Any) -> Any:
    """Of scores [..., S, S]."""
    masked = scores + np.triu(np.full(scores.shape[-2:], -np.inf), 1)
    weights = np.exp(masked - masked.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)
