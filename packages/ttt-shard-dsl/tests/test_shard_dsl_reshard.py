"""Bytes against a simulation of rings and lines, plans against what the chips have to hold, calls against ttnn."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path

import pytest

from ttt_shard_dsl import Device, LayoutError, Placement, Plan, plan
from ttt_shard_dsl._extents import MESH_AXES
from ttt_shard_dsl._route import START_BYTES, link_bytes
from ttt_shard_dsl.steps import Step, Topology

N150 = Device((8, 8), 12, 1_393_312, 1_072_693_184)
T3K = N150._replace(mesh=(1, 8))
GALAXY = N150._replace(mesh=(8, 4))
TOPOLOGIES: tuple[Topology, ...] = ("ring", "line")


def reshard(rule: str, *shape: int, device: Device = T3K, topology: Topology = "ring", dtype: str = "bf16") -> Plan:
    return plan(rule, shape, device=device, topology=topology, dtype=dtype)


class Links:
    """Loads on the directed links between neighbours, in half pieces: a piece half way round a ring goes both ways."""

    def __init__(self, chips: int, topology: Topology) -> None:
        self.chips = chips
        self.ring = topology == "ring" and chips > 2
        self.load: dict[tuple[int, int], int] = {}

    def route(self, start: int, end: int, step: int, halves: int) -> None:
        while start != end:
            after = (start + step) % self.chips
            self.load[start, after] = self.load.get((start, after), 0) + halves
            start = after

    def send(self, start: int, end: int) -> None:
        """One piece by the shortest way."""
        ahead = (end - start) % self.chips
        if not self.ring:
            self.route(start, end, 1 if end > start else -1, 2)
        elif 2 * ahead == self.chips:
            self.route(start, end, 1, 1)
            self.route(start, end, -1, 1)
        else:
            self.route(start, end, 1 if 2 * ahead < self.chips else -1, 2)

    def spread(self, start: int, backwards: bool = False) -> None:
        """One piece from a chip to all others along a tree (or back along it, summed on the way): each link once."""
        ahead = self.chips // 2 if self.ring else self.chips - 1 - start
        for distance in range(ahead):
            self.count(start + distance, start + distance + 1, backwards)
        for distance in range(self.chips - 1 - ahead):
            self.count(start - distance, start - distance - 1, backwards)

    def count(self, a: int, b: int, backwards: bool) -> None:
        link = (a % self.chips, b % self.chips)
        link = link[::-1] if backwards else link
        self.load[link] = self.load.get(link, 0) + 2

    @property
    def busiest(self) -> int:
        return max(self.load.values())


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("chips", range(2, 18))
def test_bytes_on_the_busiest_link(chips: int, topology: Topology) -> None:
    gather, scatter, exchange = (Links(chips, topology) for _ in range(3))
    for chip in range(chips):
        gather.spread(chip)
        scatter.spread(chip, backwards=True)
        for other in range(chips):
            if other != chip:
                exchange.send(chip, other)
    piece = 6 * 1024
    size = chips * piece  # what a chip starts with; it gathers all of it, and scatters or exchanges a piece
    assert link_bytes("all_gather", size, chips, topology) * 2 == gather.busiest * size
    assert link_bytes("reduce_scatter", size, chips, topology) * 2 == scatter.busiest * piece
    assert link_bytes("all_to_all", size, chips, topology) * 2 == exchange.busiest * piece
    both = link_bytes("reduce_scatter", size, chips, topology) + link_bytes("all_gather", piece, chips, topology)
    assert link_bytes("all_reduce", size, chips, topology) == both


def test_bytes_are_rounded_up() -> None:
    assert link_bytes("reduce_scatter", 10, 3, "line") == 7
    assert link_bytes("mesh_partition", 10, 3, "line") == 0


@pytest.mark.parametrize(
    ("rule", "device", "ring", "line", "calls"),
    [
        ("1 1 s d@cols -> 1 1 s d", T3K, 4 * 32768, 7 * 32768, ["ttnn.all_gather(x, dim=3, cluster_axis=1)"]),
        ("1 1 s d -> 1 1 s d@cols", T3K, 0, 0, ["ttnn.mesh_partition(x, dim=3, cluster_axis=1)"]),
        (
            "1 1 s d +rows -> 1 1 s d@rows",
            GALAXY,
            4 * 32768,
            7 * 32768,
            ["ttnn.reduce_scatter(x, dim=3, cluster_axis=0, topology=ttnn.Topology.Ring)"],
        ),
        (
            "1 1 s d +cols -> 1 1 s d",
            T3K,
            8 * 32768,
            14 * 32768,
            ["ttnn.all_reduce(x, cluster_axis=1, topology=ttnn.Topology.Ring)"],
        ),
        (
            "1 1 s d +rows +cols in l1 -> 1 1 s d@rows +cols in l1",
            GALAXY,
            4 * 32768,
            7 * 32768,
            ["ttnn.reduce_scatter(x, dim=3, cluster_axis=0, topology=ttnn.Topology.Ring)"],
        ),
        (
            "1 1 s d@rows -> 1 1 s d@cols",  # the blocks of d lie in another order: joined, then cut
            GALAXY,
            4 * 32768,
            7 * 32768,
            ["ttnn.all_gather(x, dim=3, cluster_axis=0)", "ttnn.mesh_partition(x, dim=3, cluster_axis=1)"],
        ),
        (
            "1 1 s d -> 1 1 s d@core in l1",
            N150,
            0,
            0,
            [
                "ttnn.interleaved_to_sharded(x, sharded_memory_config="
                'memory_config("1 1 s d@core in l1", shape=(1, 1, 32, 4096), device=device))'
            ],
        ),
        (
            "1 1 s d@core in l1 -> 1 1 s d as bfp8",
            N150,
            0,
            0,
            [
                "ttnn.typecast(x, dtype=ttnn.bfloat8_b)",
                "ttnn.sharded_to_interleaved(x, memory_config="
                "memory_config(\"1 1 s d\", shape=(1, 1, 32, 4096), device=device, dtype='bfloat8_b'))",
            ],
        ),
        (
            "1 1 s d in l1 -> 1 1 s d",
            N150,
            0,
            0,
            ['ttnn.to_memory_config(x, memory_config=memory_config("1 1 s d", shape=(1, 1, 32, 4096), device=device))'],
        ),
    ],
)
def test_plans(rule: str, device: Device, ring: int, line: int, calls: list[str]) -> None:
    made = reshard(rule, 1, 1, 32, 4096, device=device)
    assert (sum(s.ring_bytes for s in made.steps), sum(s.line_bytes for s in made.steps)) == (ring, line)
    assert [step.call.to_ttnn() for step in made.steps] == calls
    assert made.link_bytes == ring


def test_all_to_all() -> None:
    made = reshard("1 h s@cols d -> 1 h@cols s d", 1, 8, 1024, 128)
    size = 8 * 128 * 128 * 2
    assert [(s.kind, s.ring_bytes, s.line_bytes) for s in made.steps] == [("all_to_all", size, 2 * size)]
    assert made.steps[0].call.to_ttnn() == (
        "ttnn.experimental.all_to_all_async_generic(x, in_dim=2, out_dim=1, cluster_axis=1, topology=ttnn.Topology.Ring)"
    )


@pytest.mark.parametrize(
    ("rule", "steps"),
    [
        ("1 1 s d +cols -> 1 1 s d", [("all_reduce", "cols")]),
        ("1 1 s d +rows +cols -> 1 1 s d", [("all_reduce", "rows"), ("all_reduce", "cols")]),
        ("1 1 s v@cols -> 1 1 s v", [("all_gather", "cols")]),
        ("b@rows 1 s v@cols -> b 1 s v@cols", [("all_gather", "rows")]),
        ("1 1 s v@cols +rows -> 1 1 s v", [("all_reduce", "rows"), ("all_gather", "cols")]),
        # Chip (row, column) holds part 4·row + column, or row + 2·column: joined the other way round they would be mixed up.
        ("1 1 s v@rows@cols -> 1 1 s v", [("all_gather", "cols"), ("all_gather", "rows")]),
        ("1 1 s v@cols@rows -> 1 1 s v", [("all_gather", "rows"), ("all_gather", "cols")]),
        ("1 1 s v@cols -> 1 1 s v@cols", []),
    ],
)
def test_one_tile_of_rows_goes_in_few_steps(rule: str, steps: list[tuple[str, str]]) -> None:
    shape = (8 if rule.startswith("b") else 1, 1, 32, 4096)
    made = reshard(rule, *shape, device=N150._replace(mesh=(2, 4)), topology="line")
    assert [(step.kind, step.axis) for step in made.steps] == steps


def test_two_sums_of_many_rows_are_cheaper_with_a_scatter_between() -> None:
    few, many = (reshard("1 1 s d +rows +cols -> 1 1 s d", 1, 1, rows, 4096, device=GALAXY) for rows in (32, 4096))
    assert [step.kind for step in few.steps] == ["all_reduce", "all_reduce"]
    assert [step.kind for step in many.steps] == ["reduce_scatter", "all_reduce", "all_gather"]
    assert many.link_bytes < link_bytes("all_reduce", 2**25, 8, "ring") + link_bytes("all_reduce", 2**25, 4, "ring")


def test_a_dim_over_all_chips_in_both_orders() -> None:
    device = N150._replace(mesh=(2, 4))
    made = reshard("1 1 s d@rows@cols -> 1 1 s d@cols@rows", 1, 1, 32, 4096, device=device)
    assert made.source.chip_slices(device.mesh)[1][3] == slice(512, 1024)
    assert made.target.chip_slices(device.mesh)[1][3] == slice(1024, 1536)
    assert made.source != made.target
    assert made.target == made.steps[-1].after
    assert reshard("1 1 s d@rows@cols -> 1 1 s d@cols@rows", 1, 1, 32, 4096, device=T3K).steps == ()


@pytest.mark.parametrize(
    "rule",
    [
        "1 1 s d -> 1 1 s d in dram",
        "1 1 s d@core in l1 -> 1 1 s d@core:64 in l1 on 0-0..7-7",
        "1 1 s d +rows -> 1 1 s d",  # one row of chips: no sum, no split
        "1 1 s d@rows -> 1 1 s d",
    ],
)
def test_equal_layouts_need_nothing(rule: str) -> None:
    made = reshard(rule, 1, 1, 32, 4096, device=T3K)
    assert made.steps == ()
    tensor = object()
    assert made.run(tensor, None) is tensor


def time(steps: Sequence[Step], sent: int) -> int:
    """In bytes on a link."""
    return sent + START_BYTES * sum(step.axis is not None for step in steps)


USES = ["{}", "{}@rows", "{}@cols"]


@pytest.mark.parametrize("pending", ["", " +rows", " +cols", " +rows +cols"])
def test_every_change_of_the_mesh_has_a_plan_that_ends_in_the_target(pending: str) -> None:
    specs = []
    for parts in product(USES, repeat=3):
        text = f"1 {parts[0].format('h')} {parts[1].format('s')} {parts[2].format('d')}"
        if all(text.count(axis) + (axis in pending) <= 1 for axis in ("rows", "cols")):
            specs.append(text)
    device = N150._replace(mesh=(4, 2))
    for before, after in product(
        specs, ["1 h s d", "1 h@rows s d@cols", "1 h s@cols d@rows in l1", "1 h s d@core in l1"]
    ):
        made = reshard(f"{before}{pending} -> {after}", 1, 8, 256, 512, device=device)
        last = made.steps[-1].after if made.steps else made.source
        assert last == made.target
        for topology in TOPOLOGIES:
            other = reshard(f"{before}{pending} -> {after}", 1, 8, 256, 512, device=device, topology=topology)
            same = sum(s.ring_bytes if topology == "ring" else s.line_bytes for s in made.steps)
            assert time(other.steps, other.link_bytes) <= time(made.steps, same)


Chip = tuple[int, int]
Held = dict[Chip, tuple[list[range], frozenset[Chip]]]
"""What each chip has of each dim, and the chips whose summands it has the sum of, by their places along pending axes."""


def hold(placement: Placement, mesh: tuple[int, int]) -> Held:
    held = {}
    whole = placement.whole_shape(mesh)
    for chip, part in zip(product(*map(range, mesh)), placement.chip_slices(mesh), strict=True):
        own = tuple(
            at if axis in placement.pending and chips > 1 else -1
            for axis, at, chips in zip(MESH_AXES, chip, mesh, strict=True)
        )
        ranges = [range(size)[index] for size, index in zip(whole, part, strict=True)]
        held[chip[0], chip[1]] = ranges, frozenset([(own[0], own[1])])
    return held


def joined(parts: list[range]) -> range:
    for before, after in pairwise(parts):
        assert before.stop == after.start, "parts are joined in another order than that of the tensor"
    return range(parts[0].start, parts[-1].stop)


def moved(step: Step, held: Held, mesh: tuple[int, int]) -> Held:
    """What chips hold after one collective, each with those that differ from it along the axis only."""
    if step.axis is None:
        return held
    axis, arguments = MESH_AXES.index(step.axis), dict(step.call.arguments)
    after: Held = {}
    for chip in held:
        line = [(n, chip[1]) if axis == 0 else (chip[0], n) for n in range(mesh[axis])]
        ranges, terms = list(held[chip][0]), held[chip][1]

        def piece(of: Chip, dim: int, at: int = chip[axis]) -> range:
            whole = held[of][0][dim]
            size = len(whole) // mesh[axis]
            return whole[at * size : (at + 1) * size]

        if step.kind in ("all_reduce", "reduce_scatter"):
            assert all(held[other][0] == ranges for other in line)
            assert len({held[other][1] for other in line}) == mesh[axis], "nothing is summed twice"
            every = {term for other in line for term in held[other][1]}
            terms = frozenset((-1, term[1]) if axis == 0 else (term[0], -1) for term in every)
        if step.kind in ("mesh_partition", "reduce_scatter"):
            dim = int(str(arguments["dim"]))
            ranges[dim] = piece(chip, dim)
        if step.kind == "all_gather":
            dim = int(str(arguments["dim"]))
            ranges[dim] = joined([held[other][0][dim] for other in line])
        if step.kind == "all_to_all":
            dim, new = int(str(arguments["in_dim"])), int(str(arguments["out_dim"]))
            ranges[dim], ranges[new] = joined([held[other][0][dim] for other in line]), piece(chip, new)
        after[chip] = ranges, terms
    return after


MESH_USES = ["{}", "{}@rows", "{}@cols", "{}@rows@cols", "{}@cols@rows"]


@pytest.mark.parametrize("pending", ["", " +rows", " +cols", " +rows +cols"])
@pytest.mark.parametrize("mesh", [(2, 2), (4, 2), (1, 4)])
def test_chips_end_with_what_the_target_gives_them(mesh: tuple[int, int], pending: str) -> None:
    texts = []
    for uses in product(MESH_USES, repeat=3):
        text = f"1 {uses[0].format('h')} {uses[1].format('s')} {uses[2].format('d')}"
        if text.count("@rows") < 2 and text.count("@cols") < 2:
            texts.append(text)
    device = N150._replace(mesh=mesh)
    tried = 0
    for before, after in product(texts, repeat=2):
        if any(axis in before and axis in pending for axis in ("rows", "cols")):
            continue
        made = reshard(f"{before}{pending} -> {after}", 1, 8, 256, 512, device=device)
        held = hold(made.source, mesh)
        for step in made.steps:
            held = moved(step, held, mesh)
        assert held == hold(made.target, mesh), str(made.rule)
        tried += 1
    assert tried >= len(texts)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            "1 1 s d -> 1 1 s d +cols",
            "the sum over 'cols' is pending in the target only\n  1 1 s d -> 1 1 s d +cols\n"
            "  allowed: a sum that the source has pending too",
        ),
        (
            "1 1 s d -> 1 1 d s",
            "dim 2 is 's' in the source and 'd' in the target\n  1 1 s d -> 1 1 d s\n"
            "  nearest valid: 's' in both; a rule moves a tensor and does not transpose it",
        ),
        (
            "1 1 s d -> 1 1 s|64 d|4096@core in l1",
            "'s' is 32 with its padding in the source, and 64 in the target\n  1 1 s d -> 1 1 s|64 d|4096@core in l1\n"
            "  nearest valid: the same padding in both; ttnn.pad and ttnn.slice change it",
        ),
        (
            "1 1 s d|5000 -> 1 1 s d",
            "'d' is 5000 with its padding in the source, and 4096 in the target\n  1 1 s d|5000 -> 1 1 s d\n"
            "  nearest valid: the same padding in both; ttnn.pad and ttnn.slice change it",
        ),
    ],
)
def test_what_is_refused(rule: str, message: str) -> None:
    with pytest.raises(LayoutError) as error:
        reshard(rule, 1, 1, 32, 4096)
    assert str(error.value) == message


def test_padding_of_the_last_shard_comes_with_the_shards() -> None:
    made = reshard("1 1 k n -> 1 1 k n|384@bank", 1, 1, 4096, 14336, device=N150)
    assert [step.kind for step in made.steps] == ["to_memory_config"]


def test_a_gather_of_broken_tiles_ends_in_dram_whatever_is_asked() -> None:
    made = reshard("1 1 s@cols d in l1 -> 1 1 s d in l1", 1, 1, 64, 512)
    assert [(step.kind, step.after.memory) for step in made.steps] == [
        ("all_gather", "dram"),
        ("to_memory_config", "l1"),
    ]
    assert made.steps[-1].after == made.target


def test_shards_stay_for_a_sum_only_where_chips_can_sum_some_of_their_columns() -> None:
    kinds = [
        [step.kind for step in reshard("1 8 s d@core +cols in l1 -> 1 8 s d@core in l1", 1, 8, 64, width).steps]
        for width in (2048, 96)
    ]
    assert kinds == [["all_reduce"], ["sharded_to_interleaved", "all_reduce", "interleaved_to_sharded"]]


def test_what_does_not_fit_in_l1_at_once_goes_through_dram() -> None:
    made = reshard("1 1 s@core d in l1 -> 1 1 s@core.y d@core.x in l1", 1, 1, 2048, 16384, device=N150)
    assert [(step.kind, step.after.memory) for step in made.steps] == [
        ("sharded_to_interleaved", "dram"),
        ("interleaved_to_sharded", "l1"),
    ]
    made = reshard("1 1 s d in l1 as bfp8 -> 1 1 s d as fp32", 1, 1, 4096, 16384, device=N150, dtype="bfp8")
    assert [(step.kind, step.after.memory, step.after.dtype) for step in made.steps] == [
        ("to_memory_config", "dram", "bfloat8_b"),
        ("typecast", "dram", "float32"),
    ]


def run_program(name: str, *arguments: str) -> None:
    program = Path(__file__).with_name(name)
    done = subprocess.run([sys.executable, str(program), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


needs_ttnn = pytest.mark.skipif(
    importlib.util.find_spec("ttnn") is None or importlib.util.find_spec("ttt_hw") is None,
    reason="needs ttnn and ttt-hw",
)


@needs_ttnn
def test_ttnn_makes_the_calls_and_ends_where_the_plan_says() -> None:
    run_program("reshard_on_t3k.py")


@needs_ttnn
def test_each_step_of_random_plans_does_what_it_says() -> None:
    run_program("reshard_random.py", "0", "1600" if os.environ.get("TTT_SLOW") == "1" else "40")
