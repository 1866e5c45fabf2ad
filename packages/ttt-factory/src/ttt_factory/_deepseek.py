"""What the configs of DeepSeek say: latent attention, and experts beside shared ones after some dense layers."""

from __future__ import annotations

from math import log

from ttt_attention import LatentAttentionSpec, RopeSpec, YarnScaling
from ttt_core import SpecError
from ttt_factory._families import Family
from ttt_factory._reader import CONFIG_FILE, ConfigReader
from ttt_ffn import FFNSpec, MoESpec

LATENT_EPS = 1e-6  # of the norms of latents, which do not read rms_norm_eps
TOPK_METHODS = ("greedy", "group_limited_greedy")


def latent_attention(reader: ConfigReader, *, hidden_dim: int, max_context: int, rope: RopeSpec) -> LatentAttentionSpec:
    """Source: DeepseekV3Attention, yarn_apply_mscale of transformers."""
    nope_dim, rope_dim = reader.number("qk_nope_head_dim", int), reader.number("qk_rope_head_dim", int)
    biased = reader.flag("attention_bias")
    yarn = rope.scaling if isinstance(rope.scaling, YarnScaling) else None
    magnitude = 1.0
    if yarn is not None and yarn.mscale_all_dim and yarn.factor > 1:
        magnitude = 0.1 * yarn.mscale_all_dim * log(yarn.factor) + 1.0
    return LatentAttentionSpec(
        hidden_dim=hidden_dim,
        num_heads=reader.number("num_attention_heads", int),
        q_rank=None if reader.optional("q_lora_rank") is None else reader.number("q_lora_rank", int),
        kv_rank=reader.number("kv_lora_rank", int),
        nope_dim=nope_dim,
        rope_dim=rope_dim,
        v_head_dim=reader.number("v_head_dim", int),
        max_context=max_context,
        rope=rope,
        eps=LATENT_EPS,
        score_scale=None if magnitude == 1.0 else (nope_dim + rope_dim) ** -0.5 * magnitude**2,
        latent_bias=biased,
        output_bias=biased,
    )


def deepseek_experts(reader: ConfigReader, family: Family, hidden_dim: int) -> tuple[int, MoESpec]:
    """How many layers are dense, and what the others have.

    Source: DeepseekV3TopkRouter, DeepseekV2TopkRouter of transformers; arXiv 2412.19437 eq 12 to 16.
    """
    width = reader.number("moe_intermediate_size", int)
    count = reader.optional("n_shared_experts")
    shared = None if not count else _gated(hidden_dim, width * reader.number("n_shared_experts", int))
    sigmoid = family.expert_score == "sigmoid"
    method = None if sigmoid else reader.get("topk_method")
    if not sigmoid and method not in TOPK_METHODS:
        raise SpecError(f"{CONFIG_FILE}: topk_method is {method!r}; supported are: {', '.join(TOPK_METHODS)}.")
    grouped = {
        key: reader.optional(key) for key in ("n_group", "topk_group")
    }  # greedily chosen ones have no use for them
    if method != "greedy":
        grouped = {key: reader.number(key, int) for key in grouped}
    experts = MoESpec(
        experts=reader.number("n_routed_experts", int),
        active=reader.number("num_experts_per_tok", int),
        ffn=_gated(hidden_dim, width),
        renormalise=sigmoid and reader.flag("norm_topk_prob"),
        score=family.expert_score,
        selection_bias=sigmoid,
        groups=1 if method == "greedy" else grouped["n_group"],
        active_groups=1 if method == "greedy" else grouped["topk_group"],
        group_score="top2" if sigmoid else "max",
        scale=reader.number("routed_scaling_factor", float),
        shared=shared,
    )
    dense = reader.optional("first_k_dense_replace")
    if isinstance(dense, bool) or not isinstance(dense, int) or dense < 0:
        raise SpecError(f"{CONFIG_FILE}: first_k_dense_replace is {dense!r}, a number of layers is wanted.")
    return dense, experts


def _gated(hidden_dim: int, width: int) -> FFNSpec:
    return FFNSpec(hidden_dim=hidden_dim, intermediate_dim=width)
