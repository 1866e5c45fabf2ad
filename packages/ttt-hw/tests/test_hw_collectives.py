"""Rules of the layout language to collectives; no device."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ttt_core import PlacementError
from ttt_hw import AllGather, AllReduce, ReduceScatter, board, plan_reshard
from ttt_hw.collectives import Collective, reshard_steps
from ttt_shard_dsl import Call

ROWS, COLS = 0, 1
MESH = replace(board("t3k"), mesh=(2, 4))


def shape_for(rule: str) -> tuple[int, ...]:
    return (8 if rule.startswith("b") else 1, 1, 32, 4096)


@pytest.mark.parametrize(
    ("rule", "steps"),
    [
        ("1 1 s d +cols -> 1 1 s d", (AllReduce(axis=COLS),)),
        ("1 1 s d +rows +cols -> 1 1 s d", (AllReduce(axis=ROWS), AllReduce(axis=COLS))),
        ("1 1 s d +cols -> 1 1 s d@cols", (ReduceScatter(axis=COLS, dim=3),)),
        ("1 1 s v@cols -> 1 1 s v", (AllGather(axis=COLS, dim=3),)),
        ("b@rows 1 s v@cols -> b 1 s v@cols", (AllGather(axis=ROWS, dim=0),)),
        ("1 1 s v@cols +rows -> 1 1 s v", (AllReduce(axis=ROWS), AllGather(axis=COLS, dim=3))),
        # Chip (row, column) holds part 4·row + column, or row + 2·column: joined the other way round they would be mixed up.
        ("1 1 s v@rows@cols -> 1 1 s v", (AllGather(axis=COLS, dim=3), AllGather(axis=ROWS, dim=3))),
        ("1 1 s v@cols@rows -> 1 1 s v", (AllGather(axis=ROWS, dim=3), AllGather(axis=COLS, dim=3))),
        ("1 1 s v@cols -> 1 1 s v@cols", ()),
    ],
)
def test_steps(rule: str, steps: tuple[Collective, ...]) -> None:
    assert reshard_steps(rule, MESH, shape=shape_for(rule)) == steps


def test_a_step_that_is_no_collective_in_place_is_the_call_of_the_plan() -> None:
    steps = reshard_steps("1 1 s v@cols in dram -> 1 1 s v@core in l1", MESH, shape=(1, 1, 32, 4096))
    assert steps[0] == AllGather(axis=COLS, dim=3)
    assert [step.function for step in steps if isinstance(step, Call)] == ["interleaved_to_sharded"]
    (gather,) = reshard_steps("1 1 s v@cols in dram -> 1 1 s v in l1", MESH, shape=(1, 1, 32, 4096))
    assert isinstance(gather, Call)
    assert gather.to_ttnn().startswith("ttnn.all_gather(x, dim=3, cluster_axis=1, memory_config=")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("1 1 s d -> 1 1 s d +cols", "the sum over 'cols' is pending in the target only"),
        ("1 1 s v@cols -> 1 1 v s", "dim 2 is 's' in the source and 'v' in the target"),
        ("1 1 s v~cols -> 1 1 s v", "chips have blocks: 'cols' cannot deal in turn"),
        ("1 1 s v -> 1 1 s@cols v", "mesh_partition where each chip gets whole tiles of 32"),
    ],
)
def test_a_rule_that_no_steps_fulfil_is_refused(rule: str, message: str) -> None:
    with pytest.raises(PlacementError) as caught:
        plan_reshard(rule, MESH, shape=shape_for(rule))
    assert message in str(caught.value)
    assert caught.value.__cause__ is not None


def test_along_an_axis_of_one_chip_there_is_nothing_to_do() -> None:
    x = object()
    assert plan_reshard("1 1 s d +cols -> 1 1 s d", board("n150"), shape=(1, 1, 32, 4096))(x) is x
