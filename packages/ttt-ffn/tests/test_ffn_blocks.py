"""MLP, GatedMLP, GeGLU and MoE against torch.

Tolerance: float32 sums of up to 100 products in another order; outputs are below 10, and 1e-4 is asked.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import gelu, linear, silu

from ttt_core import FeedForward, SpecError, WeightError
from ttt_ffn import MLP, ActivationType, FFNSpec, GatedMLP, GeGLU, MoE, MoESpec, SwiGLU, requests
from ttt_hw import board, upload
from ttt_testing import max_difference, shadow
from ttt_weights import RandomWeights

HIDDEN, INNER, EXPERTS = 96, 100, 4
ACTIVATIONS: dict[ActivationType, Any] = {
    ActivationType.SILU: silu,
    ActivationType.GELU: gelu,
    ActivationType.GELU_TANH: lambda x: gelu(x, approximate="tanh"),
    ActivationType.QUICK_GELU: lambda x: x * (1.702 * x).sigmoid(),
    ActivationType.RELU: torch.relu,
    ActivationType.RELU2: lambda x: torch.relu(x).square(),
}
MIXTURE = MoESpec(experts=EXPERTS, active=2, ffn=FFNSpec(hidden_dim=HIDDEN, intermediate_dim=INNER))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def parameters(*roles: str, bias: bool) -> dict[str, torch.Tensor]:
    made = {}
    for seed, role in enumerate(roles):
        rows, columns = (HIDDEN, INNER) if role == "down" else (INNER, HIDDEN)
        made[role] = 0.2 * random(rows, columns, seed=seed)
        if bias:
            made[f"{role}_bias"] = random(rows, seed=seed)
    return made


def compare(ours: FeedForward, expected: Any, mesh: Any, rows: int = 33) -> None:
    assert isinstance(ours, FeedForward)
    x = random(1, 1, rows, HIDDEN)
    with shadow() as values:
        for forward, some in ((ours.prefill_forward, rows), (ours.decode_forward, 3)):
            y = values.to_torch(forward(upload(x[:, :, : min(some, rows)].numpy(), mesh, dtype="bfloat16")))
            assert y.shape == (1, 1, min(some, rows), HIDDEN)
            assert max_difference(y, expected(x[:, :, :some])) < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("activation", list(ActivationType))
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("gated", [False, True])
def test_equals_torch(gated: bool, bias: bool, activation: ActivationType, mesh: Any) -> None:
    w = parameters(*(("gate",) if gated else ()), "up", "down", bias=bias)
    spec = FFNSpec(hidden_dim=HIDDEN, intermediate_dim=INNER, activation=activation, gated=gated, bias=bias)
    block = GatedMLP if gated else MLP
    ours: Any = block(spec, **{role: tensor.numpy() for role, tensor in w.items()}, device=mesh)
    assert len(ours.weights) == len(w)

    def expected(x: torch.Tensor) -> torch.Tensor:
        up = linear(x, w["up"], w.get("up_bias"))
        inner = (
            ACTIVATIONS[activation](linear(x, w["gate"], w.get("gate_bias"))) * up
            if gated
            else ACTIVATIONS[activation](up)
        )
        return linear(inner, w["down"], w.get("down_bias"))

    compare(ours, expected, mesh)


def mixture(mesh: Any, overrides: Any = None) -> tuple[MoE, Any]:
    experts = {
        role: [0.2 * random(*shape, seed=10 * index + expert) for expert in range(EXPERTS)]
        for index, (role, shape) in enumerate(
            (("gate", (INNER, HIDDEN)), ("up", (INNER, HIDDEN)), ("down", (HIDDEN, INNER)))
        )
    }
    router = random(EXPERTS, HIDDEN)
    weights: dict[str, Any] = {role: [tensor.numpy() for tensor in tensors] for role, tensors in experts.items()}
    ours = MoE(MIXTURE, router=router.numpy(), **weights, device=mesh, hw_config_overrides=overrides)

    def expected(x: torch.Tensor) -> torch.Tensor:
        best, where = linear(x, router).topk(2, dim=-1)
        chosen = torch.zeros(*x.shape[:-1], EXPERTS).scatter(-1, where, best.softmax(-1))
        results = [
            linear(silu(linear(x, gate)) * linear(x, up), down)
            for gate, up, down in zip(*(experts[role] for role in ("gate", "up", "down")), strict=True)
        ]
        return sum(chosen[..., [e]] * result for e, result in enumerate(results))  # type: ignore[return-value]

    return ours, expected


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 33, 64])
def test_experts_equal_torch(rows: int, mesh: Any) -> None:
    ours, expected = mixture(mesh)
    assert [weight.shape for weight in ours.weights] == [
        (1, 1, 96, 4),
        (1, 4, 96, 100),
        (1, 4, 96, 100),
        (1, 4, 100, 96),
    ]
    compare(ours, expected, mesh, rows=rows)


@torch.no_grad()
@pytest.mark.parametrize("rows", [33, 70, 96])
def test_experts_in_pieces_equal_torch(rows: int, mesh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_EXPERT_ROWS", 32)
    ours, expected = mixture(mesh)
    compare(ours, expected, mesh, rows=rows)


@torch.no_grad()
def test_experts_that_are_skipped(mesh: Any) -> None:
    """The kernel leaves out experts that no row has chosen; of a single user two of four."""
    ours, expected = mixture(mesh, {f"decode.{role}_matmul": {"skip": True} for role in ("gate", "up", "down")})
    x = random(1, 1, 1, HIDDEN)
    with shadow() as values:
        y = values.to_torch(ours.decode_forward(upload(x.numpy(), mesh, dtype="bfloat16")))
    assert max_difference(y, expected(x)) < 1e-4


def test_what_a_block_is_not_it_refuses() -> None:
    none: dict[str, Any] = dict.fromkeys(("gate", "up", "down"))
    plain, device = FFNSpec(hidden_dim=64, intermediate_dim=96, gated=False), board("n150")
    gated = FFNSpec(hidden_dim=64, intermediate_dim=96)
    with pytest.raises(SpecError, match=r"^GatedMLP is one gated feed-forward block, the spec says FFNSpec\("):
        GatedMLP(plain, **none, device=device)
    with pytest.raises(SpecError, match=r"^MLP is one feed-forward block without a gate, the spec says FFNSpec\("):
        MLP(gated, up=none["up"], down=none["down"], device=device)
    with pytest.raises(SpecError, match=r"^GeGLU gates with gelu or gelu_tanh, the spec says silu\."):
        GeGLU(gated, **none, device=device)
    with pytest.raises(SpecError, match=r"^MoE chooses among experts, the spec says FFNSpec\("):
        MoE(gated, router=none["up"], gate=[], up=[], down=[], device=device)
    with pytest.raises(
        WeightError, match=r"^gate, up and down weights of 0, 4 and 3 experts were given, the spec says 4\."
    ):
        MoE(MIXTURE, router=random(4, HIDDEN).numpy(), gate=[], up=[none] * 4, down=[none] * 3, device=device)  # type: ignore[list-item]
    assert issubclass(SwiGLU, GatedMLP)


@pytest.mark.parametrize(("bias", "given", "message"), [(True, False, "was not given"), (False, True, "was given")])
def test_biases_and_the_spec_agree(bias: bool, given: bool, message: str, mesh: Any) -> None:
    weights: dict[str, Any] = {role: tensor.numpy() for role, tensor in parameters("up", "down", bias=given).items()}
    spec = FFNSpec(hidden_dim=HIDDEN, intermediate_dim=INNER, gated=False, bias=bias)
    with pytest.raises(WeightError, match=rf"^the spec says bias={bias}, and up_bias {message}\. Give all biases, or"):
        MLP(spec, **weights, device=mesh)


@pytest.mark.parametrize(
    ("spec", "given", "message"),
    [
        ({"router_bias": True}, ["router_bias"], ""),
        (
            {"router_bias": True},
            [],
            "the spec has router_bias, and it was not given. Give what the spec has, or change it.",
        ),
        (
            {},
            ["selection_bias"],
            "the spec has no selection_bias, and it was given. Give what the spec has, or change it.",
        ),
        ({"shared": MIXTURE.ffn}, ["shared_gate", "shared_up"], "the spec has shared_down, and it was not given."),
        ({}, ["shared_router"], "the spec has no shared_router, and it was given."),
    ],
)
def test_what_experts_are_given_and_the_spec_agree(spec: Any, given: list[str], message: str, mesh: Any) -> None:
    shapes = {"router_bias": (4,), "selection_bias": (4,), "shared_router": (1, HIDDEN)}
    weights: dict[str, Any] = {"router": np.ones((4, HIDDEN), np.float32)}
    weights |= {role: [np.ones((INNER, HIDDEN), np.float32)] * 4 for role in ("gate", "up")}
    weights |= {"down": [np.ones((HIDDEN, INNER), np.float32)] * 4}
    weights |= {role: np.ones(shapes.get(role, (INNER, HIDDEN)), np.float32) for role in given}
    if not message:
        assert len(MoE(replace(MIXTURE, **spec), **weights, device=mesh).weights) == 5
        return
    with pytest.raises(WeightError) as caught:
        MoE(replace(MIXTURE, **spec), **weights, device=mesh)
    assert str(caught.value).startswith(message)


def test_experts_from_keywords_and_weights_later(mesh: Any) -> None:
    ours = MoE(
        experts=4, active=2, hidden_dim=HIDDEN, intermediate_dim=INNER, bias=True, score="sigmoid", selection_bias=True, groups=2,
        active_groups=1, shared_hidden_dim=HIDDEN, shared_intermediate_dim=64, gate_shared=True, device=mesh,
    )  # fmt: skip
    assert ours.spec.shared == FFNSpec(hidden_dim=HIDDEN, intermediate_dim=64)
    ours.load(RandomWeights())
    x = random(1, 1, 33, HIDDEN)
    with shadow() as values:
        y = values.to_torch(ours.prefill_forward(upload(x.numpy(), mesh, dtype="bfloat16")))
    assert y.shape == x.shape
    assert bool(y.isfinite().all())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": "relu"}, r"the score is softmax, sigmoid or sparsemixer, that of a group max or top2\."),
        ({"score": "sparsemixer", "selection_bias": True}, r"by their logits alone\. Leave bias and groups out\."),
        ({"score": "sparsemixer", "groups": 2}, r"by their logits alone\. Leave bias and groups out\."),
        ({"logit_cap": -1.0}, r"jitter=0\.01, logit_cap=-1\.0\): both must be above 0\."),
        ({"jitter": 0.0}, r"both must be above 0\."),
        ({"weigh_input": True, "ffn": replace(MIXTURE.ffn, bias=True)}, r"would add theirs\. Leave the biases out\."),
        ({"groups": 3}, r"groups divide the experts, 1 to all of them can be active, and the scale is above 0\."),
        ({"groups": 2, "active_groups": 3}, r"groups divide the experts"),
        ({"scale": 0.0}, r"groups divide the experts"),
        ({"gate_shared": True}, r"without one there is nothing to gate\."),
        ({"shared": FFNSpec(hidden_dim=32, intermediate_dim=64)}, r"a shared block has the experts' hidden_dim 96"),
    ],
)
def test_a_mixture_out_of_range_is_refused(change: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        replace(MIXTURE, **change)


@pytest.mark.parametrize("change", [{"limit": 0.0}, {"steepness": -1.0}, {"gated": False, "limit": 7.0}])
def test_a_block_out_of_range_is_refused(change: Any) -> None:
    with pytest.raises(SpecError, match=r"both must be above 0\.|only a gated block has them"):
        replace(MIXTURE.ffn, **change)


def test_a_shared_block_with_biases_is_refused(mesh: Any) -> None:
    spec = replace(MIXTURE, shared=replace(MIXTURE.ffn, bias=True))
    with pytest.raises(SpecError, match=r"^MoE has a shared block without biases"):
        MoE(spec, device=mesh)
