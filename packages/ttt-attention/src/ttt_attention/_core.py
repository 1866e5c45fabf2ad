"""What attention does between turned heads and joined heads: ttnn's fused operation, or its steps one by one."""

from __future__ import annotations

from typing import Protocol

from ttt_attention._capped_requests import rows_of_a_piece
from ttt_attention.masks import Masks
from ttt_core import KVCache, Tensor
from ttt_hw import Operations
from ttt_weights import LazyWeight


class Core(Protocol):
    """prefill: q [1, H, S, hd], k and v [1, KV, S, hd] → [1, H, S, hd]. decode: q [1, B, H, hd] → the same, with the cache;
    `row` are the positions as an embedding reads them."""

    @property
    def weights(self) -> tuple[LazyWeight, ...]: ...
    def prefill(self, ops: Operations, q: Tensor, k: Tensor, v: Tensor, /) -> Tensor: ...
    def decode(self, ops: Operations, q: Tensor, cache: KVCache, positions: Tensor, row: Tensor, /) -> Tensor: ...


class FusedCore:
    """One operation."""

    weights: tuple[LazyWeight, ...] = ()

    def prefill(self, ops: Operations, q: Tensor, k: Tensor, v: Tensor, /) -> Tensor:
        heads: Tensor = ops["attention"](q, k, v)
        return heads

    def decode(self, ops: Operations, q: Tensor, cache: KVCache, positions: Tensor, row: Tensor, /) -> Tensor:
        heads: Tensor = ops["attention"](q, cache.keys, cache.values, positions)
        return heads


class CappedCore:
    """softmax(c · tanh(q·kᵀ · scale / c) + mask) · v, step by step; see capped_requests.

    `num_heads` and `num_kv_heads` are those of a chip.
    """

    def __init__(self, masks: Masks, *, num_heads: int, num_kv_heads: int) -> None:
        self._masks = masks
        self._num_heads = num_heads
        self._num_kv_heads = num_kv_heads

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        return self._masks.weights

    def prefill(self, ops: Operations, q: Tensor, k: Tensor, v: Tensor, /) -> Tensor:
        rows = q.shape[-2]
        piece = rows_of_a_piece(self._num_heads, rows)
        starts = range(0, rows, piece)
        suffixes = [f".{index}" for index in range(len(starts))] if len(starts) > 1 else [""]
        parts = [
            self._piece(ops, ops.optional(f"q_piece{suffix}")(q), k, v, suffix, (start, min(start + piece, rows), rows))
            for start, suffix in zip(starts, suffixes, strict=True)
        ]
        heads: Tensor = ops.optional("attention")(*parts)
        return heads

    def _piece(
        self, ops: Operations, q: Tensor, k: Tensor, v: Tensor, suffix: str, rows: tuple[int, int, int]
    ) -> Tensor:
        """Some query rows, with all keys and values."""
        q = ops.optional(f"grouped_q{suffix}")(q)  # [1, KV, G · rows, hd]
        scores = ops[f"scores{suffix}"](q, k)  # [1, KV, G · rows, S]
        capped = ops[f"capped_scores{suffix}"](scores)
        capped = ops.optional(f"scores_by_head{suffix}")(capped)  # [1, H, rows, S]
        probabilities = ops[f"probabilities{suffix}"](capped, self._masks.of_prompt(*rows))
        grouped = ops.optional(f"grouped_probabilities{suffix}")(probabilities)
        attended = ops[f"attended{suffix}"](grouped, v)
        heads: Tensor = ops.optional(f"attended_heads{suffix}")(attended)
        return heads

    def decode(self, ops: Operations, q: Tensor, cache: KVCache, positions: Tensor, row: Tensor, /) -> Tensor:
        mask = ops["mask_rows"](row, self._masks.of_users(cache.keys.shape[-2]))
        mask = ops["mask_transposed"](mask)
        mask = ops.optional("mask_by_user")(mask)  # [B, 1, 1, C]
        q = ops.optional("q_by_user")(q)  # [B, 1, H, hd]
        q = ops.optional("q_for_groups")(*[q] * self._num_kv_heads)  # [B, KV, H, hd]
        scores = ops["scores"](q, cache.keys)  # [B, KV, H, C]
        capped = ops["capped_scores"](scores)
        masked = ops["masked_scores"](capped, mask)
        probabilities = ops["probabilities"](masked)
        attended = ops["attended"](probabilities, cache.values)  # [B, KV, H, hd]
        attended = ops.optional("own_groups")(attended, self._masks.groups.tensor)
        attended = ops.optional("joined_groups")(attended)  # [B, 1, H, hd]
        heads: Tensor = ops.optional("attended_heads")(attended)
        return heads
