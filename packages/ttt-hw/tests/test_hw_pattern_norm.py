"""Norms, interleaved, width-sharded and over several chips: exact buffers, the switch to streamed rows, and the rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_hw.catalogue import board
from ttt_hw.isolation import run_in_process
from ttt_hw.layouts import DRAM, L1, width_sharded
from ttt_hw.patterns.distributed_norm import DistributedNorm
from ttt_hw.patterns.norm import InterleavedNorm
from ttt_hw.patterns.sharded_norm import ShardedNorm
from ttt_hw.requests import NormRequest
from ttt_hw.verify import verify

N150 = board("n150")
RMS = NormRequest(name="norm", shape=(1, 1, 32, 4096))
SHARDED = ShardedNorm(grid=(8, 4), subblock=4)
SPLIT = replace(RMS, chips=2, shape=(1, 1, 32, 2048))


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import pattern_probe

    return pattern_probe


@pytest.mark.parametrize(
    ("request_", "config", "reads", "message"),
    [
        (SPLIT, InterleavedNorm(), None, "the statistics of 2 chips are not gathered; use DistributedNorm"),
        (SPLIT, SHARDED, None, "the statistics of 2 chips are not gathered; use DistributedNorm"),
        (RMS, DistributedNorm(axis=1), None, "one chip has whole rows; use InterleavedNorm"),
        (SPLIT, DistributedNorm(axis=1), None, "axis 1 of the 1x1 mesh has 1 chips; the rows are split over 2"),
        (replace(RMS, shape=(1, 1, 32, 80), chips=2), DistributedNorm(axis=1), None, "axis 1 of the 1x1 mesh"),
        (replace(RMS, inputs=("x", "b"), weight=False, bias=True), InterleavedNorm(), None, "a bias but no weight"),
        (replace(RMS, inputs=("x", "b"), weight=False, bias=True), SHARDED, None, "a bias but no weight"),
        (RMS, InterleavedNorm(), (width_sharded((8, 4)), DRAM), "input 0 lies in .*; it must lie in"),
        (RMS, InterleavedNorm(), (DRAM, L1), "input 1 lies in 'b h s d in l1'; it must lie in 'b h s d in dram'"),
        (RMS, SHARDED, (DRAM, DRAM), "input 0 lies in 'b h s d in dram'; it must lie in 'b h s d@core in l1"),
        (RMS, replace(SHARDED, grid=(9, 1)), None, "grid 9x1 is not within the chip's 8x8 cores"),
        (RMS, replace(SHARDED, grid=(8, 6)), None, "48 cores do not divide the 128 tiles of width 4096; 32 do"),
        (RMS, replace(SHARDED, subblock=3), None, "subblock 3 must divide the 4 tiles of a core .*; the widest is 4"),
        (RMS, replace(SHARDED, grid=(8, 2), subblock=8), None, "subblock 8 must .* be at most 4"),
    ],
)
def test_what_is_refused(request_: Any, config: Any, reads: Any, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        config.check(request_, N150, reads)


@pytest.mark.parametrize("name", ["n300", "p150x4"])
def test_norms_over_chips(name: str, probe: Any) -> None:
    done = run_in_process(probe.on_board, name, [DistributedNorm], 3, 12, device=name)
    assert len(done) > 6
    for what, verdict in done:
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


@pytest.mark.parametrize(
    ("tiles", "kind", "weight", "bias", "whole"),
    [
        (148, "rms", True, False, True), (149, "rms", True, False, False), (204, "rms", False, False, True),
        (205, "rms", False, False, False), (84, "layer", True, True, True), (85, "layer", True, True, False),
    ],
)  # fmt: skip
def test_rows_are_streamed_where_they_do_not_fit(
    mesh: Any, tiles: int, kind: Any, weight: bool, bias: bool, whole: bool
) -> None:
    inputs = ("x", *("w",) * weight, *("b",) * bias)
    request = NormRequest(name="norm", inputs=inputs, kind=kind, weight=weight, bias=bias, shape=(1, 1, 32, 32 * tiles))
    verdict = verify(request, InterleavedNorm(), mesh)
    assert verdict.exact
    assert (verdict.buffers > 1_200_000) is whole


def test_what_lies_in_l1_can_tip_rows_into_being_streamed(mesh: Any) -> None:
    request = NormRequest(name="norm", inputs=("x",), weight=False, shape=(1, 1, 32 * 64, 32 * 200))
    in_dram, in_l1 = InterleavedNorm(), InterleavedNorm(memory="l1")
    for config, reads in ((in_dram, (DRAM,)), (in_l1, (DRAM,)), (in_dram, (L1,))):
        assert verify(request, config, mesh, reads=reads).exact, (config, reads)
    assert in_l1.circular_buffers(request, N150, (DRAM,)) < in_dram.circular_buffers(request, N150, (DRAM,))


def test_less_of_a_row_is_streamed_where_l1_is_full(mesh: Any) -> None:
    request = NormRequest(name="norm", shape=(1, 1, 4096, 32 * 256))
    half = replace(request, shape=(1, 1, 1800, 32 * 256))
    in_dram, in_l1 = InterleavedNorm(), InterleavedNorm(memory="l1")
    for asked, config, reads in (
        (request, in_dram, (DRAM, DRAM)),
        (half, in_l1, (DRAM, DRAM)),
        (half, in_dram, (L1, DRAM)),
    ):
        assert verify(asked, config, mesh, reads=reads).exact, (asked, config, reads)
    assert in_l1.circular_buffers(half, N150, (L1, DRAM)) < in_dram.circular_buffers(half, N150, (DRAM, DRAM))


@pytest.mark.parametrize("dim", [40, 72, 1000, 5000])
def test_rows_that_are_no_whole_tiles(mesh: Any, dim: int) -> None:
    for rows in (3, 33):
        for memory in ("dram", "l1"):
            verdict = verify(replace(RMS, shape=(1, 1, rows, dim)), InterleavedNorm(memory=memory), mesh)  # type: ignore[arg-type]
            assert verdict.error is None
            assert verdict.exact
