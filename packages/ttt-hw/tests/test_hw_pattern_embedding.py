"""Embedding: exact buffers for whole tiles of rows and for fewer, and its rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_hw.catalogue import BOARDS, board
from ttt_hw.isolation import run_in_process
from ttt_hw.patterns.embedding import Embedding
from ttt_hw.requests import EmbeddingRequest
from ttt_hw.verify import verify

N150, P150 = board("n150"), board("p150")
TOKENS = EmbeddingRequest(name="e", rows=128, dim=4096, count=1000)


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import pattern_probe

    return pattern_probe


@pytest.mark.parametrize("seed", range(4))
def test_real_shapes_are_accepted_and_predicted(seed: int, probe: Any, mesh: Any) -> None:
    done = probe.issue_some([Embedding], mesh, seed=seed, count=10)
    assert len(done) > 5
    for what, verdict in done:
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


@pytest.mark.parametrize("name", ["p150", "p150x8"])
def test_other_boards(name: str, probe: Any) -> None:
    done = run_in_process(probe.on_board, name, [Embedding], 1, 8, device=name)
    assert done
    for what, verdict in done:
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


@pytest.mark.parametrize("name", BOARDS)
def test_every_shape_has_a_legal_config_that_fits(name: str, probe: Any) -> None:
    for rows in probe.DECODE + probe.PREFILL:
        for model in probe.MODELS:
            for kind in (Embedding,):
                for request in probe.requests(kind, rows, model):
                    assert probe.options(kind, request, board(name)), f"{request} on {name}"


@pytest.mark.parametrize(
    ("request_", "config", "reads", "message"),
    [
        (
            replace(TOKENS, rows=100),
            Embedding(),
            None,
            "100 indices are neither fewer than a tile nor .*; pad them to 128",
        ),
        (TOKENS, Embedding(), ("s d in l1", "s d in dram"), "ids lie in 's d in l1'; they must lie in 's d in dram'"),
    ],
)
def test_what_is_refused(request_: Any, config: Any, reads: Any, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        config.check(request_, N150, reads)


@pytest.mark.parametrize("dim", [40, 72, 1000, 32 * 32, 32 * 33, 32 * 63, 32 * 64, 32 * 65, 32 * 340, 32 * 341])
def test_where_the_buffers_change(mesh: Any, dim: int) -> None:
    for rows in (1, 31, 32):
        assert verify(replace(TOKENS, rows=rows, dim=dim), Embedding(), mesh).exact, rows


def test_fewer_rows_than_a_tile_take_a_second_program() -> None:
    one, tile = (Embedding().work(replace(TOKENS, rows=rows), P150, ()) for rows in (1, 32))
    assert (one.programs, tile.programs) == (2, 1)
