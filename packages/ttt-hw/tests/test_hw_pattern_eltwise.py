"""EltwiseGate: exact buffers of sums and gates, interleaved and width-sharded, and its rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_hw.catalogue import BOARDS, board
from ttt_hw.isolation import run_in_process
from ttt_hw.layouts import DRAM, L1, width_sharded
from ttt_hw.patterns.eltwise import EltwiseGate
from ttt_hw.requests import BinaryRequest

N150 = board("n150")
GATE = BinaryRequest(name="gate", inputs=("a", "b"), op="mul", shape=(1, 1, 32, 4096), activation="silu")
SHARDED = EltwiseGate(memory="l1", grid=(8, 4))


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import pattern_probe

    return pattern_probe


@pytest.mark.parametrize("seed", range(4))
def test_real_shapes_are_accepted_and_predicted(seed: int, probe: Any, mesh: Any) -> None:
    done = probe.issue_some([EltwiseGate], mesh, seed=seed, count=10)
    assert len(done) > 5
    for what, verdict in done:
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


@pytest.mark.parametrize("name", ["p150", "p150x8"])
def test_other_boards(name: str, probe: Any) -> None:
    done = run_in_process(probe.on_board, name, [EltwiseGate], 1, 8, device=name)
    assert done
    for what, verdict in done:
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


@pytest.mark.parametrize("name", BOARDS)
def test_every_shape_has_a_legal_config_that_fits(name: str, probe: Any) -> None:
    for rows in probe.DECODE + probe.PREFILL:
        for model in probe.MODELS:
            for kind in (EltwiseGate,):
                for request in probe.requests(kind, rows, model):
                    assert probe.options(kind, request, board(name)), f"{request} on {name}"


@pytest.mark.parametrize(
    ("request_", "config", "reads", "message"),
    [
        (GATE, EltwiseGate(grid=(8, 4)), None, "shards on cores lie in L1, not in dram"),
        (GATE, replace(SHARDED, grid=(9, 4)), None, "grid 9x4 is not within the chip's 8x8 cores"),
        (GATE, replace(SHARDED, grid=(5, 5)), None, "25 cores do not divide the 128 tiles of width 4096; 16 do"),
        (GATE, SHARDED, (DRAM, width_sharded((8, 4))), "a lies in 'b h s d in dram'; it must lie in .*0-0..7-3"),
        (GATE, SHARDED, (width_sharded((8, 4)), width_sharded((8, 8))), "b lies in .*0-0..7-7"),
        (
            GATE,
            EltwiseGate(),
            (width_sharded((8, 4)), L1),
            "a lies in .*0-0..7-3'; it must lie in 'b h s d in dram' or",
        ),
        (replace(GATE, a_dtype="uint32"), EltwiseGate(), None, "uint32 values are not combined"),
    ],
)
def test_what_is_refused(request_: Any, config: Any, reads: Any, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        config.check(request_, N150, reads)


def test_an_activation_of_shards_has_tiles_of_its_own() -> None:
    reads = (width_sharded((8, 4)),) * 2
    assert SHARDED.circular_buffers(GATE, N150, reads) == 2 * 2048
    assert SHARDED.circular_buffers(replace(GATE, op="add"), N150, reads) == 8 * 2048
    assert SHARDED.circular_buffers(replace(GATE, b_dtype="bfloat8_b"), N150, reads) == 8 * 2048
    assert SHARDED.circular_buffers(replace(GATE, activation=None), N150, reads) == 0


def test_shards_cost_no_traffic() -> None:
    work = SHARDED.work(GATE, N150, (width_sharded((8, 4)),) * 2)
    assert (work.dram_bytes, work.noc_bytes, work.vector_bytes) == (0, 0, 2 * 4 * 2048)
    assert EltwiseGate().work(GATE, N150, (DRAM, DRAM)).dram_bytes == 3 * 128 * 2048
