"""Variants of embeddings and heads, for the conformance session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from ttt_embedding import (
    EmbeddingSpec,
    HeadSpec,
    HeadTransform,
    HeadTransformSpec,
    LMHead,
    PositionEmbedding,
    PositionSpec,
    TokenEmbedding,
)
from ttt_norm import LayerNorm, NormSpec, NormType
from ttt_testing.variants import Precision, Variant, seeded

VOCABULARY, WIDTH = 200, 128
NORM = NormSpec(dim=WIDTH, kind=NormType.LAYER, bias=True)


@dataclass(frozen=True)
class Whole:
    """A spec with what stands around its block."""

    spec: Any
    norm: bool = False
    split: bool = False
    transform: HeadTransformSpec | None = None


def norm(mesh: Any) -> LayerNorm:
    return LayerNorm(NORM, seeded("norm", WIDTH).numpy(), seeded("norm bias", WIDTH, scale=0.3).numpy(), device=mesh)


def normalised(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.layer_norm(
        x, (WIDTH,), seeded("norm", WIDTH), seeded("norm bias", WIDTH, scale=0.3), NORM.eps
    )


def build_embedding(whole: Whole, mesh: Any, precision: Precision) -> TokenEmbedding:
    spec = whole.spec
    projection = None if spec.embedding_dim is None else seeded("projection", WIDTH, spec.embedding_dim).numpy()
    return TokenEmbedding(
        spec,
        4 * seeded("table", VOCABULARY, spec.table_dim).numpy(),
        projection=projection,
        norm=norm(mesh) if whole.norm else None,
        split=whole.split,
        device=mesh,
        dtype="bfloat16" if precision == "bfloat16" else None,
        hw_mode="performance",
    )


def embedding_reference(whole: Whole) -> Callable[[torch.Tensor], torch.Tensor]:
    spec = whole.spec

    def forward(ids: torch.Tensor) -> torch.Tensor:
        x = 4 * seeded("table", VOCABULARY, spec.table_dim)[ids] * spec.scale
        if spec.embedding_dim is not None:
            x = x @ seeded("projection", WIDTH, spec.embedding_dim).T
        return normalised(x) if whole.norm else x

    return forward


def build_positions(spec: PositionSpec, mesh: Any, precision: Precision) -> PositionEmbedding:
    table = (
        None
        if spec.kind == "sinusoidal"
        else seeded("positions", 1200, WIDTH)[: spec.num_positions + spec.offset].numpy()
    )
    return PositionEmbedding(spec, table, device=mesh)


def position_reference(spec: PositionSpec) -> Callable[[torch.Tensor], torch.Tensor]:
    """Source: OPTLearnedPositionalEmbedding, XGLMSinusoidalPositionalEmbedding; arXiv 1706.03762 section 3.5."""

    def forward(positions: torch.Tensor) -> torch.Tensor:
        at = positions + spec.offset
        if spec.kind == "learned":
            return seeded("positions", 1200, WIDTH)[at]
        half = WIDTH // 2
        if spec.interleaved:
            angles = at.double()[..., None] / 10000 ** (torch.arange(half) * 2 / WIDTH)
            return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2).float()
        step = torch.log(torch.tensor(10000.0, dtype=torch.float64)) / (half - 1)
        angles = at.double()[..., None] * torch.exp(-torch.arange(half) * step)
        return torch.cat([angles.sin(), angles.cos()], -1).float()

    return forward


def head_weights(spec: HeadSpec) -> tuple[torch.Tensor, torch.Tensor | None]:
    bias = seeded("head bias", VOCABULARY, scale=0.5) if spec.bias else None
    return 2 * seeded("head", VOCABULARY, WIDTH), bias


def build_head(whole: Whole, mesh: Any, precision: Precision) -> LMHead:
    stored: dict[str, Any] = {"dtype": "bfloat16"} if precision == "bfloat16" else {"hw_mode": "performance"}
    transform = None
    if whole.transform is not None:
        bias = seeded("transform bias", WIDTH, scale=0.3).numpy() if whole.transform.bias else None
        weight = 4 * seeded("transform", WIDTH, WIDTH).numpy()
        after = norm(mesh) if whole.norm else None
        transform = HeadTransform(whole.transform, weight, bias=bias, norm=after, device=mesh, **stored)
    weight, bias = head_weights(whole.spec)
    given = None if bias is None else bias.numpy()
    return LMHead(whole.spec, weight.numpy(), bias=given, transform=transform, device=mesh, **stored)


def head_reference(whole: Whole) -> Callable[[torch.Tensor], torch.Tensor]:
    weight, bias = head_weights(whole.spec)
    functions: dict[str, Any] = {"gelu": torch.nn.functional.gelu, "silu": torch.nn.functional.silu, "relu": torch.relu}

    def forward(x: torch.Tensor) -> torch.Tensor:
        if whole.transform is not None:
            own = seeded("transform bias", WIDTH, scale=0.3) if whole.transform.bias else None
            x = torch.nn.functional.linear(x, 4 * seeded("transform", WIDTH, WIDTH), own)
            x = functions[whole.transform.activation](x)
            x = normalised(x) if whole.norm else x
        logits = torch.nn.functional.linear(x, weight, bias) * whole.spec.multiplier
        cap = whole.spec.soft_cap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    return forward


def embedding(name: str, feature: str, spec: Whole, without: Whole | None) -> Variant:
    return Variant(
        name=name, feature=feature, protocol="embedding", spec=spec, without=without, build=build_embedding,
        reference=embedding_reference,
    )  # fmt: skip


def positions(name: str, feature: str, spec: PositionSpec, without: PositionSpec) -> Variant:
    return Variant(
        name=name, feature=feature, protocol="embedding", spec=spec, without=without, build=build_positions,
        reference=position_reference,
    )  # fmt: skip


def head(name: str, feature: str, spec: Whole, without: Whole) -> Variant:
    return Variant(
        name=name,
        feature=feature,
        protocol="head",
        spec=spec,
        without=without,
        build=build_head,
        reference=head_reference,
    )


TABLE = EmbeddingSpec(vocab_size=VOCABULARY, hidden_dim=WIDTH)
SCALED = replace(TABLE, scale=1.7)
LEARNED = PositionSpec(num_positions=1100, hidden_dim=WIDTH)
SINES = replace(LEARNED, kind="sinusoidal")
HEAD = HeadSpec(vocab_size=VOCABULARY, hidden_dim=WIDTH)
TRANSFORM = HeadTransformSpec(hidden_dim=WIDTH)
VARIANTS = [
    embedding("token embedding, scaled", "embedding scale", Whole(SCALED), Whole(TABLE)),
    embedding("token embedding, normalised", "embedding norm", Whole(TABLE, norm=True), Whole(TABLE)),
    embedding(
        "token embedding, projected", "embedding projection", Whole(replace(TABLE, embedding_dim=96)), Whole(TABLE)
    ),
    embedding(
        "token embedding, scaled, projected, normalised",
        "embedding norm",
        Whole(replace(SCALED, embedding_dim=64), norm=True),
        Whole(replace(SCALED, embedding_dim=64)),
    ),
    embedding(
        "token embedding, its columns split",
        "hidden dim split over chips",
        Whole(replace(SCALED, hidden_dim=512), split=True),
        Whole(replace(TABLE, hidden_dim=512), split=True),
    ),
    positions("learned positions", "learned positions", LEARNED, SINES),
    positions("learned positions from 2", "offset of positions", replace(LEARNED, offset=2), LEARNED),
    positions("sinusoidal positions", "sinusoidal positions", SINES, replace(SINES, interleaved=True)),
    positions("sinusoidal positions, interleaved", "sinusoidal positions", replace(SINES, interleaved=True), SINES),
    positions("sinusoidal positions from 2", "offset of positions", replace(SINES, offset=2), SINES),
    head("head with bias", "head bias", Whole(replace(HEAD, bias=True)), Whole(HEAD)),
    head(
        "head, logits times 0.3",
        "logit multiplier",
        Whole(replace(HEAD, bias=True, multiplier=0.3)),
        Whole(replace(HEAD, bias=True)),
    ),
    head("head, soft-capped", "final soft-cap", Whole(replace(HEAD, soft_cap=1.5)), Whole(HEAD)),
    head(
        "head, multiplied and soft-capped",
        "logit multiplier",
        Whole(replace(HEAD, soft_cap=1.5, multiplier=2.0)),
        Whole(replace(HEAD, soft_cap=1.5)),
    ),
    head("head with transform", "head transform", Whole(HEAD, transform=TRANSFORM), Whole(HEAD)),
    head(
        "head with transform and norm",
        "head transform",
        Whole(HEAD, transform=TRANSFORM, norm=True),
        Whole(HEAD, transform=TRANSFORM),
    ),
    head(
        "head with transform, silu, biasless",
        "head transform",
        Whole(HEAD, transform=replace(TRANSFORM, activation="silu", bias=False)),
        Whole(HEAD, transform=TRANSFORM),
    ),
]
