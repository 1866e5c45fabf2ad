"""The planner: edges, what is alive in L1, moves, results, and that no combination it overlooked is much faster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from math import inf
from pathlib import Path
from typing import Any

import pytest

from ttt_core import PlacementError, ShapeError
from ttt_hw import BlockPlan, BlockRequest, OutOfMemory, Planner, board, issue_plan, plan_block, run_in_process
from ttt_hw.layouts import DRAM, L1, over_banks, placed, width_sharded
from ttt_hw.options import best_move, legal_options
from ttt_hw.planner import PATIENCE

N150, P150, T3K = board("n150"), board("p150"), board("t3k")
BLOCKS = ("llama-1b", "llama-8b", "qwen-7b")
CELLS = (("decode", 1), ("decode", 32), ("prefill", 128), ("prefill", 1024), ("prefill", 2048))


@pytest.fixture(autouse=True)
def cases(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import planner_cases

    return planner_cases


def wide(cases: Any, rows: int = 2048, dim: int = 16384) -> Any:
    """A result that waits while others come and go: four times it would fill L1."""
    shape = (1, 1, rows, dim)
    return cases.block(
        "prefill",
        cases.unary("a", "x", shape),
        cases.unary("b", "a", shape),
        cases.unary("c", "b", shape),
        cases.add("d", "c", "a", shape),
    )


@pytest.mark.parametrize(("mode", "rows"), CELLS)
@pytest.mark.parametrize("model", BLOCKS)
def test_layers_run_as_planned(model: str, mode: Any, rows: int, cases: Any, mesh: Any) -> None:
    plan = plan_block(cases.layer(mode, rows, cases.DIMS[model]), N150)
    assert all(op.l1_bytes <= N150.l1_bytes_per_core for op in plan)
    assert all(op.buffers <= op.l1_bytes for op in plan)
    verdicts = issue_plan(plan, mesh)
    assert cases.inexact(verdicts) == []
    moves = sum(len(op.moves) for op in plan) + len(plan.exits)
    assert len(verdicts) == len(plan.ops) + moves


@pytest.mark.parametrize(("name", "shape", "chips"), [("t3k", (1, 8), 8), ("p150", (1, 1), 1)])
def test_layers_of_other_boards_run_as_planned(name: str, shape: tuple[int, int], chips: int, cases: Any) -> None:
    blocks = [
        cases.layer(mode, rows, cases.DIMS["llama-8b"], chips) for mode, rows in (("decode", 32), ("prefill", 1024))
    ]
    assert run_in_process(cases.issued_on, name, shape, blocks, device=name) == []


def test_edges_carry_a_tensor_from_where_it_is_made_to_where_it_is_read(cases: Any) -> None:
    for mode, rows in CELLS:
        plan = plan_block(cases.layer(mode, rows, cases.DIMS["llama-8b"]), N150)
        lies = dict(plan.inputs)
        for op in plan:
            for move in op.moves:
                assert move.reshard.source == lies[move.tensor], (op.request.name, move)
                lies[move.tensor] = move.reshard.target
            for name, text in zip(op.request.inputs, op.reads, strict=True):
                assert text == lies.get(name, plan.stored.get(name)), (op.request.name, name)
            lies.update(zip(op.request.results, op.results, strict=True))
        for move in plan.exits:
            lies[move.tensor] = move.reshard.target
        assert {name: lies[name] for name in plan.outputs} == plan.outputs


def test_what_is_freed_is_read_no_more_and_all_is_freed_but_inputs_and_outputs(cases: Any) -> None:
    block = cases.layer("decode", 32, cases.DIMS["llama-8b"])
    plan = plan_block(block, N150)
    gone: set[str] = set()
    for op in plan:
        assert not gone & set(op.request.inputs), op.request.name
        gone |= {name for name, _ in op.frees}
    assert gone - set(plan.inputs) == {name for op in block.ops for name in op.results} - set(block.outputs)
    assert not {each for op in plan for each in op.frees} & set(plan.inputs.items())  # the caller's; copies are freed


def test_l1_bytes_are_the_buffers_and_every_tensor_alive(cases: Any) -> None:
    rows, dim = 32, 4096
    shape = (1, 1, rows, dim)
    block = cases.block(
        "decode", cases.unary("a", "x", shape), cases.unary("b", "a", shape), cases.add("c", "b", "x", shape)
    )
    plan = plan_block(block, N150)
    types = block.types
    alive = {("x", L1)}
    for op in plan:
        alive |= set(zip(op.request.results, op.results, strict=True))
        alive |= {(move.tensor, move.reshard.target) for move in op.moves}
        alive -= {(move.tensor, move.reshard.source) for move in op.moves if move.replaces}
        tensors = sum(placed(text, types[name], N150).bytes_per_core for name, text in alive)
        assert op.l1_bytes == op.buffers + tensors
        alive -= set(op.frees)


def test_a_result_stays_in_l1_where_there_is_room(cases: Any) -> None:
    plan = plan_block(wide(cases, rows=256), N150)
    assert [op.results for op in plan] == [(L1,), (L1,), (L1,), (DRAM,)]


def test_a_result_that_would_leave_no_room_waits_in_dram(cases: Any, mesh: Any) -> None:
    """Of 64 MB, 1 MB on a core, one alone fits L1."""
    plan = plan_block(wide(cases), N150)
    assert [op.results for op in plan].count((L1,)) == 1
    assert plan.l1_bytes <= N150.l1_bytes_per_core
    assert cases.inexact(issue_plan(plan, mesh)) == []


def test_what_is_free_in_total_must_be_free_in_one_piece(cases: Any, mesh: Any) -> None:
    """917,504 bytes for the gate, with 1,131,168 free of which 869,024 lie together: ttnn refused a plan that counted."""
    block = cases.layer("prefill", 2048, cases.DIMS["llama-8b"])
    assert cases.inexact(issue_plan(plan_block(block, N150), mesh)) == []


def test_what_stays_lies_in_dram(cases: Any) -> None:
    """A weight in L1 would be read faster, and take its L1 from every other operation."""
    op = cases.matmul("small", 32, 2048, 1024)
    assert legal_options(op, N150)[0].reads[1] != DRAM
    plan = plan_block(cases.block("decode", op), N150)
    assert " in dram" in plan.stored["small.weight"]


def test_moves_come_where_layouts_differ(cases: Any, mesh: Any) -> None:
    block = cases.block("decode", cases.matmul("a", 32, 4096, 4096), cases.matmul("b", 32, 4096, 4096, "a"))
    there = width_sharded((8, 4))
    plan = plan_block(block, N150, inputs={"x": DRAM}, outputs={"b": there})
    for op in plan:
        (move,) = op.moves or (None,)
        assert move is None or (move.position == 0 and move.reshard.target == op.reads[0])
    assert plan["a"].reads[0] == DRAM or plan["a"].moves[0].reshard.source == DRAM
    assert plan.outputs == {"b": there}
    (last,) = plan["b"].results
    assert [move.reshard.target for move in plan.exits] == ([there] if last != there else [])
    assert plan.time_us == pytest.approx(
        sum(op.estimate.time_us for op in plan)
        + sum(move.estimate.time_us for op in plan for move in op.moves)
        + sum(move.estimate.time_us for move in plan.exits)
    )
    assert cases.inexact(issue_plan(plan, mesh)) == []


@pytest.mark.parametrize("text", [L1, DRAM, width_sharded((8, 4)), width_sharded((8, 2))])
def test_results_come_out_where_they_are_wanted(text: str, cases: Any, mesh: Any) -> None:
    plan = plan_block(cases.feed_forward("decode", 32, 2048, 8192), N150, outputs={"down_matmul": text})
    (made,) = plan["down_matmul"].results
    assert (plan.exits[0].reshard.target if plan.exits else made) == text
    assert cases.inexact(issue_plan(plan, mesh)) == []


def two_parts(cases: Any) -> Any:
    """`x` is read by parts `one` and `two`, then by the block itself."""
    shape = (1, 1, 32, 4096)
    one, two = cases.matmul("one.q", 32, 4096, 1024), cases.matmul("two.q", 32, 4096, 2048)
    return cases.block("decode", one, two, cases.add("sum", "x", "x", shape), outputs=("one.q", "two.q", "sum"))


def test_a_part_moves_a_tensor_for_itself_only(cases: Any, mesh: Any) -> None:
    sharded = width_sharded((8, 4))
    both = [
        next(o.pattern for o in legal_options(op, N150) if o.reads == (sharded, over_banks()))
        for op in two_parts(cases).ops[:2]
    ]
    allowed = {"one.q": (both[0],), "two.q": (both[1],)}
    plan = plan_block(two_parts(cases), N150, inputs={"x": L1}, allowed=allowed)
    for name in allowed:
        (move,) = plan[name].moves
        assert (move.reshard.source, move.reshard.target, move.replaces) == (L1, sharded, False)
        assert ("x", sharded) in plan[name].frees
    assert plan["sum"].reads == (L1, L1) or plan["sum"].moves
    assert ("x", L1) not in {each for op in plan for each in op.frees}  # the caller's
    assert cases.inexact(issue_plan(plan, mesh)) == []


def test_parts_may_have_copies_in_the_same_layout_at_the_same_time(cases: Any, mesh: Any) -> None:
    ops = [cases.matmul(name, 32, 4096, 1024) for name in ("one.a", "two.a", "one.b", "two.b")]
    there = width_sharded((8, 4))
    allowed = {
        op.name: (next(o.pattern for o in legal_options(op, N150) if o.reads == (there, over_banks())),) for op in ops
    }
    block = cases.block("decode", *ops, outputs=tuple(op.name for op in ops))
    plan = plan_block(block, N150, inputs={"x": L1}, allowed=allowed)
    assert [len(op.moves) for op in plan] == [1, 1, 0, 0]
    assert [op.frees.count(("x", there)) for op in plan] == [0, 0, 1, 1]
    assert cases.inexact(issue_plan(plan, mesh)) == []


def test_within_a_part_a_moved_tensor_stays_moved(cases: Any, mesh: Any) -> None:
    a, b = cases.matmul("a", 32, 4096, 1024), cases.matmul("b", 32, 4096, 2048)
    sharded = width_sharded((8, 4))
    allowed = {
        op.name: (next(o.pattern for o in legal_options(op, N150) if o.reads == (sharded, over_banks())),)
        for op in (a, b)
    }
    plan = plan_block(cases.block("decode", a, b, outputs=("a", "b")), N150, inputs={"x": L1}, allowed=allowed)
    assert [move.reshard.target for move in plan["a"].moves] == [sharded]
    assert plan["b"].moves == ()
    assert cases.inexact(issue_plan(plan, mesh)) == []


def test_reserve_stays_free(cases: Any) -> None:
    block = cases.feed_forward("prefill", 1024, 4096, 14336)
    whole = plan_block(block, N150)
    for free in (whole.l1_bytes - 1, 500_000):
        plan = plan_block(block, N150, reserve=N150.l1_bytes_per_core - free)
        assert plan.l1_bytes <= free
        assert plan.time_us >= whole.time_us
    assert Planner(N150, reserve=900_000).plan(block) == plan_block(block, N150, reserve=900_000)


def test_less_patience_where_l1_runs_out(cases: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results first wait in L1 as long as they like; where nothing fits beside them, ever less."""
    import ttt_hw.planner as module

    tried: list[int] = []

    class Counting(module._Search):
        def __init__(self, *args: Any) -> None:
            tried.append(args[-1])
            super().__init__(*args)

    monkeypatch.setattr(module, "_Search", Counting)
    block = cases.feed_forward("prefill", 1024, 2048, 8192)
    plan_block(block, N150)
    assert tried == [PATIENCE[0]]
    tried.clear()
    with pytest.raises(OutOfMemory):
        plan_block(block, N150, reserve=N150.l1_bytes_per_core - 10_000)
    assert tried == list(PATIENCE)  # each but the last gave way


