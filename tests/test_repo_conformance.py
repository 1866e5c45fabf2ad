"""A sample of the conformance session: some variants, on one chip and on several."""

from typing import Any

from tools.conformance import variants

from ttt_hw import open_mesh, run_in_process
from ttt_testing.variants import check_variant

ON_ONE, ON_SEVERAL = 6, 12  # of so many variants one


def wrong(names: list[str], mesh: Any) -> list[str]:
    chosen = [variant for variant in variants() if variant.name in names]
    cases = [case for variant in chosen for case in check_variant(variant, mesh, most=1)]
    assert {case.variant for case in cases} == set(names)
    return [f"{case.variant}, {case.case}: {case.detail}" for case in cases if case.status != "passed"]


def on_board(names: list[str], board: str) -> list[str]:
    with open_mesh(board, backend="mock") as mesh:
        return wrong(names, mesh)


def test_some_on_one_chip(mesh: Any) -> None:
    assert not wrong([variant.name for variant in variants()[::ON_ONE]], mesh)


def test_some_on_eight() -> None:
    names = [variant.name for variant in variants()[3::ON_SEVERAL]]
    assert not run_in_process(on_board, names, "t3k", device="t3k")
