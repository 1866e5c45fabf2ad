"""The published hand rules against the planner's choices: no rule is estimated faster, and compute-bound matmuls fill a
Blackhole's grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_embedding import HeadSpec, head_request
from ttt_hw import Board, OpRequest, Planner, board, plan_block, recipes, verify
from ttt_hw.options import Option
from ttt_hw.recipes import Recipe
from ttt_hw.requests import (
    DecodeAttentionRequest,
    LMHeadRequest,
    MatmulRequest,
    NormRequest,
    PrefillAttentionRequest,
    Workload,
)

N150, P150 = board("n150"), board("p150")
BOARDS = ("n150", "t3k", "p150", "tg")
MODELS = ("llama-1b", "llama-8b", "llama-70b", "qwen-7b", "mistral-7b")
CHIPS = (1, 8)
USERS, TOKENS = (1, 32), (128, 1024, 2048, 8192)
FULL_GRID = 0.9


@pytest.fixture(autouse=True)
def cases(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import planner_cases

    return planner_cases


def splits(dims: Any, chips: int) -> bool:
    return bool(dims.heads % chips == 0 and (dims.kv_heads % chips == 0 or chips % dims.kv_heads == 0))


def matmuls(dims: Any, chips: int, rows: int) -> Iterator[MatmulRequest]:
    """Of a layer, as one chip of so many has them."""
    heads, kv_heads = dims.heads // chips, max(1, dims.kv_heads // chips)
    width = -(-dims.width // (32 * chips)) * 32
    for name, k, n, dtype in (
        ("qkv", dims.hidden, (heads + 2 * kv_heads) * dims.head_dim, "bfloat8_b"),
        ("output", heads * dims.head_dim, dims.hidden, "bfloat8_b"),
        ("gate", dims.hidden, width, "bfloat4_b"),
        ("down", width, dims.hidden, "bfloat8_b"),
    ):
        yield MatmulRequest(name=name, m=rows, k=k, n=n, weight_dtype=dtype)  # type: ignore[arg-type]


def matmul_recipes(op: MatmulRequest, record: Board) -> list[Recipe]:
    if op.m <= 32:
        return [recipes.dram_sharded(op, record), recipes.mcast_1d(op, record)]
    cut = [recipes.mcast_2d(op, record, rows=rows) for rows in (512, 1024, 2048) if rows < op.m]
    over_banks = recipes.mcast_2d(op, record, weight="banks")
    return [recipes.mcast_2d(op, record), over_banks, *cut, recipes.mcast_1d(op, record), recipes.minimal(op, record)]


def others(dims: Any, chips: int, record: Board) -> Iterator[Recipe]:
    heads: dict[str, Any] = {
        "num_heads": dims.heads // chips,
        "num_kv_heads": max(1, dims.kv_heads // chips),
        "head_dim": dims.head_dim,
    }
    for users in USERS:
        yield recipes.sharded_norm(NormRequest(name="norm", shape=(1, 1, users, dims.hidden)), record)
        decode = DecodeAttentionRequest(name="sdpa", inputs=("q", "k", "v", "at"), users=users, context=1024, **heads)
        yield recipes.decode_attention(decode, record)
    for tokens in TOKENS:
        prefill = PrefillAttentionRequest(name="sdpa", inputs=("q", "k", "v"), tokens=tokens, **heads)
        yield recipes.prefill_attention(prefill, record)


def planned(op: OpRequest, record: Board) -> Option:
    """The best option that the planner may take: what stays lies in DRAM."""
    stored = range(1, len(op.inputs)) if isinstance(op, MatmulRequest) else ()
    return next(o for o in Planner(record).options(op) if all(" in dram" in o.reads[at] for at in stored))


@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize("model", MODELS)
def test_no_rule_is_faster_than_the_plan(model: str, name: str, cases: Any) -> None:
    record, dims = board(name), cases.DIMS[model]
    legal = 0
    for chips in CHIPS:
        if not splits(dims, chips):
            continue
        pairs = [
            (op, each)
            for m in (*USERS, *TOKENS)
            for op in matmuls(dims, chips, m)
            for each in matmul_recipes(op, record)
        ]
        pairs += [(each.request, each) for each in others(dims, chips, record)]  # type: ignore[misc]
        for op, recipe in pairs:
            if recipe.problem(record) is None:
                legal += 1
                assert planned(op, record).time_us <= recipe.time_us(record) + 1e-9, (op, recipe)
    assert legal > 80


@pytest.mark.parametrize("name", ["n150", "p150"])
@pytest.mark.parametrize("rows", [32, 2048])
def test_a_feed_forward_of_rules_is_no_faster_than_the_plan(rows: int, name: str, cases: Any) -> None:
    """With what it takes to bring tensors from one rule's layout to the next one's."""
    record = board(name)
    for model in ("llama-1b", "llama-8b", "mistral-7b"):
        dims = cases.DIMS[model]
        block = cases.feed_forward("decode" if rows == 32 else "prefill", rows, dims.hidden, dims.width)
        rule = recipes.dram_sharded if rows == 32 else recipes.minimal
        allowed = {op.name: (rule(op, record).pattern,) for op in block.ops if isinstance(op, MatmulRequest)}
        assert plan_block(block, record).time_us <= plan_block(block, record, allowed=allowed).time_us + 1e-9


def head(rows: int, hidden: int, vocab: int, chips: int) -> LMHeadRequest:
    n = -(-vocab // (32 * chips)) * 32
    return LMHeadRequest(name="head", inputs=("x", "w"), m=rows, k=hidden, n=n, weight_dtype="bfloat8_b")


@pytest.mark.parametrize("name", BOARDS)
def test_a_head_is_planned_no_slower_than_the_rule(name: str, cases: Any) -> None:
    """The pieces that the head block lists, each on its own; the rule does not count the join, which is 1 % of them."""
    record, compared = board(name), 0
    precision: dict[str, Any] = {"head_weights": "bfloat8_b"}
    for dims in cases.DIMS.values():
        for chips in (1, 8, 32):
            recipe = recipes.lm_head(head(32, dims.hidden, dims.vocab, chips), record)
            if recipe.problem(record) is not None:
                continue
            compared += 1
            spec = HeadSpec(vocab_size=dims.vocab, hidden_dim=dims.hidden)
            work = Workload(mode="decode", users=32, context=1024, chips=chips)
            pieces = [op for op in head_request(spec, work, precision).ops if isinstance(op, LMHeadRequest)]
            assert sum(planned(op, record).time_us for op in pieces) <= recipe.time_us(record) + 1e-9, recipe
    assert compared > 3


def test_a_rule_that_does_not_do_says_why() -> None:
    wide = MatmulRequest(name="gate", m=1024, k=4096, n=14336, weight_dtype="bfloat4_b")
    recipe = recipes.mcast_1d(wide, N150)
    said = recipe.problem(N150)
    assert said is not None
    with pytest.raises(PlacementError) as refused:
        recipe.time_us(N150)
    assert str(refused.value) == f"recipe mcast_1d does not do for {wide} on n150: {said}."
    assert said == "its buffers and results take 2,113,280 of 1,393,312 bytes of L1 a core"
    short = PrefillAttentionRequest(
        name="sdpa", inputs=("q", "k", "v"), tokens=96, num_heads=8, num_kv_heads=8, head_dim=64
    )
    assert recipes.prefill_attention(short, N150).problem(N150) == (
        "q_chunk=64 must be a power of two of at least 32 that divides the 96 rows; nearest legal: 32"
    )
    many = DecodeAttentionRequest(
        name="sdpa", inputs=("q", "k", "v", "at"), users=32, num_heads=32, num_kv_heads=3, head_dim=64, context=1024
    )
    assert recipes.decode_attention(many, N150).problem(N150) is not None
    with pytest.raises(PlacementError, match=r"^11 cores are no rectangle of up to 8 columns on n150\.$"):
        recipes.rectangle(11, N150)


def test_rules_are_the_published_ones() -> None:
    """Configs that the published decoders print for Llama-3.1-8B on one chip."""
    qkv = MatmulRequest(name="qkv", m=32, k=4096, n=6144, weight_dtype="bfloat8_b")
    sharded: Any = recipes.dram_sharded(qkv, N150).pattern
    assert (sharded.inner, sharded.per_core) == (4, 6)
    assert sharded.activation == "b h s d@core in l1 on 0-0..7-3"
    prompt: Any = recipes.mcast_2d(replace(qkv, m=2048), N150).pattern
    assert (prompt.grid, prompt.per_core, prompt.inner, prompt.subblock) == ((8, 8), (8, 24), 4, (1, 4))
    assert recipes.mcast_2d(replace(qkv, m=2048), P150).pattern.grid == (8, 10)  # type: ignore[attr-defined]
    cut = recipes.mcast_2d(replace(qkv, m=8192), N150, rows=2048)
    assert (cut.repeats, cut.request.m) == (4, 2048)  # type: ignore[attr-defined]
    blocks: Any = recipes.minimal(replace(qkv, m=2048), N150).pattern
    assert (blocks.block, blocks.inner) == ((8, 8), 8)
    norm: Any = recipes.sharded_norm(NormRequest(name="norm", shape=(1, 1, 32, 4096)), N150).pattern
    assert (norm.grid, norm.subblock) == ((8, 4), 4)
    assert recipes.near_32(3584 // 32, N150) == 28


def test_legal_rules_run(mesh: Any) -> None:
    qkv = MatmulRequest(name="qkv", m=32, k=4096, n=6144, weight_dtype="bfloat8_b")
    prompt = replace(qkv, m=1024)
    heads: dict[str, Any] = {"num_heads": 32, "num_kv_heads": 8, "head_dim": 128}
    for recipe in (
        recipes.dram_sharded(qkv, N150),
        recipes.mcast_1d(qkv, N150),
        recipes.mcast_2d(prompt, N150),
        recipes.mcast_2d(prompt, N150, weight="banks"),
        recipes.minimal(prompt, N150),
        recipes.sharded_norm(NormRequest(name="norm", shape=(1, 1, 32, 4096)), N150),
        recipes.prefill_attention(
            PrefillAttentionRequest(name="a", inputs=("q", "k", "v"), tokens=2048, **heads), N150
        ),
        recipes.decode_attention(
            DecodeAttentionRequest(name="a", inputs=("q", "k", "v", "at"), users=32, context=1024, **heads), N150
        ),
    ):
        assert recipe.problem(N150) is None, recipe
        verdict = verify(recipe.request, recipe.pattern, mesh)
        assert verdict.error is None, verdict
        assert verdict.exact, (recipe, verdict)


NARROW = {  # compute-bound, and below 90 % of a Blackhole's grid: (inner dim, columns, rows)
    *((2048, 384, rows) for rows in (2048, 8192)),  # queries, keys and values of Llama-3.2-1B over 8 chips
    *((2048, 1024, rows) for rows in (2048, 8192)),  # its gate
    *((4096, 768, rows) for rows in (2048, 8192)),  # queries, keys and values of the 8B models
}
"""An eighth of a layer's columns, 12, 24 or 32 tiles: equal shares of them leave rows or columns of cores without work, and no
config with more cores at work is estimated faster."""


@pytest.mark.parametrize("name", ["p150", "bh-galaxy"])
def test_compute_bound_matmuls_fill_a_blackholes_grid(name: str, cases: Any) -> None:
    record = board(name)
    cores = record.grid[0] * record.grid[1]
    narrow = set()
    for dims in cases.DIMS.values():
        for chips in CHIPS:
            if not splits(dims, chips):
                continue
            for rows in (2048, 8192):
                for op in matmuls(dims, chips, rows):
                    best = planned(op, record)
                    used = best.pattern.cores(op, record)
                    if best.estimate.bound == "compute" and used < FULL_GRID * cores:
                        narrow.add((op.k, op.n, op.m))
                        wide = [
                            o
                            for o in Planner(record).options(op)
                            if o.pattern.cores(op, record) >= FULL_GRID * cores and o.time_us < best.time_us
                        ]
                        assert wide == [], op
    assert narrow <= NARROW