def test_errors_name_the_operation_and_the_reason(cases: Any) -> None:
    block = cases.block("decode", cases.matmul("a", 32, 4096, 4096))
    room = 10_000
    with pytest.raises(OutOfMemory) as full:
        plan_block(block, N150, inputs={"x": DRAM}, reserve=N150.l1_bytes_per_core - room)
    least = min(option.buffers + option.result_bytes for option in legal_options(block.ops[0], N150))
    assert str(full.value).startswith(
        f"a on n150: its buffers and results take at least {least:,} bytes of L1 a core beside"
    )
    assert str(full.value).endswith(f"{room:,} are there. Split the block, or keep its inputs in DRAM.")
    assert (full.value.memory, full.value.available) == ("L1", room)

    elsewhere = "b h s@bank d in dram"
    with pytest.raises(PlacementError) as misplaced:
        plan_block(block, N150, stored={"a.weight": elsewhere})
    assert str(misplaced.value) == (
        f"a: no pattern reads 'a.weight' where it lies ({elsewhere}). Place it otherwise, or let the planner do it."
    )

    ring = (next(option.pattern for option in legal_options(block.ops[0], N150) if " in l1" in option.reads[1]),)
    with pytest.raises(PlacementError) as resident:
        plan_block(block, N150, allowed={"a": ring})
    assert str(resident.value) == (
        "a: every config that may run it reads 'a.weight' from L1, where what stays would take room from everything else. "
        "Place it there by `stored`, or take a config that reads it from DRAM."
    )
    (weight,) = ring[0].accepts(block.ops[0], N150)[1]
    assert plan_block(block, N150, allowed={"a": ring}, stored={"a.weight": weight})["a"].pattern == ring[0]

    with pytest.raises(PlacementError) as nothing:
        plan_block(cases.block("prefill", cases.matmul("a", 64, 4096, 4096, activation="tanh")), N150)
    assert str(nothing.value).startswith("a on n150: nothing is legal. BcastMatmul(")
    assert "a matmul does not end with tanh, only with silu, relu, gelu, gelu_tanh" in str(nothing.value)

    with pytest.raises(OutOfMemory) as exits:
        plan_block(wide(cases), N150, outputs={"d": L1}, reserve=N150.l1_bytes_per_core - 100_000)
    assert str(exits.value) == (
        f"no plan brings d to {L1}: L1 of 100,000 bytes a core does not suffice for the move. Let the results stay in DRAM."
    )


