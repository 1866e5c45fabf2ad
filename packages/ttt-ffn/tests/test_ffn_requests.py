"""Feed-forward blocks as lists of operations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ttt_core import SpecError
from ttt_ffn import ActivationType, FFNSpec, MoESpec, SwiGLU, ffn_request
from ttt_ffn.requests import PROFILES
from ttt_hw import board
from ttt_hw.requests import BinaryRequest, BlockRequest, MatmulRequest, Workload

GATED = FFNSpec(hidden_dim=64, intermediate_dim=100)
PLAIN = replace(GATED, gated=False, bias=True, activation=ActivationType.GELU)
EXPERTS = MoESpec(experts=4, active=2, ffn=GATED)
DECODE = Workload(mode="decode", users=8, context=256)
PREFILL = Workload(mode="prefill", tokens=2100, context=4096)


def listed(spec: FFNSpec | MoESpec, work: Workload) -> BlockRequest:
    return ffn_request(spec, work, PROFILES["performance"])


def test_gated() -> None:
    block = listed(GATED, DECODE)
    assert [op.name for op in block.ops] == ["gate_matmul", "up_matmul", "gate", "down_matmul"]
    assert [stored.type.shape[-2:] for stored in block.stored] == [(64, 128), (64, 128), (128, 64)]
    assert [stored.type.dtype for stored in block.stored] == ["bfloat4_b", "bfloat4_b", "bfloat8_b"]
    split = listed(GATED, replace(DECODE, chips=8))  # 4 tiles of columns among 8 chips
    assert split.ops[-1].name == "all_reduce"
    assert split.types["gate"].shape == (1, 1, 8, 32)
    gelu = listed(replace(GATED, activation=ActivationType.GELU_TANH, bias=True), DECODE)
    assert [op.activation for op in gelu.ops if isinstance(op, BinaryRequest)] == ["gelu_tanh"]
    assert gelu.types["down_bias"].shape == (1, 1, 1, 64)


def test_plain() -> None:
    block = listed(PLAIN, PREFILL)
    assert [(op.name, op.inputs) for op in block.ops] == [
        ("up_matmul", ("x", "up_weight", "up_bias")),
        ("down_matmul", ("up_matmul", "down_weight", "down_bias")),
    ]
    assert [op.activation for op in block.ops if isinstance(op, MatmulRequest)] == ["gelu", None]
    assert block.types["up_bias"].shape == (1, 1, 1, 128)


def test_experts() -> None:
    pieces = ["router_matmul", "routing", "gate_matmul", "up_matmul", "gate", "down_matmul", "routing_by_expert_lines",
              "routing_by_expert_heads", "routing_by_expert", "weighted", "sum_experts"]  # fmt: skip
    block = listed(EXPERTS, replace(DECODE, chips=2))
    assert [op.name for op in block.ops] == [*pieces, "all_reduce"]
    assert block.types["router_weight"].dtype == "bfloat16"
    assert block.types["weighted"].shape == (1, 4, 8, 64)
    long = listed(EXPERTS, PREFILL)
    by_expert = ["routing_by_expert.{}_lines", "routing_by_expert.{}_heads"]
    piece = ["rows.{}", *(f"{name}.{{}}" for name in pieces[:6]), *by_expert, *(f"{name}.{{}}" for name in pieces[8:])]
    assert [op.name for op in long.ops] == [name.format(index) for index in range(3) for name in piece] + ["join_rows"]
    assert [long.types[f"rows.{index}"].shape[2] for index in range(3)] == [1024, 1024, 64]


def test_parameters() -> None:
    assert GATED.num_parameters == 3 * 64 * 100
    assert PLAIN.num_parameters == 2 * 64 * 100 + 100 + 64
    assert EXPERTS.num_parameters == 4 * GATED.num_parameters + 4 * 64


def test_experts_with_all_there_is() -> None:
    spec = replace(
        EXPERTS, ffn=replace(GATED, bias=True), router_bias=True, selection_bias=True, groups=2, shared=GATED, gate_shared=True
    )  # fmt: skip
    block = listed(spec, DECODE)
    biased = ["gate_matmul", "gate_biased", "up_matmul", "up_biased", "gate", "down_matmul", "down_biased"]
    shared = ["shared_gate_matmul", "shared_up_matmul", "shared_gate", "shared_down_matmul", "shared_router_matmul"]
    names = [op.name for op in block.ops]
    assert names[2:9] == biased
    assert [name for name in names if name.startswith("shared")] == [*shared, "shared_share", "shared_weighted"]
    assert names[-1] == "with_shared"
    assert block.types["group_table"].shape == (1, 1, 2, 4)
    assert block.types["down_bias"].shape == (1, 4, 1, 64)
    assert spec.num_parameters == 4 * (GATED.num_parameters + 2 * 100 + 64 + 64 + 2) + GATED.num_parameters + 64


@pytest.mark.parametrize("active", [0, 5])
def test_a_spec_out_of_range_is_refused(active: int) -> None:
    with pytest.raises(SpecError) as caught:
        replace(EXPERTS, active=active)
    assert str(caught.value) == f"MoESpec(experts=4, active={active}): 1 to 4 experts can be active."


@pytest.mark.parametrize("spec", [EXPERTS, replace(GATED, gated=False), replace(GATED, bias=True)])
def test_what_the_block_cannot_do_it_refuses(spec: FFNSpec | MoESpec) -> None:
    weights: dict[str, Any] = dict.fromkeys(("gate", "up", "down"))
    with pytest.raises(SpecError) as caught:
        SwiGLU(spec, **weights, device=board("n150"))
    assert str(caught.value) == (
        f"SwiGLU is one gated feed-forward block without biases, the spec says {spec}. Use a block that computes it."
    )
