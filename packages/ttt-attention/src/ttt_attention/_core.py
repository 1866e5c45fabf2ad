"""What attention does between turned heads and joined heads: ttnn's fused operation, its steps one by one, or a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from ttt_attention._stepwise_requests import rows_of_a_piece
from ttt_attention.masks import Masks
from ttt_core import Tensor
from ttt_hw import Operations
from ttt_weights import LazyWeight

Compute: TypeAlias = Callable[[Any, Any, Any, Any], Any]
Others: TypeAlias = Sequence[Tensor]
Held: TypeAlias = tuple[Tensor, Tensor]


class Core(Protocol):
    """prefill: q [1, H, S, hd], k and v [1, KV, S, hd] → [1, H, S, hd]. decode: q [1, B, H, hd] → the same, with the keys and
    values that a cache holds; `row` are the positions as an embedding reads them; `others`, where there are some, a page table,
    then sinks."""

    @property
    def weights(self) -> tuple[LazyWeight, ...]: ...
    def prefill(self, ops: Operations, q: Tensor, k: Tensor, v: Tensor, others: Others, /) -> Tensor: ...
    def decode(
        self, ops: Operations, q: Tensor, held: Held, positions: Tensor, row: Tensor, others: Others, /
    ) -> Tensor: ...


class FusedCore:
    """One operation; a prompt that goes on reads the cache's keys and values."""

    weights: tuple[LazyWeight, ...] = ()

    def prefill(self, ops: Operations, q: Tensor, k: Tensor, v: Tensor, others: Others, /) -> Tensor:
        heads: Tensor = ops["attention"](q, k, v, *others)
        return heads

    def decode(
        self, ops: Operations, q: Tensor, held: Held, positions: Tensor, row: Tensor, others: Others, /
    ) -> Tensor:
        heads: Tensor = ops["attention"](q, *held, positions, *others)
        return heads


class StepwiseCore:
    """softmax(f(q·kᵀ · scale) + mask) · v, step by step; see _stepwise_requests.

    `num_heads` and `num_kv_heads` are those of a chip.
    """

    def __init__(self, masks: Masks, *, num_heads: int, num_kv_heads: int) -> None:
        self._masks = masks
        self._num_heads = num_heads
        self._num_kv_heads = num_kv_heads

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        return self._masks.weights

    def prefill(self, ops: Operations, q: Tensor, k: Tensor, v: Tensor, others: Others, /) -> Tensor:
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
        scores = ops.optional(f"capped_scores{suffix}")(scores)
        scores = ops.optional(f"scores_by_head{suffix}")(scores)  # [1, H, rows, S]
        mask = self._masks.of_prompt(*rows)
        scores = ops.optional(f"scaled_scores{suffix}")(scores, self._masks.down.tensor)
        scores = ops.optional(f"masked_scores{suffix}")(scores, mask)
        scores = ops.optional(f"sloped_scores{suffix}")(scores, self._masks.up.tensor)
        probabilities = ops[f"probabilities{suffix}"](scores, mask)
        grouped = ops.optional(f"grouped_probabilities{suffix}")(probabilities)
        attended = ops[f"attended{suffix}"](grouped, v)
        heads: Tensor = ops.optional(f"attended_heads{suffix}")(attended)
        return heads

    def decode(
        self, ops: Operations, q: Tensor, held: Held, positions: Tensor, row: Tensor, others: Others, /
    ) -> Tensor:
        keys, values = held
        mask = users_mask(ops, row, self._masks.of_users(keys.shape[-2]))  # [B, 1, 1, C]
        q = ops.optional("q_by_user")(q)  # [B, 1, H, hd]
        q = ops.optional("q_for_groups")(*[q] * self._num_kv_heads)  # [B, KV, H, hd]
        scores = ops["scores"](q, keys)  # [B, KV, H, C]
        scores = ops.optional("capped_scores")(scores)
        scores = ops.optional("scaled_scores")(scores, self._masks.down_rows.tensor)
        scores = ops["masked_scores"](scores, mask)
        scores = ops.optional("sloped_scores")(scores, self._masks.up_rows.tensor)
        probabilities = ops["probabilities"](scores)
        attended = ops["attended"](probabilities, values)  # [B, KV, H, hd]
        attended = ops.optional("own_groups")(attended, self._masks.groups.tensor)
        attended = ops.optional("joined_groups")(attended)  # [B, 1, H, hd]
        heads: Tensor = ops.optional("attended_heads")(attended)
        return heads


class CustomCore:
    """compute(q [B, H, Sq, hd], k, v [B, H, Sk, hd], mask [B, 1, Sq, Sk]) → q's shape, of a prompt (B 1) or of users (Sq 1).

    `groups` query heads share a key-value head, which is repeated for them.
    """

    def __init__(self, compute: Compute, masks: Masks, *, groups: int) -> None:
        def of_heads(q: Any, k: Any, v: Any, mask: Any) -> Any:
            return compute(q, repeated(k, groups), repeated(v, groups), mask)

        self._compute = compute if groups == 1 else of_heads
        self._masks = masks

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        return self._masks.weights

    def prefill(self, ops: Operations, q: Tensor, k: Tensor, v: Tensor, others: Others, /) -> Tensor:
        tokens = q.shape[-2]
        heads: Tensor = ops["attention"](q, k, v, self._masks.of_prompt(0, tokens, tokens), self._compute)
        return heads

    def decode(
        self, ops: Operations, q: Tensor, held: Held, positions: Tensor, row: Tensor, others: Others, /
    ) -> Tensor:
        keys, values = held
        mask = users_mask(ops, row, self._masks.of_users(keys.shape[-2]))
        q = ops.optional("q_by_user")(q)  # [B, 1, H, hd]
        q = ops["q_by_head"](q)  # [B, H, 1, hd]
        attended = ops["attention"](q, keys, values, mask, self._compute)
        attended = ops["attended_rows"](attended)  # [B, 1, H, hd]
        heads: Tensor = ops.optional("attended_heads")(attended)
        return heads


def users_mask(ops: Operations, row: Tensor, table: Tensor) -> Tensor:
    """The row of each user's position → [B, 1, 1, C]."""
    mask = ops["mask_transposed"](ops["mask_rows"](row, table))
    by_user: Tensor = ops.optional("mask_by_user")(mask)
    return by_user


def repeated(x: Any, groups: int) -> Any:
    """[B, KV, S, hd] → [B, KV · groups, S, hd], each head `groups` times in a row."""
    import ttnn

    return ttnn.repeat_interleave(x, groups, dim=1)
