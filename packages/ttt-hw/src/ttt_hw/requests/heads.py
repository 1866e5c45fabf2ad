"""Heads cut, joined and turned."""

from __future__ import annotations

from dataclasses import dataclass

from ttt_core import Mode
from ttt_hw.requests.base import OpRequest, TensorType

__all__ = ["HeadConcatRequest", "HeadSplitRequest", "RotaryRequest"]


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadSplitRequest(OpRequest):
    """qkv [1, 1, rows, (H + 2·KV)·hd] → q, k, v: in prefill [1, H or KV, rows, hd], in decode [1, rows, H or KV, hd]."""

    mode: Mode
    rows: int
    num_heads: int
    num_kv_heads: int
    head_dim: int

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return (TensorType(shape=(1, 1, self.rows, (self.num_heads + 2 * self.num_kv_heads) * self.head_dim)),)

    @property
    def results(self) -> dict[str, TensorType]:
        def heads(count: int) -> TensorType:
            middle = (count, self.rows) if self.mode == "prefill" else (self.rows, count)
            return TensorType(shape=(1, *middle, self.head_dim))

        counts = {"q": self.num_heads, "k": self.num_kv_heads, "v": self.num_kv_heads}
        return {f"{self.name}.{part}": heads(count) for part, count in counts.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadConcatRequest(OpRequest):
    """Heads [1, H, rows, hd] → [1, 1, rows, H·hd]."""

    rows: int
    num_heads: int
    head_dim: int

    @property
    def operands(self) -> tuple[TensorType, ...]:
        return (TensorType(shape=(1, self.num_heads, self.rows, self.head_dim)),)

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=(1, 1, self.rows, self.num_heads * self.head_dim))}


@dataclass(frozen=True, kw_only=True, slots=True)
class RotaryRequest(OpRequest):
    """Heads turned by their positions; inputs x, cos, sin.

    Prefill: x [1, heads, rows, hd], tables [1, 1, rows, hd]. Decode: x [1, rows, heads, hd], tables [1, rows, 1, hd].
    """

    mode: Mode
    rows: int
    heads: int
    head_dim: int

    @property
    def operands(self) -> tuple[TensorType, ...]:
        if self.mode == "prefill":
            x, table = (1, self.heads, self.rows, self.head_dim), (1, 1, self.rows, self.head_dim)
        else:
            x, table = (1, self.rows, self.heads, self.head_dim), (1, self.rows, 1, self.head_dim)
        return TensorType(shape=x), TensorType(shape=table), TensorType(shape=table)

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: self.operands[0]}
