"""Blocks for tests of the planner, written by hand from operations; no test module, so that a process of its own imports no
pytest."""

from __future__ import annotations

import multiprocessing
import sys
from dataclasses import replace
from typing import Any, NamedTuple

from ttt_core import Mode
from ttt_hw.catalogue import board
from ttt_hw.mesh import open_mesh
from ttt_hw.planner import plan_block
from ttt_hw.requests import (
    BinaryRequest,
    BlockRequest,
    CacheFillRequest,
    CacheUpdateRequest,
    CollectiveRequest,
    DecodeAttentionRequest,
    HeadConcatRequest,
    HeadSplitRequest,
    MatmulRequest,
    MoveRequest,
    NormRequest,
    OpRequest,
    PrefillAttentionRequest,
    Stored,
    TensorType,
    UnaryRequest,
)
from ttt_hw.transfer import DType
from ttt_hw.verify import Verdict, issue_plan

if multiprocessing.parent_process() is not None:
    sys.modules["torch"] = None  # type: ignore[assignment]  # ttnn imports it where it is installed, which takes seconds


class Dims(NamedTuple):
    hidden: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int


DIMS = {
    "llama-1b": Dims(2048, 8192, 32, 8, 64, 128256),
    "llama-8b": Dims(4096, 14336, 32, 8, 128, 128256),
    "llama-70b": Dims(8192, 28672, 64, 8, 128, 128256),
    "qwen-7b": Dims(3584, 18944, 28, 4, 128, 152064),
    "mistral-7b": Dims(4096, 14336, 32, 8, 128, 32768),
}


def activation(rows: int, dim: int) -> TensorType:
    return TensorType(shape=(1, 1, rows, dim))


def matmul(name: str, m: int, k: int, n: int, x: str = "x", dtype: DType = "bfloat8_b", **more: Any) -> MatmulRequest:
    return MatmulRequest(name=name, inputs=(x, f"{name}.weight"), m=m, k=k, n=n, weight_dtype=dtype, **more)


def unary(name: str, x: str, shape: tuple[int, ...]) -> UnaryRequest:
    return UnaryRequest(name=name, inputs=(x,), shape=shape, activation="silu")


def add(name: str, a: str, b: str, shape: tuple[int, int, int, int]) -> BinaryRequest:
    return BinaryRequest(name=name, inputs=(a, b), op="add", shape=shape)


def block(mode: Mode, *ops: OpRequest, outputs: tuple[str, ...] | None = None) -> BlockRequest:
    """Of operations that read `x`, and weights that are called `….weight`; the last makes the output."""
    inputs: dict[str, TensorType] = {}
    stored: dict[str, Stored] = {}
    made: set[str] = set()
    for op in ops:
        for name, type_ in zip(op.inputs, op.operands, strict=True):
            if name.endswith(".weight"):
                stored[name] = Stored(name=name, type=type_)
            elif name in ("keys", "values"):
                stored[name] = Stored(name=name, type=type_, kind="cache")
            elif name == "positions":
                stored[name] = Stored(name=name, type=type_, kind="index")
            elif name not in made:
                inputs[name] = type_
        made |= set(op.results)
    return BlockRequest(
        mode=mode,
        inputs=tuple(inputs.items()),
        stored=tuple(stored.values()),
        ops=ops,
        outputs=outputs or (next(iter(ops[-1].results)),),
    )


def feed_forward(mode: Mode, rows: int, hidden: int, width: int, *, gate_dtype: DType = "bfloat4_b") -> BlockRequest:
    """down(silu(gate(x)) · up(x))."""
    return block(mode, *_feed_forward(rows, hidden, width, "x", gate_dtype))


def _feed_forward(rows: int, hidden: int, width: int, x: str, gate_dtype: DType = "bfloat4_b") -> list[OpRequest]:
    return [
        matmul("gate_matmul", rows, hidden, width, x, gate_dtype),
        matmul("up_matmul", rows, hidden, width, x, gate_dtype),
        BinaryRequest(
            name="gate",
            inputs=("gate_matmul", "up_matmul"),
            op="mul",
            shape=(1, 1, rows, width),
            activation="silu",
        ),
        matmul("down_matmul", rows, width, hidden, "gate"),
    ]


