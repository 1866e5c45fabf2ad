"""Configs of fused attention for a block that plans one operation at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ttt_core import PlacementError
from ttt_hw.catalogue import Chip
from ttt_hw.compute import ComputeKernel
from ttt_hw.matmul import ceil_div
from ttt_hw.patterns.decode_attention import DecodeAttention as DecodeAttention
from ttt_hw.patterns.flash_attention import (
    LONG_PREFILL as LONG_PREFILL,
    FlashAttention as FlashAttention,
    largest_chunk as largest_chunk,
)
from ttt_shard_dsl import TILE


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionPlan:
    """A pattern of fused attention and how precisely the engines compute."""

    pattern: FlashAttention | DecodeAttention
    kernel: ComputeKernel

    def to_ttnn(self) -> Any:
        return self.pattern.program()


def plan_prefill_attention(tokens: int, chip: Chip) -> AttentionPlan:
    """The largest legal chunks up to 256 tokens for long prompts, 64 for short ones; the whole grid."""
    if tokens < 1:
        raise PlacementError(f"attention over {tokens} tokens: there must be at least 1.")
    chunk = largest_chunk(ceil_div(tokens, TILE) * TILE, 256 if tokens >= LONG_PREFILL else 64)
    return AttentionPlan(
        pattern=FlashAttention(grid=chip.grid, q_chunk=chunk, k_chunk=chunk), kernel=ComputeKernel(fidelity="hifi4")
    )


def plan_decode_attention(chip: Chip) -> AttentionPlan:
    """The whole grid, chunks of keys left to ttnn."""
    return AttentionPlan(pattern=DecodeAttention(grid=chip.grid), kernel=ComputeKernel(fidelity="hifi2"))