def test_a_plan_names_its_operations(cases: Any) -> None:
    plan = plan_block(cases.feed_forward("decode", 32, 2048, 8192), N150)
    assert [op.request.name for op in plan] == ["gate_matmul", "up_matmul", "gate", "down_matmul"]
    with pytest.raises(
        PlacementError, match=r"^the plan has no operation 'q'; it has gate_matmul, up_matmul, gate, down_"
    ):
        plan["q"]


def test_blocks_that_do_not_join_up_are_refused(cases: Any) -> None:
    with pytest.raises(ShapeError, match=r"^b reads 'a' as 1×1×32×64 bfloat16, but it is 1×1×32×128 bfloat16\.$"):
        cases.block("decode", cases.unary("a", "x", (1, 1, 32, 128)), cases.unary("b", "a", (1, 1, 32, 64)))
    with pytest.raises(ShapeError, match=r"^a makes 'a', which is there already\. Names must be unique in a block\.$"):
        cases.block("decode", *[cases.unary("a", "x", (1, 1, 32, 128))] * 2)


@pytest.mark.parametrize(("mode", "rows"), CELLS[1:4])
def test_plans_are_the_same_every_time(mode: Any, rows: int, cases: Any) -> None:
    from ttt_hw.options import _options

    block = cases.layer(mode, rows, cases.DIMS["llama-1b"])
    first = plan_block(block, N150)
    best_move.cache_clear()
    _options.cache_clear()
    assert plan_block(block, N150) == first


