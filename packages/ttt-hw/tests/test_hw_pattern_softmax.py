"""Softmax: exact buffers of whole and streamed rows, fused and added masks, and its rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_hw.catalogue import board
from ttt_hw.layouts import L1, width_sharded
from ttt_hw.patterns.softmax import Softmax
from ttt_hw.requests import SoftmaxRequest
from ttt_hw.verify import verify

N150 = board("n150")
SCORES = SoftmaxRequest(name="s", inputs=("x", "mask"), shape=(1, 4, 32, 1024), scale=0.1)
TALL = replace(SCORES, shape=(1, 4, 1024, 1024))


@pytest.mark.parametrize(
    ("request_", "config", "reads", "message"),
    [
        (SCORES, Softmax(), (width_sharded((8, 4)), L1), "x lies in .*; it must lie in 'b h s d in dram' or"),
        (replace(SCORES, shape=(1, 4, 32, 1000)), Softmax(), None, "1000 columns are no whole tiles, .*; .* to 1024"),
        (TALL, Softmax(memory="l1"), None, "a mask of 1024 rows is added first, and that sum lies in DRAM"),
    ],
)
def test_what_is_refused(request_: Any, config: Any, reads: Any, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        config.check(request_, N150, reads)


@pytest.mark.parametrize(
    ("tiles", "masked", "whole"),
    [(1, True, True), (5, True, True), (88, True, True), (89, True, False), (212, False, True), (213, False, False)],
)
def test_rows_are_streamed_where_they_do_not_fit(mesh: Any, tiles: int, masked: bool, whole: bool) -> None:
    inputs = ("x", "mask")[: 1 + masked]
    request = replace(SCORES, inputs=inputs, masked=masked, shape=(1, 4, 32, 32 * tiles), scale=1.0)
    verdict = verify(request, Softmax(), mesh)
    assert verdict.exact
    assert (verdict.buffers in (1_357_824, 864_256)) is not whole


def test_a_tall_mask_takes_a_second_program(mesh: Any) -> None:
    verdict = verify(TALL, Softmax(), mesh)
    assert verdict.exact
    assert verdict.usage is not None
    assert verdict.usage.programs == Softmax().work(TALL, N150, ("b h s d in dram",) * 2).programs == 2
