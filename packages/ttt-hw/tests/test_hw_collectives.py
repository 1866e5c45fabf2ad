"""Rules of the layout language to collectives; no device."""

from __future__ import annotations

import pytest

from ttt_core import PlacementError
from ttt_hw import AllGather, AllReduce, board, plan_reshard
from ttt_hw.collectives import Step, reshard_steps

ROWS, COLS = 0, 1


@pytest.mark.parametrize(
    ("rule", "steps"),
    [
        ("1 1 s d +cols -> 1 1 s d", (AllReduce(axis=COLS),)),
        ("1 1 s d +rows +cols -> 1 1 s d", (AllReduce(axis=ROWS), AllReduce(axis=COLS))),
        ("1 1 s v@cols -> 1 1 s v", (AllGather(axis=COLS, dim=3),)),
        ("b@rows 1 s v@cols -> b 1 s v@cols", (AllGather(axis=ROWS, dim=0),)),
        ("1 1 s v@cols +rows -> 1 1 s v", (AllReduce(axis=ROWS), AllGather(axis=COLS, dim=3))),
        # Chip (row, column) holds part 4·row + column, or row + 2·column: joined the other way round they would be mixed up.
        ("1 1 s v@rows@cols -> 1 1 s v", (AllGather(axis=COLS, dim=3), AllGather(axis=ROWS, dim=3))),
        ("1 1 s v@cols@rows -> 1 1 s v", (AllGather(axis=ROWS, dim=3), AllGather(axis=COLS, dim=3))),
        ("1 1 s v@cols -> 1 1 s v@cols", ()),
    ],
)
def test_steps(rule: str, steps: tuple[Step, ...]) -> None:
    assert reshard_steps(rule, (2, 4)) == steps


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("1 1 s d +cols -> 1 1 s d@cols", "so far a rule can sum over an axis or join along it."),
        ("1 1 s v@cols -> 1 1 v s", "differ in more than what chips hold"),
        ("1 1 s v@cols in dram -> 1 1 s v in l1", "differ in more than what chips hold"),
        ("1 1 s v~cols -> 1 1 s v", "dealt out in turns (~cols)"),
    ],
)
def test_a_rule_that_needs_another_move_is_refused(rule: str, message: str) -> None:
    with pytest.raises(PlacementError) as caught:
        reshard_steps(rule, (2, 4))
    assert message in str(caught.value)


def test_along_an_axis_of_one_chip_there_is_nothing_to_do() -> None:
    x = object()
    assert plan_reshard("1 1 s d +cols -> 1 1 s d", board("n150"))(x) is x