MARGIN = 1.05  # of the best combination there is; the search keeps few partial plans


def tiny(cases: Any) -> Iterator[tuple[str, BlockRequest]]:
    for rows, k, n in ((32, 2048, 512), (32, 4096, 4096), (32, 3584, 4608)):
        shape = (1, 1, rows, n)
        a, gate = cases.matmul("a", rows, k, n), cases.unary("b", "a", shape)
        yield f"{rows}x{k}x{n} matmul, silu", cases.block("decode", a, gate)
        back = cases.matmul("b", rows, n, k, "a")
        yield f"{rows}x{k}x{n} two matmuls", cases.block("decode", a, back)
        yield f"{rows}x{k}x{n} sum", cases.block("decode", a, back, cases.add("c", "x", "b", (1, 1, rows, k)))
    for rows, k, n in ((256, 2048, 2048), (1024, 4096, 1024)):
        a, back = cases.matmul("a", rows, k, n), cases.matmul("b", rows, n, k, "a")
        yield f"{rows}x{k}x{n} prefill", cases.block("prefill", a, back, cases.add("c", "x", "b", (1, 1, rows, k)))


def brute_force(block: BlockRequest, record: Any) -> float:
    """The least time over every combination of options, with every tensor where its first reader wants it from then on.

    Counts L1 in total, so it may find what does not fit in one piece, but nothing that the planner may do is left out.
    """
    home = L1 if block.mode == "decode" else DRAM
    stored = {each.name for each in block.stored}
    best = inf
    for options in product(*(_distinct(op, record, stored) for op in block.ops)):
        lies = dict.fromkeys((name for name, _ in block.inputs), home)
        time = 0.0
        for op, option in zip(block.ops, options, strict=True):
            time += option.time_us
            for name, text in zip(op.inputs, option.reads, strict=True):
                if name in stored or lies[name] == text:
                    continue
                move = best_move(block.types[name], lies[name], text, record)
                time += inf if move is None else move[3].time_us
                lies[name] = text
            lies.update(zip(op.results, option.results, strict=True))
            if time >= best:
                break
        for name in block.outputs:
            if time < best and lies[name] != home:
                move = best_move(block.types[name], lies[name], home, record)
                time += inf if move is None else move[3].time_us
        best = min(best, time)
    return best


