"""RingMatmul: exact buffers with resident and with streamed weights, and the rules of a ring."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ttt_core import UnsupportedOnDevice
from ttt_hw.catalogue import board
from ttt_hw.isolation import run_in_process
from ttt_hw.layouts import DRAM, over_banks, width_sharded
from ttt_hw.patterns.ring_matmul import RingMatmul
from ttt_hw.requests import MatmulRequest
from ttt_hw.verify import verify

N150 = board("n150")
SHAPES = [(2048, 2048), (2048, 3072), (4096, 6144), (4096, 14336), (8192, 1024), (6144, 1536)]


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import matmul_probe

    return matmul_probe


@pytest.mark.parametrize(("k", "n"), SHAPES)
@pytest.mark.parametrize("output", ["bfloat16", "bfloat8_b"])
def test_every_candidate_is_accepted_and_predicted(k: int, n: int, output: str, probe: Any, mesh: Any) -> None:
    request = probe.matmul(32, k, n, output_dtype=output, activation="silu")
    configs = [config for config in probe.legal(RingMatmul, request, N150) if probe.fits(request, config, N150)]
    assert {config.weight for config in configs} >= {"interleaved"}
    for config in configs:
        verdict = verify(request, config, mesh)
        assert verdict.error is None
        assert verdict.exact, (config, verdict)


def test_another_board(probe: Any) -> None:
    for what, verdict in run_in_process(probe.rings, "p150", SHAPES, device="p150"):
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


REQUEST = MatmulRequest(name="o", m=32, k=4096, n=4096, weight_dtype="bfloat8_b")
CONFIG = RingMatmul(grid=(8, 4), subblock=4)


@pytest.mark.parametrize(
    ("change", "asked", "reason"),
    [
        ({"grid": (8, 9)}, {}, "grid 8x9 is beyond the chip's 8x8"),
        ({"subblock": 0}, {}, "subblock must be at least 1, not 0"),
        ({"subblock": 3}, {}, "subblock=3 does not divide the 4 columns a core; the nearest that does is 2"),
        ({"subblock": 8}, {"n": 8192}, "a subblock of 8 tiles is beyond the 4 that the destination registers hold"),
        ({"grid": (8, 3)}, {}, "a ring of 24 cores does not split the 128 inner tiles evenly; pad them to 144"),
        ({}, {"n": 4000}, "a ring of 32 cores does not split the 125 column tiles evenly; pad them to 128"),
        ({}, {"m": 33}, "33 rows are more than the 32 of one tile"),
        ({"receivers": 2}, {}, "2 receivers a bank are for a prefetched weight"),
        (
            {"weight": "prefetched", "receivers": 2},
            {},
            "12 banks with 2 receivers each feed 24 cores, not a ring of 32",
        ),
        (
            {},
            {"bias_dtype": "bfloat16", "inputs": ("x", "weight", "bias")},
            "a ring adds no bias; add it in an operation of its own",
        ),
    ],
)
def test_a_broken_rule_is_named(change: dict[str, Any], asked: dict[str, Any], reason: str) -> None:
    reads = (width_sharded((8, 4)), DRAM)
    assert not list(CONFIG.problems(REQUEST, N150, reads))
    assert next(replace(CONFIG, **change).problems(replace(REQUEST, **asked), N150, reads)) == reason


def test_a_prefetched_weight_is_planned_but_not_issued() -> None:
    request = replace(REQUEST, k=3072, n=3072)
    config = RingMatmul(grid=(8, 3), subblock=4, weight="prefetched", receivers=2)
    reads = (width_sharded((8, 3)), over_banks())
    assert not list(config.problems(request, N150, reads))
    assert config.circular_buffers(request, N150, reads) == 23 * 4 * 2048 + 4 * 4096 + 32
    assert config.prefetch_buffer(request) == 2 * 4 * 4 * 1088
    assert config.work(request, N150, reads).dram_streamed == 96 * 96 * 1088
    assert config.to_ttnn(request, N150)["program_config"].num_global_cb_receivers == 2
    with pytest.raises(UnsupportedOnDevice, match="o reads a prefetched weight, but no prefetcher runs"):
        config.issue(request, N150, [])
