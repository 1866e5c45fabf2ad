"""What packages know of one another.

A published Protocol never grows: a new ability is a new Protocol. Tensor arguments are positional-only, so implementers
name them as they like. Shapes use B users, S tokens, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

__all__ = [
    "Attention",
    "Cached",
    "CausalLM",
    "CrossAttention",
    "Embedding",
    "FeedForward",
    "Head",
    "KVCache",
    "Layer",
    "LogitRows",
    "Mode",
    "Norm",
    "Paged",
    "ResumableCache",
    "Template",
    "Tensor",
    "Weight",
    "Weighted",
]

Mode = Literal["prefill", "decode"]
"""Whole prompts, or one token of each user."""

LogitRows = Literal["last", "all"]
"""Of which tokens of a prompt the logits are computed."""


@runtime_checkable
class Tensor(Protocol):
    """A tensor on a device or host; `ttnn.Tensor` satisfies it."""

    @property
    def shape(self) -> Sequence[int]: ...
    @property
    def dtype(self) -> Any: ...  # a DataType of ttnn, which this package runs without
    def memory_config(self) -> Any: ...  # a MemoryConfig of ttnn; an array has none, so it does not pass for a tensor


@runtime_checkable
class KVCache(Protocol):
    """Keys and values of one layer, [users, kv_heads, context, head_dim]; `user` is the slot that a prefill fills.

    `for_user` is the same memory with prefill writing to another slot.
    """

    @property
    def keys(self) -> Tensor: ...
    @property
    def values(self) -> Tensor: ...
    @property
    def user(self) -> int: ...
    def for_user(self, user: int, /) -> KVCache: ...


@runtime_checkable
class ResumableCache(Protocol):
    """A KVCache whose prompts may be read piece by piece: `after(start)` is the same memory, with prefill going on after that
    many tokens, and `start` says how many. `slot`: the page table of a cache without pages, [1, 1] with the user.
    """

    @property
    def start(self) -> int: ...
    @property
    def slot(self) -> Tensor | None: ...
    def after(self, start: int, /) -> KVCache: ...


@runtime_checkable
class Paged(Protocol):
    """Something whose forwards take a page table, and that makes a cache of `blocks` blocks of `block` tokens each.

    Keys and values are [blocks, kv_heads, block, head_dim]. The page table, int32, has the blocks of each user in the order of
    their tokens: in decode [B, blocks of a user], in prefill [1, blocks of the user].
    """

    def allocate_paged_cache(self, *, blocks: int, block: int) -> KVCache: ...


@runtime_checkable
class Cached(Protocol):
    """Something with a KV cache of its own: an attention, a layer."""

    def allocate_cache(self, *, users: int, context: int) -> KVCache: ...


@runtime_checkable
class Weight(Protocol):
    """A weight that reaches the device when `tensor` is first read."""

    @property
    def tensor(self) -> Tensor: ...


@runtime_checkable
class Weighted(Protocol):
    """Something with weights, each once."""

    @property
    def weights(self) -> Sequence[Weight]: ...


@runtime_checkable
class Template(Protocol):
    """Something that a composition can have several of: `another` computes the same, with weights of its own to load."""

    def another(self) -> Any: ...


@runtime_checkable
class Norm(Protocol):
    """x [1, 1, rows, D] → the same shape."""

    def prefill_forward(self, x: Tensor, /) -> Tensor: ...
    def decode_forward(self, x: Tensor, /) -> Tensor: ...


@runtime_checkable
class FeedForward(Protocol):
    """x [1, 1, rows, D] → the same shape."""

    def prefill_forward(self, x: Tensor, /) -> Tensor: ...
    def decode_forward(self, x: Tensor, /) -> Tensor: ...


@runtime_checkable
class Attention(Protocol):
    """Prefill: x [1, 1, S, D] of one user, positions [1, S]. Decode: x [1, 1, B, D], positions [B]. Both return x's shape.

    Positions are int32 indices; those of a prefill count from 0. Prefill writes the user's keys and values into `cache` when
    one is given; decode writes each user's row at its position, then attends to everything up to and including it.
    """

    def prefill_forward(
        self, x: Tensor, /, *, cache: KVCache | None, positions: Tensor, page_table: Tensor | None = None
    ) -> Tensor: ...
    def decode_forward(
        self, x: Tensor, /, *, cache: KVCache, positions: Tensor, page_table: Tensor | None = None
    ) -> Tensor: ...


@runtime_checkable
class CrossAttention(Protocol):
    """Attention to another sequence: `memory` [1, 1, M, D'], the hidden states that an encoder made of it.

    Prefill: x [1, 1, S, D] of one user; writes the memory's keys and values into the user's slot of `cache` when one is given.
    Decode: x [1, 1, B, D]; each user attends to all that the cache holds of its memory. Both return x's shape.
    """

    def prefill_forward(self, x: Tensor, /, *, memory: Tensor, cache: KVCache | None) -> Tensor: ...
    def decode_forward(self, x: Tensor, /, *, cache: KVCache) -> Tensor: ...


@runtime_checkable
class Layer(Protocol):
    """One transformer layer; the same contract as `Attention`."""

    def prefill_forward(
        self, x: Tensor, /, *, cache: KVCache | None, positions: Tensor, page_table: Tensor | None = None
    ) -> Tensor: ...
    def decode_forward(
        self, x: Tensor, /, *, cache: KVCache, positions: Tensor, page_table: Tensor | None = None
    ) -> Tensor: ...


@runtime_checkable
class Embedding(Protocol):
    """Token ids uint32, [1, S] or [1, B] → [1, 1, S or B, D]."""

    def prefill_forward(self, ids: Tensor, /) -> Tensor: ...
    def decode_forward(self, ids: Tensor, /) -> Tensor: ...


@runtime_checkable
class Head(Protocol):
    """x [1, 1, rows, D] → logits [1, 1, rows, V] over the logical vocabulary."""

    def prefill_forward(self, x: Tensor, /) -> Tensor: ...
    def decode_forward(self, x: Tensor, /) -> Tensor: ...


@runtime_checkable
class CausalLM(Protocol):
    """A language model that a generation strategy can drive.

    `prefill_forward(ids [B, S])` → [1, 1, B, V] for the last token of each prompt, or [B, 1, S, V] for all.
    `lengths` are the prompts' own lengths where `ids` is padded on the right; `cache` has a slot for each prompt.
    `decode_forward(ids [B])` → [1, 1, B, V].
    """

    @property
    def vocab_size(self) -> int: ...
    @property
    def max_context(self) -> int: ...
    def allocate_cache(self, *, users: int, context: int) -> Sequence[KVCache]: ...
    def prefill_forward(
        self,
        ids: object,
        /,
        *,
        cache: Sequence[KVCache] | None = None,
        lengths: Sequence[int] | None = None,
        logits: LogitRows = "last",
    ) -> Tensor: ...
    def decode_forward(self, ids: object, /, *, cache: Sequence[KVCache], positions: object) -> Tensor: ...
