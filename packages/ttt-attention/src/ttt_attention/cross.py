"""Attention to another sequence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ttt_attention._keywords import CROSS, parts_of_cross_spec
from ttt_attention._weights import WeightMaker
from ttt_attention.cache import ContiguousKVCache
from ttt_attention.cross_requests import cross_attention_request
from ttt_attention.requests import PROFILES
from ttt_attention.spec import CrossAttentionSpec
from ttt_core import KVCache, Mode, ShapeError, Tensor
from ttt_hw import (
    Array,
    DType,
    HardwareMode,
    Operations,
    Overrides,
    PlannedBlock,
    Plans,
    Workload,
    board_of,
    chosen_precision,
    decoding,
    given_or_own,
    memory_workload,
    straight_line,
    upload,
)
from ttt_shard_dsl import TILE
from ttt_weights import LazyWeight, Loadable, Source, or_left_out

__all__ = ["MemoryCache", "MultiHeadCrossAttention"]

PROMPT, USERS = 128, 32  # of a typical run


@dataclass(frozen=True, slots=True)
class MemoryCache:
    """Keys and values of what each user's decoder attends to.

    Keys and values [users, kv_heads, M in whole tiles, padded head_dim] that a memory of M tokens has, for each user.

    `last` [users], int32, has the number of the memory's last token.
    """

    keys: Tensor
    values: Tensor
    last: Tensor
    tokens: int
    user: int = 0

    def for_user(self, user: int, /) -> MemoryCache:
        """The same memory, with prefill writing to that user's slot. Raises ShapeError for a slot that is not there."""
        users = self.keys.shape[0]
        if not 0 <= user < users:
            raise ShapeError(f"user {user} of a memory cache for {users} users; slots are 0 to {users - 1}.")
        return replace(self, user=user)


