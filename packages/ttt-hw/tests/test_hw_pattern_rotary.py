"""RotaryEmbedding: exact buffers in both modes, and its rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_hw.catalogue import board
from ttt_hw.layouts import DRAM, L1, user_sharded
from ttt_hw.patterns.rotary import RotaryEmbedding
from ttt_hw.requests import RotaryRequest

N150, P150 = board("n150"), board("p150")
PROMPT = RotaryRequest(name="r", inputs=("x", "cos", "sin"), mode="prefill", rows=128, heads=8, head_dim=128)
USERS = replace(PROMPT, mode="decode", rows=32)
TURN = RotaryEmbedding(memory="l1")


@pytest.mark.parametrize(
    ("request_", "config", "reads", "message"),
    [
        (replace(PROMPT, head_dim=96), TURN, None, "head_dim 96 has no middle between tiles; pad it to 128"),
        (replace(PROMPT, rows=100), TURN, None, "100 rows are no whole tiles; pad them to 128"),
        (replace(USERS, rows=65), TURN, [DRAM] * 3, "65 users need a core each, of which a chip has 64"),
        (USERS, RotaryEmbedding(), None, "in decode heads lie in L1, a user a core, not in dram"),
        (
            USERS,
            TURN,
            [user_sharded("0-0..7-3"), DRAM, DRAM],
            "cos lies in 'b h s d in dram'; it must lie in 'b h@core",
        ),
        (PROMPT, TURN, [user_sharded("0-0..7-3"), DRAM, DRAM], "x lies in .*; it must lie in 'b h s d in l1' or"),
        (PROMPT, TURN, [L1, L1, DRAM], "cos and sin lie in 'b h s d in l1' and 'b h s d in dram'; they must lie alike"),
    ],
)
def test_what_is_refused(request_: Any, config: Any, reads: Any, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        config.check(request_, N150, reads)


def test_tables_are_read_for_each_head() -> None:
    one, eight = (RotaryEmbedding().work(replace(PROMPT, heads=heads), P150, (DRAM,) * 3) for heads in (1, 8))
    assert eight.dram_bytes == 8 * one.dram_bytes
