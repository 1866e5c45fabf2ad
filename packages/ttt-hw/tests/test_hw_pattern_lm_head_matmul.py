"""LMHeadMatmul: whole vocabularies, in pieces that fit L1."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ttt_hw.catalogue import BOARDS, board
from ttt_hw.layouts import DRAM
from ttt_hw.patterns.lm_head_matmul import LMHeadMatmul
from ttt_hw.requests import LMHeadRequest
from ttt_hw.verify import verify

N150 = board("n150")
HEAD = LMHeadRequest(name="head", m=32, k=4096, n=128256, weight_dtype="bfloat8_b")


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import matmul_probe

    return matmul_probe


@pytest.mark.parametrize("n", [128256, 16032, 152064, 100352, 32064, 50432, 262144])
def test_vocabularies_are_accepted_and_predicted(n: int, probe: Any, mesh: Any) -> None:
    request = replace(HEAD, n=n, k=2048)
    configs = [config for config in probe.legal(LMHeadMatmul, request, N150) if probe.fits(request, config, N150)]
    assert configs
    for config in configs:
        verdict = verify(request, config, mesh)
        assert verdict.error is None
        assert verdict.exact, (config, verdict)


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_has_one(name: str, probe: Any) -> None:
    record = board(name)
    for k, n in probe.HEADS.values():
        request = replace(HEAD, k=k, n=n)
        assert any(probe.fits(request, config, record) for config in probe.legal(LMHeadMatmul, request, record))


CONFIG = LMHeadMatmul(grid=(8, 8), pieces=4, inner=4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pieces": 0}, "pieces must be at least 1, not 0"),
        ({"pieces": 100}, "100 pieces are more than the 63 columns of tiles of a core"),
        ({"inner": 3}, "inner=3 does not divide the 128 inner tiles; the nearest that does is 2"),
        ({"grid": (8, 9)}, "grid 8x9 is beyond the chip's 8x8"),
        (
            {"output": "b h s d@core in l1 on 0-0..7-7"},
            "logits lie in dram or l1, not 'b h s d@core in l1 on 0-0..7-7'",
        ),
    ],
)
def test_a_broken_rule_is_named(change: dict[str, Any], reason: str) -> None:
    assert not list(CONFIG.problems(HEAD, N150, (DRAM, DRAM)))
    assert next(replace(CONFIG, **change).problems(HEAD, N150, (DRAM, DRAM))) == reason


def test_rows_of_a_prompt_are_refused() -> None:
    said = list(CONFIG.problems(replace(HEAD, m=64), N150, (DRAM, DRAM)))
    assert said == ["64 rows are more than the 32 of one tile: take the last row of each prompt before"]


def test_a_share_is_rounded_up_to_whole_pieces() -> None:
    assert CONFIG.config(HEAD).per_core == (1, 64)
    assert CONFIG.config(HEAD).block == (1, 16)
