"""How heads lie in a tensor whose head dim must be whole tiles.

The rotary kernel takes a head of one tile, or of an even number of tiles, and turns element i with i + half. So each half of
a head is padded with zeros on its own; zeros add nothing to scores or outputs. The map serves q, k, v and the output weight.
"""

from __future__ import annotations

import numpy as np

from ttt_weights import Float32

TILE = 32


def padded_head_dim(head_dim: int) -> int:
    """32 for up to one tile, else the next multiple of 64."""
    return TILE if head_dim <= TILE else -(-head_dim // (2 * TILE)) * 2 * TILE


def pad_halves(values: Float32) -> Float32:
    """[..., head_dim] → [..., padded_head_dim], each half followed by its own zeros."""
    *leading, head_dim = values.shape
    half, extra = head_dim // 2, (padded_head_dim(head_dim) - head_dim) // 2
    halves = values.reshape(*leading, 2, half)
    return np.pad(halves, [(0, 0)] * (len(leading) + 1) + [(0, extra)]).reshape(*leading, head_dim + 2 * extra)


def pack_projection(weight: Float32, head_dim: int) -> Float32:
    """A q, k or v weight [heads · head_dim, D] → [D, heads · padded_head_dim]."""
    columns = weight.T  # [D, heads · head_dim]
    return pad_halves(columns.reshape(len(columns), -1, head_dim)).reshape(len(columns), -1)


def pack_output(weight: Float32, head_dim: int) -> Float32:
    """The output weight [D, heads · head_dim] → [heads · padded_head_dim, D]."""
    return pad_halves(weight.reshape(len(weight), -1, head_dim)).reshape(len(weight), -1).T
