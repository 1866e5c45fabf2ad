"""Layers by their residual pattern, planned as a whole; encoder layers and layers with attention to another sequence.

Blocks stand in that compute something known: an attention adds 1 and a memory's first row, a norm doubles.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import ttnn

from ttt_attention import GroupedQueryAttention
from ttt_attention.requests import attention_request
from ttt_core import CrossAttention, SpecError, Tensor, WeightError
from ttt_ffn import SwiGLU, ffn_request
from ttt_hw import BlockPlans, Workload, board_of, typical, upload
from ttt_norm import RMSNorm, norm_request
from ttt_patterns import CrossAttentionLayer, DecoderLayer, EncoderLayer, layer_request
from ttt_patterns.spec import Residual
from ttt_testing import max_difference, shadow


@pytest.fixture
def variants(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import layer_variants

    return layer_variants


@pytest.mark.parametrize("residual", get_args(Residual))
def test_a_layer_that_is_planned_as_a_whole(residual: Residual, variants: Any, mesh: Any) -> None:
    """Its forwards issue what was planned, and compute what the parts with plans of their own do."""
    whole = replace(variants.PRE, residual=residual, multiplier=0.3)
    precision: Any = dict.fromkeys(
        ("qkv_weights", "output_weights", "gate_weights", "up_weights", "down_weights"), "bfloat16"
    )

    def listed(work: Workload) -> Any:
        norms: dict[str, Any] = dict.fromkeys(whole.norms, norm_request(variants.NORM, work))
        return layer_request(
            residual=residual,
            multiplier=0.3,
            attention=attention_request(variants.ATTENTION, work, {**precision, "kv_cache": "bfloat16"}),
            ffn=ffn_request(variants.FFN, work, precision),
            **norms,
        )

    plans = BlockPlans(listed, board_of(mesh), typical=typical(), free=True)
    arrays, ffn = (
        {role: weight.numpy() for role, weight in made().items()}
        for made in (variants.attention_weights, variants.ffn_weights)
    )
    norms: Any = {
        role: RMSNorm(variants.NORM, variants.seeded(role, 128).numpy(), device=mesh, plans=plans.part(role))
        for role in whole.norms
    }
    layer = DecoderLayer(
        attention=GroupedQueryAttention(
            variants.ATTENTION, **arrays, device=mesh, dtype="bfloat16", cache_dtype="bfloat16", plans=plans.part("attention")
        ),
        ffn=SwiGLU(variants.FFN, **ffn, device=mesh, dtype="bfloat16", plans=plans.part("ffn")),
        **norms, residual_pattern=residual, plans=plans,
    )  # fmt: skip
    x = torch.randn(1, 64, 128, generator=torch.Generator().manual_seed(0)).bfloat16().float()
    with shadow() as values:
        positions = upload(np.arange(64, dtype=np.int32)[None], mesh, dtype="int32", layout="row_major")
        given = upload(x[None].numpy(), mesh, dtype="bfloat16")
        y = values.to_torch(layer.prefill_forward(given, cache=None, positions=positions))[0]
    assert max_difference(y, variants.reference(whole)(x)) < 1e-4


class Adding:
    """y = x + 1 + what it is told to see."""

    def prefill_forward(self, x: Tensor, /, **given: Any) -> Any:
        memory = given.get("memory")
        return ttnn.add(x, 1.0) if memory is None else ttnn.add(x, ttnn.slice(memory, [0, 0, 0, 0], [1, 1, 1, 64]))

    def decode_forward(self, x: Tensor, /, **given: Any) -> Any:
        return ttnn.add(x, 1.0) if "positions" in given else ttnn.add(x, 5.0)


class Doubling:
    def prefill_forward(self, x: Tensor, /) -> Any:
        return ttnn.mul(x, 2.0)

    def decode_forward(self, x: Tensor, /) -> Any:
        return ttnn.mul(x, 2.0)


def ones(mesh: Any, value: float = 1.0, rows: int = 32) -> Any:
    return upload(np.full((1, 1, rows, 64), value, np.float32), mesh, dtype="bfloat16")


class Cache:
    def __init__(self, mesh: Any) -> None:
        self.keys = self.values = ones(mesh)
        self.user = 0

    def for_user(self, user: int, /) -> Cache:
        return self


def cross(mesh: Any, **more: Any) -> CrossAttentionLayer:
    return CrossAttentionLayer(
        attention=Adding(), cross_attention=Adding(), ffn=Doubling(),
        **{"attention_norm": Doubling(), "cross_norm": Doubling(), "ffn_norm": Doubling(), **more},
    )  # fmt: skip


@pytest.mark.parametrize(("pattern", "expected"), [("pre_norm", (4.0, 19.0, 95.0)), ("post_norm", (6.0, 38.0, 228.0))])
def test_a_layer_that_attends_to_a_memory(pattern: Any, expected: tuple[float, float, float], mesh: Any) -> None:
    """From 1, with a memory of 7: pre-norm 1 + 3 = 4, 4 + 15 = 19, 19 + 76 = 95; post-norm 2·3 = 6, 2·19 = 38, 2·114 = 228."""
    layer, cache = cross(mesh, residual_pattern=pattern), Cache(mesh)
    assert isinstance(layer.cross_attention, CrossAttention)
    with shadow() as values:
        x, memory = ones(mesh), ones(mesh, 7.0, rows=96)
        y = layer.prefill_forward(x, memory=memory, cache=None, memory_cache=None, positions=x)
        assert values.to_torch(y).unique().tolist() == [expected[2]]
        z = layer.decode_forward(ones(mesh), cache=cache, memory_cache=cache, positions=x)
        h = expected[0]
        c = h + 2 * h + 5 if pattern == "pre_norm" else 2 * (h + h + 5)
        assert values.to_torch(z).unique().tolist() == [c + 4 * c if pattern == "pre_norm" else 2 * (c + 2 * c)]


def test_what_a_cross_attention_layer_cannot_be_made_of(mesh: Any) -> None:
    with pytest.raises(
        SpecError, match=r"^CrossAttentionLayer was not given cross_norm\. Give each, or norm= as their template"
    ):
        cross(mesh, cross_norm=None)
    with pytest.raises(SpecError, match=r"residual_pattern='sandwich'\): it must be pre_norm or post_norm\."):
        cross(mesh, residual_pattern="sandwich")
    with pytest.raises(
        WeightError, match=r"no part for a weight memory\.q; its parts are attention_norm, attention, cross_norm"
    ):
        cross(mesh).load({"memory.q": 1})
    assert cross(mesh).weights == ()


def test_an_encoder_layer(mesh: Any) -> None:
    """Post-norm: 2·(1 + 2) = 6, 2·(6 + 12) = 36; pre-norm: 1 + 3 = 4, 4 + 16 = 20."""
    for more, expected in (({}, 36.0), ({"residual_pattern": "pre_norm"}, 20.0)):
        layer = EncoderLayer(attention=Adding(), ffn=Doubling(), attention_norm=Doubling(), ffn_norm=Doubling(), **more)  # type: ignore[arg-type]
        with shadow() as values:
            x = ones(mesh)
            assert values.to_torch(layer.prefill_forward(x, positions=x)).unique().tolist() == [expected]
    assert layer.weights == ()
    with pytest.raises(WeightError, match=r"no part for a weight q"):
        layer.load({"q": 1})
