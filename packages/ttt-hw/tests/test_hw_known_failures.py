"""Failures that were published, one test each: the config that caused it is refused, with the reason, before ttnn sees it.

Where ttnn accepts the config on the mock the test shows that too: the rule is ours to keep. Numbers are those of tt-metal issues.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_hw import OutOfMemory, Planner, board, issue_plan, plan_block, verify
from ttt_hw.layouts import DRAM, L1, over_banks, placed, width_sharded
from ttt_hw.patterns import (
    BcastMatmul,
    DecodeAttention,
    DramShardedMatmul,
    FlashAttention,
    InterleavedNorm,
    Pattern,
)
from ttt_hw.patterns._reshard import Reshard
from ttt_hw.requests import (
    DecodeAttentionRequest,
    MatmulRequest,
    NormRequest,
    OpRequest,
    PrefillAttentionRequest,
    TensorType,
)

N150, P150, P100 = board("n150"), board("p150"), board("p100")


@pytest.fixture(autouse=True)
def cases(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import planner_cases

    return planner_cases


def refused(pattern: Pattern[Any], op: OpRequest, record: Any = N150) -> str:
    """What the check before the call says of the config."""
    with pytest.raises(PlacementError) as caught:
        pattern.check(op, record)
    return str(caught.value)


def test_a_literal_per_core_m(cases: Any, mesh: Any) -> None:
    """50656: 7 rows of tiles a core for 128 tokens, which are 4; garbage on P100."""
    op = MatmulRequest(name="qkv", m=128, k=2048, n=2048, weight_dtype="bfloat8_b")
    config = BcastMatmul(kind="2d", grid=(8, 1), per_core=(7, 8), inner=4, block=(7, 8), subblock=(1, 4))
    reason = "7 rows of tiles a core are more than the 4 there are need; 4 do on as many cores"
    for record in (N150, P100):
        assert reason in refused(config, op, record)
    padded = replace(
        op, m=160
    )  # ttnn looks at more rows than there are, not at rows that a smaller number would do for
    config = replace(config, grid=(8, 2), per_core=(4, 8), block=(4, 8))
    assert verify(padded, config, mesh).error is None
    assert "4 rows of tiles a core are more than the 5 there are need; 3 do on as many cores" in refused(config, padded)
    block = cases.block("prefill", cases.matmul("qkv", 128, 2048, 2048))
    with pytest.raises(PlacementError, match=rf"override of prefill\.qkv on n150: .*{reason}|per_core=7x8"):
        Planner(N150, overrides={"qkv": {"pattern": "BcastMatmul", "kind": "2d", "per_core": "7x8"}}).plan(block)


def test_columns_of_a_core_below_the_shard_of_a_bank() -> None:
    """21993: a 2-D matmul of a weight sharded over DRAM banks, with fewer columns a core than a bank holds; silently wrong."""
    op = MatmulRequest(name="up", m=1024, k=4096, n=14336, weight_dtype="bfloat8_b")
    config = BcastMatmul(
        kind="2d", grid=(11, 10), per_core=(4, 41), inner=4, block=(4, 41), subblock=(1, 1), weight="banks"
    )
    assert refused(config, op, P150) == (
        f"up cannot run as {config} on p150: 41 columns of tiles a core are fewer than the 56 that a bank holds: ttnn would "
        "read wrong columns; take 56 or more."
    )


def test_shards_that_ttnn_replaces(mesh: Any) -> None:
    """21954, 5101, 57480: the result lies in other shards than the memory config says."""
    op = MatmulRequest(name="o", m=32, k=4096, n=4096, weight_dtype="bfloat8_b")
    there, told = width_sharded((8, 4)), width_sharded((4, 8))
    config = DramShardedMatmul(activation=there, inner=4, per_core=4, output=told)
    assert f"ttnn puts shards of 4 tiles where '{there}' says, not '{told}'" in refused(config, op)
    verdict = verify(op, config, mesh)
    assert verdict.error is None  # ttnn takes it
    assert not verdict.exact
    assert verdict.moved[0].startswith(
        "o: [1, 1, 32, 4096] bfloat16 WIDTH_SHARDED L1 [32, 128] on ['0-0..7-3'] is not "
    )


def test_buffers_over_tensors_that_are_alive(cases: Any, mesh: Any) -> None:
    """21904, 23495, 33245: a config that fits an empty chip, beside a tensor that takes the rest of L1."""
    op = cases.matmul("a", 1024, 4096, 4096)
    large = next(o.pattern for o in Planner(N150).options(op) if 350_000 < o.buffers < 900_000)
    keep = TensorType(shape=(1, 1, 2048, 16384))
    alone = cases.block("prefill", op)
    beside = replace(alone, inputs=(*alone.inputs, ("kept", keep)))
    allowed = {"a": (large,)}
    assert plan_block(alone, N150, allowed=allowed)["a"].pattern == large
    with pytest.raises(
        OutOfMemory, match=r"^a on n150: its buffers and results take at least .* beside the 1,048,576 of"
    ):
        plan_block(beside, N150, inputs={"kept": L1}, allowed=allowed)
    plan = plan_block(beside, N150, inputs={"kept": L1})
    assert plan["a"].buffers + 1_048_576 <= N150.l1_bytes_per_core
    assert cases.inexact(issue_plan(plan, mesh)) == []


def test_a_grid_computed_from_the_columns() -> None:
    """23718: 24 cores divide 24 x 256 columns, and not the inner dim; 26710, 26150: columns that no core computes."""
    op = MatmulRequest(name="qkv", m=32, k=4096, n=6144, weight_dtype="bfloat8_b")
    on_24 = width_sharded((8, 3))
    config = DramShardedMatmul(activation=on_24, inner=1, per_core=8, output=on_24)
    assert refused(config, op).endswith("shards of 6 tiles do not divide the 128 inner tiles evenly.")
    short = BcastMatmul(kind="1d", grid=(8, 8), per_core=(1, 2), inner=4, block=(1, 2), subblock=(1, 2))
    assert refused(short, op).endswith("64 x 2 columns of tiles cover less than the 192 there are; 3 a core would do.")


@pytest.mark.parametrize("name", ["n150", "p150"])
def test_a_dram_sharded_per_core_n_that_is_too_small(name: str) -> None:
    """On Blackhole ttnn lets it pass, and the last columns are missing."""
    op = MatmulRequest(name="qkv", m=32, k=4096, n=14336, weight_dtype="bfloat8_b")
    config = DramShardedMatmul(
        activation=width_sharded((8, 4)), inner=4, per_core=2, output=width_sharded((8, 4)), readers=1
    )
    record = board(name)
    cores = record.grid[0] * record.grid[1]
    assert f"{cores} x 2 columns of tiles cover less than the 448 there are" in refused(config, op, record)


def test_a_start_that_is_no_multiple_of_the_chunk() -> None:
    """35225: prefill goes on from 128 tokens with query chunks of 256."""
    op = PrefillAttentionRequest(
        name="sdpa",
        inputs=("q", "k", "v", "pages"),
        tokens=2048,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        start=128,
        blocks=68,
    )
    config = FlashAttention(grid=(8, 8), q_chunk=256, k_chunk=128)
    assert refused(config, op).endswith("q_chunk=256 must divide the start, 128; nearest legal: 128.")
    replace(config, q_chunk=128).check(op, N150)


def test_a_move_that_looks_at_all_of_l1(cases: Any) -> None:
    """54621: to_memory_config compares what it needs with L1 as a whole; the planner with what is free, in one piece."""
    type_ = TensorType(shape=(1, 1, 1024, 32768))  # 1 MB on a core
    there = width_sharded((8, 8))
    assert list(Reshard(source=L1, target=there).problems(type_, N150)) == []  # legal, and too large beside itself
    assert 2 * placed(L1, type_, N150).bytes_per_core > N150.l1_bytes_per_core
    shape = (1, 1, 1024, 32768)
    block = cases.block("prefill", cases.unary("a", "x", shape), cases.unary("b", "a", shape))
    with pytest.raises(
        OutOfMemory, match=r"^no plan brings b to b h s d@core in l1 .*: L1 of 1,393,312 bytes a core does not"
    ):
        plan_block(block, N150, inputs={"x": L1}, outputs={"b": there})
    assert plan_block(block, N150, inputs={"x": DRAM}, outputs={"b": there}).outputs == {"b": there}


def test_users_that_nobody_computes() -> None:
    """Cores that the key-value heads of a user do not share evenly: the op leaves the last users out, without an error."""
    op = DecodeAttentionRequest(
        name="sdpa", inputs=("q", "k", "v", "at"), users=10, num_heads=24, num_kv_heads=4, head_dim=128, context=1024
    )
    config = DecodeAttention(grid=(8, 8), k_chunk=0)
    said = refused(config, op)
    assert "and the op would leave the last users out; nearest legal: " in said
    columns, rows = map(int, said.rpartition("nearest legal: ")[2].rstrip(".").split("x"))
    replace(config, grid=(columns, rows)).check(op, N150)


def test_a_norm_that_sizes_itself_by_what_is_free(cases: Any, mesh: Any) -> None:
    """Whole rows on an empty chip, pieces of them beside other tensors; compiled once, it runs as it was then. It is planned
    where both come out the same."""
    op = NormRequest(name="norm", inputs=("x", "norm.weight"), shape=(1, 1, 1024, 4096))
    config = InterleavedNorm(memory="dram")
    reads = (DRAM, DRAM)
    alone = config.circular_buffers(op, N150, reads)
    assert config.buffers_beside(op, N150, reads, 512 * 1024) < alone
    kept = TensorType(shape=(1, 1, 1024, 16384))
    block = cases.block("prefill", op)
    block = replace(block, inputs=(*block.inputs, ("kept", kept)))
    allowed: dict[str, tuple[Pattern[Any], ...]] = {"norm": (config,)}
    with pytest.raises(OutOfMemory, match=r"^norm on n150: "):
        plan_block(block, N150, inputs={"x": DRAM, "kept": L1}, allowed=allowed)
    plan = plan_block(block, N150, inputs={"x": DRAM, "kept": DRAM}, allowed=allowed)
    assert plan["norm"].buffers == alone
    assert cases.inexact(issue_plan(plan, mesh)) == []


def test_norms_of_layers_come_out_the_same_beside_anything(cases: Any) -> None:
    for model, rows in (("llama-8b", 128), ("llama-8b", 2048), ("llama-1b", 1024), ("qwen-7b", 1024)):
        for op in plan_block(cases.layer("prefill", rows, cases.DIMS[model]), N150):
            if not op.pattern.adapts:
                continue
            own = sum(
                placed(text, type_, N150).bytes_per_core
                for text, type_ in zip(
                    (*op.reads, *op.results), (*op.request.operands, *op.request.results.values()), strict=True
                )
            )
            beside = op.pattern.buffers_beside(op.request, N150, op.reads, op.l1_bytes - op.buffers - own)
            assert beside == op.buffers == op.pattern.circular_buffers(op.request, N150, op.reads)


def test_a_weight_over_banks_is_not_read_as_pages() -> None:
    """A program config for one placement with a weight in another."""
    op = MatmulRequest(name="up", m=1024, k=4096, n=4096, weight_dtype="bfloat8_b")
    config = BcastMatmul(kind="2d", grid=(8, 8), per_core=(4, 16), inner=4, block=(4, 16), subblock=(1, 4))
    assert list(config.problems(op, N150, (DRAM, over_banks()))) == [
        f"the weight lies as '{over_banks()}', but must lie as '{DRAM}'"
    ]
