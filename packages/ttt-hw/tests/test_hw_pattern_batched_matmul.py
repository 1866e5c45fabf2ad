"""BatchedMatmul: attention's two matmuls, head by head, with exact buffers."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ttt_hw.catalogue import BOARDS, board
from ttt_hw.compute import ComputeKernel
from ttt_hw.isolation import run_in_process
from ttt_hw.layouts import DRAM, over_banks
from ttt_hw.patterns.batched_matmul import BatchedMatmul
from ttt_hw.requests import BatchedMatmulRequest
from ttt_hw.verify import verify

N150 = board("n150")


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import matmul_probe

    return matmul_probe


@pytest.mark.parametrize("seed", range(3))
def test_scores_and_values_are_accepted_and_predicted(seed: int, probe: Any, mesh: Any) -> None:
    rng = random.Random(seed)
    for what, verdict in probe.issue_some(BatchedMatmul, [probe.batched(rng) for _ in range(8)], mesh, rng, 3):
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


@pytest.mark.parametrize("name", ["p150", "p100"])
def test_other_boards(name: str, probe: Any) -> None:
    for what, verdict in run_in_process(probe.sweep_batched, name, 8, 1, device=name):
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize("length", [128, 1024, 2048, 8192])
@pytest.mark.parametrize("head_dim", [64, 128, 256])
def test_every_length_has_a_legal_candidate_that_fits(name: str, length: int, head_dim: int, probe: Any) -> None:
    record = board(name)
    common: dict[str, Any] = {"name": "s", "inputs": ("a", "b"), "batch": 1, "heads": 4, "m": length}
    for request in (
        BatchedMatmulRequest(**common, k=head_dim, n=length, transpose_b=True),
        BatchedMatmulRequest(**common, k=length, n=head_dim),
        BatchedMatmulRequest(**{**common, "batch": 32, "m": 1}, k=head_dim, n=1024, transpose_b=True),
    ):
        assert any(probe.fits(request, config, record) for config in probe.legal(BatchedMatmul, request, record))


SCORES = BatchedMatmulRequest(
    name="scores", inputs=("q", "k"), batch=1, heads=16, m=512, k=256, n=512, transpose_b=True
)
HEADS = BatchedMatmul(kind="heads", grid=(8, 8), per_core=(4, 16), inner=4, block=(4, 16), subblock=(1, 4))
TWO_D = BatchedMatmul(kind="2d", grid=(8, 8), per_core=(2, 2), inner=4, block=(2, 2), subblock=(2, 2))


@pytest.mark.parametrize(
    ("config", "change", "reason"),
    [
        (HEADS, {"per_core": (3, 16), "block": (3, 16)}, "rows a core=3 does not divide the 16 row tiles of a head"),
        (HEADS, {"per_core": (4, 8), "block": (4, 8)}, "a core computes all 16 columns of tiles of a head, not 8"),
        (HEADS, {"block": (2, 16)}, "a core's 4 x 16 tiles are one block, not blocks of 2 x 16"),
        (HEADS, {"inner": 3}, "inner=3 does not divide the 8 inner tiles; the nearest that does is 2"),
        (HEADS, {"subblock": (1, 8)}, "a subblock of 8 tiles is beyond the 4 that the destination registers hold"),
        (HEADS, {"grid": (9, 1)}, "grid 9x1 is beyond the chip's 8x8"),
        (HEADS, {"inner": 0}, "inner must be at least 1, not 0"),
        (
            TWO_D,
            {"per_core": (1, 2), "block": (1, 2), "subblock": (1, 2)},
            "8 x 1 rows and 8 x 2 columns of tiles cover less",
        ),
        (TWO_D, {"per_core": (20, 2)}, "20 rows of tiles a core are more than the 16 of a head need; 16 do on as many"),
        (TWO_D, {"block": (2, 3), "subblock": (1, 3)}, "block width=3 does not divide the 2 columns a core"),
        (TWO_D, {"subblock": (3, 1)}, "subblock height=3 does not divide the block's 2"),
    ],
)
def test_a_broken_rule_is_named(config: BatchedMatmul, change: dict[str, Any], reason: str) -> None:
    assert not list(config.problems(SCORES, N150, (DRAM, DRAM)))
    assert next(replace(config, **change).problems(SCORES, N150, (DRAM, DRAM))).startswith(reason)


def test_padding_of_the_inner_dim_and_shards_are_refused() -> None:
    assert list(HEADS.problems(replace(SCORES, k=250), N150, (DRAM, DRAM))) == [
        "the inner dim 250 is no multiple of 32, and padding may hold anything"
    ]
    assert next(HEADS.problems(SCORES, N150, (DRAM, over_banks()))).startswith("b lies as ")


def test_exact_without_float32_sums(mesh: Any) -> None:
    request = replace(SCORES, kernel=ComputeKernel(fp32_accumulate=False))
    for config in (HEADS, TWO_D):
        assert verify(request, config, mesh).exact


def test_work() -> None:
    heads, shared = (config.work(SCORES, N150, (DRAM, DRAM)) for config in (HEADS, TWO_D))
    assert heads.matrix_cycles == shared.matrix_cycles == 16 * 16 * 16 * 8 * 64 / 64  # all cores have the same work
    assert heads.dram_pages == 16 * (16 * 8 + 4 * 8 * 16 + 16 * 16)  # columns once for each of four shares of rows
    assert shared.dram_pages == 16 * (16 * 8 + 8 * 16 + 16 * 16)
