"""Heads cut and joined: exact buffers, the cores of each user, and the rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_hw.catalogue import board
from ttt_hw.layouts import DRAM, row_of_cores, user_sharded, width_sharded
from ttt_hw.patterns.heads import HeadConcat, HeadSplit
from ttt_hw.requests import HeadConcatRequest, HeadSplitRequest

N150, P150 = board("n150"), board("p150")
SPLIT = HeadSplitRequest(name="h", inputs=("x",), mode="decode", rows=32, num_heads=32, num_kv_heads=8, head_dim=128)
PROMPT = replace(SPLIT, mode="prefill", rows=128)
JOIN = HeadConcatRequest(name="c", inputs=("x",), rows=128, num_heads=32, head_dim=128)
DECODE = HeadSplit(memory="l1")


@pytest.mark.parametrize(
    ("request_", "config", "reads", "message"),
    [
        (replace(SPLIT, head_dim=80), DECODE, None, "head_dim 80 is no multiple of 32, .*; pad it to 96"),
        (replace(JOIN, head_dim=80), HeadConcat(), None, "head_dim 80 is no multiple of 32, .*; pad it to 96"),
        (replace(SPLIT, rows=33), DECODE, None, "33 users are split at once; ttnn takes at most 32"),
        (SPLIT, HeadSplit(), None, "in decode heads lie in L1, a user a core, not in dram"),
        (replace(PROMPT, rows=100), HeadSplit(), None, "100 rows are no whole tiles; pad them to 128"),
        (PROMPT, replace(DECODE, grid=(8, 1)), None, "in prefill qkv is read interleaved; leave the grid out"),
        (SPLIT, replace(DECODE, grid=(5, 5)), None, "25 cores do not divide the 192 tiles of width 6144; 24 do"),
        (SPLIT, replace(DECODE, grid=(8, 8)), None, "64 cores hold 96 columns each; it must be whole heads of 128"),
        (
            SPLIT,
            DECODE,
            (width_sharded((8, 2)),),
            "qkv lies in .*; it must lie in 'b h s d in l1' or 'b h s d in dram'",
        ),
        (JOIN, HeadConcat(), (width_sharded((8, 2)),), "heads lie in .*; they must lie in 'b h s d in dram' or"),
    ],
)
def test_what_is_refused(request_: Any, config: Any, reads: Any, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        config.check(request_, N150, reads)


def test_a_user_has_a_core_in_rows_of_the_grid() -> None:
    assert DECODE.results(SPLIT, N150) == (user_sharded("0-0..7-3"),) * 3
    assert DECODE.results(SPLIT, P150) == (user_sharded("0-0..10-1,0-2..9-2"),) * 3
    assert DECODE.results(replace(SPLIT, rows=9), N150)[0] == user_sharded(row_of_cores(9, (8, 8)))


def test_coarsely_aligned_dram_is_read_through_buffers() -> None:
    assert DECODE.circular_buffers(SPLIT, N150, (DRAM,)) == 0
    assert DECODE.circular_buffers(SPLIT, P150, (DRAM,)) == 2 * (4 + 1) * 64
    assert DECODE.circular_buffers(SPLIT, P150, DECODE.accepts(SPLIT, P150)[0]) == 0
