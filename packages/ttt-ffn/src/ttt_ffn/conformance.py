"""Small blocks of this package with what they compute, for `ttt conformance`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import erf
from typing import Any

import numpy as np

from ttt_ffn.experts import MoE
from ttt_ffn.gated import GatedMLP, GeGLU, SwiGLU
from ttt_ffn.plain import MLP

__all__ = ["gated_mlp", "geglu", "make_gated", "make_mlp", "make_moe", "mlp", "moe", "swiglu"]

Reference = Callable[[Any], Any]


def silu(z: Any) -> Any:
    return z / (1 + np.exp(-z))


def gelu(z: Any) -> Any:
    return 0.5 * z * (1 + np.vectorize(erf)(z / 2**0.5))


def gelu_tanh(z: Any) -> Any:
    return 0.5 * z * (1 + np.tanh((2 / np.pi) ** 0.5 * (z + 0.044715 * z**3)))


ACTIVATIONS: dict[str, Reference] = {"silu": silu, "gelu": gelu, "gelu_tanh": gelu_tanh}


def make_gated(
    mesh: Any, *, block: type[GatedMLP], activation: str, bias: bool = False, hidden_dim: int = 96, seed: int = 0
) -> tuple[GatedMLP, Reference]:
    """A gated block with random weights, and the same in NumPy."""
    given = _weights(hidden_dim, ("gate", "up", "down"), bias=bias, seed=seed)
    made = block(hidden_dim=hidden_dim, intermediate_dim=INNER, activation=activation, bias=bias, device=mesh, **given)

    def reference(x: Any) -> Any:
        values = np.asarray(x)
        gate, up = _linear(values, given, "gate"), _linear(values, given, "up")
        return _linear(ACTIVATIONS[activation](gate) * up, given, "down").astype(np.float32)

    return made, reference


def make_mlp(mesh: Any, *, hidden_dim: int = 96, seed: int = 0) -> tuple[MLP, Reference]:
    """A block without a gate, with biases, and the same in NumPy."""
    given = _weights(hidden_dim, ("up", "down"), bias=True, seed=seed)
    made = MLP(hidden_dim=hidden_dim, intermediate_dim=INNER, activation="gelu", bias=True, device=mesh, **given)

    def reference(x: Any) -> Any:
        return _linear(gelu(_linear(np.asarray(x), given, "up")), given, "down").astype(np.float32)

    return made, reference


def make_moe(mesh: Any, *, hidden_dim: int = 96, seed: int = 0) -> tuple[MoE, Reference]:
    """Four experts of which two are active, and the same in NumPy: E experts, of which A are active."""
    each = [_weights(hidden_dim, ("gate", "up", "down"), bias=False, seed=seed + expert) for expert in range(4)]
    router = np.random.default_rng(seed + 9).standard_normal((4, hidden_dim)).astype(np.float32)
    more: dict[str, Any] = {role: [weights[role] for weights in each] for role in ("gate", "up", "down")}
    more |= {"hidden_dim": hidden_dim, "intermediate_dim": INNER}
    made = MoE(experts=4, active=2, device=mesh, router=router, **more)

    def expert(x: Any, weights: dict[str, Any]) -> Any:
        return _linear(silu(_linear(x, weights, "gate")) * _linear(x, weights, "up"), weights, "down")

    def reference(x: Any) -> Any:
        values = np.asarray(x)
        scores_E = values @ router.T
        best_A = np.argsort(-scores_E, -1)[..., :2]
        weights_A = np.exp(np.take_along_axis(scores_E, best_A, -1))
        weights_A /= weights_A.sum(-1, keepdims=True)
        routing_E = np.zeros_like(scores_E)
        np.put_along_axis(routing_E, best_A, weights_A, -1)
        made_E = [expert(values, weights) for weights in each]
        return sum(routing_E[..., e, None] * result for e, result in enumerate(made_E))

    return made, reference


INNER = 320  # of all


def _weights(hidden_dim: int, roles: tuple[str, ...], *, bias: bool, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    shapes = {role: (hidden_dim, INNER) if role == "down" else (INNER, hidden_dim) for role in roles}
    given = {
        role: (random.standard_normal(shape) / shape[1] ** 0.5).astype(np.float32) for role, shape in shapes.items()
    }
    biases = {f"{role}_bias": random.standard_normal(shape[0]).astype(np.float32) for role, shape in shapes.items()}
    return given | (biases if bias else {})


def _linear(x: Any, weights: dict[str, Any], role: str) -> Any:
    return x @ weights[role].T + weights.get(f"{role}_bias", 0)


def _entry(make: Callable[..., Any], **how: Any) -> dict[str, Any]:
    return {"protocol": "feed_forward", "make": partial(make, **how), "tolerance": 1e-4}


swiglu = _entry(make_gated, block=SwiGLU, activation="silu")
"""The entry of `SwiGLU`."""
geglu = _entry(make_gated, block=GeGLU, activation="gelu_tanh")
"""The entry of `GeGLU`."""
gated_mlp = _entry(make_gated, block=GatedMLP, activation="gelu", bias=True)
"""The entry of `GatedMLP`, with biases."""
mlp = _entry(make_mlp)
"""The entry of `MLP`."""
moe = _entry(make_moe)
"""The entry of `MoE`."""
