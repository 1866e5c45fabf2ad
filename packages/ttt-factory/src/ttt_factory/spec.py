"""A whole model as pure math."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ttt_attention import AttentionSpec, LatentAttentionSpec
from ttt_embedding import EmbeddingSpec, HeadSpec
from ttt_ffn import FFNSpec, MoESpec
from ttt_norm import NormSpec
from ttt_patterns import LayerSpec

__all__ = ["DecoderLayerSpec", "ModelSpec"]

DecoderLayerSpec: TypeAlias = LayerSpec[AttentionSpec | LatentAttentionSpec, FFNSpec | MoESpec, NormSpec]
"""One layer of a model that is built from ttt's own blocks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """Embedding, layers, final norm, head. `family` names the record of weight names, nothing else."""

    family: str
    hidden_dim: int
    vocab_size: int
    max_context: int
    embedding: EmbeddingSpec
    layers: tuple[DecoderLayerSpec, ...]
    final_norm: NormSpec
    head: HeadSpec

    @property
    def num_parameters(self) -> int:
        """Weights, biases and norms; a table that embedding and head share counts once."""
        layers = sum(map(_parameters, self.layers))
        return self.embedding.num_parameters + layers + self.final_norm.num_parameters + self.head.num_parameters


def _parameters(layer: DecoderLayerSpec) -> int:
    norms = (
        layer.attention_norm,
        None if layer.shared_norm else layer.ffn_norm,
        layer.attention_output_norm,
        layer.ffn_output_norm,
    )
    return (
        layer.attention.num_parameters
        + layer.ffn.num_parameters
        + sum(norm.num_parameters for norm in norms if norm is not None)
    )
