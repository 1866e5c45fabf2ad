"""DramShardedMatmul: exact buffers, results where they are predicted, and the rules that ttnn does not check."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_hw.catalogue import BOARDS, board
from ttt_hw.isolation import run_in_process
from ttt_hw.layouts import DRAM, over_banks, width_sharded
from ttt_hw.patterns.dram_sharded_matmul import DramShardedMatmul
from ttt_hw.requests import MatmulRequest
from ttt_hw.verify import verify

N150, P150, P100 = board("n150"), board("p150"), board("p100")


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import matmul_probe

    return matmul_probe


@pytest.mark.parametrize("seed", range(3))
def test_real_shapes_are_accepted_and_predicted(seed: int, probe: Any, mesh: Any) -> None:
    rng = random.Random(seed)
    requests = [probe.varied(rng, (1, 8, 32)) for _ in range(10)]
    for what, verdict in probe.issue_some(DramShardedMatmul, requests, mesh, rng, 3):
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


@pytest.mark.parametrize("name", ["p150", "p100", "bh-galaxy"])
def test_other_boards(name: str, probe: Any) -> None:
    for what, verdict in run_in_process(
        probe.sweep, name, "dram_sharded_matmul", "DramShardedMatmul", (1, 32), 8, 2, device=name
    ):
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


@pytest.mark.parametrize("name", BOARDS)
def test_every_weight_of_a_layer_has_a_legal_candidate_that_fits(name: str, probe: Any) -> None:
    record = board(name)
    for k, n in probe.WEIGHTS.values():
        request = probe.matmul(32, k, n, bias_dtype="bfloat16")
        assert any(probe.fits(request, config, record) for config in probe.legal(DramShardedMatmul, request, record))


def test_prompts_have_none(probe: Any) -> None:
    assert not list(DramShardedMatmul.candidates(probe.matmul(64, 4096, 4096), N150))


ON_32, ON_16 = width_sharded((8, 4)), width_sharded((8, 2))
REQUEST = MatmulRequest(name="o", m=32, k=4096, n=4096, weight_dtype="bfloat8_b")
CONFIG = DramShardedMatmul(activation=ON_32, inner=4, per_core=4, output=ON_32)


def problems(
    config: DramShardedMatmul, request: MatmulRequest = REQUEST, record: Any = N150, reads: Any = None
) -> list[str]:
    return list(config.problems(request, record, reads or [layouts[0] for layouts in config.accepts(request, record)]))


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        ({"inner": 0}, ["inner must be at least 1, not 0"]),
        ({"inner": 3}, ["inner=3 does not divide the 4 tiles of a shard; the nearest that does is 2"]),
        ({"inner": 8}, ["inner=8 does not divide the 4 tiles of a shard; the nearest that does is 4"]),
        ({"per_core": 1}, ["64 x 1 columns of tiles cover less than the 128 there are; 2 would do"]),
        ({"per_core": 8}, [f"ttnn puts shards of 8 tiles where '{ON_16}' says, not '{ON_32}'"]),
        (
            {"per_core": 4, "output": width_sharded((4, 8))},
            [f"ttnn puts shards of 4 tiles where '{ON_32}' says, not 'b h s d@core in l1 on 0-0..3-7'"],
        ),
        (
            {"per_core": 100, "output": "b h s d@core in l1 on 0-0..1-0"},
            ["shards of 100 tiles are wider than the 64 of 128 on 2 cores"],
        ),
        ({"activation": DRAM}, ["the activation must be width-sharded in L1, not 'b h s d in dram'"]),
        (
            {"activation": width_sharded((8, 3)), "inner": 1},
            ["shards of 6 tiles do not divide the 128 inner tiles evenly"],
        ),
        (
            {"activation": "b h s d@core in l1 on 0-1..7-1,0-0..7-0", "inner": 1},
            ["shards must lie row by row, not as 'b h s d@core in l1 on 0-1..7-1,0-0..7-0'"],
        ),
        (
            {"readers": 2},
            ["2 readers a bank are for Blackhole, not for wormhole_b0", "readers=2 does not divide the 11 columns"],
        ),
    ],
)
def test_a_broken_rule_is_named(change: dict[str, Any], reasons: list[str]) -> None:
    assert problems(CONFIG) == []
    found = problems(replace(CONFIG, **change))
    assert len(found) == len(reasons)
    for said, reason in zip(found, reasons, strict=True):
        assert said.startswith(reason)


def test_check_raises_with_the_first() -> None:
    with pytest.raises(PlacementError, match="64 rows are more than the 32 of one tile"):
        CONFIG.check(replace(REQUEST, m=64), N150)


def test_an_interleaved_bias_is_refused(mesh: Any) -> None:
    """ttnn accepts one, and its kernel reads the banks as if columns lay there in blocks."""
    request = replace(REQUEST, inputs=("x", "weight", "bias"), bias_dtype="bfloat16")
    assert verify(request, CONFIG, mesh, reads=(ON_32, over_banks(), DRAM)).error is None
    (said,) = problems(CONFIG, request, reads=(ON_32, over_banks(), DRAM))
    assert said == f"the bias lies as '{DRAM}', but must lie as '{over_banks()}'"


def test_readers_on_blackhole() -> None:
    config = replace(CONFIG, output="b h s d@core in l1 on 0-0..10-1,0-2..9-2", readers=2)
    assert problems(config, record=P150) == []
    assert 2 * config.cores(REQUEST, N150) == 2 * 2 * 12
    assert config.cores(REQUEST, P150) == 16
    assert problems(replace(config, readers=3), record=P150)[0].startswith("readers=3 does not divide the 16 columns")
    assert problems(replace(config, readers=4), record=P150) == [
        "4 readers a bank are more than the 3 that there are cores for"
    ]
    narrow = MatmulRequest(name="v", m=32, k=5120, n=1600, weight_dtype="bfloat8_b")
    config = DramShardedMatmul(
        activation=ON_32, inner=5, per_core=5, output="b h s d@core in l1 on 0-0..9-0", readers=2
    )
    assert problems(config, narrow, P100) == ["the last of 14 readers of 4 columns of tiles has none of the 50"]


def test_work_streams_the_weight_once() -> None:
    work = CONFIG.work(REQUEST, N150, (ON_32, over_banks()))
    assert work.dram_streamed == 128 * 128 * 1088
    assert work.dram_bytes == 0
    assert work.matrix_cycles == 12 * 128 * 32  # eleven columns a bank, computed as twelve
