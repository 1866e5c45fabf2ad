"""Variants of the feed-forward blocks, for the conformance session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from transformers.models.phimoe.modeling_phimoe import sparsemixer

from ttt_ffn import MLP, ActivationType, FFNSpec, GatedMLP, MoE, MoESpec, ffn_request
from ttt_ffn.requests import PROFILES
from ttt_hw import DType, Plans, board_of, given_or_own, typical
from ttt_testing.variants import Precision, Variant, seeded

WIDTH, INNER = 256, 352
ACTIVATIONS: dict[ActivationType, Callable[[torch.Tensor], torch.Tensor]] = {
    ActivationType.SILU: torch.nn.functional.silu,
    ActivationType.GELU: torch.nn.functional.gelu,
    ActivationType.GELU_TANH: lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    ActivationType.QUICK_GELU: lambda x: x * (1.702 * x).sigmoid(),
    ActivationType.RELU: torch.relu,
    ActivationType.RELU2: lambda x: torch.relu(x).square(),
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
        if not spec.gated:
            inner = ACTIVATIONS[spec.activation](up)
        else:
            gate = torch.nn.functional.linear(x, w["gate"], w.get("gate_bias")) * spec.gate_multiplier
            if spec.limit is not None:
                gate, up = gate.clamp(max=spec.limit), up.clamp(-spec.limit, spec.limit)
            inner = ACTIVATIONS[spec.activation](spec.steepness * gate) / spec.steepness * (up + spec.up_offset)
        return torch.nn.functional.linear(inner, w["down"], w.get("down_bias")) * spec.down_multiplier

    return forward


def variant(name: str, feature: str, spec: Any, without: Any, **more: Any) -> Variant:
    given = {"build": build, "reference": reference, "tolerance": 1e-5, **more}  # kinds of gelu differ by 1e-4
    return Variant(name=name, feature=feature, protocol="feed_forward", spec=spec, without=without, **given)


GATED = FFNSpec(hidden_dim=WIDTH, intermediate_dim=INNER)
PLAIN = replace(GATED, gated=False, activation=ActivationType.GELU)
OTHERS = [
    (ActivationType.GELU, ActivationType.GELU_TANH),
    (ActivationType.GELU_TANH, ActivationType.GELU),
    (ActivationType.QUICK_GELU, ActivationType.GELU),
    (ActivationType.RELU, ActivationType.RELU2),
    (ActivationType.RELU2, ActivationType.RELU),
]
CLAMPED = replace(GATED, limit=0.4, steepness=1.702, up_offset=1.0)
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
            f"{kind} mlp, {activation.value}, not {other.value}",
            "activation other than silu",
            replace(base, activation=activation),
            replace(base, activation=other),
        )
        for kind, base in (("gated", GATED), ("plain", PLAIN))
        for activation, other in OTHERS
        if (base.gated, activation) != (True, ActivationType.RELU2)  # no model has it
    ),
    variant("gated mlp with biases", "linear bias", replace(GATED, bias=True), GATED),
    variant("plain mlp with biases", "linear bias", replace(PLAIN, bias=True), PLAIN),
    variant("gated mlp, limited", "clamped swiglu", CLAMPED, replace(CLAMPED, limit=None)),
    variant("gated mlp, steep", "clamped swiglu", CLAMPED, replace(CLAMPED, steepness=1.0)),
    variant("gated mlp, up + 1", "clamped swiglu", CLAMPED, replace(CLAMPED, up_offset=0.0)),
    variant(
        "gated mlp, gate times 0.7",
        "FFN multipliers",
        replace(GATED, bias=True, gate_multiplier=0.7),
        replace(GATED, bias=True),
    ),
    variant(
        "gated mlp, down times 0.6",
        "FFN multipliers",
        replace(GATED, bias=True, down_multiplier=0.6),
        replace(GATED, bias=True),
    ),
]


def expert_weights(spec: MoESpec) -> dict[str, Any]:
    """Experts are alike but for a tenth: where rounding turns a close choice, which is a row in fifty, that costs little."""
    common = weights(spec.ffn)
    own = [weights(spec.ffn, f"expert {expert} ") for expert in range(spec.experts)]
    found: dict[str, Any] = {role: [common[role] + 0.1 * expert[role] for expert in own] for role in common}
    found["router"] = 3 * seeded("router", spec.experts, spec.hidden_dim)
    if spec.router_bias:
        found["router_bias"] = seeded("router bias", spec.experts, scale=0.5)
    if spec.selection_bias:
        found["selection_bias"] = seeded("selection bias", spec.experts, scale=0.3)
    if spec.shared is not None:
        found |= {f"shared_{role}": weight for role, weight in weights(spec.shared, "shared ").items()}
    if spec.gate_shared:
        found["shared_router"] = 3 * seeded("shared router", 1, spec.hidden_dim)
    return found


def build_experts(spec: MoESpec, mesh: Any, precision: Precision) -> Any:
    given = {
        role: [each.numpy() for each in weight] if isinstance(weight, list) else weight.numpy()
        for role, weight in expert_weights(spec).items()
    }
    return MoE(spec, **given, device=mesh, plans=plans(spec, mesh, precision))


def routing(spec: MoESpec, logits: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Logits [rows, experts] → weights. Source: MixtralTopKRouter, DeepseekV3TopkRouter, sparsemixer of transformers."""
    if spec.logit_cap is not None:
        logits = spec.logit_cap * (logits / spec.logit_cap).tanh()
    if spec.score == "sparsemixer":
        mixed, experts_chosen = sparsemixer(logits, spec.jitter, training=False, top_k=spec.active)
        return torch.zeros_like(logits).scatter(-1, experts_chosen, mixed * spec.scale)
    scores = logits.softmax(-1) if spec.score == "softmax" else logits.sigmoid()
    choice = scores if bias is None else scores + bias
    if spec.groups > 1:
        grouped = choice.unflatten(-1, (spec.groups, -1))
        worth = grouped.topk(2 if spec.group_score == "top2" else 1, -1).values.sum(-1)
        kept = torch.zeros_like(worth).scatter(-1, worth.topk(spec.active_groups, -1).indices, 1.0)
        choice = grouped.masked_fill(kept[..., None] == 0, -torch.inf).flatten(-2)
    chosen = choice.topk(spec.active, -1).indices
    values = scores.gather(-1, chosen)
    values = values / values.sum(-1, keepdim=True) if spec.renormalise else values
    return torch.zeros_like(scores).scatter(-1, chosen, values * spec.scale)


