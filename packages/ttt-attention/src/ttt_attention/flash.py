"""Attention in one operation, whose scores never lie in memory."""

from __future__ import annotations

from ttt_attention.grouped_query import GroupedQueryAttention
from ttt_attention.spec import AttentionSpec
from ttt_core import SpecError

__all__ = ["FlashAttention"]


class FlashAttention(GroupedQueryAttention):
    """Attention in one fused operation, whose scores never lie in memory.

    GroupedQueryAttention that is refused where ttnn's fused operation cannot compute it.

    GroupedQueryAttention runs by the same operation wherever it can, and does the rest step by step.
    Errors: SpecError for a soft-cap, ALiBi or chunks, and those of GroupedQueryAttention.
    Source: arXiv 2205.14135, arXiv 2307.08691.
    """

    def _checked(self, spec: AttentionSpec) -> AttentionSpec:
        if spec.stepwise:
            raise SpecError(
                "FlashAttention is ttnn's fused attention, which has no soft_cap, alibi or chunk. Use GroupedQueryAttention."
            )
        return spec
