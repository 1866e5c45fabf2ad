"""How long a block takes by its plans: the same as the plans say, whole or in parts, whatever ran before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ttt_core import Mode
from ttt_hw import OpTime, TimedByPlans, Workload, upload
from ttt_norm import NormSpec, RMSNorm


@pytest.fixture
def norm(mesh: Any) -> RMSNorm:
    return RMSNorm(NormSpec(dim=96), np.ones(96, np.float32), device=mesh)


@pytest.mark.parametrize("mode", ["decode", "prefill"])
def test_a_block_takes_as_long_as_its_plan(mode: Mode, norm: Any) -> None:
    work = Workload(mode=mode, users=8 if mode == "decode" else 1, tokens=8, context=1024 if mode == "decode" else 8)
    plan = norm._plans.plan(work)
    assert [op.name for op in norm.op_times(mode, 8)] == ["norm"]
    assert norm.estimate_us(mode, 8) == pytest.approx(plan.time_us)
    assert sum(op.time_us for op in plan.times()) == pytest.approx(plan.time_us)


def test_asking_for_another_context_changes_no_later_forward(norm: Any, mesh: Any) -> None:
    norm.decode_forward(upload(np.ones((1, 1, 8, 96), np.float32), mesh, dtype="bfloat16"))
    known = dict(norm._plans._last)
    norm.op_times("decode", 8, context=64)
    assert norm._plans._last == known


def test_plans_of_another_kind_leave_the_time_unknown() -> None:
    class Bare(TimedByPlans):
        _plans: Any = object()

    assert Bare().op_times("decode", 4) == (OpTime(name="Bare"),)
    assert str(OpTime(name="Bare")) == "Bare (not planned)"
    assert Bare().estimate_us("decode", 4) == 0.0
