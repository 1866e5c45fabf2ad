"""RMSNorm against transformers' LlamaRMSNorm, LayerNorm against torch.

Tolerance: the mean of k squares in float32 is off by at most k·2⁻²⁴ relative, 1.2e-4 for k = 2048 in the worst order and
1e-6 in practice; outputs are below 10, and 1e-4 is asked.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from ttt_core import Norm, SpecError, WeightError
from ttt_hw import upload
from ttt_norm import LayerNorm, NormSpec, NormType, RMSNorm
from ttt_testing import max_difference, pcc, shadow

DIMS = [72, 96, 576, 2048]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def pair(dim: int, mesh: Any, eps: float = 1e-5) -> tuple[RMSNorm, LlamaRMSNorm]:
    weight = 1 + 0.2 * random(dim)
    theirs = LlamaRMSNorm(dim, eps=eps)
    theirs.load_state_dict({"weight": weight})
    return RMSNorm(NormSpec(dim=dim, eps=eps), weight.numpy(), device=mesh), theirs


@torch.no_grad()
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize(
    ("forward", "rows"), [("prefill", n) for n in (1, 31, 33, 128)] + [("decode", n) for n in (1, 3, 32)]
)
def test_equals_transformers(dim: int, forward: str, rows: int, mesh: Any) -> None:
    ours, theirs = pair(dim, mesh)
    x = 3 * random(1, 1, rows, dim)
    for rounding in ("none", "device"):
        with shadow(rounding) as values:  # type: ignore[arg-type]
            y = getattr(ours, f"{forward}_forward")(upload(x.numpy(), mesh, dtype="bfloat16"))
            actual = values.to_torch(y)
        assert actual.shape == x.shape
        if rounding == "none":
            assert max_difference(actual, theirs(x)) < 1e-4
        else:
            assert pcc(actual, theirs(x)) > 0.999


@torch.no_grad()
@pytest.mark.parametrize("eps", [1e-6, 0.1])
def test_eps_is_the_specs(eps: float, mesh: Any) -> None:
    ours, theirs = pair(96, mesh, eps)
    x = 1e-2 * random(1, 1, 32, 96)  # mean square 1e-4: between the two
    with shadow() as values:
        actual = values.to_torch(ours.prefill_forward(upload(x.numpy(), mesh, dtype="bfloat16")))
    assert max_difference(actual, theirs(x)) < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("dim", [72, 2048])
@pytest.mark.parametrize(("weight", "bias"), [(True, True), (True, False), (False, False)])
def test_layer_norm_equals_torch(dim: int, weight: bool, bias: bool, mesh: Any) -> None:
    spec = NormSpec(dim=dim, kind=NormType.LAYER, weight=weight, bias=bias)
    w, b = 1 + 0.2 * random(dim), random(dim, seed=1)
    ours = LayerNorm(spec, w.numpy() if weight else None, b.numpy() if bias else None, device=mesh)
    assert isinstance(ours, Norm)
    assert len(ours.weights) == weight + bias
    x = 3 + 3 * random(1, 1, 33, dim)
    expected = torch.nn.functional.layer_norm(x, (dim,), w if weight else None, b if bias else None)
    with shadow() as values:
        for forward, rows in ((ours.prefill_forward, 33), (ours.decode_forward, 32)):
            y = values.to_torch(forward(upload(x[:, :, :rows].numpy(), mesh, dtype="bfloat16")))
            assert max_difference(y, expected[:, :, :rows]) < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("kind", list(NormType))
def test_an_offset_is_added_to_the_weight(kind: NormType, mesh: Any) -> None:
    weight, x = 0.2 * random(96), random(1, 1, 32, 96)
    norms = {NormType.RMS: RMSNorm, NormType.LAYER: LayerNorm}
    ours = norms[kind](NormSpec(dim=96, kind=kind, offset=1), weight.numpy(), device=mesh)
    plain = norms[kind](NormSpec(dim=96, kind=kind), (1 + weight).numpy(), device=mesh)
    with shadow() as values:
        y, expected = (
            values.to_torch(norm.decode_forward(upload(x.numpy(), mesh, dtype="bfloat16"))) for norm in (ours, plain)
        )
    assert max_difference(y, expected) < 1e-6


def test_where_results_lie(mesh: Any) -> None:
    import ttnn

    ours, _ = pair(96, mesh)
    x = upload(random(1, 1, 32, 96).numpy(), mesh, dtype="bfloat16")
    assert ours.prefill_forward(x).memory_config().buffer_type == ttnn.BufferType.DRAM  # type: ignore[attr-defined]
    assert ours.decode_forward(x).memory_config().buffer_type == ttnn.BufferType.L1  # type: ignore[attr-defined]


def test_keeps_the_protocol(mesh: Any) -> None:
    norm: Norm = pair(96, mesh)[0]
    assert isinstance(norm, Norm)


@pytest.mark.parametrize("shape", [(95,), (1, 96), (96, 1), ()])
def test_a_weight_of_another_shape_is_refused(shape: tuple[int, ...], mesh: Any) -> None:
    with pytest.raises(WeightError) as caught:
        RMSNorm(NormSpec(dim=96), torch.ones(shape).numpy(), device=mesh)
    assert str(caught.value) == (
        f"the norm's weight has shape {list(shape)}, but [96] is wanted for the norm's weight. "
        "The config and the weights do not belong together."
    )


@pytest.mark.parametrize(("dim", "eps"), [(0, 1e-5), (-1, 1e-5), (8, 0.0), (8, -1.0), (8, float("nan"))])
def test_a_spec_out_of_range_is_refused(dim: int, eps: float) -> None:
    with pytest.raises(SpecError, match=rf"NormSpec\(dim={dim}, eps={eps}\): dim must be at least 1 and eps "):
        NormSpec(dim=dim, eps=eps)
