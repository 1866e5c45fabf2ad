"""Keys and values that decode remembers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ttt_attention.heads import padded_head_dim, split_heads
from ttt_attention.latent_spec import LatentAttentionSpec
from ttt_attention.spec import AttentionSpec
from ttt_core import ShapeError, Tensor
from ttt_hw import Board, DType, board_of, upload
from ttt_shard_dsl import TILE, Placement, parse

__all__ = ["MAX_USERS", "ContiguousKVCache", "cache_placement"]

MAX_USERS = 32  # one tile of rows: the decode kernels take a user a row


@dataclass(frozen=True, slots=True)
class ContiguousKVCache:
    """Keys and values of all users, each with room for the whole context.

    Keys and values [users, kv_heads, context, padded head_dim] of one layer, in DRAM; on a mesh, of each chip's heads.

    Of latent attention both are one tensor [users, 1, context, latent and turned key], which each chip has whole.
    `user` is the slot that a prefill fills, and `start` the tokens of its prompt that are there already. `slot` is then what
    the fused attention reads it by: a page table [1, 1] with the user, whose one page is the whole context.
    """

    keys: Tensor
    values: Tensor
    user: int = 0
    start: int = 0
    slot: Tensor | None = None

    @classmethod
    def allocate(
        cls,
        spec: AttentionSpec | LatentAttentionSpec,
        *,
        users: int,
        context: int,
        device: Any,
        dtype: DType = "bfloat8_b",
    ) -> ContiguousKVCache:
        """A zeroed cache. Raises ShapeError for more than 32 users, or a context that is no multiple of 32."""
        check_slots(users, context, spec.max_context)
        placement = cache_placement(spec, users=users, context=context, device=board_of(device), dtype=dtype)
        return cls(*zeros(spec, placement, device, dtype))

    def for_user(self, user: int) -> ContiguousKVCache:
        """The same memory, with prefill writing to that user's slot. Raises ShapeError for a slot that is not there."""
        users = self.keys.shape[0]
        if not 0 <= user < users:
            raise ShapeError(f"user {user} of a KV cache for {users} users; slots are 0 to {users - 1}.")
        return replace(self, user=user, start=0, slot=None)

    def after(self, start: int, /) -> ContiguousKVCache:
        """The same memory, with prefill going on after that many tokens. Raises ShapeError where it cannot go on."""
        check_start(start, TILE, self.keys.shape[-2])
        page = np.array([[self.user]], np.int32)
        slot = upload(page, self.keys.device(), dtype="int32", layout="row_major")  # type: ignore[attr-defined]
        return replace(self, start=start, slot=slot)


def check_slots(users: int, context: int, max_context: int) -> None:
    """Errors: ShapeError for users or a context that a cache cannot have."""
    if not 1 <= users <= MAX_USERS:
        raise ShapeError(
            f"a KV cache for {users} users; 1 to {MAX_USERS} are possible. Split them into several batches."
        )
    longest = -(-max_context // TILE) * TILE
    if context % TILE or context < TILE:
        nearest = max(TILE, -(-context // TILE) * TILE)
        raise ShapeError(f"a KV cache of context {context}; it must be a multiple of {TILE}. Nearest: {nearest}.")
    if context > longest:
        raise ShapeError(
            f"a KV cache of context {context}; the model's positions end at {max_context}. Nearest: {longest}."
        )


def zeros(
    spec: AttentionSpec | LatentAttentionSpec, placement: Placement, device: Any, dtype: DType
) -> tuple[Tensor, Tensor]:
    """Keys and values on every chip; of latent attention one tensor."""
    import ttnn  # takes seconds, and plans read this module for shapes alone

    memory = placement.to_memory_config()

    def made() -> Tensor:
        tensor: Tensor = ttnn.zeros(
            placement.chip_shape, getattr(ttnn, dtype), ttnn.TILE_LAYOUT, device, memory_config=memory
        )
        return tensor

    keys = made()
    return keys, keys if isinstance(spec, LatentAttentionSpec) else made()


def check_start(start: int, unit: int, context: int) -> None:
    """Errors: ShapeError where a prompt cannot go on after so many tokens."""
    if start % unit or not 0 <= start < context:
        raise ShapeError(
            f"a prompt that goes on after {start} tokens in a KV cache of context {context}: it must be a multiple of {unit} "
            f"below it. Nearest: {max(0, min(start, context - 1)) // unit * unit}."
        )


def cache_placement(
    spec: AttentionSpec | LatentAttentionSpec, *, users: int, context: int, device: Board, dtype: DType
) -> Placement:
    """Where the keys of one layer lie, and likewise the values: each chip has the heads that its queries read. Of latent
    attention both, the same on each chip."""
    if isinstance(spec, LatentAttentionSpec):
        return parse("b h s d in dram").place((users, 1, context, spec.row), device=device, dtype=dtype)
    chips = device.mesh[1]
    heads = chips * split_heads(spec, chips).num_kv_heads
    shape = (users, heads, context, padded_head_dim(spec.head_dim))
    return parse("b h@cols s d in dram").place(shape, device=device, dtype=dtype)
