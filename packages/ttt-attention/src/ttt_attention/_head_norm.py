"""Normalisation of query and key heads."""

from __future__ import annotations

from typing import Any

import numpy as np

from ttt_attention.heads import pad_heads, padded_head_dim
from ttt_attention.spec import AttentionSpec
from ttt_hw import Array, DType
from ttt_weights import LazyWeight, Source, as_source


def head_norm_weight(
    weight: Source | Array, *, spec: AttentionSpec, name: str, device: Any, dtype: DType, placement: str
) -> LazyWeight:
    """The weight of y = x / sqrt(mean(x²) + eps) · weight over the head dim, for heads padded with zeros.

    The kernel's mean is over the padded head dim P instead of hd, so eps and weight are scaled to make up for it:
    x / sqrt(Σx²/P + eps·hd/P) · weight·sqrt(hd/P) is the same number; the list of operations has the scaled eps.
    Shapes: weight [head_dim] → [1, 1, 1, padded head dim].
    Source: arXiv 2302.05442 section 3 (query-key normalisation); Qwen3RMSNorm of transformers.
    """
    head_dim, width = spec.head_dim, padded_head_dim(spec.head_dim)
    factor = np.float32((head_dim / width) ** 0.5)
    return LazyWeight(
        [as_source(weight, shape=(head_dim,), name=name)],
        lambda w: (pad_heads(w, spec.rope) * factor).reshape(1, 1, 1, width),
        shape=(1, 1, 1, width),
        dtype=dtype,
        device=device,
        placement=placement,
    )
