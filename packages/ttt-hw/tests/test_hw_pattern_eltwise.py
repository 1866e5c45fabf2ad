"""EltwiseGate: exact buffers of sums and gates, interleaved and width-sharded, and its rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_hw.catalogue import board
from ttt_hw.layouts import DRAM, L1, width_sharded
from ttt_hw.patterns.eltwise import EltwiseGate
from ttt_hw.requests import BinaryRequest

N150 = board("n150")
GATE = BinaryRequest(name="gate", inputs=("a", "b"), op="mul", shape=(1, 1, 32, 4096), activation="silu")
SHARDED = EltwiseGate(memory="l1", grid=(8, 4))


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
