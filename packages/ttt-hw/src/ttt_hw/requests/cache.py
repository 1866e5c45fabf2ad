"""Writing keys and values into a cache."""

from __future__ import annotations

from dataclasses import dataclass

from ttt_hw.requests.base import OpRequest, TensorType
from ttt_hw.transfer import DType

__all__ = ["CacheFillRequest", "CacheUpdateRequest"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheFillRequest(OpRequest):
    """A prompt's keys or values [1, KV, tokens, hd] into a user's slot of a cache [users, KV, context, hd], from row `start` on;
    inputs cache, x. With `block` the cache is paged, [users · context / block, KV, block, hd], and a third input is the page
    table of the tokens from `start` on, [1, (context − start) / block]."""

    users: int
    num_kv_heads: int
    tokens: int
    context: int
    head_dim: int
    dtype: DType = "bfloat8_b"
    start: int = 0
    block: int | None = None

    @property
    def operands(self) -> tuple[TensorType, ...]:
        x = TensorType(shape=(1, self.num_kv_heads, self.tokens, self.head_dim), dtype=self.dtype)
        if self.block is None:
            shape = (self.users, self.num_kv_heads, self.context, self.head_dim)
            return TensorType(shape=shape, dtype=self.dtype), x
        shape = (self.users * self.context // self.block, self.num_kv_heads, self.block, self.head_dim)
        pages = TensorType(shape=(1, (self.context - self.start) // self.block), dtype="int32", tiled=False)
        return TensorType(shape=shape, dtype=self.dtype), x, pages

    @property
    def results(self) -> dict[str, TensorType]:
        return {}


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheUpdateRequest(OpRequest):
    """A row a user [1, users, KV, hd] into a cache [users, KV, context, hd] at its position; inputs cache, x, positions. With
    `block` the cache is paged, [users · context / block, KV, block, hd], and a fourth input is the page table
    [users, context / block]."""

    users: int
    num_kv_heads: int
    context: int
    head_dim: int
    dtype: DType = "bfloat8_b"
    block: int | None = None

    @property
    def operands(self) -> tuple[TensorType, ...]:
        x = TensorType(shape=(1, self.users, self.num_kv_heads, self.head_dim))
        positions = TensorType(shape=(self.users,), dtype="int32", tiled=False)
        if self.block is None:
            shape = (self.users, self.num_kv_heads, self.context, self.head_dim)
            return TensorType(shape=shape, dtype=self.dtype), x, positions
        shape = (self.users * self.context // self.block, self.num_kv_heads, self.block, self.head_dim)
        pages = TensorType(shape=(self.users, self.context // self.block), dtype="int32", tiled=False)
        return TensorType(shape=shape, dtype=self.dtype), x, positions, pages

    @property
    def results(self) -> dict[str, TensorType]:
        return {}
