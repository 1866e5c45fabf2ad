"""AllReduce, AllGather, ReduceScatter: exact buffers on meshes of every kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ttt_hw.catalogue import board
from ttt_hw.estimate import estimate
from ttt_hw.isolation import run_in_process
from ttt_hw.patterns.collective import AllGather, AllReduce, ReduceScatter
from ttt_hw.requests import CollectiveRequest

PATTERNS: dict[str, Any] = {"all_reduce": AllReduce, "all_gather": AllGather, "reduce_scatter": ReduceScatter}


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import op_probe

    return op_probe


def request(kind: Any, chips: int, rows: int, columns: int, **changes: Any) -> CollectiveRequest:
    return replace(
        CollectiveRequest(name="c", inputs=("x",), kind=kind, shape=(1, 1, rows, columns), chips=chips), **changes
    )


def pairs(name: str, shape: tuple[int, int]) -> list[Any]:
    """Sums and splits of activations, joins of logits, in lines and, where the axis is one, in rings."""
    record, found = replace(board(name), mesh=shape), []
    for axis, chips in enumerate(shape):
        if chips == 1:
            continue
        wanted = [
            *(
                request("all_reduce", chips, rows, columns, axis=axis)
                for rows, columns in ((8, 3584), (32, 4096), (1024, 8192))
            ),
            request("all_reduce", chips, 32, 4096, axis=axis, dtype="bfloat8_b"),
            request("all_gather", chips, 32, 32 * (128256 // 32 // chips), axis=axis),
            request("all_gather", chips, 32, 2048, axis=axis, dtype="bfloat8_b"),
            request("reduce_scatter", chips, 128, 4096, axis=axis),
        ]
        for one in wanted:
            found += [(one, config) for config in PATTERNS[one.kind].candidates(one, record)]
            if record.topology == "ring":
                found.append((one, PATTERNS[one.kind](num_links=record.links, topology="ring")))
    return found


@pytest.mark.parametrize(
    ("name", "shape"),
    [("n300", (1, 2)), ("t3k", (1, 8)), ("t3k", (4, 2)), ("tg", (1, 32)), ("p150x4", (1, 4)), ("p300", (1, 2))],
)
def test_exact(name: str, shape: tuple[int, int], probe: Any) -> None:
    assert not run_in_process(probe.inexact_on, name, shape, pairs(name, shape), device=name)


SUM = request("all_reduce", 8, 32, 4096)


@pytest.mark.parametrize(
    ("one", "wanted", "reason"),
    [
        (AllGather(num_links=1), SUM, "it is an all_gather, and the request an all_reduce"),
        (AllReduce(num_links=1), replace(SUM, chips=4), "4 chips must be all of the mesh's axis 1, which has 8, and at least 2"),
        (AllReduce(num_links=2), SUM, "num_links=2 must be at least 1 and at most the 1 links of t3k"),
        (AllGather(num_links=1), request("all_gather", 8, 32, 100), "the last dim, 100, must be whole tiles of 32"),
        (
            AllReduce(num_links=1), replace(SUM, shape=(1, 1, 32, 32), dtype="bfloat8_b"),
            "bfloat8_b values that do not split over 8 chips in whole tiles must be bfloat16",
        ),
        (ReduceScatter(num_links=1), request("reduce_scatter", 8, 32, 128), "dim 3, 128, must be a multiple of 8 chips × 32"),
        (AllGather(num_links=1), request("all_gather", 8, 8, 128, dim=2), "dim 2, 8, must be whole tiles of 32 to be joined"),
    ],
)  # fmt: skip
def test_each_rule(one: Any, wanted: CollectiveRequest, reason: str, probe: Any) -> None:
    if wanted.kind == "reduce_scatter":
        reads = ["b h s d in dram"]
        assert reason in list(one.problems(wanted, board("t3k"), reads))
    else:
        assert reason in probe.problems(one, wanted, "t3k")


def test_a_ring_needs_neighbours_at_its_ends() -> None:
    ring = AllReduce(num_links=1, topology="ring")
    across = replace(board("t3k"), mesh=(2, 4))
    assert list(ring.problems(request("all_reduce", 4, 32, 4096), across, [])) == [
        "topology=ring needs an axis whose ends are cabled, but a 2×4 mesh is none"
    ]
    assert not list(ring.problems(SUM, board("t3k"), []))


def test_times_are_near_what_is_published() -> None:
    """All-gather of a 32×1024 part over 8 chips of Wormhole and one link: 4.5 + 7 · 1.9 + 7 · 64 KiB / 11.8 GB/s = 57 µs."""
    record = board("t3k")
    config = AllGather(num_links=1)
    time = estimate(config.work(request("all_gather", 8, 32, 1024), record, []), record).time_us
    assert 45 < time < 70
    ring = replace(config, topology="ring")
    assert estimate(ring.work(request("all_gather", 8, 32, 1024), record, []), record).time_us < time
