"""How far each pair of a head turns at each position.

Letters: d rotated elements, C positions. All in float32, operation by operation as transformers computes it: a frequency that is
off by one unit in the last place turns position 131,072 by 0.008 too far.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from ttt_attention.scalings import (
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    ProportionalScaling,
    YarnScaling,
)
from ttt_attention.spec import RopeSpec
from ttt_weights import Float32

Reach = Literal["short", "long"]
"""Whether a sequence ends within the context that the model was trained with, or beyond."""


def inverse_frequencies(rope: RopeSpec, head_dim: int, reach: Reach = "short") -> Float32:
    """theta^(−2i/head_dim) for i < head_dim/2, scaled as the spec says; for dynamic scaling those of the original context.

    Source: the _compute_…_parameters of transformers' modeling_rope_utils.
    """
    frequencies = np.float32(1) / _powers(rope.theta, head_dim)
    match rope.scaling:
        case LinearScaling(factor=factor):
            return (frequencies / np.float32(factor)).astype(np.float32)
        case Llama3Scaling() as scaling:
            return _llama3(frequencies, scaling)
        case YarnScaling() as scaling:
            return _yarn(rope.theta, head_dim, scaling)
        case LongRopeScaling() as scaling:
            factors = scaling.short_factors if reach == "short" else scaling.long_factors
            divisors = np.array(factors, np.float32) * _powers(rope.theta, head_dim)
            return (np.float32(1) / divisors).astype(np.float32)
        case ProportionalScaling(share=share, factor=factor):
            turning = int(share * head_dim // 2)
            return np.where(np.arange(head_dim // 2) < turning, frequencies / np.float32(factor), np.float32(0))
    return frequencies


def table_factor(rope: RopeSpec) -> float:
    """What cosines and sines are multiplied by."""
    match rope.scaling:
        case YarnScaling() as scaling:
            return scaling.table_factor
        case LongRopeScaling() as scaling:
            return scaling.attention_factor
    return 1.0


def original_context(rope: RopeSpec) -> int | None:
    """How many tokens a prompt may have before all of it turns otherwise; None where that never happens."""
    return rope.scaling.original_context if isinstance(rope.scaling, LongRopeScaling) else None


def angles(rope: RopeSpec, head_dim: int, context: int, reach: Reach | None = None) -> Float32:
    """[C, d/2] in radians; `reach` None: each position as the last of a sequence that ends there."""
    positions = np.arange(context, dtype=np.float32)
    if reach is None and isinstance(rope.scaling, LongRopeScaling):
        near, far = (angles(rope, head_dim, context, each) for each in ("short", "long"))
        return np.where(positions[:, None] < rope.scaling.original_context, near, far)
    if isinstance(rope.scaling, DynamicScaling):
        return positions[:, None] * _dynamic(rope.theta, head_dim, context, rope.scaling)
    return np.outer(positions, inverse_frequencies(rope, head_dim, reach or "short")).astype(np.float32)


def _powers(theta: float, head_dim: int) -> Float32:
    """theta^(2i/d), correctly rounded as torch's are: NumPy's float32 ones differ by 2 units."""
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    return np.power(np.float64(theta), exponents.astype(np.float64)).astype(np.float32)


def _llama3(frequencies: Float32, s: Llama3Scaling) -> Float32:
    """With wavelength w = 2π/f: f/factor where w > original/low_freq_factor, f where w < original/high_freq_factor, between them
    (1 − s)·f/factor + s·f with s = (original/w − low) / (high − low)."""
    one = np.float32(1)  # torch divides a number by a tensor as number · (1 / tensor)
    wavelengths = np.float32(2 * math.pi) * (one / frequencies)
    turns = np.float32(s.original_context) * (one / wavelengths)
    smooth = (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor)
    scaled = np.where(wavelengths > s.original_context / s.low_freq_factor, frequencies / s.factor, frequencies)
    blended = (1 - smooth) * scaled / s.factor + smooth * scaled
    between = (wavelengths <= s.original_context / s.low_freq_factor) & (
        wavelengths >= s.original_context / s.high_freq_factor
    )
    return np.where(between, blended, scaled).astype(np.float32)


def _yarn(theta: float, head_dim: int, s: YarnScaling) -> Float32:
    def pair_of(turns: float) -> float:
        return head_dim * math.log(s.original_context / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair_of(s.beta_fast), pair_of(s.beta_slow)
    if s.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    width = high - low if high != low else 0.001
    ramp = np.clip((np.arange(head_dim // 2, dtype=np.float32) - np.float32(low)) / np.float32(width), 0, 1)
    kept = np.float32(1) - ramp.astype(np.float32)
    powers, one = _powers(theta, head_dim), np.float32(1)
    stretched = one / (np.float32(s.factor) * powers)
    return (stretched * (one - kept) + one / powers * kept).astype(np.float32)


def _dynamic(theta: float, head_dim: int, context: int, s: DynamicScaling) -> Float32:
    """[C, d/2]: the frequencies of a sequence that ends at each position."""
    lengths = np.maximum(np.arange(1, context + 1, dtype=np.float64), s.original_context)
    stretched = theta * (s.factor * lengths / s.original_context - (s.factor - 1)) ** (head_dim / (head_dim - 2))
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    powers = np.power(stretched[:, None], exponents[None].astype(np.float64)).astype(np.float32)
    return (np.float32(1) / powers).astype(np.float32)
