"""Rotary position embedding: tables of cosines and sines, looked up by position on the device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ttt_attention.heads import padded_head_dim
from ttt_attention.spec import Llama3Scaling, RopeSpec
from ttt_core import SpecError, Tensor
from ttt_hw import Operations
from ttt_weights import Float32, LazyWeight

__all__ = ["Rotary", "inverse_frequencies"]


def inverse_frequencies(rope: RopeSpec, head_dim: int) -> Float32:
    """theta^(−2i/head_dim) for i < head_dim/2, scaled as the spec says; float32 as transformers computes it.

    llama3 scaling, with wavelength w = 2π/f: f/factor where w > original/low_freq_factor, f where w < original/high_freq_factor,
    between them (1 − s)·f/factor + s·f with s = (original/w − low) / (high − low).
    Source: _compute_llama3_parameters of transformers' modeling_rope_utils.
    """
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    # Correctly rounded powers, as torch's are: NumPy's float32 ones differ by 2 units, 0.016 radians at position 131,072.
    powers = np.power(np.float64(rope.theta), exponents.astype(np.float64)).astype(np.float32)
    frequencies = np.float32(1) / powers
    if rope.scaling is None:
        return frequencies
    s = rope.scaling
    if not isinstance(s, Llama3Scaling):
        raise SpecError(f"Rotary has no formula for {type(s).__name__} so far; it has one for Llama3Scaling.")
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


class Rotary:
    """Cosines and sines for positions 0 … context − 1, shared by the layers of a model.

    Shapes: prefill positions [1, S] → cos, sin [1, 1, S, padded head_dim]; decode positions [B] → [1, B, 1, padded head_dim].
    `ops` are the operations of the attention whose heads turn.
    """

    def __init__(self, rope: RopeSpec | None, *, head_dim: int, context: int, device: Any) -> None:
        if rope is None:
            raise SpecError("Rotary has tables of a rotation, the spec says rope=None. It has none for this so far.")
        inverse_frequencies(rope, head_dim)  # refuses a scaling without a formula
        self.rope = rope
        self.head_dim = head_dim
        width = padded_head_dim(head_dim)

        def cosines() -> Float32:
            return np.cos(_angles(rope, head_dim, context))

        def sines() -> Float32:
            return np.sin(_angles(rope, head_dim, context))

        self.cos, self.sin = (
            LazyWeight(
                [],
                table,
                shape=(context, width),
                dtype="bfloat16",
                device=device,
                layout="row_major",
                placement="c d in dram",
            )
            for table in (cosines, sines)
        )

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        return (self.cos, self.sin)

    def prefill_tables(self, ops: Operations, positions: Tensor, /) -> tuple[Tensor, Tensor]:
        indices = ops["rotary_indices"](positions)  # [1, S] uint32
        cos = ops["cos"](indices, self.cos.tensor)
        sin = ops["sin"](indices, self.sin.tensor)
        return cos, sin

    def decode_tables(self, ops: Operations, positions: Tensor, /) -> tuple[Tensor, Tensor]:
        return self.row_tables(ops, self.decode_row(ops, positions))

    def decode_row(self, ops: Operations, positions: Tensor, /) -> Tensor:
        """Positions [B] → indices [1, B], which other tables are looked up with too."""
        indices = ops["rotary_indices"](positions)  # [B] uint32
        row: Tensor = ops["rotary_index_row"](indices)
        return row

    def row_tables(self, ops: Operations, row: Tensor, /) -> tuple[Tensor, Tensor]:
        cos = ops["cos"](ops["cos_rows"](row, self.cos.tensor))  # [1, 1, B, hd] → [1, B, 1, hd]
        sin = ops["sin"](ops["sin_rows"](row, self.sin.tensor))
        return cos, sin


def _angles(rope: RopeSpec, head_dim: int, context: int) -> Float32:
    """[context, padded head dim] by the places of heads.head_places; 0 where nothing turns."""
    frequencies = inverse_frequencies(rope, rope.rotated(head_dim))
    turning = np.outer(np.arange(context, dtype=np.float32), frequencies).astype(np.float32)
    half = np.pad(turning, [(0, 0), (0, padded_head_dim(head_dim) // 2 - len(frequencies))])
    return np.concatenate([half, half], axis=-1)
