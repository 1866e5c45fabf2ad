"""Encoder layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttt_core import Attention, FeedForward, Norm, Tensor, Weight
from ttt_hw import ComposedBlock, HardwareMode, Overrides, Plans
from ttt_patterns.decoder import DecoderLayer
from ttt_patterns.spec import Residual

__all__ = ["EncoderLayer"]


class EncoderLayer(ComposedBlock):
    """A layer that sees a whole sequence at once and keeps no cache.

    What DecoderLayer computes, with an attention that is not causal, by post_norm unless `residual_pattern` says otherwise.

    Shapes: x [1, 1, S, D] of one sequence → the same; positions [1, S].
    Errors: those of DecoderLayer.
    Source: arXiv 1706.03762 section 3.1 (post_norm); BertLayer, WhisperEncoderLayer (pre_norm) of transformers.
    """

    def __init__(
        self,
        *,
        attention: Attention,
        ffn: FeedForward,
        norm: Norm | None = None,
        attention_norm: Norm | None = None,
        ffn_norm: Norm | None = None,
        attention_output_norm: Norm | None = None,
        ffn_output_norm: Norm | None = None,
        residual_pattern: Residual = "post_norm",
        multiplier: float = 1.0,
        device: Any = None,
        hw_mode: HardwareMode | None = None,
        plans: Plans | None = None,
        hw_config_overrides: Overrides | None = None,
    ) -> None:
        self.layer = DecoderLayer(
            attention=attention,
            ffn=ffn,
            norm=norm,
            attention_norm=attention_norm,
            ffn_norm=ffn_norm,
            attention_output_norm=attention_output_norm,
            ffn_output_norm=ffn_output_norm,
            residual_pattern=residual_pattern,
            multiplier=multiplier,
            device=device,
            hw_mode=hw_mode,
            plans=plans,
            hw_config_overrides=hw_config_overrides,
        )
        self._parts, self._plans = self.layer._parts, self.layer._plans
        self._held, self._settings = self.layer._held, self.layer._settings

    @property
    def weights(self) -> tuple[Weight, ...]:
        return self.layer.weights

    def load(self, weights: Mapping[str, Any], /) -> EncoderLayer:
        """As DecoderLayer.load."""
        self.layer.load(weights)
        return self

    def prefill_forward(self, x: Tensor, /, *, positions: Tensor) -> Tensor:
        return self.layer.prefill_forward(x, cache=None, positions=positions)
