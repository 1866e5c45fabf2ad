"""Variants of attention, for the conformance session.

Letters: S tokens, D hidden dim, H query heads, G key-value heads, E elements of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import ttnn
from transformers import LlamaConfig
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from ttt_attention import (
    AttentionSpec,
    BaseAttention,
    DynamicScaling,
    FlashAttention,
    GateSpec,
    GroupedQueryAttention,
    HeadNormSpec,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    MultiHeadAttention,
    ProportionalScaling,
    RopeSpec,
    SlidingWindowAttention,
    TemperatureSpec,
    YarnScaling,
)
from ttt_testing.variants import Precision, Variant, seeded

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, CONTEXT = 128, 16, 8, 32, 1024
SPEC = AttentionSpec(
    hidden_dim=HIDDEN,
    num_heads=HEADS,
    num_kv_heads=KV_HEADS,
    head_dim=HEAD_DIM,
    max_context=CONTEXT,
    rope=RopeSpec(theta=500.0),
)


def weights_of(spec: AttentionSpec) -> dict[str, torch.Tensor]:
    """By the names of BaseAttention; sharper queries and keys than torch begins with, so that what attention looks at counts."""
    rows = {"q": spec.num_heads * spec.head_dim, "k": spec.num_kv_heads * spec.head_dim}
    rows["v"] = rows["k"]
    made = {
        name: seeded(name, count, spec.hidden_dim, scale=3.0 if name != "v" else 1.0) for name, count in rows.items()
    }
    made["o"] = seeded("o", spec.hidden_dim, rows["q"])
    made |= {f"{name}_bias": seeded(f"{name}_bias", rows[name], scale=0.5) for name in spec.biased}
    if spec.output_bias:
        made["o_bias"] = seeded("o_bias", spec.hidden_dim, scale=0.5)
    if spec.head_norm is not None and spec.head_norm.weight != "none":
        for name in "qk":
            width = spec.head_dim if spec.head_norm.weight == "shared" else rows[name]
            made[f"{name}_norm"] = seeded(f"{name}_norm", width)
            if spec.head_norm.bias:
                made[f"{name}_norm_bias"] = seeded(f"{name}_norm_bias", width, scale=0.3)
    if spec.output_gate is not None:
        count = rows["q"] if spec.output_gate.per == "element" else spec.num_heads
        made["gate"] = seeded("gate", count, spec.hidden_dim, scale=3.0)
    if spec.sinks:
        made["sinks"] = seeded("sinks", spec.num_heads)
    return made


def builder(kind: type[BaseAttention]) -> Callable[[AttentionSpec, Any, Precision], Any]:
    def build(spec: AttentionSpec, mesh: Any, precision: Precision) -> Any:
        weights: dict[str, Any] = {name: weight.numpy() for name, weight in weights_of(spec).items()}
        mode: Any = "performance" if precision == "performance" else "accuracy"
        return kind(spec, **weights, device=mesh, hw_mode=mode)

    return build


def reference(spec: AttentionSpec) -> Callable[[torch.Tensor], torch.Tensor]:
    """Plain torch; rotations by transformers."""
    w = weights_of(spec)
    none = torch.zeros(1)

    def forward(x: torch.Tensor) -> torch.Tensor:
        x_SD, tokens = x[0], x.shape[1]
        projected = [x_SD @ w[name].T + w.get(f"{name}_bias", none) for name in "qkv"]
        if spec.qkv_clip is not None:
            projected = [each.clamp(-spec.qkv_clip, spec.qkv_clip) for each in projected]
        if spec.head_norm is not None and spec.head_norm.span == "all":
            projected[:2] = [normalised(spec.head_norm, w, name, y) for name, y in zip("qk", projected, strict=False)]
        q, k, v = (each.unflatten(-1, (-1, spec.head_dim)).transpose(0, 1) for each in projected)
        by_head = spec.head_norm if spec.head_norm is not None and spec.head_norm.span == "head" else None
        if by_head is not None and not by_head.after_rope:
            q, k = (normalised(by_head, w, name, y) for name, y in (("q", q), ("k", k)))
        q, k = turned(spec, q), turned(spec, k)
        if by_head is not None and by_head.after_rope:
            q, k = (normalised(by_head, w, name, y) for name, y in (("q", q), ("k", k)))
        if (by := spec.query_temperature) is not None:
            steps = torch.floor((torch.arange(tokens) + by.offset) / by.period)
            q = q * (1 + by.scale * torch.log(1 + steps))[:, None]
        heads_HSE = attended(spec, q, k, v, w.get("sinks"))
        if (gate := spec.output_gate) is not None:
            scores = (x_SD @ w["gate"].T).unflatten(-1, (spec.num_heads, -1)).transpose(0, 1)
            heads_HSE = heads_HSE * (
                torch.sigmoid(scores) if gate.activation == "sigmoid" else torch.nn.functional.softplus(scores)
            )
        y = heads_HSE.transpose(0, 1).flatten(1) @ w["o"].T + w.get("o_bias", none)
        return y[None]

    return forward


def normalised(norm: HeadNormSpec, w: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    """x [H, S, E], or [S, H·E] of all heads."""
    if norm.kind == "layer":
        x = x - x.mean(-1, keepdim=True)
    x = x * (x.square().mean(-1, keepdim=True) + norm.eps).rsqrt()
    weight = w.get(f"{name}_norm", torch.ones(1))
    if norm.weight == "own" and norm.span == "head":
        weight = weight.unflatten(-1, (-1, x.shape[-1]))[:, None]
    return x * weight + w.get(f"{name}_norm_bias", torch.zeros(1))


def attended(
    spec: AttentionSpec, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sinks: torch.Tensor | None
) -> torch.Tensor:
    tokens, groups = q.shape[1], spec.num_heads // spec.num_kv_heads
    k, v = k.repeat_interleave(groups, 0), v.repeat_interleave(groups, 0)
    scores = q @ k.transpose(-1, -2) * spec.scale
    if spec.soft_cap is not None:
        scores = spec.soft_cap * torch.tanh(scores / spec.soft_cap)
    if spec.alibi:
        scores = scores + build_alibi_tensor(torch.ones(1, tokens), spec.num_heads, torch.float32)
    queries, keys = torch.arange(tokens)[:, None], torch.arange(tokens)[None]
    seen = (keys <= queries) | (not spec.causal)
    if spec.window is not None:
        seen &= queries - keys < spec.window
    if spec.chunk is not None:
        seen &= queries // spec.chunk == keys // spec.chunk
    scores = scores.masked_fill(~seen, -torch.inf)
    if sinks is not None:
        scores = torch.cat([scores, sinks[:, None, None].expand(-1, tokens, 1)], -1)
    return scores.softmax(-1)[..., :tokens] @ v


def turned(spec: AttentionSpec, x_HSE: torch.Tensor) -> torch.Tensor:
    rope = spec.rope
    if rope is None:
        return x_HSE
    dim = rope.rotated(spec.head_dim)
    cos, sin = tables(rope, dim, x_HSE.shape[1])  # [S, dim / 2]
    part, rest = x_HSE[..., :dim], x_HSE[..., dim:]
    if rope.style == "half":
        first, second = part.chunk(2, -1)
        out = torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
    else:
        first, second = part[..., ::2], part[..., 1::2]
        out = torch.stack([first * cos - second * sin, second * cos + first * sin], -1).flatten(-2)
    return torch.cat([out, rest], -1)


def tables(rope: RopeSpec, dim: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """transformers' cosines and sines of each pair; of dynamic scaling those of a sequence that ends at each position."""
    if isinstance(rope.scaling, DynamicScaling):
        ends = range(1, tokens + 1)
        rows = [[table[end - 1] for table in _tables(rope, dim, end)] for end in ends]
        return torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows])
    return _tables(rope, dim, tokens)


