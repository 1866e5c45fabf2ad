"""Normalisation as a list of one operation, and what the block refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ttt_core import SpecError, WeightError
from ttt_hw import board
from ttt_hw.requests import NormRequest, Workload
from ttt_norm import LayerNorm, NormSpec, NormType, RMSNorm, norm_request

WORK = Workload(mode="prefill", tokens=70, context=256)


def test_kinds() -> None:
    block = norm_request(NormSpec(dim=64, eps=1e-6, offset=1), WORK)
    (op,) = block.ops
    assert isinstance(op, NormRequest)
    assert (op.kind, op.shape, op.epsilon, op.inputs) == ("rms", (1, 1, 96, 64), 1e-6, ("x", "weight"))
    block = norm_request(NormSpec(dim=64, kind=NormType.LAYER, bias=True), WORK, rows=1)
    (op,) = block.ops
    assert isinstance(op, NormRequest)
    assert (op.kind, op.shape, op.inputs) == ("layer", (1, 1, 1, 64), ("x", "weight", "bias"))
    assert norm_request(NormSpec(dim=64, weight=False), WORK).stored == ()


def test_parameters() -> None:
    assert NormSpec(dim=64).num_parameters == 64
    assert NormSpec(dim=64, bias=True).num_parameters == 128
    assert NormSpec(dim=64, weight=False).num_parameters == 0


@pytest.mark.parametrize("change", [{"offset": 2}, {"offset": 1, "weight": False}])
def test_a_spec_out_of_range_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"offset must be 0 or 1, and 1 needs a weight to add to\.$"):
        NormSpec(dim=64, **change)


@pytest.mark.parametrize("change", [{"kind": NormType.LAYER}, {"bias": True}])
def test_what_the_block_cannot_do_it_refuses(change: dict[str, Any]) -> None:
    spec = NormSpec(dim=64, **change)
    with pytest.raises(SpecError) as caught:
        RMSNorm(spec, np.ones(64, np.float32), device=board("n150"))
    assert str(caught.value) == (
        f"RMSNorm keeps the mean and adds no bias, the spec says {spec}. Use a block that computes it."
    )


def test_no_weight_is_given_where_the_spec_has_none() -> None:
    with pytest.raises(WeightError, match=r"^the spec says weight=False, and one was given\. Give it, or"):
        RMSNorm(NormSpec(dim=64, weight=False), np.ones(64, np.float32), device=board("n150"))


def test_layer_norm_refuses_what_it_is_not() -> None:
    ones: Any = np.ones(64, np.float32)
    with pytest.raises(
        SpecError, match=r"^LayerNorm subtracts the mean, the spec says NormSpec\(dim=64, .* Use the block of"
    ):
        LayerNorm(NormSpec(dim=64), ones, device=board("n150"))
    layer = NormSpec(dim=64, kind=NormType.LAYER, bias=True)
    with pytest.raises(
        WeightError, match=r"^the spec says bias=True, and none was given\. Give it, or change the spec\.$"
    ):
        LayerNorm(layer, ones, device=board("n150"))
    with pytest.raises(WeightError, match=r"^the spec says weight=False, and one was given\."):
        LayerNorm(replace(layer, weight=False, bias=False), ones, device=board("n150"))
    with pytest.raises(WeightError, match=r"but \[64\] is wanted for the norm's bias\."):
        LayerNorm(layer, ones, ones[:63], device=board("n150"))
