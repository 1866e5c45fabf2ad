"""GatherMatmul on rings of chips: exact buffers, and what makes a ring."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ttt_core import ShapeError
from ttt_hw.catalogue import board, board_as
from ttt_hw.isolation import run_in_process
from ttt_hw.layouts import DRAM
from ttt_hw.patterns.gather_matmul import GatherMatmul, GatherMatmulRequest

T3K = board("t3k")


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import matmul_probe

    return matmul_probe


@pytest.mark.parametrize("name", ["t3k", "p150x8", "p150x4"])
def test_rings_are_accepted_and_predicted(name: str, probe: Any) -> None:
    found = run_in_process(probe.gathered, name, device=name)
    assert found
    for what, verdict in found:
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


REQUEST = GatherMatmulRequest(name="o", m=256, k=4096, n=1024, chips=8, weight_dtype="bfloat8_b")
CONFIG = GatherMatmul(kind="2d", grid=(8, 4), per_core=(2, 4), inner=4, block=(2, 4), subblock=(1, 4))


def test_an_activation_is_split_over_the_chips() -> None:
    assert [type_.shape for type_ in REQUEST.operands] == [(1, 1, 256, 512), (1, 1, 4096, 1024)]
    assert REQUEST.results["o"].shape == (1, 1, 256, 1024)
    with pytest.raises(ShapeError, match="7 chips do not divide the inner dim 4096"):
        _ = replace(REQUEST, chips=7).operands


@pytest.mark.parametrize(
    ("record", "change", "asked", "reason"),
    [
        (board_as("t3k", "2x4"), {}, {}, "8 chips must form a ring along axis 1, and the mesh is 2x4 (mesh)"),
        (board("n300"), {}, {"chips": 2}, "2 chips must form a ring along axis 1, and the mesh is 1x2 (linear)"),
        (T3K, {"grid": (8, 8)}, {}, "8 rows of cores leave none of 8 to gather with; 7 do"),
        (T3K, {"inner": 32}, {}, "inner=32 does not divide the 16 inner tiles of a chip"),
        (T3K, {}, {"k": 4224}, "a chip's 528 columns of the activation are no whole tiles"),
        (T3K, {"per_core": (1, 4)}, {}, "4 x 1 rows of tiles cover less than the 8 there are; 2 a core would do"),
    ],
)
def test_a_broken_rule_is_named(record: Any, change: dict[str, Any], asked: dict[str, Any], reason: str) -> None:
    assert not list(CONFIG.problems(REQUEST, T3K, (DRAM, DRAM)))
    assert next(replace(CONFIG, **change).problems(replace(REQUEST, **asked), record, (DRAM, DRAM))) == reason


def test_the_links_take_time() -> None:
    slow = CONFIG.work(REQUEST, T3K, (DRAM, DRAM)).link_us
    assert 0 < CONFIG.work(REQUEST, board("p150x8"), (DRAM, DRAM)).link_us < slow
