"""Rotary position embedding: tables of cosines and sines, looked up by position on the device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import ttnn

from ttt_attention.heads import pad_halves, padded_head_dim
from ttt_attention.spec import Llama3Scaling, RopeSpec
from ttt_core import SpecError, Tensor
from ttt_hw import board_of
from ttt_shard_dsl import TILE, memory_config
from ttt_weights import Float32, LazyWeight


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

    Shapes: prefill positions [1, S] → cos, sin [1, 1, S, padded head_dim]; decode positions [B] → [1, B, 1, padded head_dim],
    one user a core, as ttnn.experimental.rotary_embedding_hf wants them.
    """

    def __init__(self, rope: RopeSpec | None, *, head_dim: int, context: int, device: Any) -> None:
        if rope is None or rope.style != "half" or rope.rotated(head_dim) != head_dim:
            raise SpecError(
                f"Rotary turns whole heads whose element i is paired with i + {head_dim // 2}, the spec says {rope}. It has no "
                "tables for this so far."
            )
        if not isinstance(rope.scaling, Llama3Scaling | None):
            inverse_frequencies(rope, head_dim)  # refuses it
        self.rope = rope
        self.head_dim = head_dim
        self._board = board_of(device)
        width = padded_head_dim(head_dim)

        def cosines() -> Float32:
            return pad_halves(np.cos(_angles(rope, head_dim, context)))

        def sines() -> Float32:
            return pad_halves(np.sin(_angles(rope, head_dim, context)))

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
        self._prefill_memory = memory_config("1 s d in dram", shape=(1, TILE, width), device=self._board)
        self._users_memory: dict[int, Any] = {}

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        return (self.cos, self.sin)

    def prefill_tables(self, positions: Tensor, /) -> tuple[Tensor, Tensor]:
        indices = ttnn.typecast(positions, ttnn.uint32)
        cos, sin = (
            ttnn.embedding(indices, table.tensor, layout=ttnn.TILE_LAYOUT, memory_config=self._prefill_memory)
            for table in (self.cos, self.sin)
        )
        return ttnn.unsqueeze_to_4D(cos), ttnn.unsqueeze_to_4D(sin)

    def decode_tables(self, positions: Tensor, /) -> tuple[Tensor, Tensor]:
        users = positions.shape[-1]
        memory = self._one_user_a_core(users)
        indices = ttnn.reshape(ttnn.typecast(positions, ttnn.uint32), (1, users))
        cos, sin = (
            ttnn.interleaved_to_sharded(
                ttnn.transpose(
                    ttnn.unsqueeze_to_4D(ttnn.embedding(indices, table.tensor, layout=ttnn.TILE_LAYOUT)), 1, 2
                ),
                memory,
            )
            for table in (self.cos, self.sin)
        )
        return cos, sin

    def _one_user_a_core(self, users: int) -> Any:
        if users not in self._users_memory:
            shape = (1, users, TILE, padded_head_dim(self.head_dim))
            self._users_memory[users] = memory_config("1 b@core 32 d in l1", shape=shape, device=self._board)
        return self._users_memory[users]


def _angles(rope: RopeSpec, head_dim: int, context: int) -> Float32:
    half = np.outer(np.arange(context, dtype=np.float32), inverse_frequencies(rope, head_dim)).astype(np.float32)
    return np.concatenate([half, half], axis=-1)
