"""FusedAllReduce: exact buffers on meshes of every kind, what it keeps, and where the planner takes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ttt_hw.calibration import compare_ops, median_error, published_ops
from ttt_hw.catalogue import board
from ttt_hw.estimate import estimate
from ttt_hw.isolation import run_in_process
from ttt_hw.patterns.collective import AllReduce
from ttt_hw.patterns.fused_all_reduce import TURNS, FusedAllReduce
from ttt_hw.planner import plan_block
from ttt_hw.records import Board
from ttt_hw.requests import BlockRequest, CollectiveRequest, MatmulRequest, Stored


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import fused_probe

    return fused_probe


def request(chips: int, columns: int, rows: int = 32, **changes: Any) -> CollectiveRequest:
    return replace(
        CollectiveRequest(name="c", inputs=("x",), kind="all_reduce", shape=(1, 1, rows, columns), chips=chips),
        **changes,
    )


def mesh(name: str, shape: tuple[int, int]) -> Board:
    return replace(board(name), mesh=shape)


@pytest.mark.parametrize(("name", "shape"), [("n300", (1, 2)), ("t3k", (2, 4)), ("tg", (4, 8)), ("p150x4", (1, 4))])
def test_exact(name: str, shape: tuple[int, int], probe: Any) -> None:
    record, pairs = mesh(name, shape), []
    for axis, chips in enumerate(shape):
        if chips == 1:
            continue
        for one in (request(chips, 1024, 8, axis=axis), request(chips, 3584, axis=axis, dtype="bfloat8_b")):
            pairs += [(one, config) for config in list(FusedAllReduce._every(one, record))[:2]]
        pairs.append((request(chips, 2048, axis=axis), FusedAllReduce(num_links=1, grid=(4, 2))))
    assert not run_in_process(probe.inexact, name, shape, pairs, device=name)


SUM = request(8, 2048)
FUSED = FusedAllReduce(num_links=1, grid=(8, 4))


@pytest.mark.parametrize(
    ("one", "wanted", "reason"),
    [
        (FUSED, replace(SUM, kind="all_gather"), "it is an all_reduce, and the request an all_gather"),
        (FUSED, replace(SUM, chips=4), "4 chips must be all of the mesh's axis 1, which has 8, and at least 2"),
        (replace(FUSED, num_links=2), SUM, "num_links=2 must be at least 1 and at most the 1 links of t3k"),
        (FUSED, request(8, 2048, 64), "x has 2 rows of tiles; it must have one, 32 rows"),
        (FUSED, replace(SUM, dtype="float32"), "float32 values are not summed; bfloat16 and bfloat8_b are"),
        (FUSED, request(8, 2000), "the last dim, 2000, must be whole tiles of 32"),
        (FUSED, request(8, 1536), "32 cores do not divide the 48 tiles of width 1536; 24 do"),
        (replace(FUSED, grid=(8, 8)), SUM, "grid 8x8 leaves 0 cores; each of 1 links needs one for its worker"),
    ],
)  # fmt: skip
def test_each_rule(one: FusedAllReduce, wanted: CollectiveRequest, reason: str) -> None:
    assert reason in list(one.problems(wanted, board("t3k"), []))
    assert not list(FUSED.problems(SUM, board("t3k"), ["b h s d@core in l1 on 0-0..7-3"]))


def test_x_must_be_sharded() -> None:
    (problem,) = FUSED.problems(SUM, board("t3k"), ["b h s d in l1"])
    assert problem.startswith("x lies in 'b h s d in l1'; it must lie in 'b h s d@core in l1 on 0-0..7-3' or ")


def test_pairs_of_chips() -> None:
    record = replace(board("t3k"), mesh=(1, 3))
    assert "3 chips are an odd number, and the kernel sums pairs" in list(
        FUSED.problems(replace(SUM, chips=3), record, [])
    )


def test_it_is_offered_where_it_is_faster() -> None:
    """On one link over eight chips seven whole tensors take longer than two split ones, until hops are all that counts."""
    for name, shape, columns, offered in (
        ("t3k", (1, 8), 4096, False),
        ("t3k", (1, 8), 512, True),
        ("p150x4", (1, 4), 8192, True),
        ("n300", (1, 2), 4096, True),
    ):
        record, wanted = mesh(name, shape), request(shape[1], columns)
        found = list(FusedAllReduce.candidates(wanted, record))
        assert bool(found) is offered, name
        for one in found:
            split = AllReduce(num_links=record.links, memory="l1")
            assert (
                estimate(one.work(wanted, record, ()), record).time_us
                < estimate(split.work(wanted, record, ()), record).time_us
            )
            assert list(FusedAllReduce.candidates(replace(wanted, shape=(1, 1, 1, columns)), record)) == found
    assert not list(FusedAllReduce.candidates(request(4, 8192, 128), mesh("p150x4", (1, 4))))


def test_what_is_kept_is_made_once_taken_in_turn_and_given_back(probe: Any) -> None:
    one, wanted = FusedAllReduce(num_links=1, grid=(8, 2)), request(2, 1024)
    (taken, turns) = run_in_process(probe.kept, "n300", wanted, one, device="n300")
    before, after, *later, reopened = taken
    (size,) = one.keeps(wanted, mesh("n300", (1, 2))).values()
    assert size == TURNS * 2 * 1024 * 32 * 2 // 16
    assert size <= after - before <= size + TURNS * 64  # and its semaphores
    assert set(later) == {after}
    assert reopened == before
    assert turns == [0, 1, 0, 1, 0, 1]


def block(mode: Any, rows: int, chips: int, width: int = 8192) -> BlockRequest:
    """A row-parallel matmul and its sum over chips."""
    matmul = MatmulRequest(
        name="matmul", inputs=("x", "w"), m=rows, k=width // chips, n=width, weight_dtype="bfloat8_b"
    )
    summed = request(chips, width, rows, name="sum", inputs=("matmul",))
    return BlockRequest(
        mode=mode,
        inputs=(("x", matmul.operands[0]),),
        stored=(Stored(name="w", type=matmul.operands[1]),),
        ops=(matmul, summed),
        outputs=("sum",),
    )


def test_the_planner_takes_it_and_leaves_room_in_prompts_too(probe: Any) -> None:
    record = mesh("p150x4", (1, 4))
    decode, prompt = plan_block(block("decode", 32, 4), record), plan_block(block("prefill", 256, 4), record)
    assert isinstance(decode["sum"].pattern, FusedAllReduce)
    assert isinstance(prompt["sum"].pattern, AllReduce)
    (size,) = decode.keeps.values()
    assert not prompt.keeps
    plain = {"sum": (AllReduce(num_links=4),)}
    without = plan_block(block("prefill", 256, 4), record, allowed=plain)
    assert prompt["sum"].l1_bytes - without["sum"].l1_bytes == size
    assert run_in_process(probe.issued, "p150x4", (1, 4), [prompt, decode, prompt, decode], device="p150x4") == []


def test_a_plan_that_may_not_keep_does_without(probe: Any) -> None:
    record = mesh("p150x4", (1, 4))
    decode = plan_block(block("decode", 32, 4), record, may_keep=False)
    assert isinstance(decode["sum"].pattern, AllReduce)
    assert not decode.keeps
    forced = {"sum": (plan_block(block("decode", 32, 4), record)["sum"].pattern,)}
    asked = plan_block(block("decode", 32, 4), record, allowed=forced, may_keep=False)
    assert asked.keeps


def test_what_other_blocks_keep_is_not_free() -> None:
    record = mesh("p150x4", (1, 4))
    free, less = (plan_block(block("decode", 32, 4), record, kept=kept) for kept in (0, 1 << 16))
    assert less["sum"].l1_bytes - free["sum"].l1_bytes == 1 << 16


def test_published_times() -> None:
    found = compare_ops([row for row in published_ops()["ops"] if row["op"] == "fused_all_reduce"])
    assert len(found) >= 7
    assert median_error([each.error for each in found]) < 0.15
    assert max(abs(each.error) for each in found) < 0.3
