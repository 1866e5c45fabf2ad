"""How heads lie in a tensor whose head dim must be whole tiles.

The rotary kernel takes a head of one tile, or of an even number of tiles, and turns element i with i + half. So elements that
turn together are placed so, with zeros between; zeros add nothing to scores or outputs. One map serves q, k, v and the output
weight.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ttt_attention.spec import AttentionSpec, RopeSpec
from ttt_core import PlacementError
from ttt_shard_dsl import TILE
from ttt_weights import Float32

__all__ = ["padded_head_dim"]


def padded_head_dim(head_dim: int) -> int:
    """32 for up to one tile, else the next multiple of 64."""
    return TILE if head_dim <= TILE else -(-head_dim // (2 * TILE)) * 2 * TILE


def head_places(head_dim: int, rope: RopeSpec | None) -> tuple[int, ...]:
    """Where element i of a head lies in the padded head, so that its partner in the rotation lies half of that away.

    Elements that do not turn fill places that are left, from the first on; where nothing turns cosine is 1 and sine 0.
    """
    half = padded_head_dim(head_dim) // 2
    rotated = head_dim if rope is None else rope.rotated(head_dim)
    if rope is not None and rope.style == "interleaved":
        turning = [i // 2 + half * (i % 2) for i in range(rotated)]
    else:
        turning = [i % (rotated // 2) + half * (i // (rotated // 2)) for i in range(rotated)]
    free = sorted(set(range(2 * half)) - set(turning))
    return (*turning, *free[: head_dim - rotated])


def pad_heads(values: Float32, rope: RopeSpec | None) -> Float32:
    """[..., head_dim] → [..., padded_head_dim], each element in its place and zeros elsewhere."""
    *leading, head_dim = values.shape
    places = head_places(head_dim, rope)
    if places == tuple(range(padded_head_dim(head_dim))):
        return values
    padded = np.zeros_like(values, shape=(*leading, padded_head_dim(head_dim)))
    padded[..., list(places)] = values
    return padded


def pad_halves(values: Float32) -> Float32:
    """As pad_heads for heads that turn as a whole, element i with i + half: each half is followed by its own zeros."""
    return pad_heads(values, None)


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
    parts = [heads_by_chip(each, spec, chips) for each in (q, k, v)]
    return np.concatenate([part[chip] for chip in range(chips) for part in parts], axis=-1)


def heads_by_chip(weight: Float32, spec: AttentionSpec, chips: int) -> list[Float32]:
    """[heads · head_dim, D] of queries, or of keys or values, → of each chip [D, its heads · padded head dim]."""
    heads = weight.reshape(-1, spec.head_dim, weight.shape[-1])
    local = max(1, len(heads) // chips)
    parts = []
    for chip in range(chips):
        first = chip * len(heads) // chips
        packed = pad_heads(np.moveaxis(heads[first : first + local], -1, 0), spec.rope)  # [D, heads, padded head dim]
        parts.append(packed.reshape(len(packed), -1))
    return parts


def pack_output(weight: Float32, spec: AttentionSpec) -> Float32:
    """The output weight [D, heads · head_dim] → [heads · padded_head_dim, D]."""
    heads = weight.reshape(len(weight), -1, spec.head_dim)
    return pad_heads(heads, spec.rope).reshape(len(weight), -1).T