def _distinct(op: Any, record: Any, stored: set[str]) -> Sequence[Any]:
    """The fastest option of each way that activations lie; those whose stored tensors would be in L1 are no choice."""
    found: dict[object, Any] = {}
    for option in legal_options(op, record):
        reads = [text for name, text in zip(op.inputs, option.reads, strict=True) if name not in stored]
        if all(" in dram" in text for name, text in zip(op.inputs, option.reads, strict=True) if name in stored):
            found.setdefault((tuple(reads), option.results), option)
    return list(found.values())[:40]


@pytest.mark.parametrize("name", ["n150", "p150"])
def test_no_combination_is_much_faster(name: str, cases: Any) -> None:
    found = {
        what: plan_block(block, board(name)).time_us / brute_force(block, board(name)) for what, block in tiny(cases)
    }
    assert {what: ratio for what, ratio in found.items() if ratio > MARGIN} == {}
    assert min(found.values()) >= 1 - 1e-9, "the enumeration misses what the planner found"


def test_indices_and_tables_lie_where_operations_read_them(cases: Any) -> None:
    plan = plan_block(cases.layer("decode", 8, cases.DIMS["llama-1b"]), N150)
    assert plan.stored["positions"].endswith(" in dram")
    assert plan.stored["keys"] == plan.stored["values"] == DRAM


def test_a_weight_that_the_caller_keeps_in_l1_takes_its_room(cases: Any, mesh: Any) -> None:
    op = cases.matmul("a", 32, 4096, 4096)
    ring = next(option for option in legal_options(op, N150) if " in l1" in option.reads[1])
    plan = plan_block(cases.block("decode", op), N150, stored={"a.weight": ring.reads[1]})
    weight = placed(ring.reads[1], op.operands[1], N150).bytes_per_core
    assert plan.l1_bytes >= weight + plan["a"].buffers
    assert cases.inexact(issue_plan(plan, mesh)) == []
    with pytest.raises(OutOfMemory):
        plan_block(
            cases.block("decode", op), N150, stored={"a.weight": ring.reads[1]}, reserve=N150.l1_bytes_per_core - weight
        )


def test_stored_tensors_that_are_placed_stay_there(cases: Any) -> None:
    block = cases.feed_forward("decode", 32, 4096, 14336)
    free = plan_block(block, N150)
    assert set(free.stored.values()) == {over_banks()}
    fixed = plan_block(block, N150, stored={"up_matmul.weight": DRAM})
    assert fixed.stored == {**free.stored, "up_matmul.weight": DRAM}
    assert fixed.time_us > free.time_us


def test_an_inputs_copy_that_nobody_needs_is_freed(cases: Any) -> None:
    block = cases.block("decode", cases.unary("a", "x", (1, 1, 32, 4096)), cases.unary("b", "a", (1, 1, 32, 4096)))
    kept = plan_block(block, N150)
    given = plan_block(block, N150, keep_inputs=False)
    assert all("x" not in {name for name, _ in op.frees} for op in kept)
    assert "x" in {name for name, _ in given["a"].frees}


def test_the_planner_is_its_functions(cases: Any) -> None:
    planner = Planner(N150)
    block: BlockRequest = cases.feed_forward("decode", 32, 2048, 8192)
    plan: BlockPlan = planner.plan(block, outputs={"down_matmul": DRAM})
    assert plan == plan_block(block, N150, outputs={"down_matmul": DRAM})
    assert planner.options(block.ops[0]) == legal_options(block.ops[0], N150)
    faster = Planner(N150, overrides={"up_matmul": {"pattern": "BcastMatmul"}}).plan(block)
    assert type(faster["up_matmul"].pattern).__name__ == "BcastMatmul"
    assert replace(plan, outputs={}) != plan
