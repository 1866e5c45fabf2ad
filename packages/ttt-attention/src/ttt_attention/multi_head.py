"""Attention with keys and values of its own for each query head."""

from __future__ import annotations

from typing import ClassVar

from ttt_attention._keywords import MULTI_HEAD
from ttt_attention.grouped_query import GroupedQueryAttention
from ttt_attention.spec import AttentionSpec
from ttt_core import SpecError

__all__ = ["MultiHeadAttention"]


class MultiHeadAttention(GroupedQueryAttention):
    """Attention whose heads each have keys and values of their own.

    softmax(q·kᵀ/√head_dim + causal mask)·v, each head with its own q, k and v; everything else as GroupedQueryAttention.

    Errors: SpecError for fewer key-value heads than query heads, and those of GroupedQueryAttention.
    Source: arXiv 1706.03762 section 3.2.2.
    """

    keywords: ClassVar = MULTI_HEAD

    def _checked(self, spec: AttentionSpec) -> AttentionSpec:
        if spec.num_kv_heads != spec.num_heads:
            raise SpecError(
                f"MultiHeadAttention has keys and values for each of its {spec.num_heads} heads, the spec says "
                f"num_kv_heads={spec.num_kv_heads}. Use GroupedQueryAttention."
            )
        return spec
