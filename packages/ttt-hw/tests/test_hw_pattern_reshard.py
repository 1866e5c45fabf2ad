"""Reshard: every pair of layouts is accepted by ttnn with the buffers that were predicted, and the rules."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_hw.catalogue import board
from ttt_hw.isolation import run_in_process
from ttt_hw.layouts import DRAM, L1, over_banks, width_sharded
from ttt_hw.patterns._reshard import Reshard
from ttt_hw.requests import TensorType

N150 = board("n150")
X = TensorType(shape=(1, 1, 256, 2048))


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import pattern_probe

    return pattern_probe


def test_every_pair_of_layouts_is_accepted_and_predicted(probe: Any, mesh: Any) -> None:
    done = probe.move_all(mesh)
    assert len(done) > 100
    assert [move for move in done if move[1] is not None] == []


@pytest.mark.parametrize("name", ["p150", "p150x8"])
def test_other_boards(name: str, probe: Any) -> None:
    done = run_in_process(probe.moves_on_board, name, device=name)
    assert len(done) > 100
    assert [move for move in done if move[1] is not None] == []


@pytest.mark.parametrize(
    ("source", "target", "type_", "message"),
    [
        (L1, L1, X, "the tensor lies in 'b h s d in l1' already; leave the move out"),
        (L1, width_sharded((9, 1)), X, "core"),
        (DRAM, over_banks(), X, "shards in DRAM, and activations move through L1"),
        (DRAM, width_sharded((8, 1)), TensorType(shape=(1, 1, 256, 2048), tiled=False), "shards a row-major tensor"),
    ],
)
def test_what_is_refused(source: str, target: str, type_: TensorType, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        Reshard(source=source, target=target).check(type_, N150)


def test_a_move_between_shards_fills_the_fullest_core() -> None:
    wide, narrow = width_sharded((8, 8)), width_sharded((8, 1))
    there, back = (Reshard(source=a, target=b).work(X, N150) for a, b in permutations((wide, narrow)))
    assert there.noc_bytes == back.noc_bytes == 256 * 2048 * 2 / 8
    assert Reshard(source=DRAM, target=L1).work(X, N150).dram_pages == 8 * 64
