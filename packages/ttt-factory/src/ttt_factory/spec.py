"""A whole model as pure math."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ttt_attention import AttentionSpec
from ttt_embedding import EmbeddingSpec, HeadSpec
from ttt_ffn import FFNSpec
from ttt_norm import NormSpec
from ttt_patterns import LayerSpec

DecoderLayerSpec: TypeAlias = LayerSpec[AttentionSpec, FFNSpec, NormSpec]


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
