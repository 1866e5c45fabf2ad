"""A small layer and a small model with what they compute, for `ttt conformance`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ttt_attention.conformance import make_grouped_query_attention
from ttt_factory.factory import ModelFactory
from ttt_ffn import SwiGLU
from ttt_ffn.conformance import make_gated
from ttt_norm.conformance import make_rms_norm
from ttt_patterns import DecoderLayer, DecoderModel
from ttt_weights import RandomWeights

__all__ = ["decoder_layer", "decoder_model", "make_decoder_layer", "make_decoder_model"]


def make_decoder_layer(mesh: Any) -> tuple[DecoderLayer, Callable[[Any], Any]]:
    """A layer of parts that each conform, and their references put together as the layer puts the parts."""
    attention, attend = make_grouped_query_attention(mesh)
    dim = attention.spec.hidden_dim
    ffn, feed = make_gated(mesh, block=SwiGLU, activation="silu", hidden_dim=dim, seed=1)
    (attention_norm, first), (ffn_norm, second) = (make_rms_norm(mesh, dim=dim, seed=seed) for seed in (2, 3))
    layer = DecoderLayer(attention=attention, ffn=ffn, attention_norm=attention_norm, ffn_norm=ffn_norm)

    def reference(x: Any) -> Any:
        values = np.asarray(x)
        h = values + attend(first(values))
        return h + feed(second(h))

    return layer, reference


def make_decoder_model(mesh: Any) -> tuple[DecoderModel, None]:
    """A model of two layers whose heads 8 chips can share; its prefill and its decode hold each other to account."""
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 250,
        "hidden_size": 128,
        "intermediate_size": 320,
        "num_hidden_layers": 2,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 32,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
    }
    return ModelFactory.from_spec(ModelFactory.from_huggingface(config), RandomWeights(), device=mesh), None


decoder_layer = {"protocol": "layer", "make": make_decoder_layer, "tolerance": 1e-4}
"""The entry of `DecoderLayer`."""
decoder_model = {"protocol": "causal_lm", "make": make_decoder_model, "tolerance": 1e-4}
"""The entry of `DecoderModel`."""
