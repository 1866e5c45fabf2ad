"""Variants: what a check finds in blocks that are right, wrong, refused, or do not have the feature that they are there for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import ttnn

from ttt_core import PlacementError, Tensor
from ttt_hw import board_of, open_mesh, run_in_process, upload
from ttt_shard_dsl import parse
from ttt_testing.variants import CaseResult, Precision, Variant, check_variant, seeded

WIDTH = 64


class Scaled:
    """y = factor · x; the factor is in place of a spec, and `wrong_in` a mode in which it is another."""

    def __init__(self, factor: float, wrong_in: str = "") -> None:
        self.spec = type("Spec", (), {"hidden_dim": WIDTH})()
        self.factors = {mode: factor * (1.01 if mode == wrong_in else 1) for mode in ("prefill", "decode")}

    def prefill_forward(self, x: Tensor, /) -> Any:
        return ttnn.mul(x, self.factors["prefill"])

    def decode_forward(self, x: Tensor, /) -> Any:
        return ttnn.mul(x, self.factors["decode"])


def reference(factor: float) -> Any:
    return lambda x: factor * x


def variant(build: Any = lambda spec, mesh, precision: Scaled(spec), **fields: Any) -> Variant:
    given: dict[str, Any] = {"spec": 2.0, "without": 1.0, "reference": reference} | fields
    return Variant(name="doubled", feature="factor", protocol="feed_forward", build=build, **given)


def statuses(cases: list[CaseResult]) -> dict[str, str]:
    return {case.case: case.status for case in cases}


def test_a_right_block_passes_and_misses_its_feature(mesh: Any) -> None:
    cases = list(check_variant(variant(), mesh, most=2))
    names = ["prefill 33", "prefill 128", "decode 8", "decode 1", "switched off"]
    assert statuses(cases) == dict.fromkeys(names, "passed")
    first = cases[0]
    assert first.difference is not None
    assert first.difference < 1e-6
    assert first.pcc is not None
    assert first.pcc["bfloat16"] > 0.999
    assert first.operations == 3  # in float32, rounded, and in the performance profile
    assert first.to_json()["case"] == "prefill 33"


def test_a_wrong_mode_fails(mesh: Any) -> None:
    cases = list(check_variant(variant(lambda spec, mesh, precision: Scaled(spec, wrong_in="decode")), mesh, most=1))
    assert statuses(cases) == {"prefill 33": "passed", "decode 8": "failed", "switched off": "passed"}
    assert "in float32 not within 0.0001: [0, 0] (row 0): got" in cases[1].detail
    assert cases[1].detail.endswith("All of it is 1.01 times what is expected: a scale.")


def test_too_coarse_a_precision_fails(mesh: Any) -> None:
    class Coarse(Scaled):
        def prefill_forward(self, x: Tensor, /) -> Any:
            return ttnn.mul(ttnn.relu(x), 2.0)  # which costs more than 4 bits do

    def build(spec: float, mesh: Any, precision: Precision) -> Any:
        return (Coarse if precision == "performance" else Scaled)(spec)

    found = statuses(list(check_variant(variant(build), mesh, most=1)))
    assert found == {"prefill 33": "failed", "decode 8": "passed", "switched off": "passed"}


def test_a_feature_that_does_not_count_fails(mesh: Any) -> None:
    *_, switched = check_variant(variant(lambda spec, mesh, precision: Scaled(2.0)), mesh, most=1)
    assert (switched.case, switched.status) == ("switched off", "failed")
    assert switched.detail == "factor makes no difference in prefill 33, decode 8"


def test_one_that_counts_in_one_mode_alone_fails(mesh: Any) -> None:
    class Half(Scaled):
        def __init__(self, factor: float) -> None:
            super().__init__(factor)
            self.factors["decode"] = 2.0

    *_, switched = check_variant(variant(lambda spec, mesh, precision: Half(spec)), mesh, most=1)
    assert switched.detail == "factor makes no difference in decode 8"


def test_what_others_are_told_from_is_not_switched_off(mesh: Any) -> None:
    assert [case.case for case in check_variant(variant(without=None), mesh, most=1)] == ["prefill 33", "decode 8"]


@pytest.mark.parametrize(("error", "status"), [(PlacementError("no place"), "refused"), (ValueError("what"), "error")])
def test_a_block_that_is_not_built_is_one_result(error: Exception, status: str, mesh: Any) -> None:
    def build(spec: float, mesh: Any, precision: Precision) -> Any:
        raise error

    (case,) = check_variant(variant(build), mesh)
    assert (case.case, case.status, case.detail) == ("built", status, f"{type(error).__name__}: {error}")


def one_chip_differs() -> list[dict[str, Any]]:
    class Uneven(Scaled):
        def prefill_forward(self, x: Tensor, /) -> Any:
            board = board_of(x.device())  # type: ignore[attr-defined]
            split = parse("b h s d@cols in dram").place(
                (1, 1, 1, 2 * WIDTH), device=board, dtype="bfloat16", tiled=True
            )
            columns = torch.ones(2 * WIDTH)
            columns[WIDTH:] = 2
            halves = upload(columns[None, None, None].numpy(), x.device(), dtype="bfloat16", placement=split)  # type: ignore[attr-defined]
            return ttnn.mul(x, halves)

    with open_mesh("n300", backend="mock") as mesh:
        cases = check_variant(variant(lambda spec, mesh, precision: Uneven(spec), without=None), mesh, most=1)
        return [case.to_json() for case in cases]


def test_every_chip_counts() -> None:
    prefill, decode = run_in_process(one_chip_differs, device="n300")
    assert (prefill["status"], decode["status"]) == ("refused", "passed")
    assert "whose value differs between the chips of its mesh" in prefill["detail"]


def test_weights_are_the_same_whenever_they_are_asked_for() -> None:
    assert torch.equal(seeded("gate", 4, 8), seeded("gate", 4, 8))
    assert not torch.equal(seeded("gate", 4, 8), seeded("up", 4, 8))
    assert float(seeded("gate", 64, 16).abs().max()) <= 0.25
    assert abs(float(seeded("norm", 4096).mean()) - 1) < 0.05
    assert abs(float(seeded("bias", 4096, scale=0.3).mean())) < 0.05
