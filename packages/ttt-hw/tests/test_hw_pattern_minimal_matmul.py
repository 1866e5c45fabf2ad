"""MinimalMatmul: exact buffers for any block sizes, weights in pages or over banks."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ttt_hw.catalogue import BOARDS, board
from ttt_hw.isolation import run_in_process
from ttt_hw.layouts import DRAM, over_banks
from ttt_hw.patterns.minimal_matmul import MinimalMatmul, share
from ttt_hw.requests import MatmulRequest
from ttt_hw.verify import verify

N150 = board("n150")


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import matmul_probe

    return matmul_probe


@pytest.mark.parametrize("seed", range(3))
def test_real_shapes_are_accepted_and_predicted(seed: int, probe: Any, mesh: Any) -> None:
    rng = random.Random(seed)
    requests = [probe.varied(rng, (128, 1024, 2048)) for _ in range(8)]
    for what, verdict in probe.issue_some(MinimalMatmul, requests, mesh, rng, 3):
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


@pytest.mark.parametrize("name", ["p150", "p100"])
def test_other_boards(name: str, probe: Any) -> None:
    for what, verdict in run_in_process(
        probe.sweep, name, "minimal_matmul", "MinimalMatmul", (128, 2048), 8, 2, device=name
    ):
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


@pytest.mark.parametrize("name", BOARDS)
def test_every_prompt_has_a_legal_candidate_for_either_weight(name: str, probe: Any) -> None:
    record = board(name)
    for rows in (128, 1024, 2048, 8192):
        for k, n in probe.WEIGHTS.values():
            request = probe.matmul(rows, k, n, bias_dtype="bfloat16")
            found = [
                config for config in probe.legal(MinimalMatmul, request, record) if probe.fits(request, config, record)
            ]
            assert {config.weight for config in found} == {"interleaved", "banks"}


REQUEST = MatmulRequest(name="down", m=1024, k=4096, n=2048, weight_dtype="bfloat8_b")
CONFIG = MinimalMatmul(grid=(8, 8), block=(8, 8), inner=8, subblock=(2, 2))


@pytest.mark.parametrize(("block", "inner"), [((3, 5), 7), ((1, 1), 1), ((8, 4), 16), ((40, 2), 3)])
def test_blocks_need_not_divide_anything(block: tuple[int, int], inner: int, mesh: Any) -> None:
    config = replace(CONFIG, block=block, inner=inner, subblock=(1, 1))
    assert not list(config.problems(REQUEST, N150, (DRAM, DRAM)))
    assert verify(REQUEST, config, mesh).exact


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"grid": (1, 8)}, "grid 1x8 is below the least, 2x2"),
        ({"grid": (8, 9)}, "grid 8x9 is beyond the chip's 8x8"),
        ({"block": (0, 8)}, "block must be at least 1, not 0"),
        ({"subblock": (3, 1)}, "subblock height=3 does not divide the block's 8; the nearest that does is 2"),
        ({"subblock": (1, 3)}, "subblock width=3 does not divide the block's 8; the nearest that does is 2"),
        ({"subblock": (4, 2)}, "a subblock of 8 tiles is beyond the 4 that the destination registers hold"),
    ],
)
def test_a_broken_rule_is_named_and_ttnn_has_it_too(change: dict[str, Any], reason: str, mesh: Any) -> None:
    broken = replace(CONFIG, **change)
    assert next(broken.problems(REQUEST, N150, (DRAM, DRAM))) == reason
    assert verify(REQUEST, broken, mesh).error is not None


def test_inputs_and_activations_that_it_does_not_take() -> None:
    assert next(CONFIG.problems(REQUEST, N150, (DRAM, over_banks()))).startswith("the weight lies as ")
    tanh = replace(REQUEST, activation="tanh")
    assert next(CONFIG.problems(tanh, N150, (DRAM, DRAM))).startswith("a matmul does not end with tanh")
    wide = replace(REQUEST, inputs=("x", "weight", "bias"), bias_dtype="float32")
    assert next(CONFIG.problems(wide, N150, (DRAM, DRAM, DRAM))).startswith("a bias of float32 is none of")


def test_the_longer_side_goes_over_the_longer_side_of_the_grid() -> None:
    assert share(replace(REQUEST, m=2048, n=1024), (11, 10)) == (6, 4)
    assert share(replace(REQUEST, m=1024, n=2048), (11, 10)) == (4, 6)


def test_work() -> None:
    work = CONFIG.work(REQUEST, N150, (DRAM, DRAM))
    assert work.matrix_cycles == 4 * 8 * 128 * 32
    assert work.dram_pages == 32 * 128 + 128 * 64 + 32 * 64
    assert work.noc_bytes == 128 * (4 * 2048 + 8 * 1088)
