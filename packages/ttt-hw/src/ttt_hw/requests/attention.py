"""Attention in one operation, of a prompt and of a step."""

from __future__ import annotations

from dataclasses import dataclass

from ttt_hw.compute import ComputeKernel
from ttt_hw.requests.base import OpRequest, TensorType
from ttt_hw.transfer import DType
from ttt_shard_dsl import TILE

__all__ = ["DecodeAttentionRequest", "PrefillAttentionRequest"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PrefillAttentionRequest(OpRequest):
    """softmax(scale · q·kᵀ + causal mask)·v of one prompt: q [1, H, tokens, hd], k and v [1, KV, tokens, hd] → q's shape.

    Without `causal` each query sees all keys, of which there may be another number, `keys`. `window`: tokens that a query sees.
    `start`: tokens that are in a cache already; k, v are then that cache, [blocks, KV, block, hd], and a fourth input is the
    page table [1, blocks of the user]; a cache that is not paged has a block of its whole context for each of `users`.
    `sinks`: a last input [1, H, 1, 1] has a score of each head, divided by the scale, that takes part in the softmax.
    `value_dim`: there is no v, the values are the keys' first so many columns, and the result is as wide [arXiv 2405.04434].
    """

    tokens: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    window: int | None = None
    kv_dtype: DType = "bfloat16"
    start: int | None = None
    block: int = 32
    blocks: int = 0
    users: int = 1
    causal: bool = True
    keys: int | None = None
    sinks: bool = False
    value_dim: int | None = None
    scale: float | None = None
    """None: 1 / √head_dim."""
    kernel: ComputeKernel = ComputeKernel(fidelity="hifi4")

    @property
    def num_keys(self) -> int:
        """Of a prompt from its start."""
        return self.tokens if self.keys is None else self.keys

    @property
    def operands(self) -> tuple[TensorType, ...]:
        q = TensorType(shape=(1, self.num_heads, self.tokens, self.head_dim))
        sinks = (TensorType(shape=(1, self.num_heads, 1, 1)),) * self.sinks
        if self.start is None:
            kv = TensorType(shape=(1, self.num_kv_heads, self.num_keys, self.head_dim), dtype=self.kv_dtype)
            return q, *_keys_and_values(kv, self.value_dim), *sinks
        shape = (self.users * self.blocks, self.num_kv_heads, self.block, self.head_dim)
        read = _keys_and_values(TensorType(shape=shape, dtype=self.kv_dtype), self.value_dim)
        return q, *read, TensorType(shape=(1, self.blocks), dtype="int32", tiled=False), *sinks

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=(1, self.num_heads, self.tokens, self.value_dim or self.head_dim))}


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeAttentionRequest(OpRequest):
    """One query a user against its cache: q [1, users, H, hd], keys and values [users, KV, context, hd] → [1, users, H, hd].

    Inputs q, keys, values, positions [users]; with `block`, the cache is paged: [users · context / block, KV, block, hd], and
    a fifth input is the page table [users, context / block]. `sinks`: a last input [H, 32] has in its first column a score of
    each head, divided by the scale, that takes part in the softmax. `value_dim` as in PrefillAttentionRequest: there are no
    values beside the keys.
    """

    users: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    context: int
    window: int | None = None
    kv_dtype: DType = "bfloat8_b"
    block: int | None = None
    sinks: bool = False
    value_dim: int | None = None
    scale: float | None = None
    """None: 1 / √head_dim."""
    kernel: ComputeKernel = ComputeKernel(fidelity="hifi2")

    @property
    def operands(self) -> tuple[TensorType, ...]:
        q = TensorType(shape=(1, self.users, self.num_heads, self.head_dim))
        positions = TensorType(shape=(self.users,), dtype="int32", tiled=False)
        if self.block is None:
            shape = (self.users, self.num_kv_heads, self.context, self.head_dim)
        else:
            shape = (self.users * self.context // self.block, self.num_kv_heads, self.block, self.head_dim)
        kv = _keys_and_values(TensorType(shape=shape, dtype=self.kv_dtype), self.value_dim)
        sinks = (TensorType(shape=(self.num_heads, TILE)),) * self.sinks
        if self.block is None:
            return q, *kv, positions, *sinks
        pages = TensorType(shape=(self.users, self.context // self.block), dtype="int32", tiled=False)
        return q, *kv, positions, pages, *sinks

    @property
    def results(self) -> dict[str, TensorType]:
        return {self.name: TensorType(shape=(1, self.users, self.num_heads, self.value_dim or self.head_dim))}


def _keys_and_values(kv: TensorType, value_dim: int | None) -> tuple[TensorType, ...]:
    return (kv, kv) if value_dim is None else (kv,)
