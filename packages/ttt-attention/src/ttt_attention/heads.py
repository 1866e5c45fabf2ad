"""How heads lie in a tensor whose head dim must be whole tiles.

The rotary kernel takes a head of one tile, or of an even number of tiles, and turns element i with i + half. So each half of
a head is padded with zeros on its own; zeros add nothing to scores or outputs. The map serves q, k, v and the output weight.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ttt_attention.spec import AttentionSpec
from ttt_core import PlacementError
from ttt_shard_dsl import TILE
from ttt_weights import Float32


def padded_head_dim(head_dim: int) -> int:
    """32 for up to one tile, else the next multiple of 64."""
    return TILE if head_dim <= TILE else -(-head_dim // (2 * TILE)) * 2 * TILE


def pad_halves(values: Float32) -> Float32:
    """[..., head_dim] → [..., padded_head_dim], each half followed by its own zeros."""
    *leading, head_dim = values.shape
    half, extra = head_dim // 2, (padded_head_dim(head_dim) - head_dim) // 2
    halves = values.reshape(*leading, 2, half)
    return np.pad(halves, [(0, 0)] * (len(leading) + 1) + [(0, extra)]).reshape(*leading, head_dim + 2 * extra)


class LocalHeads(NamedTuple):
    """What one chip of several has: its query heads, and the key-value heads that these read."""

    num_heads: int
    num_kv_heads: int


def split_heads(spec: AttentionSpec, chips: int) -> LocalHeads:
    """The heads of each chip. Fewer key-value heads than chips are held by several chips each.

    Errors: PlacementError where heads do not split evenly, with the nearest number of chips over which they do.
    """
    if not _splits(spec, chips):
        nearest = max(degree for degree in range(1, chips) if _splits(spec, degree))
        raise PlacementError(
            f"{spec.num_heads} query heads and {spec.num_kv_heads} key-value heads do not split over {chips} chips: query "
            "heads must be a multiple of the chips, key-value heads a multiple or a divisor. Nearest legal degree: "
            f"{nearest}; open a mesh with {nearest} columns (--mesh), or a smaller board."
        )
    return LocalHeads(spec.num_heads // chips, max(1, spec.num_kv_heads // chips))


def _splits(spec: AttentionSpec, chips: int) -> bool:
    return spec.num_heads % chips == 0 and (spec.num_kv_heads % chips == 0 or chips % spec.num_kv_heads == 0)


def pack_qkv(q: Float32, k: Float32, v: Float32, *, spec: AttentionSpec, chips: int) -> Float32:
    """Weights [heads · head_dim, D], or biases with D = 1, → [D, chips · (H + 2·KV) · padded head dim]: q | k | v of each chip.

    H and KV are a chip's own head counts.
    """
    local = split_heads(spec, chips)
    columns = []
    for chip in range(chips):
        first = chip * spec.num_kv_heads // chips
        for weight, start, count in (
            (q, chip * local.num_heads, local.num_heads),
            (k, first, local.num_kv_heads),
            (v, first, local.num_kv_heads),
        ):
            heads = weight.reshape(-1, spec.head_dim, weight.shape[-1])[start : start + count]
            packed = pad_halves(np.moveaxis(heads, -1, 0))  # [D, heads, padded head dim]
            columns.append(packed.reshape(len(packed), -1))
    return np.concatenate(columns, axis=-1)


def pack_output(weight: Float32, head_dim: int) -> Float32:
    """The output weight [D, heads · head_dim] → [heads · padded_head_dim, D]."""
    return pad_halves(weight.reshape(len(weight), -1, head_dim)).reshape(len(weight), -1).T
