"""A sample of the conformance session: some variants, on one chip and on several."""

from dataclasses import replace
from typing import Any

import pytest
from tools.conformance import variants

from ttt_attention import GroupedQueryAttention
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


def test_pieces_and_pages_are_what_is_said(mesh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each prompt is read in pieces of whole tiles, each after the one before, and all by tables of scattered pages."""
    read, tables = [], []
    prefill, decode = GroupedQueryAttention.prefill_forward, GroupedQueryAttention.decode_forward

    def watched_prefill(self: Any, x: Any, /, *, cache: Any, positions: Any, page_table: Any = None) -> Any:
        read.append((cache.start, x.shape[-2], tuple(page_table.shape)))
        return prefill(self, x, cache=cache, positions=positions, page_table=page_table)

    def watched_decode(self: Any, x: Any, /, *, cache: Any, positions: Any, page_table: Any = None) -> Any:
        tables.append(tuple(page_table.shape))
        return decode(self, x, cache=cache, positions=positions, page_table=page_table)

    monkeypatch.setattr(GroupedQueryAttention, "prefill_forward", watched_prefill)
    monkeypatch.setattr(GroupedQueryAttention, "decode_forward", watched_decode)
    (chosen,) = (each for each in variants() if each.name == "attention, window, prompt in pieces, in pages")
    both = replace(chosen, without=None, prefill=(160,), decode=(3,))
    assert [case.status for case in check_variant(both, mesh)] == ["passed", "passed"]
    once = [(0, 32, (1, 5)), (32, 32, (1, 5)), (64, 96, (1, 5))]
    prompts = [(0, 32, (1, 4)), (32, 32, (1, 4)), (0, 32, (1, 4)), (0, 32, (1, 4))]
    assert read == 3 * once + 3 * prompts  # in float32, and rounded in two precisions
    assert tables == 3 * 2 * [(3, 4)]
