"""Variants of layers, for the conformance session: where their norms are, and what they add."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from ttt_attention import AttentionSpec, GroupedQueryAttention, RopeSpec
from ttt_core import Norm
from ttt_ffn import FFNSpec, SwiGLU
from ttt_norm import NormSpec, RMSNorm
from ttt_patterns import DecoderLayer
from ttt_patterns.spec import Residual
from ttt_testing.variants import Precision, Variant, seeded

WIDTH, INNER, HEADS, KV_HEADS, HEAD_DIM = 128, 256, 16, 8, 32
ATTENTION = AttentionSpec(
    hidden_dim=WIDTH, num_heads=HEADS, num_kv_heads=KV_HEADS, head_dim=HEAD_DIM, max_context=1024, rope=RopeSpec()
)
FFN = FFNSpec(hidden_dim=WIDTH, intermediate_dim=INNER)
NORM = NormSpec(dim=WIDTH, eps=1e-5)


@dataclass(frozen=True)
class Whole:
    residual: Residual = "pre_norm"
    multiplier: float = 1.0
    one_norm: bool = False

    @property
    def norms(self) -> tuple[str, ...]:
        outputs = ("attention_output_norm", "ffn_output_norm") if self.residual == "sandwich" else ()
        return ("attention_norm", *(() if self.one_norm else ("ffn_norm",)), *outputs)


def attention_weights() -> dict[str, torch.Tensor]:
    rows = {"q": HEADS * HEAD_DIM, "k": KV_HEADS * HEAD_DIM, "v": KV_HEADS * HEAD_DIM}
    found = {role: 3 * seeded(role, count, WIDTH) for role, count in rows.items()}
    return found | {"o": seeded("o", WIDTH, HEADS * HEAD_DIM)}


def ffn_weights() -> dict[str, torch.Tensor]:
    shapes = {"gate": (INNER, WIDTH), "up": (INNER, WIDTH), "down": (WIDTH, INNER)}
    return {role: 2 * seeded(role, *shape) for role, shape in shapes.items()}


def build(whole: Whole, mesh: Any, precision: Precision) -> DecoderLayer:
    exact: dict[str, Any] = {"dtype": "bfloat16"} if precision == "bfloat16" else {"hw_mode": "performance"}
    norms: dict[str, Norm] = {role: RMSNorm(NORM, seeded(role, WIDTH).numpy(), device=mesh) for role in whole.norms}
    arrays = {role: weight.numpy() for role, weight in attention_weights().items()}
    return DecoderLayer(
        attention=GroupedQueryAttention(ATTENTION, **arrays, device=mesh, **exact),
        ffn=SwiGLU(FFN, **{role: weight.numpy() for role, weight in ffn_weights().items()}, device=mesh, **exact),
        **norms,
        residual_pattern=whole.residual,
        multiplier=whole.multiplier,
    )


def attended(x: torch.Tensor) -> torch.Tensor:
    """x [1, S, D] → the same: LlamaAttention without its cache."""
    w, tokens = attention_weights(), x.shape[1]
    angles = torch.arange(tokens)[:, None] * 10_000.0 ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    cos, sin = (torch.cat([table, table], -1) for table in (angles.cos(), angles.sin()))

    def heads(role: str) -> torch.Tensor:
        return (x[0] @ w[role].T).reshape(tokens, -1, HEAD_DIM).transpose(0, 1)

    def turned(y: torch.Tensor) -> torch.Tensor:
        first, second = y.chunk(2, -1)
        return y * cos + torch.cat([-second, first], -1) * sin

    keys, values = (y.repeat_interleave(HEADS // KV_HEADS, 0) for y in (turned(heads("k")), heads("v")))
    joined = torch.nn.functional.scaled_dot_product_attention(turned(heads("q")), keys, values, is_causal=True)
    return joined.transpose(0, 1).reshape(1, tokens, -1) @ w["o"].T


def fed(x: torch.Tensor) -> torch.Tensor:
    w = ffn_weights()
    return (torch.nn.functional.silu(x @ w["gate"].T) * (x @ w["up"].T)) @ w["down"].T


def reference(whole: Whole) -> Callable[[torch.Tensor], torch.Tensor]:
    """Source: arXiv 2002.04745 figure 1; Olmo2DecoderLayer, Gemma2DecoderLayer, GPTNeoXLayer, GraniteDecoderLayer."""
    m = whole.multiplier

    def norm(role: str, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.rms_norm(x, (WIDTH,), seeded(role, WIDTH), NORM.eps)

    def forward(x: torch.Tensor) -> torch.Tensor:
        if whole.residual == "post_norm":
            h = norm("attention_norm", x + m * attended(x))
            return norm("ffn_norm", h + m * fed(h))
        if whole.residual == "branch_output":
            h = x + m * norm("attention_norm", attended(x))
            return h + m * norm("ffn_norm", fed(h))
        read = norm("attention_norm", x)
        if whole.residual == "parallel":
            return x + m * attended(read) + m * fed(read if whole.one_norm else norm("ffn_norm", x))
        if whole.residual == "sandwich":
            h = x + m * norm("attention_output_norm", attended(read))
            return h + m * norm("ffn_output_norm", fed(norm("ffn_norm", h)))
        h = x + m * attended(read)
        return h + m * fed(norm("ffn_norm", h))

    return forward


def layer(name: str, feature: str, spec: Whole, without: Whole) -> Variant:
    return Variant(
        name=name, feature=feature, protocol="layer", spec=spec, without=without, build=build, reference=reference
    )


PRE = Whole()
VARIANTS = [
    layer("layer, pre-norm", "pre-norm", PRE, Whole("post_norm")),
    layer("layer, post-norm", "post-norm", Whole("post_norm"), PRE),
    layer("layer, norms of branches alone", "branch-output norm", Whole("branch_output"), PRE),
    layer("layer, sandwich", "sandwich norms", Whole("sandwich"), PRE),
    layer("layer, parallel", "parallel residuals", Whole("parallel"), PRE),
    layer("layer, parallel with one norm", "parallel residuals", Whole("parallel", one_norm=True), Whole("parallel")),
    *(
        layer(
            f"layer, {residual}, branches times 0.3",
            "residual multiplier",
            replace(Whole(residual), multiplier=0.3),
            Whole(residual),
        )
        for residual in ("pre_norm", "post_norm", "parallel")
    ),
]
