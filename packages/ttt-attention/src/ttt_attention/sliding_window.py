"""Attention to the last tokens only."""

from __future__ import annotations

from typing import ClassVar

from ttt_attention._keywords import WINDOWED
from ttt_attention.grouped_query import GroupedQueryAttention
from ttt_attention.spec import AttentionSpec
from ttt_core import SpecError

__all__ = ["SlidingWindowAttention"]


class SlidingWindowAttention(GroupedQueryAttention):
    """Attention to the last tokens only.

    GroupedQueryAttention whose queries see `window` tokens, themselves included; 4096 unless told.

    Errors: SpecError for a spec without a window, and those of GroupedQueryAttention.
    Source: arXiv 2310.06825 section 2.
    """

    keywords: ClassVar = WINDOWED

    def _checked(self, spec: AttentionSpec) -> AttentionSpec:
        if spec.window is None:
            raise SpecError(
                "SlidingWindowAttention was given a spec with window=None. Give it one, or use GroupedQueryAttention."
            )
        return spec
