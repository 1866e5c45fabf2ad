"""SwiGLU against transformers' LlamaMLP.

Tolerance: weights of size 1/√k keep every intermediate near 1; sums of k products in float32 err by 1e-6 in practice, 1e-4 is
asked.
"""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP

from ttt_core import FeedForward, SpecError, WeightError
from ttt_ffn import ActivationType, FFNSpec, SwiGLU
from ttt_hw import upload
from ttt_testing import max_difference, pcc, shadow

SIZES = [(72, 100), (96, 160), (576, 1536), (2048, 640)]  # hidden, intermediate


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def mlp(hidden: int, inner: int) -> LlamaMLP:
    module = LlamaMLP(LlamaConfig(hidden_size=hidden, intermediate_size=inner, num_attention_heads=1))
    for seed, weight in enumerate(module.parameters()):
        weight.data = random(*weight.shape, seed=seed) * weight.shape[1] ** -0.5
    return module


def block(module: LlamaMLP, mesh: Any, dtype: Any = "bfloat8_b") -> SwiGLU:
    weights = {name: getattr(module, f"{name}_proj").weight.detach().numpy() for name in ("gate", "up", "down")}
    inner, hidden = weights["gate"].shape
    return SwiGLU(FFNSpec(hidden_dim=hidden, intermediate_dim=inner), **weights, device=mesh, dtype=dtype)


@torch.no_grad()
@pytest.mark.parametrize(("hidden", "inner"), SIZES)
@pytest.mark.parametrize(
    ("rounding", "dtype"), [("none", "bfloat8_b"), ("device", "bfloat16"), ("device", "bfloat8_b")]
)
def test_equals_transformers(
    hidden: int, inner: int, rounding: Literal["none", "device"], dtype: str, mesh: Any
) -> None:
    theirs = mlp(hidden, inner)
    ours = block(theirs, mesh, dtype)
    with shadow(rounding) as values:
        for forward, rows in [("prefill", n) for n in (1, 31, 33, 128)] + [("decode", n) for n in (1, 3, 32)]:
            x = random(1, 1, rows, hidden)
            actual = values.to_torch(getattr(ours, f"{forward}_forward")(upload(x.numpy(), mesh, dtype="bfloat16")))
            assert actual.shape == x.shape
            if rounding == "none":
                assert max_difference(actual, theirs(x)) < 1e-4
            else:
                assert pcc(actual, theirs(x)) > (0.999 if dtype == "bfloat16" else 0.99)


def test_keeps_the_protocol(mesh: Any) -> None:
    ffn: FeedForward = block(mlp(32, 64), mesh)
    assert isinstance(ffn, FeedForward)


@pytest.mark.parametrize(("name", "found", "wanted"), [
    ("gate", [40, 32], [64, 32]), ("up", [32, 64], [64, 32]), ("down", [64, 32], [32, 64]),
])  # fmt: skip
def test_a_weight_of_another_shape_is_refused(name: str, found: list[int], wanted: list[int], mesh: Any) -> None:
    weights = {"gate": random(64, 32), "up": random(64, 32), "down": random(32, 64)}
    weights[name] = random(*found)
    with pytest.raises(WeightError) as caught:
        SwiGLU(
            FFNSpec(hidden_dim=32, intermediate_dim=64), **{key: w.numpy() for key, w in weights.items()}, device=mesh
        )
    assert str(caught.value) == (
        f"the {name} weight has shape {found}, but {wanted} is wanted for the {name} weight. "
        "The config and the weights do not belong together."
    )


def test_a_spec_out_of_range_is_refused() -> None:
    with pytest.raises(SpecError, match=r"FFNSpec\(hidden_dim=0, intermediate_dim=5\): both must be at least 1\."):
        FFNSpec(hidden_dim=0, intermediate_dim=5)
    with pytest.raises(SpecError):
        FFNSpec(hidden_dim=5, intermediate_dim=0)


def test_another_activation_is_refused(mesh: Any) -> None:
    spec = FFNSpec(hidden_dim=32, intermediate_dim=64, activation=ActivationType.GELU)
    weights = {"gate": random(64, 32).numpy(), "up": random(64, 32).numpy(), "down": random(32, 64).numpy()}
    with pytest.raises(SpecError) as caught:
        SwiGLU(spec, **weights, device=mesh)
    assert str(caught.value) == "SwiGLU gates with silu, the spec says gelu. Use the block of that activation."
