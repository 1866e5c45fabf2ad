"""Attention whose query heads share keys and values in groups."""

from __future__ import annotations

from ttt_attention.base import BaseAttention

__all__ = ["GroupedQueryAttention"]


class GroupedQueryAttention(BaseAttention):
    """Attention whose query heads share keys and values in groups, with whatever else its spec says.

    softmax(q·kᵀ/√head_dim + causal mask)·v per head, q and k rotated by position, and whatever else the spec says.

    Query head i reads key-value head i // (num_heads / num_kv_heads). Weights and errors are those of BaseAttention.
    Source: arXiv 2305.13245; LlamaAttention, Qwen3Attention, GptOssAttention, Gemma2Attention … of transformers.
    """
