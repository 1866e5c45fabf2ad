"""Keys and values in blocks that users are given as they need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ttt_attention.cache import cache_placement, check_start, zeros
from ttt_attention.latent_spec import LatentAttentionSpec
from ttt_attention.spec import AttentionSpec
from ttt_core import ShapeError, Tensor
from ttt_hw import DType, board_of, upload
from ttt_shard_dsl import TILE

__all__ = ["PagedKVCache", "page_table"]


@dataclass(frozen=True, slots=True)
class PagedKVCache:
    """Keys and values in blocks that users are given as they need them.

    Keys and values [blocks, kv_heads, block, padded head_dim] of one layer, in DRAM; on a mesh, of each chip's heads.

    Which blocks a user has says the page table that a forward is given: in decode [B, blocks of a user], in prefill
    [1, blocks of the user] (see `page_table`). `start`: tokens of the prompt that are there already. Source: arXiv 2309.06180.
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
        blocks: int,
        block: int = TILE,
        device: Any,
        dtype: DType = "bfloat8_b",
    ) -> PagedKVCache:
        """Zeroed blocks of `block` tokens each. Raises ShapeError for a block that is not whole tiles, or no blocks."""
        check_blocks(blocks, block)
        placement = cache_placement(spec, users=blocks, context=block, device=board_of(device), dtype=dtype)
        return cls(*zeros(spec, placement, device, dtype))

    def for_user(self, user: int, /) -> PagedKVCache:
        """The same blocks; whose prompt a prefill reads says its page table."""
        return replace(self, user=user, start=0)

    def after(self, start: int, /) -> PagedKVCache:
        """The same blocks, with prefill going on after that many tokens, a multiple of the block."""
        check_start(start, self.keys.shape[-2], self.keys.shape[0] * self.keys.shape[-2])
        return replace(self, start=start)


def check_blocks(blocks: int, block: int) -> None:
    """Errors: ShapeError for a block that is not whole tiles, or no blocks."""
    if block < TILE or block % TILE:
        nearest = max(TILE, -(-block // TILE) * TILE)
        raise ShapeError(f"a paged KV cache with blocks of {block} tokens; whole tiles are wanted. Nearest: {nearest}.")
    if blocks < 1:
        raise ShapeError(f"a paged KV cache of {blocks} blocks; at least one is wanted.")


def page_table(rows: Sequence[Sequence[int]], *, device: Any) -> Tensor:
    """The blocks of each user, in the order of their tokens, on the device; all rows have one length.

    Errors: ShapeError for rows of several lengths, or none.
    """
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or lengths == {0}:
        raise ShapeError(f"a page table with rows of {sorted(lengths)} blocks; pad them to one length, at least 1.")
    table: Tensor = upload(np.array(rows, np.int32), device, dtype="int32", layout="row_major")
    return table
