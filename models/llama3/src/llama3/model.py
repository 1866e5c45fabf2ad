"""Llama 3 from its blocks, with nothing between them and the checkpoint but tensor names. [arXiv 2407.21783]"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama3.config import Llama3Config
from ttt_attention import GroupedQueryAttention, Rotary
from ttt_embedding import LMHead, TokenEmbedding
from ttt_ffn import SwiGLU
from ttt_hw import DType
from ttt_norm import RMSNorm
from ttt_patterns import DecoderLayer, DecoderModel
from ttt_weights import Source


def llama3(
    config: Llama3Config,
    weights: Mapping[str, Source],
    *,
    device: Any,
    weight_dtype: DType = "bfloat8_b",
    cache_dtype: DType = "bfloat8_b",
) -> DecoderModel:
    """The model on a device; `weights` has the tensors under Hugging Face's names, for example a ttt_weights.Checkpoint."""
    rotary = Rotary(config.rope, head_dim=config.head_dim, context=config.max_context, device=device)

    def layer(prefix: str) -> DecoderLayer:
        attention = GroupedQueryAttention(
            config.attention,
            q=weights[f"{prefix}.self_attn.q_proj.weight"],
            k=weights[f"{prefix}.self_attn.k_proj.weight"],
            v=weights[f"{prefix}.self_attn.v_proj.weight"],
            o=weights[f"{prefix}.self_attn.o_proj.weight"],
            device=device,
            dtype=weight_dtype,
            cache_dtype=cache_dtype,
            rotary=rotary,
        )
        ffn = SwiGLU(
            config.ffn,
            gate=weights[f"{prefix}.mlp.gate_proj.weight"],
            up=weights[f"{prefix}.mlp.up_proj.weight"],
            down=weights[f"{prefix}.mlp.down_proj.weight"],
            device=device,
            dtype=weight_dtype,
        )
        return DecoderLayer(
            attention=attention,
            ffn=ffn,
            attention_norm=RMSNorm(config.norm, weights[f"{prefix}.input_layernorm.weight"], device=device),
            ffn_norm=RMSNorm(config.norm, weights[f"{prefix}.post_attention_layernorm.weight"], device=device),
        )

    table = weights["model.embed_tokens.weight"]
    return DecoderModel(
        embedding=TokenEmbedding(config.embedding, table, device=device),
        layers=[layer(f"model.layers.{number}") for number in range(config.num_layers)],
        final_norm=RMSNorm(config.norm, weights["model.norm.weight"], device=device),
        head=LMHead(
            config.head, table if config.tied_head else weights["lm_head.weight"], device=device, dtype=weight_dtype
        ),
        vocab_size=config.vocab_size,
        max_context=config.max_context,
        device=device,
    )
