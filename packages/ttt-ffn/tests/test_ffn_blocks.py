"""MLP, GatedMLP, GeGLU and MoE against torch.

Tolerance: float32 sums of up to 100 products in another order; outputs are below 10, and 1e-4 is asked.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import gelu, linear, silu

from ttt_core import FeedForward, SpecError, WeightError
from ttt_ffn import MLP, ActivationType, FFNSpec, GatedMLP, GeGLU, MoE, MoESpec, SwiGLU, requests
from ttt_hw import board, upload
from ttt_testing import max_difference, shadow

HIDDEN, INNER, EXPERTS = 96, 100, 4
ACTIVATIONS: dict[ActivationType, Any] = {
    ActivationType.SILU: silu,
    ActivationType.GELU: gelu,
    ActivationType.GELU_TANH: lambda x: gelu(x, approximate="tanh"),
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
