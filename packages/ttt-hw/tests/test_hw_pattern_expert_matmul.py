"""ExpertMatmul: exact buffers whether experts are skipped or not, and each rule."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ttt_hw.catalogue import BOARDS, board
from ttt_hw.isolation import run_in_process
from ttt_hw.patterns.expert_matmul import ExpertMatmul
from ttt_hw.requests import ExpertMatmulRequest


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import op_probe

    return op_probe


def request(m: int, k: int, n: int, *, shared: bool, **changes: Any) -> ExpertMatmulRequest:
    whole = ExpertMatmulRequest(
        name="e", inputs=("x", "w", "r"), experts=8, active=2, shared_input=shared, m=m, k=k, n=n
    )
    return replace(whole, **changes)


def layer(m: int, chips: int) -> list[ExpertMatmulRequest]:
    """Up and down of Mixtral-8x7B on one of so many chips."""
    return [request(m, 4096, 14336 // chips, shared=True), request(m, 14336 // chips, 4096, shared=False)]


def configs(name: str) -> list[tuple[ExpertMatmulRequest, ExpertMatmul]]:
    found = []
    for m, chips in ((1, 1), (8, 8), (32, 32), (128, 8), (1024, 8)):
        for wanted in layer(m, chips):
            found += [(wanted, config) for config in list(ExpertMatmul.candidates(wanted, board(name)))[:4]]
    return found


def test_exact(mesh: Any, probe: Any) -> None:
    pairs = configs("n150")
    assert {config.skip for _, config in pairs} == {True, False}
    assert not probe.inexact(mesh, pairs)


@pytest.mark.parametrize("name", ["p150", "t3k"])
def test_exact_on_other_boards(name: str, probe: Any) -> None:
    assert not run_in_process(probe.inexact_on, name, board(name).mesh, configs(name)[::2], device=name)


@pytest.mark.parametrize("name", BOARDS)
def test_mixtral_is_served(name: str, probe: Any) -> None:
    for m, chips in product((1, 8, 32, 128, 1024, 2048), (1, 2, 4, 8, 32)):
        for wanted in layer(m, chips):
            probe.first_legal(ExpertMatmul, wanted, board(name))


WANTED = request(32, 4096, 1792, shared=True)
CONFIG = ExpertMatmul(grid=(8, 7), per_core=(1, 1), inner=4, block=(1, 1), subblock=(1, 1), skip=True)
OF_EACH = request(32, 1792, 4096, shared=False)


@pytest.mark.parametrize(
    ("change", "wanted", "reason"),
    [
        ({"inner": 0}, WANTED, "inner must be at least 1, not 0"),
        ({"grid": (9, 8)}, WANTED, "grid 9x8 is beyond the chip's 8x8"),
        ({"inner": 3}, WANTED, "inner=3 does not divide the 128 inner tiles; the nearest that does is 2"),
        ({"grid": (8, 6)}, WANTED, "48 x 1 columns of 1 tiles are not all 56 of 1; take 2 of 1"),
        ({"skip": False}, WANTED, "56 x 1 rows of 1 tiles are not all 1 of 56; take 1 of 56"),
        ({"grid": (5, 8), "per_core": (1, 4), "block": (1, 4)}, OF_EACH,
         "where experts are skipped, the 32 cores at work must be whole rows of 5"),
        ({"per_core": (1, 2), "block": (1, 1)}, WANTED, "where experts are skipped, a core's 1 x 2 tiles are one block"),
        ({"per_core": (8, 1), "block": (8, 1)}, replace(WANTED, m=256), "experts are skipped for at most 128 rows, not 256"),
        ({}, replace(WANTED, k=4100), "k=4100 and n=1792 must be whole tiles of 32"),
    ],
)  # fmt: skip
def test_each_rule(change: dict[str, Any], wanted: ExpertMatmulRequest, reason: str, probe: Any) -> None:
    assert reason in probe.problems(replace(CONFIG, **change), wanted)


def test_skipping_pays_for_few_users() -> None:
    record = board("n150")

    def streamed(users: int, skip: bool) -> float:
        return replace(CONFIG, skip=skip).work(replace(WANTED, m=users), record, ["", "", ""]).dram_bytes

    assert streamed(1, True) < 0.3 * 8 * 4096 * 1792 * 1.1
    assert streamed(32, True) > 3 * streamed(1, True)
