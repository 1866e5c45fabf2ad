"""Rotary position embedding: tables of cosines and sines, looked up by position on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ttt_attention._frequencies import Reach, angles, inverse_frequencies, original_context, table_factor
from ttt_attention.heads import padded_head_dim
from ttt_attention.spec import AttentionSpec, RopeSpec, TemperatureSpec
from ttt_core import Tensor
from ttt_hw import Operations
from ttt_weights import Float32, LazyWeight, NoWeight

__all__ = ["Rotary", "inverse_frequencies"]


class RotaryTables(NamedTuple):
    """What turns queries, and what turns keys; the same unless queries have a temperature, None where nothing turns."""

    q_cos: Tensor | None
    q_sin: Tensor | None
    cos: Tensor | None
    sin: Tensor | None


class Rotary:
    """Cosines and sines for positions 0 … context − 1, shared by the layers of a model; without a rotation none.

    A query temperature multiplies the tables of queries, and without a rotation is all that they have.
    Shapes: prefill positions [1, S] → cos, sin [1, 1, S, padded head_dim]; decode positions [B] → [1, B, 1, padded head_dim].
    `ops` are the operations of the attention whose heads turn.
    """

    def __init__(
        self,
        rope: RopeSpec | None,
        *,
        head_dim: int,
        context: int,
        device: Any,
        temperature: TemperatureSpec | None = None,
    ) -> None:
        self.rope = rope
        self.head_dim = head_dim
        width = padded_head_dim(head_dim)

        def table(of: Callable[[Float32], Float32], reach: Reach | None, by: TemperatureSpec | None) -> LazyWeight:
            def build() -> Float32:
                values = of(_angles(rope, head_dim, context, reach)) * _factors(rope, head_dim)
                return values if by is None else values * temperatures(by, context)[:, None]

            build.__name__ = of.__name__
            return LazyWeight(
                [],
                build,
                shape=(context, width),
                dtype="bfloat16",
                device=device,
                layout="row_major",
                placement="c d in dram",
            )

        def both(reach: Reach | None, by: TemperatureSpec | None) -> _Pair:
            return _Pair(table(np.cos, reach, by), table(np.sin, reach, by))

        self._keys = _NO_TABLES if rope is None else both(None, None)
        self._queries = self._keys if temperature is None else both(None, temperature)
        self.cos, self.sin = self._keys
        original = None if rope is None else original_context(rope)
        near = far = (self._keys, self._queries)
        if original is not None and original < context:
            keys = both("long", None)
            far = (keys, keys if temperature is None else both("long", temperature))
        self._original = context if original is None else original
        self._of_prompts = (near, far)
        self._prompt_queries: _Lookup = _shared if temperature is None else _own_of_prompt
        self._row_queries: _Lookup = _shared if temperature is None else _own_of_row

    @classmethod
    def of(cls, spec: AttentionSpec, *, device: Any) -> Rotary:
        """The tables of one attention."""
        return cls(
            spec.rope,
            head_dim=spec.head_dim,
            context=spec.max_context,
            device=device,
            temperature=spec.query_temperature,
        )

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        pairs = (pair for pairs in self._of_prompts for pair in pairs)
        found = {id(table): table for pair in pairs for table in pair if isinstance(table, LazyWeight)}
        return tuple(found.values())

    def prefill_tables(self, ops: Operations, positions: Tensor, /, end: int = 0) -> RotaryTables:
        """Of a prompt whose last token is number `end`, counted from 1: a scaling may turn all tokens of a long one otherwise."""
        indices = ops.optional("rotary_indices")(positions)  # [1, S] uint32
        keys, queries = self._of_prompts[end > self._original]
        cos = ops.optional("cos")(indices, keys.cos.tensor)
        sin = ops.optional("sin")(indices, keys.sin.tensor)
        q_cos, q_sin = self._prompt_queries(ops, indices, queries, (cos, sin))
        return RotaryTables(q_cos, q_sin, cos, sin)

    def decode_tables(self, ops: Operations, positions: Tensor, /) -> RotaryTables:
        return self.row_tables(ops, self.decode_row(ops, positions))

    def decode_row(self, ops: Operations, positions: Tensor, /) -> Tensor:
        """Positions [B] → indices [1, B], which other tables are looked up with too."""
        indices = ops.optional("rotary_indices")(positions)  # [B] uint32
        row: Tensor = ops.optional("rotary_index_row")(indices)
        return row

    def row_tables(self, ops: Operations, row: Tensor, /) -> RotaryTables:
        cos = ops.optional("cos")(ops.optional("cos_rows")(row, self.cos.tensor))  # [1, 1, B, hd] → [1, B, 1, hd]
        sin = ops.optional("sin")(ops.optional("sin_rows")(row, self.sin.tensor))
        q_cos, q_sin = self._row_queries(ops, row, self._queries, (cos, sin))
        return RotaryTables(q_cos, q_sin, cos, sin)


class _Pair(NamedTuple):
    cos: LazyWeight | NoWeight
    sin: LazyWeight | NoWeight


_Lookup: TypeAlias = "Callable[[Operations, Tensor, _Pair, tuple[Any, Any]], tuple[Any, Any]]"
_NO_TABLES = _Pair(NoWeight(), NoWeight())


def _shared(ops: Operations, indices: Tensor, tables: _Pair, keys: tuple[Any, Any]) -> tuple[Any, Any]:
    """Queries turn by the tables of keys."""
    return keys


def _own_of_prompt(ops: Operations, indices: Tensor, tables: _Pair, keys: tuple[Any, Any]) -> tuple[Any, Any]:
    return ops["q_cos"](indices, tables.cos.tensor), ops["q_sin"](indices, tables.sin.tensor)


def _own_of_row(ops: Operations, row: Tensor, tables: _Pair, keys: tuple[Any, Any]) -> tuple[Any, Any]:
    cos = ops["q_cos"](ops["q_cos_rows"](row, tables.cos.tensor))
    sin = ops["q_sin"](ops["q_sin_rows"](row, tables.sin.tensor))
    return cos, sin


def temperatures(spec: TemperatureSpec, context: int) -> Float32:
    """1 + scale · ln(1 + floor((p + offset) / period)) at each position p."""
    steps = np.floor((np.arange(context, dtype=np.float32) + np.float32(spec.offset)) / np.float32(spec.period))
    by_position: Float32 = (1 + np.float32(spec.scale) * np.log1p(steps)).astype(np.float32)
    return by_position


def _angles(rope: RopeSpec | None, head_dim: int, context: int, reach: Reach | None = None) -> Float32:
    """[context, padded head dim] by the places of heads.head_places; 0 where nothing turns."""
    half = padded_head_dim(head_dim) // 2
    if rope is None:
        return np.zeros((context, 2 * half), np.float32)
    turning = angles(rope, rope.rotated(head_dim), context, reach)
    padded = np.pad(turning, [(0, 0), (0, half - turning.shape[1])])
    return np.concatenate([padded, padded], axis=-1)


def _factors(rope: RopeSpec | None, head_dim: int) -> Float32:
    """[padded head dim]: what the tables are multiplied by where heads turn, elsewhere 1."""
    half = padded_head_dim(head_dim) // 2
    if rope is None:
        return np.ones(2 * half, np.float32)
    turning = np.arange(half) < rope.rotated(head_dim) // 2
    factors = np.where(turning, np.float32(table_factor(rope)), np.float32(1))
    return np.concatenate([factors, factors])
