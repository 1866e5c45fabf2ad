"""What users change: legal values reach the plan and ttnn, others are refused with operation, field, rule and what is legal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_hw import Case, Planner, board, issue_plan
from ttt_hw.overrides import for_mode, names_of, plain

N150 = board("n150")
FIELDS = (
    "there are pattern, activation, block, grid, inner, kind, output, per_core, readers, receivers, subblock, transpose, "
    "weight, weight_dtype, output_dtype, fidelity, fp32_accumulate."
)
OPERATIONS = "it has gate_matmul, up_matmul, gate, down_matmul."


@pytest.fixture(autouse=True)
def cases(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import planner_cases

    return planner_cases


def planned(cases: Any, overrides: dict[str, Any], mode: Any = "decode", rows: int = 32) -> Any:
    return Planner(N150, overrides=overrides).plan(cases.feed_forward(mode, rows, 4096, 14336))


WHERE = "override of decode.up_matmul on n150: "
REFUSED = [
    (
        "up_matmull",
        {"inner": 4},
        "hw_config_overrides names 'up_matmull', which is no operation of this block in decode: "
        f"{OPERATIONS} Did you mean 'up_matmul'?",
    ),
    (
        "decode.qkv",
        {"inner": 4},
        f"hw_config_overrides names 'decode.qkv', which is no operation of this block in decode: {OPERATIONS}",
    ),
    ("up_matmul", {"iner": 4}, f"{WHERE}there is no field 'iner'; {FIELDS} Did you mean 'inner'?"),
    ("up_matmul", {"in0_block_w": 4}, f"{WHERE}there is no field 'in0_block_w'; {FIELDS} Did you mean 'inner'?"),
    ("up_matmul", {"check": 4}, f"{WHERE}there is no field 'check'; {FIELDS}"),
    (
        "up_matmul",
        {"pattern": "DramShardedMatmul", "inner": 3},
        f"{WHERE}inner=3: inner=3 does not divide the 2 tiles of a shard; the nearest that does is 2. "
        "Nearest legal inner: 2.",
    ),
    (
        "up_matmul",
        {"pattern": "DramShardedMatmul", "inner": 0},
        f"{WHERE}inner=0: inner must be at least 1, not 0. Nearest legal inner: 1.",
    ),
    (
        "up_matmul",
        {"pattern": "DramShardedMatmul", "per_core": 4},
        f"{WHERE}per_core=4: 64 x 4 columns of tiles cover less than the 448 there are; 7 would do. "
        "Nearest legal per_core: 7.",
    ),
    (
        "up_matmul",
        {"pattern": "DramShardedMatmul", "readers": 2},
        f"{WHERE}readers=2: 2 readers a bank are for Blackhole, not for wormhole_b0. Nearest legal readers: 1.",
    ),
    (
        "up_matmul",
        {"grid": "9x9", "kind": "1d"},
        f"{WHERE}grid=9x9: grid 9x9 is beyond the chip's 8x8. Nearest legal grid: 8x8.",
    ),
    ("up_matmul", {"inner": "4"}, f"{WHERE}inner='4' must be of the kind of "),
    ("up_matmul", {"inner": True}, f"{WHERE}inner=True must be of the kind of "),
    ("up_matmul", {"grid": 8}, f"{WHERE}grid=8 must be of the kind of 8x8."),
    ("up_matmul", {"grid": [8]}, f"{WHERE}grid=(8,) must be of the kind of 8x8."),
    ("up_matmul", {"kind": "3d"}, f"{WHERE}kind='3d' is none of '1d', '1d_in1', '2d'."),
    (
        "up_matmul",
        {"kind": "1d", "readers": 1},
        f"{WHERE}no pattern has kind and readers together: BcastMatmul has activation, ",
    ),
    (
        "up_matmul",
        {"pattern": "Fast"},
        f"{WHERE}pattern='Fast' does not serve it; BcastMatmul, DramShardedMatmul, MinimalMatmul, RingMatmul do.",
    ),
    (
        "up_matmul",
        {"pattern": "MinimalMatmul"},
        f"{WHERE}MinimalMatmul has no legal config for up_matmul [32, 4096] @ [4096, 14336] bfloat4_b. "
        "Leave the pattern to the planner.",
    ),
    (
        "up_matmul",
        {"weight_dtype": "fp8"},
        "up_matmul: weight_dtype='fp8' is no dtype; there are float32, bfloat16, bfloat8_b, bfloat4_b, "
        "uint32, int32, uint16.",
    ),
    ("up_matmul", {"fidelity": "hifi9"}, "up_matmul: fidelity='hifi9' is unknown; there are lofi, hifi2, hifi4."),
    ("up_matmul", {"fp32_accumulate": "yes"}, "up_matmul: fp32_accumulate='yes' must be true or false."),
    ("gate", {"weight_dtype": "bfloat8_b"}, "gate: it has no weight_dtype to override."),
    ("gate", {"fidelity": "lofi"}, "gate: its kernel has no fidelity to override."),
    (
        "down_matmul",
        {"output_dtype": "bfloat8_b"},
        "down_matmul: output_dtype=bfloat8_b would change what leaves the block, which is read as bfloat16. Leave it.",
    ),
]


@pytest.mark.parametrize(
    ("name", "values", "message"), REFUSED, ids=[f"{name} {values}" for name, values, _ in REFUSED]
)
def test_a_refusal_says_what_is_wrong_and_what_is_legal(
    name: str, values: dict[str, Any], message: str, cases: Any
) -> None:
    with pytest.raises(PlacementError) as refused:
        planned(cases, {name: values})
    said = str(refused.value)
    assert said == message if message.endswith((".", "?")) else said.startswith(message)


def test_of_several_values_the_one_to_blame_is_named(cases: Any) -> None:
    values = {"pattern": "DramShardedMatmul", "per_core": 7, "inner": 3}
    with pytest.raises(PlacementError, match=r"on n150: inner=3: .*\. Nearest legal inner: 2\.$"):
        planned(cases, {"up_matmul": values})


def test_what_is_said_to_be_the_nearest_is_legal(cases: Any) -> None:
    for values in ({"per_core": "7x7"}, {"subblock": "4x4"}, {"block": "5x5"}):
        with pytest.raises(PlacementError) as refused:
            planned(cases, {"up_matmul": values}, "prefill", 1024)
        (name,) = values
        nearest = str(refused.value).rpartition(f"Nearest legal {name}: ")[2].rstrip(".")
        pattern = planned(cases, {"up_matmul": {name: nearest}}, "prefill", 1024)["up_matmul"].pattern
        assert getattr(pattern, name) == plain(nearest)


def test_a_chunk_of_attention(cases: Any) -> None:
    block = cases.layer("prefill", 1024, cases.DIMS["llama-8b"])
    with pytest.raises(
        PlacementError, match=r"^override of prefill\.heads on n150: q_chunk=100: .*legal q_chunk: 128\.$"
    ):
        Planner(N150, overrides={"heads": {"q_chunk": 100}}).plan(block)
    pattern: Any = Planner(N150, overrides={"heads": {"k_chunk": 256}}).plan(block)["heads"].pattern
    assert pattern.k_chunk == 256


@pytest.mark.parametrize("grid", ["8x4", [8, 4], (8, 4)])
def test_pairs_are_written_as_people_write_them(grid: object, cases: Any) -> None:
    pattern = planned(cases, {"up_matmul": {"pattern": "BcastMatmul", "kind": "1d", "grid": grid}})["up_matmul"].pattern
    assert pattern.grid == (8, 4)


def test_legal_values_reach_the_plan_and_ttnn(cases: Any, mesh: Any) -> None:
    values = {"pattern": "DramShardedMatmul", "inner": 1}
    plan = planned(cases, {"up_matmul": values, "decode.down_matmul": {"pattern": "BcastMatmul", "inner": 4}})
    up, down = plan["up_matmul"], plan["down_matmul"]
    assert up.pattern.to_ttnn(up.request, N150)["program_config"].in0_block_w == 1
    assert down.pattern.to_ttnn(down.request, N150)["program_config"].in0_block_w == 4
    assert type(down.pattern).__name__ == "BcastMatmul"
    assert cases.inexact(issue_plan(plan, mesh)) == []


def test_the_pattern_stays_where_it_can_have_the_value(cases: Any) -> None:
    """A value that the planner would not have tried does not make it take another pattern that did."""
    free = planned(cases, {})["up_matmul"].pattern
    assert (type(free).__name__, free.inner) == ("DramShardedMatmul", 2)
    narrow = planned(cases, {"up_matmul": {"inner": 1}})["up_matmul"].pattern
    assert (type(narrow).__name__, narrow.inner) == ("DramShardedMatmul", 1)


def test_precision_changes_what_is_stored_and_how_it_is_computed(cases: Any, mesh: Any) -> None:
    plan = planned(cases, {"up_matmul": {"weight_dtype": "bfloat16", "fidelity": "hifi2", "fp32_accumulate": False}})
    stored = {each.name: each.type.dtype for each in plan.block.stored}
    assert stored == {
        "gate_matmul.weight": "bfloat4_b",
        "up_matmul.weight": "bfloat16",
        "down_matmul.weight": "bfloat8_b",
    }
    kernel = plan["up_matmul"].request.kernel
    assert (kernel.fidelity, kernel.fp32_accumulate) == ("hifi2", False)
    assert cases.inexact(issue_plan(plan, mesh)) == []


def test_readers_take_a_result_as_it_is_made(cases: Any, mesh: Any) -> None:
    plan = planned(cases, {"up_matmul": {"output_dtype": "bfloat8_b"}, "gate": {"output_dtype": "bfloat8_b"}})
    assert (plan["gate"].request.a_dtype, plan["gate"].request.b_dtype) == ("bfloat16", "bfloat8_b")
    assert plan["down_matmul"].request.input_dtype == "bfloat8_b"
    assert cases.inexact(issue_plan(plan, mesh)) == []
    norm = cases.layer("decode", 32, cases.DIMS["llama-1b"])
    with pytest.raises(
        PlacementError, match=r"^qkv_matmul: output_dtype=bfloat8_b is not what split reads, bfloat16\. L"
    ):
        Planner(N150, overrides={"qkv_matmul": {"output_dtype": "bfloat8_b"}}).plan(norm)


def test_a_mode_before_the_name(cases: Any) -> None:
    overrides: dict[str, dict[str, Any]] = {
        "decode.up_matmul": {"inner": 1},
        "up_matmul": {"pattern": "DramShardedMatmul"},
    }
    assert for_mode(overrides, cases.feed_forward("decode", 32, 2048, 8192)) == {
        "up_matmul": {"inner": 1, "pattern": "DramShardedMatmul"}
    }
    prefill = cases.feed_forward("prefill", 1024, 2048, 8192)
    assert for_mode(overrides, prefill) == {"up_matmul": {"pattern": "DramShardedMatmul"}}


def test_an_operation_that_one_mode_has(cases: Any) -> None:
    """A cache is filled in prefill; an override without a mode does not ask decode for it. A name of neither is refused."""
    dims = cases.DIMS["llama-1b"]
    both = [Case(block=cases.layer(mode, rows, dims)) for mode, rows in (("decode", 32), ("prefill", 128))]
    Planner(N150, overrides={"heads": {"pattern": "FlashAttention"}, "prefill.key_fill": {}, "key_fill": {}})
    planner = Planner(N150, overrides={"key_fill": {"pattern": "CacheFill"}, "key_update": {"pattern": "CacheUpdate"}})
    assert [plan.block.mode for plan in planner.together(both)] == ["decode", "prefill"]
    with pytest.raises(PlacementError, match="names 'key_fil', which is no operation of this block in decode: it has "):
        Planner(N150, overrides={"key_fil": {}}).together(both)


def test_what_an_operation_may_be_called() -> None:
    assert names_of("attention.scores.0") == ("attention.scores.0", "scores.0", "attention.scores", "scores")
    assert names_of("ffn.up_matmul") == ("ffn.up_matmul", "up_matmul")
    assert names_of("scores.12") == ("scores.12", "scores")
    assert names_of("norm") == ("norm",)
    assert names_of("0") == ("0",)


def test_pieces_are_called_as_the_whole_or_alone_but_never_by_their_number(cases: Any) -> None:
    pieces = [cases.matmul(f"scores.{index}", 32, 2048, 2048) for index in range(3)]
    block = cases.block("decode", *pieces, outputs=tuple(op.name for op in pieces)).within("attention")
    full = [op.name for op in block.ops]
    for name in ("scores", "attention.scores", "decode.scores"):
        assert list(for_mode({name: {"inner": 1}}, block)) == full
    for name in ("scores.1", "attention.scores.1", "decode.scores.1"):
        assert list(for_mode({name: {"inner": 1}}, block)) == ["attention.scores.1"]
    for name in ("0", "1", "decode.1"):
        with pytest.raises(PlacementError, match="which is no operation of this block"):
            for_mode({name: {"inner": 1}}, block)
    with pytest.raises(PlacementError, match=r"Did you mean 'scores\.?\d?'\?$"):
        for_mode({"score": {}}, block)


@pytest.mark.parametrize(
    "field", ["grid", "per_core", "inner", "block", "subblock", "transpose", "activation", "weight", "output", "kind"]
)
def test_whatever_is_written_for_a_field_no_other_error_comes_out(field: str, cases: Any) -> None:
    block = cases.feed_forward("prefill", 1024, 2048, 8192)
    refused = 0
    values: tuple[Any, ...] = (0, 7, -1, "7", "8x8", "1x1x1", [1, 2, 3], None, 1.5, "b h s d in l1", "b h", True, {})
    for value in values:
        try:
            Planner(N150, overrides={"up_matmul": {field: value}}).plan(block)
        except PlacementError as error:
            refused += "up_matmul" in str(error)
    assert refused >= 9


def test_plain_values() -> None:
    assert plain("8x4") == (8, 4)
    assert plain([8, "8x4"]) == (8, (8, 4))
    assert [plain(value) for value in ("2d", "x", "8x", "1x2x3", 5, None)] == ["2d", "x", "8x", "1x2x3", 5, None]
    assert replace(Planner(N150), reserve=1).reserve == 1
