"""Variants of latent attention, for the conformance session; what they compute is transformers'.

Letters: S tokens, D hidden dim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import log
from typing import Any

import torch
from transformers import DeepseekV3Config
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention, DeepseekV3RotaryEmbedding
from transformers.models.longcat_flash.modeling_longcat_flash import LongcatFlashMLA

from ttt_attention import LatentAttentionSpec, MultiLatentAttention, RopeSpec, YarnScaling
from ttt_testing.variants import Precision, Variant, seeded

CONTEXT = 1024
SPEC = LatentAttentionSpec(
    hidden_dim=128,
    num_heads=16,
    q_rank=96,
    kv_rank=64,
    nope_dim=32,
    rope_dim=32,
    v_head_dim=64,
    max_context=CONTEXT,
    rope=RopeSpec(theta=500.0, style="interleaved"),
)
NAMES = {
    "q": "q_proj.weight", "q_down": "q_a_proj.weight", "q_norm": "q_a_layernorm.weight", "q_up": "q_b_proj.weight",
    "kv_down": "kv_a_proj_with_mqa.weight", "kv_norm": "kv_a_layernorm.weight", "kv_up": "kv_b_proj.weight",
    "o": "o_proj.weight", "q_bias": "q_a_proj.bias", "kv_bias": "kv_a_proj_with_mqa.bias", "o_bias": "o_proj.bias",
}  # fmt: skip


def weights_of(spec: LatentAttentionSpec) -> dict[str, torch.Tensor]:
    """By the names of MultiLatentAttention; sharper queries than torch begins with, so that what attention looks at counts."""
    hidden, heads, rank, latent = spec.hidden_dim, spec.num_heads, spec.q_rank, spec.kv_rank
    q = heads * (spec.nope_dim + spec.rope_dim)
    made = {"q": seeded("q", q, hidden, scale=4.0)}
    if rank is not None:
        made = {"q_down": seeded("q_down", rank, hidden), "q_norm": seeded("q_norm", rank)}
        made["q_up"] = seeded("q_up", q, rank, scale=3.0)
    made["kv_down"] = seeded("kv_down", latent + spec.rope_dim, hidden, scale=2.0)
    made["kv_norm"] = seeded("kv_norm", latent)
    made["kv_up"] = seeded("kv_up", heads * (spec.nope_dim + spec.v_head_dim), latent)
    made["o"] = seeded("o", hidden, heads * spec.v_head_dim)
    if spec.latent_bias:
        made["kv_bias"] = seeded("kv_bias", latent + spec.rope_dim, scale=0.5)
        made |= {"q_bias": seeded("q_bias", rank, scale=0.5)} if rank is not None else {}
    if spec.output_bias:
        made["o_bias"] = seeded("o_bias", hidden, scale=0.5)
    return made


def build(spec: LatentAttentionSpec, mesh: Any, precision: Precision) -> Any:
    weights: dict[str, Any] = {name: weight.numpy() for name, weight in weights_of(spec).items()}
    mode: Any = "performance" if precision == "performance" else "accuracy"
    return MultiLatentAttention(spec, **weights, device=mesh, hw_mode=mode)


def config_of(spec: LatentAttentionSpec) -> DeepseekV3Config:
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 1e4 if spec.rope is None else spec.rope.theta}
    if spec.rope is not None and isinstance(s := spec.rope.scaling, YarnScaling):
        rope |= {"rope_type": "yarn", "factor": s.factor, "original_max_position_embeddings": s.original_context}
        rope |= {"mscale": s.mscale, "mscale_all_dim": s.mscale_all_dim}
    config = DeepseekV3Config(
        hidden_size=spec.hidden_dim,
        num_attention_heads=spec.num_heads,
        num_key_value_heads=spec.num_heads,
        q_lora_rank=spec.q_rank,
        kv_lora_rank=spec.kv_rank,
        qk_nope_head_dim=spec.nope_dim,
        qk_rope_head_dim=spec.rope_dim,
        v_head_dim=spec.v_head_dim,
        max_position_embeddings=CONTEXT,
        rope_parameters=rope,
        rope_interleave=spec.rope is not None and spec.rope.style == "interleaved",
        attention_bias=spec.latent_bias,
    )
    config._attn_implementation = "eager"
    return config


def reference(spec: LatentAttentionSpec) -> Callable[[torch.Tensor], torch.Tensor]:
    """DeepseekV3Attention, or with multipliers LongcatFlashMLA, whose multipliers follow from its ranks."""
    config = config_of(spec)
    module: Any
    if spec.q_multiplier == 1.0:
        module = DeepseekV3Attention(config, 0)
    else:
        config.qk_head_dim = spec.nope_dim + spec.rope_dim
        module = LongcatFlashMLA(config, 0)
    weights = {NAMES[name]: weight for name, weight in weights_of(spec).items()}
    module.load_state_dict(weights)
    rotary = DeepseekV3RotaryEmbedding(config)

    @torch.no_grad()
    def forward(x: torch.Tensor) -> torch.Tensor:
        tokens = x.shape[1]
        cos, sin = rotary(x, torch.arange(tokens)[None])
        if spec.rope is None:
            cos, sin = torch.ones_like(cos), torch.zeros_like(sin)
        mask = torch.full((tokens, tokens), -torch.inf).triu(1)[None, None]
        y: torch.Tensor = module(x, (cos, sin), mask)[0]
        return y

    return forward


def variant(
    name: str, feature: str, spec: LatentAttentionSpec, without: LatentAttentionSpec | None, **how: bool
) -> Variant:
    return Variant(
        name=f"latent attention, {name}",
        feature=feature,
        protocol="attention",
        spec=spec,
        without=without,
        build=build,
        reference=reference,
        one_axis=True,
        **how,
    )


def rope(**fields: Any) -> LatentAttentionSpec:
    return replace(SPEC, rope=RopeSpec(**{"theta": 500.0, "style": "interleaved", **fields}))


YARN = rope(scaling=YarnScaling(factor=16.0, original_context=64, mscale=0.7, mscale_all_dim=1.0))
MAGNITUDE = 0.1 * log(16.0) + 1.0  # of yarn, by which queries and keys are multiplied
PLAIN = replace(SPEC, q_rank=None)
ODD = replace(SPEC, q_rank=80, kv_rank=72, nope_dim=24, rope_dim=16, v_head_dim=40)

VARIANTS = [
    variant("low-rank queries", "MLA", SPEC, rope(theta=10_000.0)),
    variant("plain queries", "MLA without q rank", PLAIN, replace(PLAIN, rope=None)),
    variant("sizes within tiles", "MLA, padded", ODD, None),
    variant(
        "yarn", "MLA with yarn and its scale",
        replace(YARN, score_scale=(SPEC.nope_dim + SPEC.rope_dim) ** -0.5 * MAGNITUDE**2), YARN,
    ),
    variant("halves that turn", "rope half in MLA", rope(style="half"), SPEC),
    variant("no rotation", "no RoPE in MLA", replace(SPEC, rope=None), SPEC),
    variant(
        "multipliers", "latent multipliers",
        replace(SPEC, q_multiplier=(128 / 96) ** 0.5, kv_multiplier=2.0**0.5), replace(SPEC, q_multiplier=(128 / 96) ** 0.5),
    ),
    variant(
        "biases", "linear bias in MLA", replace(SPEC, latent_bias=True, output_bias=True), SPEC,
    ),
    variant("in pages", "paged cache", SPEC, None, paged=True),
    variant("prompt in pieces", "chunked prefill", SPEC, None, pieces=True),
    variant("prompt in pieces, in pages", "chunked prefill", PLAIN, None, pieces=True, paged=True),
]  # fmt: skip
