"""Modes planned together: a weight lies in one place, and what a run takes in total decides which."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_hw import Case, Planner, board, interfaces, issue_plan, lasting, plan_block, plan_together
from ttt_hw.layouts import DRAM, L1, over_banks, width_sharded

N150, P150, T3K = board("n150"), board("p150"), board("t3k")


@pytest.fixture(autouse=True)
def cases(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import planner_cases

    return planner_cases


def feed_forwards(cases: Any, decode: float, prefill: float, tokens: int = 128) -> list[Case]:
    """Of Llama-3.1-8B; each counts so many times."""
    return [
        Case(block=cases.feed_forward("decode", 32, 4096, 14336), weight=decode),
        Case(block=cases.feed_forward("prefill", tokens, 4096, 14336), weight=prefill),
    ]


def total(found: Any, weights: Any) -> float:
    return float(sum(plan.time_us * weight for plan, weight in zip(found, weights, strict=True)))


@pytest.mark.parametrize("record", [N150, P150], ids=lambda record: record.name)
def test_a_weight_lies_in_one_place_for_all_modes(record: Any, cases: Any) -> None:
    dims = cases.DIMS["llama-1b"]
    both = [
        Case(block=cases.layer("decode", 32, dims), weight=1024.0),
        Case(block=cases.layer("prefill", 1024, dims), weight=32.0),
    ]
    decode, prefill = Planner(record).together(both)
    assert lasting(decode) == lasting(prefill)
    weights = {stored.name for stored in decode.block.stored if stored.kind == "weight"}
    assert weights <= set(lasting(decode))
    assert "positions" not in lasting(decode)  # come with each forward


@pytest.mark.parametrize("record", [N150, P150], ids=lambda record: record.name)
def test_the_weighted_total_decides(record: Any, cases: Any) -> None:
    """Decode streams weights beside their banks; a short prompt reads them from everywhere."""
    seldom, often = (1.0, 1e4), (1e4, 1.0)
    reading = Planner(record).together(feed_forwards(cases, *seldom))
    writing = Planner(record).together(feed_forwards(cases, *often))
    assert writing[0].stored == dict.fromkeys(writing[0].stored, over_banks())
    assert DRAM in reading[0].stored.values()
    assert reading[1].time_us < writing[1].time_us
    assert writing[0].time_us < reading[0].time_us
    for weights, own, other in ((seldom, reading, writing), (often, writing, reading)):
        assert total(own, weights) < total(other, weights)


def test_no_other_places_are_better(cases: Any) -> None:
    """Of all places of three weights: the search tries few of them."""
    weights = (1.0, 4.0)
    both = feed_forwards(cases, *weights)
    best = total(Planner(N150).together(both), weights)
    names = [stored.name for stored in both[0].block.stored]
    for places in product((DRAM, over_banks()), repeat=len(names)):
        stored = dict(zip(names, places, strict=True))
        there = [plan_block(case.block, N150, stored=stored) for case in both]
        assert best <= total(there, weights) * (1 + 1e-9), stored


def test_alone_each_mode_has_what_it_likes(cases: Any) -> None:
    for case in feed_forwards(cases, 1.0, 1.0):
        assert Planner(N150).together([case]) == (plan_block(case.block, N150),)


def test_places_that_are_given_stay(cases: Any) -> None:
    stored = {"up_matmul.weight": DRAM}
    for plan in Planner(N150).together(feed_forwards(cases, 1e4, 1.0), stored=stored):
        assert plan.stored["up_matmul.weight"] == DRAM
        assert plan.stored["gate_matmul.weight"] == over_banks()


def test_plans_made_together_run(cases: Any, mesh: Any) -> None:
    for weights in ((1.0, 1e4), (1e4, 1.0)):
        for plan in Planner(N150).together(feed_forwards(cases, *weights)):
            assert cases.inexact(issue_plan(plan, mesh)) == []


def test_a_dtype_for_one_mode_only_is_refused(cases: Any) -> None:
    overrides = {"decode.up_matmul": {"weight_dtype": "bfloat8_b"}}
    with pytest.raises(PlacementError) as refused:
        Planner(N150, overrides=overrides).together(feed_forwards(cases, 1.0, 1.0))
    assert str(refused.value) == (
        "up_matmul.weight would be 1×1×4096×14336 bfloat8_b in decode and 1×1×4096×14336 bfloat4_b in prefill, but it is stored "
        "once. Override its dtype for both modes: leave the mode out of the name."
    )
    both = Planner(N150, overrides={"up_matmul": {"weight_dtype": "bfloat8_b"}}).together(
        feed_forwards(cases, 1.0, 1.0)
    )
    assert {plan.block.types["up_matmul.weight"].dtype for plan in both} == {"bfloat8_b"}


def test_a_fidelity_for_one_mode_is_no_matter_of_storage(cases: Any) -> None:
    overrides = {"decode.up_matmul": {"fidelity": "hifi4"}}
    decode, prefill = Planner(N150, overrides=overrides).together(feed_forwards(cases, 1.0, 1.0))
    requests: list[Any] = [plan["up_matmul"].request for plan in (decode, prefill)]
    assert requests[0].kernel.fidelity == "hifi4"
    assert requests[1].kernel is None


def test_an_override_that_one_mode_cannot_have_names_the_mode(cases: Any) -> None:
    overrides = {"up_matmul": {"pattern": "DramShardedMatmul"}}
    with pytest.raises(
        PlacementError, match=r"^override of prefill\.up_matmul on n150: DramShardedMatmul has no legal config"
    ):
        Planner(N150, overrides=overrides).together(feed_forwards(cases, 1.0, 1.0))
    decode, _ = Planner(N150, overrides={"decode.up_matmul": {"pattern": "DramShardedMatmul"}}).together(
        feed_forwards(cases, 1.0, 1e6)
    )
    assert type(decode["up_matmul"].pattern).__name__ == "DramShardedMatmul"


def test_a_mode_without_a_plan_says_why(cases: Any) -> None:
    with pytest.raises(
        PlacementError, match=r"^the block's inputs and what stays in L1 take 4,096 bytes a core; 3,000 are th"
    ):
        Planner(N150, reserve=N150.l1_bytes_per_core - 3_000).together(feed_forwards(cases, 1.0, 1.0))
    assert plan_together([], N150) == ()


def test_interfaces() -> None:
    """In decode L1, interleaved or in even shards, the most cores first; in prefill DRAM."""
    from ttt_hw.requests import BlockRequest, TensorType

    def of(mode: Any, width: int) -> BlockRequest:
        x = TensorType(shape=(1, 1, 32, width))
        return BlockRequest(mode=mode, inputs=(("x", x),), stored=(), ops=(), outputs=())

    assert interfaces(of("prefill", 4096), N150) == ((DRAM, DRAM),)
    pairs = interfaces(of("decode", 4096), N150)
    assert all(enter == leave for enter, leave in pairs)
    assert [enter for enter, _ in pairs] == [L1, *(width_sharded(grid) for grid in ((8, 8), (8, 4), (8, 2)))]


def test_one_of_the_interfaces_is_taken_for_both_ends(cases: Any) -> None:
    block = cases.layer("decode", 32, cases.DIMS["llama-8b"], 8)
    pairs = interfaces(block, T3K)
    (plan,) = Planner(T3K).together([Case(block=block, interfaces=pairs)])
    assert (plan.inputs["x"], plan.outputs["ffn_residual"]) in pairs
    alone = [
        plan_block(block, T3K, inputs={"x": enter}, outputs={"ffn_residual": leave}).time_us for enter, leave in pairs
    ]
    assert plan.time_us == pytest.approx(min(alone))


def test_no_case_is_planned_twice_for_the_same_places(cases: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[tuple[str, tuple[tuple[str, str], ...]]] = []

    def counting(block: Any, record: Any, **more: Any) -> Any:
        planned.append((block.mode, tuple(sorted(more["stored"].items()))))
        return plan_block(block, record, **more)

    monkeypatch.setattr("ttt_hw.joint.plan_block", counting)
    Planner(N150).together(feed_forwards(cases, 1.5, 4.0))  # weights that no other test has planned
    assert len(planned) == len(set(planned))
    assert {mode for mode, _ in planned} == {"decode", "prefill"}
    before = len(planned)
    Planner(N150).together(feed_forwards(cases, 1.5, 4.0))  # answered from memory
    assert len(planned) == before


def test_the_same_cases_have_the_same_plans(cases: Any) -> None:
    both = feed_forwards(cases, 3.0, 2.0)
    assert Planner(N150).together(both) == Planner(N150).together(both)
    doubled = [replace(case, weight=2 * case.weight) for case in both]
    assert Planner(N150).together(doubled) == Planner(N150).together(both)