def layer(mode: Mode, rows: int, dims: Dims, chips: int = 1, context: int = 1024) -> BlockRequest:
    """A decoder layer of one chip: norm, attention with its cache, sum, norm, feed-forward, sum. Heads are not turned."""
    hidden, head_dim = dims.hidden, dims.head_dim
    heads, kv_heads = dims.heads // chips, max(1, dims.kv_heads // chips)
    width = -(-dims.width // (32 * chips)) * 32
    shape = (1, 1, rows, hidden)
    ops: list[OpRequest] = [
        NormRequest(name="attention_norm", inputs=("x", "attention_norm.weight"), shape=shape),
        matmul("qkv_matmul", rows, hidden, (heads + 2 * kv_heads) * head_dim, "attention_norm"),
        HeadSplitRequest(
            name="split",
            inputs=("qkv_matmul",),
            mode=mode,
            rows=rows,
            num_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
        ),
        *(_decode if mode == "decode" else _prefill)(rows, heads, kv_heads, head_dim, context),
        HeadConcatRequest(name="concat", inputs=("heads",), rows=rows, num_heads=heads, head_dim=head_dim),
        matmul("output_matmul", rows, heads * head_dim, hidden, "concat"),
    ]
    ops += _summed("attention", ops[-1].name, shape, chips)
    ops += [
        add("attention_residual", "x", ops[-1].name, shape),
        NormRequest(name="ffn_norm", inputs=("attention_residual", "ffn_norm.weight"), shape=shape),
        *_feed_forward(rows, hidden, width, "ffn_norm"),
    ]
    ops += _summed("ffn", ops[-1].name, shape, chips)
    return block(mode, *ops, add("ffn_residual", "attention_residual", ops[-1].name, shape))


def _summed(name: str, x: str, shape: tuple[int, int, int, int], chips: int) -> list[OpRequest]:
    if chips == 1:
        return []
    return [CollectiveRequest(name=f"{name}_sum", inputs=(x,), kind="all_reduce", shape=shape, chips=chips)]


def _decode(users: int, heads: int, kv_heads: int, head_dim: int, context: int) -> list[OpRequest]:
    cache: dict[str, Any] = {"users": users, "num_kv_heads": kv_heads, "context": context, "head_dim": head_dim}
    return [
        CacheUpdateRequest(name="key_update", inputs=("keys", "split.k", "positions"), **cache),
        CacheUpdateRequest(name="value_update", inputs=("values", "split.v", "positions"), **cache),
        DecodeAttentionRequest(
            name="attention", inputs=("split.q", "keys", "values", "positions"), num_heads=heads, **cache
        ),
        MoveRequest(
            name="heads",
            inputs=("attention",),
            op="transpose",
            source=TensorType(shape=(1, users, heads, head_dim)),
        ),
    ]


def _prefill(tokens: int, heads: int, kv_heads: int, head_dim: int, context: int) -> list[OpRequest]:
    ops: list[OpRequest] = []
    kv = TensorType(shape=(1, kv_heads, tokens, head_dim))
    cache: dict[str, Any] = {"users": 1, "num_kv_heads": kv_heads, "context": max(context, tokens)}
    for name in ("key", "value"):
        cast = f"{name}_cast"
        ops += [
            MoveRequest(name=cast, inputs=(f"split.{name[0]}",), op="typecast", source=kv, dtype="bfloat8_b"),
            CacheFillRequest(name=f"{name}_fill", inputs=(f"{name}s", cast), tokens=tokens, head_dim=head_dim, **cache),
        ]
    attention = PrefillAttentionRequest(
        name="heads",
        inputs=("split.q", "split.k", "split.v"),
        tokens=tokens,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
    )
    return [*ops, attention]


def inexact(verdicts: list[Verdict]) -> list[str]:
    """What ttnn refused, or accounted for otherwise than planned."""
    return [f"{verdict}" for verdict in verdicts if verdict.error is not None or not verdict.exact]


def issued_on(name: str, shape: tuple[int, int], blocks: list[BlockRequest]) -> list[str]:
    """Plan and issue blocks on a mock of a board; what was not as planned."""
    record = replace(board(name), mesh=shape)
    with open_mesh(name, shape=shape, backend="mock") as mesh:
        return [line for each in blocks for line in inexact(issue_plan(plan_block(each, record), mesh))]
