"""Broadcast: exact buffers of routing weights and masks, and its rules."""

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
from ttt_hw.patterns.broadcast import Broadcast
from ttt_hw.requests import BroadcastRequest
from ttt_hw.verify import verify

N150 = board("n150")
WEIGHTED = BroadcastRequest(name="weighted", inputs=("a", "b"), op="mul", shape=(1, 8, 64, 4096), b_shape=(1, 8, 64, 1))
TILES, TILE_BYTES = 8 * 2 * 128, 2048  # of a


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import dims_probe

    return dims_probe


@pytest.mark.parametrize("seed", range(3))
def test_real_shapes_are_accepted_and_predicted(seed: int, probe: Any, mesh: Any) -> None:
    for what, verdict in probe.issue_some(Broadcast, mesh, seed=seed, count=10):
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


@pytest.mark.parametrize("name", ["p150", "p150x8"])
def test_other_boards(name: str, probe: Any) -> None:
    for what, verdict in run_in_process(probe.on_board, name, Broadcast, 1, 8, device=name):
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


@pytest.mark.parametrize("name", BOARDS)
def test_every_shape_has_a_legal_config_that_fits(name: str, probe: Any) -> None:
    for request in probe.requests(Broadcast):
        assert probe.ways(Broadcast, request, board(name), Random(0)), f"{request} on {name}"


@pytest.mark.parametrize(
    ("request_", "reads", "message"),
    [
        (WEIGHTED, (width_sharded((8, 4)), DRAM), "a lies in .*0-0..7-3'; it must lie in 'b h s d in dram' or"),
        (WEIGHTED, (DRAM, width_sharded((8, 4))), "b lies in .*0-0..7-3'; it must lie in 'b h s d in dram' or"),
        (replace(WEIGHTED, b_shape=(1, 4, 64, 1)), None, "dim 1 of b is 4; it must be that of a, 8, or 1"),
        (replace(WEIGHTED, dtype="float32"), None, "float32 values are not combined; bfloat16 and bfloat8_b are"),
    ],
)
def test_what_is_refused(request_: Any, reads: Any, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        Broadcast().check(request_, N150, reads)


@pytest.mark.parametrize("b_shape", [(1, 8, 64, 1), (1, 1, 1, 4096), (1, 1, 1, 1), (1, 8, 1, 1)])
@pytest.mark.parametrize("dtype", ["bfloat16", "bfloat8_b"])
def test_b_repeated_within_a_matrix_has_tiles_of_its_own(mesh: Any, b_shape: Any, dtype: Any) -> None:
    repeated = verify(replace(WEIGHTED, b_shape=b_shape, dtype=dtype), Broadcast(), mesh)
    again = verify(replace(WEIGHTED, b_shape=(1, 1, 64, 4096), dtype=dtype), Broadcast(), mesh)
    assert repeated.exact
    assert again.exact
    assert repeated.buffers - again.buffers == 2 * TILE_BYTES


@pytest.mark.parametrize(
    ("b_shape", "tiles"),
    [((1, 8, 64, 1), 8 * 2), ((1, 8, 1, 1), 8), ((1, 1, 1, 4096), TILES), ((1, 1, 64, 4096), TILES)],
)
def test_what_is_read_of_b(b_shape: Any, tiles: int) -> None:
    work = Broadcast().work(replace(WEIGHTED, b_shape=b_shape), N150, (DRAM, DRAM))
    assert work.dram_pages == 2 * TILES + tiles
    assert work.vector_bytes == 2 * TILES * TILE_BYTES / 64
    assert Broadcast(memory="l1").work(WEIGHTED, N150, (L1, L1)).dram_bytes == 0
