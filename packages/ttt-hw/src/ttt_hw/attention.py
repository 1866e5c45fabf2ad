"""Configs of fused attention: how many cores, and how many tokens of queries and keys a core takes at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ttt_core import PlacementError
from ttt_hw.catalogue import Chip
from ttt_hw.compute import ComputeKernel
from ttt_hw.matmul import ceil_div
from ttt_shard_dsl import TILE

LONG_PREFILL = 2048  # tokens from which chunks of 256 pay; shorter prompts need the parallelism of small chunks


@dataclass(frozen=True, kw_only=True, slots=True)
class FlashAttention:
    """Prefill attention tiled over queries and keys, softmax kept online [arXiv 2307.08691, algorithm 1].

    Source: SDPAProgramConfig of ttnn; the op deals batch × heads × query chunks over the grid.
    """

    grid: tuple[int, int]
    q_chunk: int
    k_chunk: int
    kernel: ComputeKernel = ComputeKernel(fidelity="hifi4")

    def check(self, tokens: int) -> None:
        """Chunks are whole tiles, and powers of two that divide the prompt as it is padded to tiles."""
        rows = ceil_div(tokens, TILE) * TILE
        for name, chunk in (("q_chunk", self.q_chunk), ("k_chunk", self.k_chunk)):
            if chunk < TILE or chunk & (chunk - 1) or rows % chunk:
                raise PlacementError(
                    f"FlashAttention over {tokens} tokens has {name}={chunk}; it must be a power of two of at least {TILE} that "
                    f"divides the {rows} rows. Nearest valid: {largest_chunk(rows, chunk)}."
                )

    def to_ttnn(self) -> Any:
        import ttnn

        return ttnn.SDPAProgramConfig(
            compute_with_storage_grid_size=ttnn.CoreCoord(*self.grid),
            q_chunk_size=self.q_chunk,
            k_chunk_size=self.k_chunk,
            exp_approx_mode=False,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeAttention:
    """One query a user against its cache, the context split over cores and the partial softmaxes merged (flash decoding).

    `k_chunk` 0 lets the op choose by the current position. Source: SDPAProgramConfig of ttnn.
    """

    grid: tuple[int, int]
    k_chunk: int = 0
    kernel: ComputeKernel = ComputeKernel(fidelity="hifi2")

    def to_ttnn(self) -> Any:
        import ttnn

        return ttnn.SDPAProgramConfig(
            compute_with_storage_grid_size=ttnn.CoreCoord(*self.grid),
            q_chunk_size=0,
            k_chunk_size=self.k_chunk,
            exp_approx_mode=False,
        )


def plan_prefill_attention(tokens: int, chip: Chip) -> FlashAttention:
    """The largest legal chunks up to 256 tokens for long prompts, 64 for short ones; the whole grid."""
    rows = ceil_div(tokens, TILE) * TILE
    chunk = largest_chunk(rows, 256 if tokens >= LONG_PREFILL else 64)
    config = FlashAttention(grid=chip.grid, q_chunk=chunk, k_chunk=chunk)
    config.check(tokens)
    return config


def plan_decode_attention(chip: Chip) -> DecodeAttention:
    return DecodeAttention(grid=chip.grid)


def largest_chunk(rows: int, limit: int) -> int:
    """The largest power of two that divides `rows`, which are whole tiles, and is at most `limit` (at least one tile)."""
    chunk = TILE
    while chunk * 2 <= limit and rows % (chunk * 2) == 0:
        chunk *= 2
    return chunk
