"""Variants of the normalisations, for the conformance session."""

from __future__ import annotations

from typing import Any

import torch

from ttt_norm import LayerNorm, NormSpec, NormType, RMSNorm
from ttt_testing.variants import Precision, Variant, seeded

DIM = 96
EPS = 1e-5


def build(spec: NormSpec, mesh: Any, precision: Precision) -> Any:
    weight = seeded("weight", spec.dim).numpy() if spec.weight else None
    bias = seeded("bias", spec.dim, scale=0.3).numpy() if spec.bias else None
    if spec.kind is NormType.RMS:
        return RMSNorm(spec, weight, device=mesh)
    return LayerNorm(spec, weight, bias, device=mesh)


def reference(spec: NormSpec) -> Any:
    """Source: arXiv 1910.07467 eq 4, arXiv 1607.06450 eq 4."""
    weight = seeded("weight", spec.dim) if spec.weight else torch.ones(spec.dim)
    bias = seeded("bias", spec.dim, scale=0.3) if spec.bias else torch.zeros(spec.dim)

    def forward(x: torch.Tensor) -> torch.Tensor:
        if spec.kind is NormType.LAYER:
            x = x - x.mean(-1, keepdim=True)
        return x * (x.square().mean(-1, keepdim=True) + spec.eps).rsqrt() * (spec.offset + weight) + bias

    return forward


def variant(name: str, feature: str, spec: NormSpec, without: NormSpec | None) -> Variant:
    return Variant(
        name=name,
        feature=feature,
        protocol="norm",
        spec=spec,
        without=without,
        build=build,
        reference=reference,
    )


RMS = NormSpec(dim=DIM, eps=EPS)
LAYER = NormSpec(dim=DIM, eps=EPS, kind=NormType.LAYER, bias=True)
PLAIN = NormSpec(dim=DIM, eps=EPS, weight=False)
VARIANTS = [
    variant("rms norm", "RMSNorm", RMS, NormSpec(dim=DIM, eps=EPS, kind=NormType.LAYER)),
    variant("rms norm, eps", "norm eps", NormSpec(dim=DIM, eps=0.1), RMS),
    variant("rms norm, 1 + weight", "RMS(1+w)", NormSpec(dim=DIM, eps=EPS, offset=1), RMS),
    variant("rms norm, weightless", "weightless norm", PLAIN, RMS),
    variant("rms norm of 80 elements", "norm of broken tiles", NormSpec(dim=80, eps=EPS), NormSpec(dim=80, eps=0.1)),
    variant("layer norm", "LayerNorm", LAYER, RMS),
    variant("layer norm, biasless", "biasless LayerNorm", NormSpec(dim=DIM, eps=EPS, kind=NormType.LAYER), LAYER),
    variant(
        "layer norm, 1 + weight", "LN(1+w)", NormSpec(dim=DIM, eps=EPS, kind=NormType.LAYER, offset=1, bias=True), LAYER
    ),
    variant(
        "layer norm, weightless",
        "weightless norm",
        NormSpec(dim=DIM, eps=EPS, kind=NormType.LAYER, weight=False),
        LAYER,
    ),
]
