"""Embedding: exact buffers for whole tiles of rows and for fewer, and its rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_hw.catalogue import board
from ttt_hw.patterns.embedding import Embedding
from ttt_hw.requests import EmbeddingRequest
from ttt_hw.verify import verify

N150, P150 = board("n150"), board("p150")
TOKENS = EmbeddingRequest(name="e", rows=128, dim=4096, count=1000)


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