class MultiHeadCrossAttention(PlannedBlock, Loadable):
    """Attention to another sequence, as of a decoder to what an encoder made.

    softmax(q·kᵀ · scale)·v per head, q of x, k and v of a memory that an encoder made; every query sees all of it.

    Query heads may share key-value heads. The columns of a mesh split the heads and sum their outputs.
    Shapes: q [H·hd, D], k and v [KV·hd, D'], o [D, H·hd] as transformers stores them, biases [rows]; forwards as in
    ttt_core.CrossAttention. Made from a spec or its fields as keywords; without weights, for `load` to give them. `plans` of a
    layer; without, its own, with activations interleaved in DRAM in prefill and in L1 in decode.
    Errors: those of BaseAttention; prefill raises ShapeError for a memory that is not as long as the cache's.
    Source: arXiv 1706.03762 section 3.2.3; WhisperAttention, BartAttention of transformers.
    """

    profiles: ClassVar = PROFILES
    keywords: ClassVar = CROSS

    def __init__(
        self,
        spec: CrossAttentionSpec | None = None,
        *,
        q: Source | Array | None = None,
        k: Source | Array | None = None,
        v: Source | Array | None = None,
        o: Source | Array | None = None,
        q_bias: Source | Array | None = None,
        k_bias: Source | Array | None = None,
        v_bias: Source | Array | None = None,
        o_bias: Source | Array | None = None,
        device: Any,
        dtype: DType | None = None,
        cache_dtype: DType | None = None,
        hw_mode: HardwareMode = "balanced",
        plans: Plans | None = None,
        hw_config_overrides: Overrides | None = None,
        **fields: Any,
    ) -> None:
        self.spec = spec = self.keywords(spec, fields, block=type(self).__name__)
        weights = {"q": q, "k": k, "v": v, "o": o}
        biases = {"q_bias": q_bias, "k_bias": k_bias, "v_bias": v_bias, "o_bias": o_bias}
        given = or_left_out(type(self).__name__, {**weights, **biases}, optional=parts_of_cross_spec(spec))
        chosen = {"qkv_weights": dtype, "output_weights": dtype, "kv_cache": cache_dtype}
        precision = chosen_precision(PROFILES, hw_mode, chosen)
        self.cache_dtype = precision["kv_cache"]
        self._device = device
        context = -(-spec.max_memory // TILE) * TILE
        self._plans = given_or_own(
            plans,
            lambda work: cross_attention_request(spec, work, precision),
            board_of(device),
            typical=(
                (Workload(mode="decode", users=USERS, context=context), float(PROMPT)),
                (Workload(mode="prefill", tokens=PROMPT, context=context), float(USERS)),
            ),
            overrides=hw_config_overrides,
        )
        make = WeightMaker(spec.heads, given, self._plans, device=device)
        self.q = make.heads("q", spec.hidden_dim)
        self.k, self.v = (make.heads(name, spec.memory) for name in "kv")
        self.q_bias, self.k_bias, self.v_bias = (make.heads_bias(name) for name in "qkv")
        self.output, self.output_bias = make.output(), make.output_bias()

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        return tuple(value for value in vars(self).values() if isinstance(value, LazyWeight))

    def allocate_cache(self, *, users: int, context: int) -> MemoryCache:
        """A zeroed cache for memories of `context` tokens, in the dtype that this block was given."""
        rounded = -(-context // TILE) * TILE
        held = ContiguousKVCache.allocate(
            self.spec.heads, users=users, context=rounded, device=self._device, dtype=self.cache_dtype
        )
        last = upload(np.full(users, context - 1, np.int32), self._device, dtype="int32", layout="row_major")
        return MemoryCache(held.keys, held.values, last, context)

    def prefill_forward(self, x: Tensor, /, *, memory: Tensor, cache: KVCache | None) -> Tensor:
        keys, values, user = _held(cache, memory)
        return self._prefill(self._plans(memory_workload(x, memory)), x, memory, keys, values, user)

    def decode_forward(self, x: Tensor, /, *, cache: Any) -> Tensor:
        ops = self._plans(decoding(x.shape[-2], cache.keys.shape[-2]))
        return self._decode(ops, x, cache.keys, cache.values, cache.last)

    @straight_line
    def _prefill(
        self,
        ops: Operations,
        x: Tensor,
        memory: Tensor,
        keys: Tensor | None,
        values: Tensor | None,
        user: int | None,
    ) -> Tensor:
        q = _heads(ops, "q", x, self.q.tensor, self.q_bias.tensor)  # [1, H, S, hd]
        k = _heads(ops, "k", memory, self.k.tensor, self.k_bias.tensor)  # [1, KV, M, hd]
        v = _heads(ops, "v", memory, self.v.tensor, self.v_bias.tensor)
        if keys is not None:
            ops["k_fill"](keys, ops.optional("k_cast")(k), user)
            ops["v_fill"](values, ops.optional("v_cast")(v), user)
        return self._joined(ops, ops["attention"](q, k, v))

    @straight_line
    def _decode(self, ops: Operations, x: Tensor, keys: Tensor, values: Tensor, last: Tensor) -> Tensor:
        q = ops["q_by_user"](_heads(ops, "q", x, self.q.tensor, self.q_bias.tensor))  # [1, B, H, hd]
        heads = ops["attention"](q, keys, values, last)
        return self._joined(ops, ops["transpose_heads"](heads))

    def _workload(self, mode: Mode, rows: int, context: int) -> Workload:
        """`context` are the tokens of the memory, in a prompt too."""
        return replace(super()._workload(mode, rows, context), context=context)

    def _joined(self, ops: Operations, heads: Tensor) -> Tensor:
        """Heads [1, H, rows, hd] → [1, 1, rows, D]."""
        joined = ops["concat_heads"](heads)
        y = ops["output_matmul"](joined, self.output.tensor, self.output_bias.tensor)
        summed: Tensor = ops.optional("all_reduce")(y)
        return summed


def _heads(ops: Operations, name: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[1, 1, rows, D] → [1, heads, rows, hd]."""
    y = ops[f"{name}_matmul"](x, weight, bias)
    cut = ops[f"{name}_cut"](ops[f"{name}_columns"](y))  # [1, heads, hd, rows]
    heads: Tensor = ops[f"{name}_heads"](cut)
    return heads


def _held(cache: KVCache | None, memory: Tensor) -> tuple[Tensor | None, Tensor | None, int | None]:
    """Keys, values, and whose memory is read. Errors: ShapeError for a memory of another length than the cache holds."""
    if cache is None:
        return None, None, None
    tokens = memory.shape[-2]
    held = cache.tokens if isinstance(cache, MemoryCache) else cache.keys.shape[-2]
    if held != tokens:
        raise ShapeError(
            f"a memory of {tokens} tokens with a cache for memories of {held}: they must be as long. Allocate the cache with "
            f"context={tokens}."
        )
    return cache.keys, cache.values, cache.user
