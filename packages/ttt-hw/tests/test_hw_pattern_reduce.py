"""Reduce: exact buffers of sums over experts, whole tiles or not, and its rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_hw.catalogue import BOARDS, board
from ttt_hw.isolation import run_in_process
from ttt_hw.layouts import DRAM, width_sharded
from ttt_hw.patterns.reduce import Reduce
from ttt_hw.requests import ReduceRequest
from ttt_hw.verify import verify

N150 = board("n150")
SUM = ReduceRequest(name="sum", inputs=("x",), shape=(1, 8, 64, 4096), dim=1)


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import dims_probe

    return dims_probe


@pytest.mark.parametrize("seed", range(3))
def test_real_shapes_are_accepted_and_predicted(seed: int, probe: Any, mesh: Any) -> None:
    for what, verdict in probe.issue_some(Reduce, mesh, seed=seed, count=10):
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


@pytest.mark.parametrize("name", ["p150", "p150x8"])
def test_other_boards(name: str, probe: Any) -> None:
    for what, verdict in run_in_process(probe.on_board, name, Reduce, 1, 8, device=name):
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


@pytest.mark.parametrize("name", BOARDS)
def test_every_shape_has_a_legal_config_that_fits(name: str, probe: Any) -> None:
    for request in probe.requests(Reduce):
        assert probe.ways(Reduce, request, board(name), Random(0)), f"{request} on {name}"


@pytest.mark.parametrize(
    ("request_", "reads", "message"),
    [
        (SUM, (width_sharded((8, 4)),), "x lies in .*0-0..7-3'; it must lie in 'b h s d in dram' or"),
        (replace(SUM, dim=2), None, "dim 2 is summed; only dims 0 and 1 are"),
        (replace(SUM, dtype="int32"), None, "int32 values are not summed; bfloat16, bfloat8_b, float32 are"),
    ],
)
def test_what_is_refused(request_: Any, reads: Any, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        Reduce().check(request_, N150, reads)


@pytest.mark.parametrize(("count", "at_once"), [(1, 1), (6, 6), (8, 8), (11, 1), (16, 8), (60, 6)])
def test_a_divisor_of_the_experts_is_read_in_one_go(mesh: Any, count: int, at_once: int) -> None:
    for dim, shape in ((1, (2, count, 32, 64)), (0, (count, 3, 40, 64))):
        sizes: dict[Any, int] = {"bfloat16": 2048, "bfloat8_b": 1088, "float32": 4096}
        for dtype, tile in sizes.items():
            request = replace(SUM, shape=shape, dim=dim, dtype=dtype)
            verdict = verify(request, Reduce(), mesh)
            assert verdict.exact, verdict
            assert verdict.buffers == 2 * at_once * tile + 2048 + 2 * tile


@pytest.mark.parametrize("rows", [1, 8, 33])
def test_rows_that_are_no_whole_tiles_take_one_program(mesh: Any, rows: int) -> None:
    verdict = verify(replace(SUM, shape=(1, 8, rows, 4000)), Reduce(memory="l1"), mesh)
    assert verdict.exact, verdict
    assert verdict.usage is not None
    assert verdict.usage.programs == 1


def test_all_experts_are_read_and_one_sum_written() -> None:
    work = Reduce().work(SUM, N150, (DRAM,))
    assert work.dram_pages == (8 + 1) * 2 * 128
    assert Reduce().cores(replace(SUM, shape=(1, 8, 1, 1024)), N150) == 32