def expert_reference(spec: MoESpec) -> Callable[[torch.Tensor], torch.Tensor]:
    """Every expert computes every row, and each row takes its own."""
    w = expert_weights(spec)
    roles = weights(spec.ffn).keys()
    each = [reference(spec.ffn, {role: w[role][expert] for role in roles}) for expert in range(spec.experts)]
    shared = None
    if spec.shared is not None:
        shared = reference(spec.shared, {role: w[f"shared_{role}"] for role in weights(spec.shared)})

    def forward(x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        shares = routing(
            spec, torch.nn.functional.linear(rows, w["router"], w.get("router_bias")), w.get("selection_bias")
        )
        if spec.weigh_input:
            y = torch.stack(
                [expert(share * rows) for expert, share in zip(each, shares.T[..., None], strict=True)]
            ).sum(0)
        else:
            y = (shares[..., None] * torch.stack([expert(rows) for expert in each], 1)).sum(1)
        if shared is not None:
            y = y + shared(rows) * ((rows @ w["shared_router"].T).sigmoid() if spec.gate_shared else 1.0)
        return y.reshape(x.shape)

    return forward


def experts(name: str, feature: str, spec: MoESpec, without: MoESpec) -> Variant:
    return variant(name, feature, spec, without, build=build_experts, reference=expert_reference, one_axis=True)


MIXTURE = MoESpec(experts=8, active=2, ffn=replace(GATED, intermediate_dim=256))
SIGMOID = replace(MIXTURE, score="sigmoid")
BIASED = replace(SIGMOID, selection_bias=True)
GROUPS = replace(SIGMOID, experts=16, active=4, groups=4, active_groups=2)
V3 = replace(GROUPS, selection_bias=True, group_score="top2", scale=2.5, shared=replace(GATED, intermediate_dim=128))
OSS = replace(MIXTURE, router_bias=True, ffn=replace(CLAMPED, intermediate_dim=256, bias=True))
MIXED = replace(MIXTURE, score="sparsemixer", jitter=0.2)
CAPPED = replace(MIXTURE, logit_cap=2.0)
WEIGHED = replace(SIGMOID, active=1, renormalise=False, weigh_input=True)  # Llama 4's
WEIGHED_PLAIN = replace(WEIGHED, active=2, ffn=replace(PLAIN, intermediate_dim=256))
SHARED = replace(MIXTURE, shared=replace(GATED, intermediate_dim=192))
VARIANTS += [
    experts("experts, two of eight", "MoE", MIXTURE, replace(MIXTURE, active=1)),
    experts(
        "experts, one of eight, by sigmoid",
        "sigmoid routing",
        replace(SIGMOID, active=1, renormalise=False),
        replace(MIXTURE, active=1, renormalise=False),
    ),
    experts(
        "experts, softmax of all", "routing weights not renormalised", replace(MIXTURE, renormalise=False), MIXTURE
    ),
    experts("experts by sigmoid", "sigmoid routing", SIGMOID, MIXTURE),
    experts(
        "experts by sigmoid, not renormalised",
        "routing weights not renormalised",
        replace(SIGMOID, renormalise=False),
        SIGMOID,
    ),
    experts("experts by sigmoid and bias", "bias routing", BIASED, SIGMOID),
    experts(
        "experts by softmax and bias",
        "bias routing",
        replace(BIASED, score="softmax"),
        replace(MIXTURE, selection_bias=False),
    ),
    experts("experts, weights times 2.5", "routing scale", replace(MIXTURE, scale=2.5), MIXTURE),
    experts("experts by sigmoid, weights times 2.5", "routing scale", replace(SIGMOID, scale=2.5), SIGMOID),
    experts("experts of groups by their maximum", "expert groups", GROUPS, replace(GROUPS, groups=1, active_groups=1)),
    experts(
        "experts of groups by softmax",
        "expert groups",
        replace(GROUPS, score="softmax", renormalise=False),
        replace(GROUPS, score="softmax", renormalise=False, groups=1, active_groups=1),
    ),
    experts("experts of groups by their best two", "expert groups", V3, replace(V3, group_score="max")),
    experts("experts of groups by bias", "bias routing", V3, replace(V3, selection_bias=False)),
    experts("experts by sparsemixer", "sparsemixer", MIXED, MIXTURE),
    experts("experts by sparsemixer, jitter", "sparsemixer", MIXED, replace(MIXED, jitter=0.01)),
    experts("experts, router capped", "router soft-cap", CAPPED, replace(CAPPED, logit_cap=None)),
    experts("experts, inputs weighed", "router weight on the input", WEIGHED, replace(WEIGHED, weigh_input=False)),
    experts(
        "experts without gates, inputs weighed",
        "router weight on the input",
        WEIGHED_PLAIN,
        replace(WEIGHED_PLAIN, weigh_input=False),
    ),
    experts("experts and one shared", "shared experts", SHARED, MIXTURE),
    experts("experts and one shared of groups", "shared experts", V3, replace(V3, shared=None)),
    experts("experts and one shared that is gated", "gated shared experts", replace(SHARED, gate_shared=True), SHARED),
    experts("experts with biases", "biases of experts", OSS, replace(OSS, ffn=replace(OSS.ffn, bias=False))),
    experts("experts, router with bias", "router bias", OSS, replace(OSS, router_bias=False)),
    experts("experts, limited", "clamped swiglu", OSS, replace(OSS, ffn=replace(OSS.ffn, limit=None))),
    experts(
        "experts without gates",
        "plain MLP experts",
        replace(MIXTURE, ffn=replace(PLAIN, intermediate_dim=256, activation=ActivationType.RELU2)),
        replace(MIXTURE, ffn=replace(PLAIN, intermediate_dim=256, activation=ActivationType.RELU)),
    ),
    experts(
        "experts without gates, gelu",
        "plain MLP experts",
        replace(MIXTURE, ffn=replace(PLAIN, intermediate_dim=256, bias=True)),
        MIXTURE,
    ),
    experts(
        "experts, 128 of which 8",
        "MoE",
        replace(MIXTURE, experts=128, active=8, ffn=replace(GATED, intermediate_dim=32)),
        replace(MIXTURE, experts=128, active=4, ffn=replace(GATED, intermediate_dim=32)),
    ),
]
