"""Variants of the feed-forward blocks, for the conformance session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ttt_ffn import MLP, ActivationType, FFNSpec, GatedMLP, MoE, MoESpec, ffn_request
from ttt_ffn.requests import PROFILES
from ttt_hw import DType, Plans, board_of, given_or_own, typical
from ttt_testing.variants import Precision, Variant, seeded

WIDTH, INNER = 128, 352
ACTIVATIONS: dict[ActivationType, Callable[[torch.Tensor], torch.Tensor]] = {
    ActivationType.SILU: torch.nn.functional.silu,
    ActivationType.GELU: torch.nn.functional.gelu,
    ActivationType.GELU_TANH: lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
}


def plans(spec: FFNSpec | MoESpec, mesh: Any, precision: Precision) -> Plans:
    """With every weight in bfloat16, or as the performance profile has them."""
    dtypes: dict[str, DType] = dict.fromkeys(PROFILES["performance"], "bfloat16")
    if precision == "performance":
        dtypes = PROFILES["performance"]
    return given_or_own(
        None, lambda work: ffn_request(spec, work, dtypes), board_of(mesh), typical=typical(), overrides=None
    )


def weights(spec: FFNSpec, prefix: str = "") -> dict[str, torch.Tensor]:
    shapes = {"up": (spec.intermediate_dim, spec.hidden_dim), "down": (spec.hidden_dim, spec.intermediate_dim)}
    if spec.gated:
        shapes["gate"] = shapes["up"]
    found = {role: seeded(f"{prefix}{role}", *shape) for role, shape in shapes.items()}
    if spec.bias:
        found |= {f"{role}_bias": seeded(f"{prefix}{role} bias", rows, scale=0.3) for role, (rows, _) in shapes.items()}
    return found


def build(spec: FFNSpec, mesh: Any, precision: Precision) -> Any:
    kind = GatedMLP if spec.gated else MLP
    given = {role: weight.numpy() for role, weight in weights(spec).items()}
    return kind(spec, **given, device=mesh, plans=plans(spec, mesh, precision))


def reference(spec: FFNSpec, given: dict[str, torch.Tensor] | None = None) -> Callable[[torch.Tensor], torch.Tensor]:
    """Source: arXiv 1706.03762 eq 2, arXiv 2002.05202 eq 5."""
    w = weights(spec) if given is None else given

    def forward(x: torch.Tensor) -> torch.Tensor:
        up = torch.nn.functional.linear(x, w["up"], w.get("up_bias"))
        inner = up
        if spec.gated:
            inner = torch.nn.functional.linear(x, w["gate"], w.get("gate_bias"))
        inner = ACTIVATIONS[spec.activation](inner)
        inner = inner * up if spec.gated else inner
        return torch.nn.functional.linear(inner, w["down"], w.get("down_bias"))

    return forward


def variant(name: str, feature: str, spec: Any, without: Any, **more: Any) -> Variant:
    given = {"build": build, "reference": reference, **more}
    return Variant(name=name, feature=feature, protocol="feed_forward", spec=spec, without=without, **given)


GATED = FFNSpec(hidden_dim=WIDTH, intermediate_dim=INNER)
PLAIN = replace(GATED, gated=False, activation=ActivationType.GELU)
VARIANTS = [
    variant("gated mlp, silu", "gated FFN", GATED, replace(GATED, gated=False)),
    variant("plain mlp, gelu", "plain MLP", PLAIN, replace(PLAIN, gated=True)),
    variant(
        "gated mlp, broken tiles",
        "FFN of broken tiles",
        replace(GATED, intermediate_dim=200),
        replace(GATED, gated=False),
    ),
    *(
        variant(
            f"{'gated' if base.gated else 'plain'} mlp, {activation.value}, not {other.value}",
            "activation",
            replace(base, activation=activation),
            replace(base, activation=other),
        )
        for base in (GATED, PLAIN)
        for activation, other in [
            (ActivationType.GELU, ActivationType.GELU_TANH),
            (ActivationType.GELU_TANH, ActivationType.GELU),
        ]
    ),
    variant("gated mlp with biases", "linear bias", replace(GATED, bias=True), GATED),
    variant("plain mlp with biases", "linear bias", replace(PLAIN, bias=True), PLAIN),
]


def expert_weights(spec: MoESpec) -> dict[str, Any]:
    """Experts are alike but for a third: where rounding turns a close choice, a row in hundreds, that costs little."""
    common = weights(spec.ffn)
    own = [weights(spec.ffn, f"expert {expert} ") for expert in range(spec.experts)]
    found: dict[str, Any] = {role: [common[role] + 0.3 * expert[role] for expert in own] for role in common}
    return found | {"router": 3 * seeded("router", spec.experts, spec.hidden_dim)}


def build_experts(spec: MoESpec, mesh: Any, precision: Precision) -> Any:
    given = expert_weights(spec)
    arrays = {role: [w.numpy() for w in given[role]] for role in given if role != "router"}
    return MoE(spec, router=given["router"].numpy(), **arrays, device=mesh, plans=plans(spec, mesh, precision))


def expert_reference(spec: MoESpec) -> Callable[[torch.Tensor], torch.Tensor]:
    """Each row's experts one by one. Source: arXiv 2401.04088 section 2.1."""
    w = expert_weights(spec)
    router = w.pop("router")
    experts = [reference(spec.ffn, {role: w[role][expert] for role in w}) for expert in range(spec.experts)]

    def forward(x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        values, chosen = (rows @ router.T).topk(spec.active, -1)
        shares = torch.zeros(len(rows), spec.experts).scatter(-1, chosen, values.softmax(-1))
        results = torch.stack([expert(rows) for expert in experts], 1)
        return (shares[..., None] * results).sum(1).reshape(x.shape)

    return forward


def experts(name: str, feature: str, spec: MoESpec, without: MoESpec) -> Variant:
    return variant(name, feature, spec, without, build=build_experts, reference=expert_reference, one_axis=True)


MIXTURE = MoESpec(experts=8, active=2, ffn=FFNSpec(hidden_dim=WIDTH, intermediate_dim=256))
VARIANTS += [
    experts("mixture of experts", "MoE", MIXTURE, replace(MIXTURE, active=1)),
]
