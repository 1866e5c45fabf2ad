"""Published times of operations against the estimate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ttt_core import SpecError
from ttt_hw.calibration import (
    Measured,
    board_of_row,
    compare_ops,
    errors_by_class,
    median_error,
    published_ops,
    read_measurements,
)

MOST = 0.25  # of the median error of a class


@pytest.fixture(scope="module")
def found() -> list[Measured]:
    return compare_ops(published_ops()["ops"])


@pytest.mark.parametrize("kind", ["matmul", "attention", "collective"])
def test_the_median_error_of_a_class(found: list[Measured], kind: str) -> None:
    errors = [each.error for each in errors_by_class(found)[kind]]
    assert len(errors) > 20
    assert median_error(errors) <= MOST


@pytest.mark.parametrize("device", ["n150", "p150", "p100", "t3k", "bh-galaxy", "tg"])
def test_the_median_error_on_a_device(found: list[Measured], device: str) -> None:
    assert median_error([each.error for each in found if each.row["device"] == device and each.counts]) <= MOST


def test_every_row_says_what_and_where(found: list[Measured]) -> None:
    assert len({each.id for each in found}) == len(found)
    for each in found:
        assert each.row["source"]
        assert each.counts or each.row["note"]
    assert all({"id", "what", "us", "why"} <= set(row) for row in published_ops()["unpredicted"])


def test_a_row_may_have_other_cores_and_a_line_of_chips() -> None:
    assert board_of_row({"device": "p150", "grid": [13, 10]}).grid == (13, 10)
    assert board_of_row({"device": "t3k", "chips": 4}).mesh == (1, 4)


def test_work_is_estimated_as_it_is() -> None:
    row = {"id": "w", "op": "work", "device": "n150", "work": {"dram_streamed": 288e6 * 0.83}, "us": 1001.7}
    (measured,) = compare_ops([row])
    assert measured.error == pytest.approx(0)
    assert (measured.kind, measured.estimate.bound) == ("planned", "dram")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"id": "r", "op": "all_gather", "device": "t3k"}, "row 'r' of the measurements: chips is missing"),
        ({"id": "r", "op": "sum", "device": "n150"}, "row 'r' of the measurements: sum is missing or unknown"),
        ({"id": "r", "op": "work", "device": "n150", "work": {"tea": 1}, "us": 1}, "unexpected keyword argument 'tea'"),
    ],
)
def test_rows_that_lack_something(row: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        compare_ops([row])


def test_files_that_hold_no_measurements(tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    file.write_text("no")
    with pytest.raises(SpecError, match="is no file of measurements: Expecting value"):
        read_measurements(file)
    file.write_text(json.dumps({"schema": 2}))
    with pytest.raises(SpecError, match="has schema 2; this version reads 1"):
        read_measurements(file)
