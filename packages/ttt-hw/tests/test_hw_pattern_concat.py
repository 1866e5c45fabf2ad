"""Concat: exact buffers of joined pieces, and its rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_hw.catalogue import BOARDS, board
from ttt_hw.isolation import run_in_process
from ttt_hw.layouts import DRAM, L1, width_sharded
from ttt_hw.patterns.concat import Concat
from ttt_hw.requests import ConcatRequest
from ttt_hw.verify import verify

N150, P150 = board("n150"), board("p150")
ROWS = ConcatRequest(name="join", inputs=("a", "b"), shapes=((1, 16, 1024, 256), (1, 16, 512, 256)), dim=2)
COLUMNS = replace(ROWS, shapes=((1, 1, 64, 32),) * 2, dim=3, dtype="bfloat8_b")


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import dims_probe

    return dims_probe


@pytest.mark.parametrize("seed", range(3))
def test_real_shapes_are_accepted_and_predicted(seed: int, probe: Any, mesh: Any) -> None:
    for what, verdict in probe.issue_some(Concat, mesh, seed=seed, count=10):
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


@pytest.mark.parametrize("name", ["p150", "p150x8"])
def test_other_boards(name: str, probe: Any) -> None:
    for what, verdict in run_in_process(probe.on_board, name, Concat, 1, 8, device=name):
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


@pytest.mark.parametrize("name", BOARDS)
def test_every_shape_has_a_legal_config_that_fits(name: str, probe: Any) -> None:
    for request in probe.requests(Concat):
        assert probe.ways(Concat, request, board(name), Random(0)), f"{request} on {name}"


@pytest.mark.parametrize(
    ("request_", "reads", "message"),
    [
        (ROWS, (DRAM, width_sharded((8, 4))), "piece 1 lies in .*0-0..7-3'; it must lie in 'b h s d in dram' or"),
        (replace(ROWS, inputs=("a",), shapes=ROWS.shapes[:1]), None, "1 pieces are joined; it must be 2 to 47"),
        (
            replace(ROWS, inputs=("a",) * 48, shapes=ROWS.shapes[:1] * 48),
            None,
            "48 pieces are joined; it must be 2 to 47",
        ),
        (replace(ROWS, dtype="uint32"), None, "uint32 values are not joined; bfloat16, bfloat8_b, float32 are"),
        (replace(ROWS, dim=-2), None, "dim -2 is none of the 4 dims of the pieces; name one of 0 to 3"),
        (replace(ROWS, dim=1), None, r"piece 1 is \(1, 16, 512, 256\); but for dim 1 it must be as piece 0"),
        (replace(ROWS, shapes=((1, 1, 32, 64), (1, 1, 40, 64))), None, "dim 2 of piece 1 is 40, .*; pad it to 64"),
    ],
)
def test_what_is_refused(request_: Any, reads: Any, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        Concat().check(request_, N150, reads)


@pytest.mark.parametrize("count", [2, 16, 47])
def test_one_program_joins_them_all(mesh: Any, count: int) -> None:
    request = replace(ROWS, inputs=("a",) * count, shapes=((1, 2, 64, 64),) * count)
    reads = [(DRAM, L1)[index % 2] for index in range(count)]
    for config in (Concat(), Concat(memory="l1")):
        verdict = verify(request, config, mesh, reads=reads)
        assert verdict.exact, verdict
        assert verdict.usage is not None
        assert verdict.usage.programs == 1


def test_dims_that_are_no_tiles_may_be_odd_elsewhere(mesh: Any) -> None:
    for dim, shape in ((3, (1, 3, 30, 64)), (2, (1, 3, 32, 40)), (1, (1, 3, 30, 40)), (0, (3, 30, 40))):
        for dtype in ("bfloat16", "bfloat8_b", "float32"):
            request: Any = replace(ROWS, inputs=("a",) * 3, shapes=(shape,) * 3, dim=dim, dtype=dtype)
            verdict = verify(request, Concat(), mesh)
            assert verdict.exact, verdict


def test_columns_that_dram_aligns_otherwise_lie_in_l1() -> None:
    """ttnn would transpose all pieces, join rows and transpose the result."""
    with pytest.raises(
        PlacementError, match="piece 0 in DRAM has 32 bfloat8_b columns, no multiple of 64; let it lie in"
    ):
        Concat().check(COLUMNS, P150)
    Concat().check(COLUMNS, P150, (L1, L1))
    Concat().check(COLUMNS, N150)


def test_what_is_copied_takes_no_engine() -> None:
    work = Concat().work(ROWS, N150, (DRAM, L1))
    assert (work.vector_bytes, work.dram_pages) == (0, (2 * 32 + 16) * 16 * 8)
    assert work.noc_bytes == 16 * 16 * 8 * 2048 / 64
