"""What a query sees, as tables that are added to scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ttt_attention._stepwise_requests import softmax_scale
from ttt_attention.heads import split_heads
from ttt_attention.spec import AttentionSpec
from ttt_core import Tensor
from ttt_hw import board_of, on_mesh
from ttt_weights import Float32, LazyWeight, NoWeight

__all__ = ["Masks"]

HIDDEN = -1e9  # added to the score of a key that a query does not see


def sight(spec: AttentionSpec, first: int, last: int, keys: int) -> Float32:
    """[last − first, keys]: HIDDEN where the query of a row does not see the key, else 0 or with ALiBi the key's position less
    the query's."""
    queries, others = np.arange(first, last)[:, None], np.arange(keys)[None]
    distance = queries - others
    seen = np.ones(distance.shape, bool)
    if spec.causal:
        seen = distance >= 0
    if spec.window is not None:
        seen &= distance < spec.window
    if spec.chunk is not None:
        seen &= queries // spec.chunk == others // spec.chunk
    shown = -distance.astype(np.float32) if spec.alibi else np.float32(0)
    table: Float32 = np.where(seen, shown, np.float32(HIDDEN))
    return table


def slopes(num_heads: int) -> Float32:
    """Of ALiBi: 2^(−8i/n), i = 1 … n, for n heads, a power of two; for others those of the next lower one, then every second of
    the next higher [arXiv 2108.12409 section 3; build_alibi_tensor of transformers' modeling_bloom]."""
    lower = 1 << (num_heads.bit_length() - 1)
    first = 2.0 ** (-8 / lower * np.arange(1, lower + 1))
    second = 2.0 ** (-4 / lower * np.arange(1, 2 * (num_heads - lower) + 1, 2))
    of_heads: Float32 = np.concatenate([first, second]).astype(np.float32)
    return of_heads


class Masks:
    """Tables of attention step by step, shared by layers of equal spec; made when first used and kept, one for each length of a
    prompt and of a cache.

    Shapes: of a prompt [1, 1, rows, tokens]; of users [context, context] row-major, a row for each position, divided by what the
    softmax multiplies by; groups [1, KV, H, 1], 1 where a query head reads a key-value head of its chip; slopes of ALiBi
    [1, H, 1, 1] for prompts and [1, 1, H, 1] for users, `down` scale / slope and `up` slope.
    """

    def __init__(self, spec: AttentionSpec, *, device: Any) -> None:
        self._spec = spec
        self._device = device
        self._tables: dict[object, LazyWeight] = {}
        heads, kv_heads = split_heads(spec, board_of(device).mesh[1])
        self.groups: LazyWeight | NoWeight = NoWeight()
        if kv_heads > 1:
            self.groups = self._table(lambda: _groups(kv_heads, heads), (1, kv_heads, heads, 1))
        up = slopes(spec.num_heads) if spec.alibi else None
        down = None if up is None else np.float32(spec.scale) / up
        self.down, self.up = self._slopes(down, dim=1), self._slopes(up, dim=1)
        self.down_rows, self.up_rows = self._slopes(down, dim=2), self._slopes(up, dim=2)

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        """What every forward reads."""
        tables = (self.groups, self.down, self.up, self.down_rows, self.up_rows)
        return tuple(table for table in tables if isinstance(table, LazyWeight))

    def of_prompt(self, first: int, last: int, tokens: int) -> Tensor:
        key = (first, last, tokens)
        if key not in self._tables:
            shape = (1, 1, last - first, tokens)
            self._tables[key] = self._table(lambda: sight(self._spec, first, last, tokens).reshape(shape), shape)
        table: Tensor = self._tables[key].tensor
        return table

    def of_users(self, context: int) -> Tensor:
        if context not in self._tables:
            factor = np.float32(softmax_scale(self._spec))
            self._tables[context] = self._table(
                lambda: sight(self._spec, 0, context, context) / factor, (context, context)
            )
        table: Tensor = self._tables[context].tensor
        return table

    def _slopes(self, values: Float32 | None, *, dim: int) -> LazyWeight | NoWeight:
        """A number for each query head along a dim, of which each chip has its own."""
        if values is None:
            return NoWeight()
        shape = tuple(len(values) if each == dim else 1 for each in range(4))
        return self._table(lambda: values.reshape(shape), shape, on_mesh("b h s d in dram", dim=dim))

    def _table(self, mask: Callable[[], Float32], shape: tuple[int, ...], placement: str | None = None) -> LazyWeight:
        """The host keeps no copy: a table of 8192 positions is 256 MiB."""
        return LazyWeight(
            [],
            mask,
            shape=shape,
            dtype="bfloat16",
            device=self._device,
            layout="tile" if len(shape) == 4 else "row_major",
            placement=placement or ("b h s d in dram" if len(shape) == 4 else "c d in dram"),
        )


def _groups(kv_heads: int, heads: int) -> Float32:
    own = np.eye(kv_heads, dtype=np.float32).repeat(heads // kv_heads, axis=1)
    return own[None, :, :, None]
