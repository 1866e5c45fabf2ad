"""Attention that a user computes: a subclass with nothing but compute_attention, in a layer, unregistered, on one chip and on
eight; and the kinds of attention that are thin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import ttnn

from ttt_attention import AttentionSpec, BaseAttention, FlashAttention, RopeSpec, SlidingWindowAttention
from ttt_core import Attention, ShapeError, SpecError
from ttt_ffn import SwiGLU
from ttt_hw import open_mesh, run_in_process, upload
from ttt_norm import RMSNorm
from ttt_patterns import DecoderLayer
from ttt_testing import max_difference, shadow

SPEC = AttentionSpec(hidden_dim=128, num_heads=16, num_kv_heads=8, head_dim=32, max_context=64, rope=RopeSpec())


class ReluAttention(BaseAttention):
    """Squares of positive scores instead of a softmax [arXiv 2202.10447]."""

    def compute_attention(self, q: Any, k: Any, v: Any, mask: Any) -> Any:
        scores = ttnn.multiply(ttnn.matmul(q, ttnn.transpose(k, -2, -1)), self.spec.scale)
        positive = ttnn.relu(ttnn.add(scores, mask))
        return ttnn.matmul(ttnn.multiply(positive, positive), v)


class Passed(BaseAttention):
    """What the base does is there for subclasses too."""

    def compute_attention(self, q: Any, k: Any, v: Any, mask: Any) -> Any:
        return super().compute_attention(ttnn.multiply(q, 2.0), k, v, mask)


def rows(x: torch.Tensor, mesh: Any) -> Any:
    return upload(x[None, None].numpy(), mesh, dtype="bfloat16")


def integers(values: list[Any], mesh: Any) -> Any:
    return upload(torch.tensor(values, dtype=torch.int32).numpy(), mesh, dtype="int32", layout="row_major")


def in_a_layer(board: str) -> float:
    with open_mesh(board, backend="mock") as mesh:
        return largest_difference(mesh)


def seeded(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * shape[-1] ** -0.5


ROWS = {"q": 512, "k": 256, "v": 256}
WEIGHTS = {name: seeded(count, 128, seed=seed) for seed, (name, count) in enumerate(ROWS.items())}
WEIGHTS["o"] = seeded(128, 512, seed=3)
GATE, UP, DOWN = seeded(256, 128, seed=4), seeded(256, 128, seed=5), seeded(128, 256, seed=6)


@torch.no_grad()
def largest_difference(mesh: Any) -> float:
    """Of a layer with ReluAttention from plain torch: a prompt of 33 tokens, then a step."""
    layer = DecoderLayer(
        attention=ReluAttention(SPEC, **{name: weight.numpy() for name, weight in WEIGHTS.items()}, device=mesh),
        ffn=SwiGLU(
            hidden_dim=128, intermediate_dim=256, gate=GATE.numpy(), up=UP.numpy(), down=DOWN.numpy(), device=mesh
        ),
        norm=RMSNorm(dim=128, eps=1e-5, weight=False, device=mesh),
        device=mesh,
    )
    x = torch.randn(34, 128, generator=torch.Generator().manual_seed(7))
    with shadow() as values:
        cache = layer.allocate_cache(users=1, context=64)
        y = layer.prefill_forward(rows(x[:33], mesh), cache=cache, positions=integers([list(range(33))], mesh))
        z = layer.decode_forward(rows(x[33:], mesh), cache=cache, positions=integers([33], mesh))
        ours = torch.cat([values.to_torch(y)[0, 0], values.to_torch(z)[0, 0]])
    return max_difference(ours, expected(x))


def expected(x: torch.Tensor) -> torch.Tensor:
    """x [S, D] → the layer in torch."""
    read = normalised(x)
    q, k, v = ((read @ WEIGHTS[name].T).unflatten(-1, (-1, 32)).transpose(0, 1) for name in "qkv")
    angles = torch.outer(torch.arange(len(x)), 10_000.0 ** (-torch.arange(0, 32, 2) / 32)).repeat(1, 2)
    q, k = (y * angles.cos() + torch.cat([-y[..., 16:], y[..., :16]], -1) * angles.sin() for y in (q, k))
    scores = (q @ k.repeat_interleave(2, 0).transpose(-1, -2) * SPEC.scale).relu().tril()
    heads = scores.square() @ v.repeat_interleave(2, 0)
    h = x + heads.transpose(0, 1).flatten(1) @ WEIGHTS["o"].T
    read = normalised(h)
    return h + (torch.nn.functional.silu(read @ GATE.T) * (read @ UP.T)) @ DOWN.T


def normalised(x: torch.Tensor) -> torch.Tensor:
    return x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt()


def test_it_is_short() -> None:
    import inspect

    assert len(inspect.getsource(ReluAttention).strip().splitlines()) <= 15


def test_runs_in_a_layer(mesh: Any) -> None:
    assert largest_difference(mesh) < 1e-4


def test_runs_in_a_layer_on_eight_chips() -> None:
    assert run_in_process(in_a_layer, "t3k", device="t3k") < 1e-4


def test_what_the_base_computes_is_there_for_subclasses(mesh: Any) -> None:
    """Twice the queries are twice the scale."""
    weights: dict[str, Any] = {name: weight.numpy() for name, weight in WEIGHTS.items()}
    doubled = Passed(SPEC, **weights, device=mesh)
    same = BaseAttention(replace(SPEC, score_scale=2 * SPEC.scale), **weights, device=mesh)
    with shadow() as values:
        x, at = rows(seeded(32, 128, seed=8), mesh), integers([list(range(32))], mesh)
        y, z = (values.to_torch(each.prefill_forward(x, cache=None, positions=at)) for each in (doubled, same))
    assert max_difference(y, z) < 1e-4
    assert isinstance(doubled, Attention)


def test_another_shape_is_refused(mesh: Any) -> None:
    class Wrong(BaseAttention):
        def compute_attention(self, q: Any, k: Any, v: Any, mask: Any) -> Any:
            return mask

    block = Wrong(SPEC, **{name: weight.numpy() for name, weight in WEIGHTS.items()}, device=mesh)
    x, at = rows(seeded(32, 128, seed=8), mesh), integers([list(range(32))], mesh)
    with pytest.raises(ShapeError, match=r"^attention made a tensor \[1, 1, 32, 32\]; \[1, 16, 32, 32\] is wanted\."):
        block.prefill_forward(x, cache=None, positions=at)


def test_another_block_computes_with_its_own_weights(mesh: Any) -> None:
    first = ReluAttention(SPEC, device=mesh).load(WEIGHTS_AS_ARRAYS)
    second = first.another()
    assert first._core is not second._core
    assert type(second) is ReluAttention


WEIGHTS_AS_ARRAYS = {name: weight.numpy() for name, weight in WEIGHTS.items()}


def test_thin_kinds_say_what_they_are_not(mesh: Any) -> None:
    with pytest.raises(SpecError, match=r"^SlidingWindowAttention was given a spec with window=None\."):
        SlidingWindowAttention(SPEC, device=mesh)
    with pytest.raises(
        SpecError, match=r"^FlashAttention is ttnn's fused attention, which has no soft_cap, alibi or chunk\."
    ):
        FlashAttention(replace(SPEC, soft_cap=2.0), device=mesh)
    windowed = SlidingWindowAttention(hidden_dim=128, num_heads=4, num_kv_heads=2, window=16, device=mesh)
    assert (windowed.spec.window, windowed.spec.head_dim) == (16, 32)
