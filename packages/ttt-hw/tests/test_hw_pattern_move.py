"""Move: exact buffers of transposes, slices, casts and views, and the rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_hw.catalogue import board
from ttt_hw.layouts import L1, width_sharded
from ttt_hw.patterns.move import Move
from ttt_hw.requests import MoveRequest, TensorType
from ttt_hw.verify import verify

N150, P150 = board("n150"), board("p150")
PROMPT = TensorType(shape=(1, 1, 128, 4096))
ROWS = TensorType(shape=(128,), dtype="int32", tiled=False)
SLICE = MoveRequest(name="m", inputs=("x",), op="slice", source=PROMPT, rows=(127, 128))
TURN = MoveRequest(name="m", inputs=("x",), op="transpose", source=PROMPT)
CAST = MoveRequest(name="m", inputs=("x",), op="typecast", source=PROMPT, dtype="bfloat8_b")
VIEW = MoveRequest(name="m", inputs=("x",), op="reshape", source=PROMPT, shape=(1, 4, 32, 4096))


@pytest.mark.parametrize(
    ("request_", "config", "reads", "message"),
    [
        (SLICE, Move(), (width_sharded((8, 4)),), "the source lies in .*; it must lie in 'b h s d in dram' or"),
        (VIEW, Move(), (L1,), "the source lies in 'b h s d in l1'; it must lie in 'b h s d in dram'"),
        (replace(SLICE, source=replace(PROMPT, tiled=False)), Move(), None, "of row-major .* only columns are cut"),
        (replace(TURN, dims=(0, 3)), Move(), None, r"dims \(0, 3\) of .* are exchanged; only dims 1 and 2 of four are"),
        (replace(SLICE, rows=(100, 200)), Move(), None, "rows 100 to 200 are no part of 128"),
        (replace(SLICE, rows=(30, 40)), Move(), None, "rows 30 to 40 begin within a tile and .*; begin at 0"),
        (replace(SLICE, columns=64), Move(), None, "rows within a tile and columns are cut at once"),
        (replace(SLICE, source=replace(PROMPT, dtype="bfloat8_b")), Move(), None, "rows within a tile of bfloat8_b"),
        (replace(SLICE, rows=None, columns=5000), Move(), None, "5000 columns are no part of 4096"),
        (replace(SLICE, rows=None), Move(), None, "neither rows nor columns are named"),
        (replace(SLICE, rows=None, first_column=48), Move(), None, "columns begin at 48; they must begin with a tile"),
        (replace(CAST, dtype="bfloat16"), Move(), None, "the source is bfloat16 already; leave the cast out"),
        (
            replace(CAST, source=ROWS, dtype="bfloat16"),
            Move(),
            None,
            "row-major int32 is cast to bfloat16; only int32 to",
        ),
        (replace(VIEW, shape=(1, 1, 64, 4096)), Move(), None, "do not have as many elements"),
        (replace(VIEW, shape=(1, 1, 4096, 128)), Move(), None, "the last dim of .* becomes 128; .* it must stay 4096"),
        (replace(VIEW, shape=(1, 8, 16, 4096)), Move(), None, "rows of .* become 16; only a view is made"),
    ],
)
def test_what_is_refused(request_: Any, config: Any, reads: Any, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        config.check(request_, N150, reads)


@pytest.mark.parametrize("width", [1, 2, 32, 33, 63, 64, 65, 127, 190, 256])
def test_rows_within_a_tile(mesh: Any, width: int) -> None:
    for rows, cut in ((32, (31, 32)), (96, (70, 72)), (96, (33, 64))):
        source = TensorType(shape=(1, 1, rows, 32 * width))
        assert verify(replace(SLICE, source=source, rows=cut), Move(), mesh).exact, (rows, cut)


def test_a_row_is_cut_out_of_the_tiles_that_hold_it() -> None:
    """ttnn alone would turn the whole prompt into rows."""
    long = replace(SLICE, source=TensorType(shape=(1, 1, 8192, 4096)), rows=(8191, 8192))
    accepted = Move().accepts(long, P150)[0][:1]
    assert Move().circular_buffers(long, P150, accepted) == Move().circular_buffers(SLICE, P150, accepted)


def test_what_moves_nothing_takes_nothing(mesh: Any) -> None:
    for request in (VIEW, replace(SLICE, rows=(0, 128)), replace(VIEW, source=ROWS, shape=(1, 128))):
        verdict = verify(request, Move(), mesh)
        assert verdict.exact
        assert verdict.buffers == 0


def test_columns_that_begin_within_a_row(mesh: Any) -> None:
    columns = replace(SLICE, rows=None, first_column=128, columns=256)
    assert columns.results["m"].shape == (1, 1, 128, 128)
    assert verify(columns, Move(), mesh).exact
    pages = replace(SLICE, rows=None, source=TensorType(shape=(1, 4096), dtype="int32", tiled=False), first_column=2)
    assert verify(pages, Move(), mesh).exact