def _tables(rope: RopeSpec, dim: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    parameters, context = parameters_of(rope)
    config = LlamaConfig(
        hidden_size=4 * dim,
        num_attention_heads=4,
        head_dim=dim,
        max_position_embeddings=context,
        rope_parameters=parameters,
    )
    cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.arange(tokens)[None])
    return cos[0, :, : dim // 2], sin[0, :, : dim // 2]


def parameters_of(rope: RopeSpec) -> tuple[dict[str, Any], int]:
    """transformers' rope_parameters, and max_position_embeddings."""
    made: dict[str, Any] = {"rope_type": "default", "rope_theta": rope.theta}
    match rope.scaling:
        case LinearScaling(factor=factor):
            made |= {"rope_type": "linear", "factor": factor}
        case DynamicScaling() as s:
            return made | {"rope_type": "dynamic", "factor": s.factor}, s.original_context
        case Llama3Scaling() as s:
            made |= {
                "rope_type": "llama3",
                "factor": s.factor,
                "low_freq_factor": s.low_freq_factor,
                "high_freq_factor": s.high_freq_factor,
                "original_max_position_embeddings": s.original_context,
            }
        case YarnScaling() as s:
            made |= {"rope_type": "yarn", "factor": s.factor, "original_max_position_embeddings": s.original_context}
            made |= {"beta_fast": s.beta_fast, "beta_slow": s.beta_slow, "truncate": s.truncate}
            made |= {name: value for name in ("mscale", "mscale_all_dim") if (value := getattr(s, name))}
        case LongRopeScaling() as s:
            made |= {"rope_type": "longrope", "short_factor": list(s.short_factors), "factor": 4.0}
            made |= {"long_factor": list(s.long_factors), "original_max_position_embeddings": s.original_context}
            made |= {"attention_factor": s.attention_factor}
        case ProportionalScaling() as s:
            made |= {"rope_type": "proportional", "partial_rotary_factor": s.share}
    return made, CONTEXT


class OwnAttention(BaseAttention):
    """Scores, softmax and values as a user writes them."""

    def compute_attention(self, q: Any, k: Any, v: Any, mask: Any) -> Any:
        scores = ttnn.multiply(ttnn.matmul(q, ttnn.transpose(k, -2, -1)), self.spec.scale)
        return ttnn.matmul(ttnn.softmax(ttnn.add(scores, mask), dim=-1, numeric_stable=True), v)


def variant(
    name: str,
    feature: str,
    spec: AttentionSpec,
    without: AttentionSpec | None,
    *,
    kind: type[BaseAttention] = GroupedQueryAttention,
    **more: Any,
) -> Variant:
    return Variant(
        name=f"attention, {name}",
        feature=feature,
        protocol="attention",
        spec=spec,
        without=without,
        build=builder(kind),
        reference=reference,
        **more,
    )


def rope(**fields: Any) -> AttentionSpec:
    return replace(SPEC, rope=RopeSpec(**{"theta": 500.0, **fields}))


NO_ROPE = replace(SPEC, rope=None)
NORM = HeadNormSpec(eps=1e-5)
NORMED = replace(SPEC, head_norm=NORM)
LONG = LongRopeScaling(
    short_factors=tuple(1 + 0.05 * i for i in range(16)),
    long_factors=tuple(1 + 0.5 * i for i in range(16)),
    original_context=2048,
    attention_factor=1.2,
)
PLAIN_SCALE = replace(SPEC, score_scale=0.3)
WINDOW = replace(SPEC, window=20)  # reaches into the piece before
NO_WINDOW = replace(SPEC, window=CONTEXT)
VARIANTS = [
    variant("grouped queries", "GQA", SPEC, None),
    variant("multi-head", "MHA", replace(SPEC, num_kv_heads=HEADS), None, kind=MultiHeadAttention),
    variant("multi-query", "MQA", replace(SPEC, num_kv_heads=1), None),
    variant("heads of 16", "head dim of broken tiles", replace(SPEC, head_dim=16), None),
    variant("heads of 80", "head dim of broken tiles", replace(SPEC, head_dim=80, num_heads=8), None),
    variant("theta", "rope theta", rope(theta=50.0), SPEC),
    variant("no rotation", "no RoPE", NO_ROPE, SPEC),
    variant("neighbours turn", "interleaved RoPE", rope(style="interleaved"), SPEC),
    variant("a part turns", "partial RoPE", rope(dim=16), SPEC),
    variant("a part turns, neighbours", "partial RoPE", rope(dim=8, style="interleaved"), rope(dim=8)),
    variant("linear scaling", "rope linear", rope(scaling=LinearScaling(factor=4.0)), SPEC),
    variant("dynamic scaling", "rope dynamic", rope(scaling=DynamicScaling(factor=4.0, original_context=8)), SPEC),
    variant(
        "llama3 scaling",
        "rope llama3",
        rope(scaling=Llama3Scaling(factor=4.0, low_freq_factor=1.0, high_freq_factor=2.0, original_context=64)),
        SPEC,
    ),
    variant("yarn scaling", "rope yarn", rope(scaling=YarnScaling(factor=4.0, original_context=64)), SPEC),
    variant(
        "yarn scaling, mscale",
        "rope yarn mscale",
        rope(scaling=YarnScaling(factor=4.0, original_context=64, mscale=1.0, mscale_all_dim=0.3, truncate=False)),
        rope(scaling=YarnScaling(factor=4.0, original_context=64, truncate=False)),
    ),
    variant("longrope scaling", "rope longrope", rope(scaling=LONG), SPEC),
    variant("proportional scaling", "rope proportional", rope(scaling=ProportionalScaling(share=0.5)), SPEC),
    variant(
        "query temperature",
        "query temperature",
        replace(SPEC, query_temperature=TemperatureSpec(scale=0.5, period=4.0, offset=1)),
        SPEC,
    ),
    variant(
        "query temperature, no rotation",
        "query temperature",
        replace(NO_ROPE, query_temperature=TemperatureSpec(scale=0.5, period=4.0)),
        NO_ROPE,
    ),
    variant("alibi", "ALiBi", replace(NO_ROPE, alibi=True), NO_ROPE),
    variant("alibi of 24 heads", "ALiBi", replace(NO_ROPE, num_heads=24, alibi=True), replace(NO_ROPE, num_heads=24)),
    variant("window", "sliding window", replace(SPEC, window=7), replace(SPEC, window=CONTEXT), kind=SlidingWindowAttention),
    variant("chunks", "chunked causality", replace(SPEC, chunk=8), SPEC),
    variant("soft-cap", "attention soft-cap", replace(SPEC, soft_cap=1.0), SPEC),
    variant("soft-cap and window", "attention soft-cap", replace(SPEC, soft_cap=1.0, window=9), replace(SPEC, window=9)),
    variant("sinks", "sinks", replace(SPEC, sinks=True), SPEC, kind=FlashAttention),
    variant("sinks and window", "sinks", replace(SPEC, sinks=True, window=9), replace(SPEC, window=9)),
    variant("head norm", "q/k norm", NORMED, SPEC),
    variant("head norm of 80", "q/k norm", replace(NORMED, head_dim=80, num_heads=8), None),
    variant("head norm, weightless", "q/k norm", replace(SPEC, head_norm=replace(NORM, weight="none")), NORMED),
    variant(
        "head norm, after the rotation", "q/k norm after RoPE", replace(SPEC, head_norm=replace(NORM, after_rope=True)), NORMED
    ),
    variant(
        "head norm, weightless of 80 after the rotation",
        "q/k norm after RoPE",
        replace(SPEC, head_dim=80, num_heads=8, head_norm=replace(NORM, after_rope=True, weight="none")),
        replace(SPEC, head_dim=80, num_heads=8),
    ),
    variant("head norm, own weights", "q/k norm own", replace(SPEC, head_norm=replace(NORM, weight="own")), NORMED),
    variant("head norm, layer", "q/k LayerNorm", replace(SPEC, head_norm=replace(NORM, kind="layer")), NORMED),
    variant(
        "head norm, layer with bias of 80",
        "q/k LayerNorm",
        replace(SPEC, head_dim=80, num_heads=8, head_norm=replace(NORM, kind="layer", bias=True)),
        replace(SPEC, head_dim=80, num_heads=8, head_norm=replace(NORM, kind="layer")),
    ),
    variant(
        "norm of all heads", "q/k norm whole", replace(SPEC, head_norm=replace(NORM, span="all", weight="own")),
        replace(SPEC, head_norm=replace(NORM, weight="own")),
    ),
    variant(
        "norm of all heads, fewer of 16", "q/k norm whole",
        replace(SPEC, head_dim=16, num_kv_heads=2, head_norm=replace(NORM, span="all", weight="own")),
        replace(SPEC, head_dim=16, num_kv_heads=2),
    ),
    variant("clip", "qkv clip", replace(SPEC, qkv_clip=0.5), SPEC),
    variant("biases", "linear bias", replace(SPEC, qkv_bias=True, output_bias=True), SPEC),
    variant("biases of q and v", "linear bias", replace(SPEC, qkv_bias="qv"), SPEC),
    variant("own scale", "own attention scale", PLAIN_SCALE, SPEC),
    variant("gate of elements", "output gate", replace(SPEC, output_gate=GateSpec()), SPEC),
    variant(
        "gate of heads", "output gate", replace(SPEC, output_gate=GateSpec(per="head", activation="softplus")),
        replace(SPEC, output_gate=GateSpec(per="head")),
    ),
    variant("of an encoder", "bidirectional", replace(SPEC, causal=False), SPEC, prefill=(32, 128, 1024), decode=()),
    variant("own computation", "compute_attention", PLAIN_SCALE, SPEC, kind=OwnAttention),
    variant("in pages", "paged cache", SPEC, None, paged=True),
    variant("window in pages", "paged cache", WINDOW, NO_WINDOW, paged=True),
    variant("sinks and window in pages", "paged cache", replace(WINDOW, sinks=True), WINDOW, paged=True),
    variant("prompt in pieces", "chunked prefill", SPEC, None, pieces=True),
    variant("window, prompt in pieces", "chunked prefill", WINDOW, NO_WINDOW, pieces=True),
    variant("prompt in pieces, in pages", "chunked prefill", NORMED, SPEC, pieces=True, paged=True),
    variant("window, prompt in pieces, in pages", "chunked prefill", WINDOW, NO_WINDOW, pieces=True, paged=True),
]  # fmt: skip
