"""What a query sees, as tables that are added to scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ttt_attention.heads import split_heads
from ttt_attention.spec import AttentionSpec
from ttt_core import Tensor
from ttt_hw import board_of
from ttt_weights import Float32, LazyWeight, NoWeight

__all__ = ["Masks"]

HIDDEN = -1e9  # added to the score of a key that a query does not see


def causal(first: int, last: int, keys: int, window: int | None) -> Float32:
    """[last − first, keys]: 0 where the query of a row sees the key, itself and up to `window` − 1 before it, else HIDDEN."""
    distance = np.arange(first, last)[:, None] - np.arange(keys)[None]
    seen = (distance >= 0) & (distance < (keys if window is None else window))
    return np.where(seen, np.float32(0), np.float32(HIDDEN))


class Masks:
    """Tables of the soft-capped attention, shared by layers with equal heads, window and cap; made when first used and kept,
    one for each length of a prompt and of a cache.

    Shapes: of a prompt [1, 1, rows, tokens]; of users [context, context] row-major, a row for each position, divided by the cap
    because the softmax multiplies by it; groups [1, KV, H, 1], 1 where a query head reads a key-value head of its chip.
    """

    def __init__(self, spec: AttentionSpec, *, device: Any) -> None:
        assert spec.soft_cap is not None
        self._window, self._cap = spec.window, np.float32(spec.soft_cap)
        self._device = device
        self._tables: dict[object, LazyWeight] = {}
        heads, kv_heads = split_heads(spec, board_of(device).mesh[1])
        self.groups: LazyWeight | NoWeight = NoWeight()
        if kv_heads > 1:
            self.groups = self._table(lambda: _groups(kv_heads, heads), (1, kv_heads, heads, 1))

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        """What every forward reads."""
        return (self.groups,) if isinstance(self.groups, LazyWeight) else ()

    def of_prompt(self, first: int, last: int, tokens: int) -> Tensor:
        key = (first, last, tokens)
        if key not in self._tables:
            shape = (1, 1, last - first, tokens)
            self._tables[key] = self._table(lambda: causal(first, last, tokens, self._window).reshape(shape), shape)
        table: Tensor = self._tables[key].tensor
        return table

    def of_users(self, context: int) -> Tensor:
        if context not in self._tables:
            self._tables[context] = self._table(
                lambda: causal(0, context, context, self._window) / self._cap, (context, context)
            )
        table: Tensor = self._tables[context].tensor
        return table

    def _table(self, mask: Callable[[], Float32], shape: tuple[int, ...]) -> LazyWeight:
        """The host keeps no copy: a table of 8192 positions is 256 MiB."""
        return LazyWeight(
            [],
            mask,
            shape=shape,
            dtype="bfloat16",
            device=self._device,
            layout="tile" if len(shape) == 4 else "row_major",
            placement="b h s d in dram" if len(shape) == 4 else "c d in dram",
        )


def _groups(kv_heads: int, heads: int) -> Float32:
    own = np.eye(kv_heads, dtype=np.float32).repeat(heads // kv_heads, axis=1)
    return own[None, :, :, None]
